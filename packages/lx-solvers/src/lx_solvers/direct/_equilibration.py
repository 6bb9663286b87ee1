"""Scales of rows and columns for Gaussian elimination.

Rows are scaled to largest elements of one, then columns, which leaves the largest of
each row at one. Pivots are chosen within columns, so that scales of columns do neither
harm nor good by themselves, but keep all in range. A row of a sparse R B C, however, is
as large as the largest column it meets, so that its scale may be wrong. Where factors
fail, R and C are found together, by least squares:

    min Σ (log₂|aᵢⱼ| - ρᵢ - γⱼ)²    over the nonzero elements

(Curtis and Reid, "On the automatic scaling of matrices for Gaussian elimination", 1972,
doi:10.1093/imamat/10.1.118), and used if the scaled elements differ little in size.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact, Int, Real
from lx_operators.internal import cast

from .._control_flow import while_loop
from .._scaling import (
    exponent,
    largest,
    largest_each,
    power_of_two,
    reciprocal_scale,
    two_to,
)

_ALIKE = 13  # log₂ of the largest and smallest elements that scales can be meant for
PASSES, _OMEGA = 32, 1.5
_UNEVEN = 2.0**-_ALIKE  # of columns: rows alone were scaled wrongly, perhaps
_ZERO = -20_000.0  # stands for log₂ 0; exact in float32, with fractions of 2⁻⁹

_Factors = TypeVar("_Factors")
_Figures = TypeVar("_Figures")


class Scales(eqx.Module):
    """R and C: aᵢⱼ was divided by rows[i] · columns[j]."""

    rows: Real[Array, " m"]
    columns: Real[Array, " n"]

    def scaled(
        self,
        b: Inexact[Array, " n"],
        adjoint: bool,
        solve: Callable[[Inexact[Array, " n"]], Inexact[Array, " n"]],
    ) -> Inexact[Array, " n"]:
        """A⁻¹b or A⁻ᴴb, by a solve with the scaled matrix."""
        return self.checked(b, adjoint, lambda b: (solve(b), None))[0]

    def checked(
        self,
        b: Inexact[Array, " n"],
        adjoint: bool,
        solve: Callable[[Inexact[Array, " n"]], tuple[Inexact[Array, " n"], _Figures]],
    ) -> tuple[Inexact[Array, " n"], _Figures]:
        """The same, and what `solve` reports about its solution."""
        y, figures = solve(self.right_hand_side(b, adjoint))
        return self.unscaled(y, adjoint), figures

    def right_hand_side(self, b: Inexact[Array, " n"], adjoint: bool) -> Array:
        """That of the scaled system."""
        before = self.columns if adjoint else self.rows
        return jax.lax.mul(b, cast(reciprocal_scale(before), b.dtype))

    def unscaled(self, y: Inexact[Array, " n"], adjoint: bool) -> Inexact[Array, " n"]:
        """x, from the solution y of the scaled system."""
        after = self.rows if adjoint else self.columns
        return jax.lax.mul(y, cast(reciprocal_scale(after), y.dtype))


class Columns(NamedTuple):
    """Where the columns are in an array of a matrix's elements by rows."""

    number: Any
    along: Callable[[Array], Array]  # the number of its column, for every element
    skew: Callable[[Array], Array]  # the elements in one column below each other


def dense(A: Inexact[Array, "m n"]) -> Columns:
    return Columns(A.shape[1], lambda c: c[None], lambda X: X)


def band(A: Inexact[Array, "n w"], lower: int) -> Columns:
    """A band matrix by rows: row i holds the elements from column i - lower on."""
    n, w = A.shape

    def along(c: Real[Array, " n"]) -> Real[Array, "n w"]:
        c = jnp.pad(c, (lower, w - 1 - lower))
        return jnp.stack([c[t : t + n] for t in range(w)], axis=1)

    def skew(X: Real[Array, "n w"]) -> Real[Array, "w n"]:
        X = jnp.pad(X, ((w, w), (0, 0)))
        first = w + lower
        return jnp.stack([X[first - t : first - t + n, t] for t in range(w)])

    return Columns(n, along, skew)


def block_band(n: int, b: int) -> Columns:
    """n block rows of b rows, each with three blocks of size b around the diagonal."""

    def along(c: Real[Array, " nb"]) -> Real[Array, "nb 3b"]:
        c = c.reshape(n, b)
        around = (jnp.roll(c, 1, axis=0), c, jnp.roll(c, -1, axis=0))
        return jnp.repeat(jnp.concatenate(around, axis=1), b, axis=0)

    def skew(X: Real[Array, "nb 3b"]) -> Real[Array, "3b nb"]:
        X = X.reshape(n, b, 3, b)
        rolled = [jnp.roll(X[:, :, k], k - 1, axis=0) for k in range(3)]
        return jnp.concatenate(rolled, axis=1).transpose(1, 0, 2).reshape(3 * b, n * b)

    return Columns(n * b, along, skew)


def factorised(
    A: Inexact[Array, "m w"],
    columns: Columns,
    factorise: Callable[[Array], tuple[_Factors, Bool[Array, ""]]],
) -> tuple[_Factors, Inexact[Array, "m w"], Scales]:
    """The factors of A with its rows scaled; if they fail, or if this left columns so
    small that pivots may be chosen wrongly, with both sides scaled together.

    Args:
        A, columns: as in `equilibrated`.
        factorise: from the scaled matrix to its factors, and whether they failed.

    Returns:
        The factors, the scaled matrix, and the scales.
    """

    def attempt(passes: Int[Array, ""]) -> tuple:
        scaled, scales = equilibrated(A, columns, passes)
        factors, failed = factorise(scaled)
        return factors, failed | (jnp.min(scales.columns, initial=1) < _UNEVEN), scales

    def running(carry):
        passes, failed, _ = carry
        return (passes <= PASSES) & failed

    def step(carry):
        passes, failed, out = carry
        factors, fails, scales = attempt(passes)
        out = jax.tree.map(lambda x, y: jnp.where(failed, x, y), (factors, scales), out)
        return passes + PASSES, failed & fails, out

    zero = jnp.zeros((), jnp.int32)
    factors, _, scales = jax.eval_shape(attempt, zero)
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (factors, scales))
    start = zero, jnp.ones((), bool), empty
    factors, scales = while_loop(running, step, start, inputs=A)[2]
    return factors, scaled(A, columns, scales), scales


def equilibrated(
    A: Inexact[Array, "m w"], columns: Columns, passes: Int[Array, ""]
) -> tuple[Inexact[Array, "m w"], Scales]:
    """A with rows and columns divided by powers of two, so that the largest element of
    each is of order one.

    Args:
        A: a matrix, by rows.
        columns: where its columns are.
        passes: of least squares; without any, rows are scaled by their largest element.
    """
    E = _exponents(A)
    gamma = _column_exponents(E, columns, passes)
    scales = Scales(*map(_clipped_power, _largest_one(E, columns, gamma)))
    return scaled(A, columns, scales), scales


class Evened(NamedTuple):
    F: Any
    scales: Scales
    finite: Bool[Array, ""]  # whether A is


def evenly(A: Inexact[Array, "m w"], columns: Columns) -> Evened:
    """As `equilibrated`, and with both sides scaled together if rows alone leave
    columns so small that pivots may be chosen wrongly."""
    sizes = _sizes(A)
    rows = power_of_two(largest(sizes, axis=1))
    left = largest(columns.skew(sizes * reciprocal_scale(rows)[:, None]), axis=0)

    def exponents(A):
        return _exponents(A), columns

    scales, finite = _evened(A, rows, left, exponents)
    return Evened(scaled(A, columns, scales), scales, finite)


def evenly_tridiagonal(
    lower: Inexact[Array, " n"], main: Inexact[Array, " n"], upper: Inexact[Array, " n"]
) -> Evened:
    """The same of a tridiagonal matrix by its bands, of which those outside the main
    one begin, or end, with a zero: some ten times faster for long ones."""
    # XLA reads a matrix of which these are diagonals once, if they are one array behind
    # a barrier, and otherwise once for each of their uses
    A = jax.lax.optimization_barrier(jnp.stack((lower, main, upper)))
    sizes = [_sizes(band) for band in A]
    rows = power_of_two(functools.reduce(jnp.maximum, sizes))
    by = reciprocal_scale(rows)
    below, main, above = (size * by for size in sizes)
    left = jnp.maximum(shifted(below, -1), shifted(above, 1))

    def exponents(A):
        return _exponents(A.T), band(A.T, 1)

    scales, finite = _evened(A, rows, jnp.maximum(left, main), exponents)
    c = scales.columns
    around = shifted(c, 1), c, shifted(c, -1)
    F = tuple(_divided(band, scales.rows, c) for band, c in zip(A, around))
    return Evened(F, scales, finite)


def shifted(x: Array, by: int) -> Array:
    """xᵢ moved to place i + by, with zeros shifted in: unlike `jnp.roll`, which joins
    two pieces, part of the kernel that reads it."""
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ((by, -by, 0),))


def _evened(
    A: Any,
    rows: Real[Array, " m"],
    left: Real[Array, " n"],
    exponents: Callable[[Any], tuple[Real[Array, "m w"], Columns]],
) -> tuple[Scales, Bool[Array, ""]]:
    """The scales of rows, and those of columns whose largest elements are left: found
    anew, for both sides together, if one of these is small. And whether A is finite."""

    def step(carry):
        # behind a barrier, as XLA would compute the exponents before the loop
        inputs, passes = jax.lax.optimization_barrier((A, carry[0]))
        E, columns = exponents(inputs)
        gamma = _column_exponents(E, columns, passes)
        return passes - PASSES, *map(_clipped_power, _largest_one(E, columns, gamma))

    # the first is NaN if any element of A is not finite
    most, inverse = largest_each(left, reciprocal_scale(left))
    start = jnp.where(inverse > 1 / _UNEVEN, PASSES, 0).astype(jnp.int32)
    carry = start, rows, power_of_two(left)
    _, rows, across = while_loop(lambda carry: carry[0] > 0, step, carry, inputs=A)
    return Scales(rows, across), jax.lax.is_finite(most)


def _exponents(A: Inexact[Array, "m w"]) -> Real[Array, "m w"]:
    sizes = _sizes(A)
    return jnp.where(sizes > 0, exponent(sizes), jnp.full_like(sizes, _ZERO))


def _largest_one(
    E: Real[Array, "m w"], columns: Columns, gamma: Real[Array, " n"]
) -> tuple[Real[Array, " m"], Real[Array, " n"]]:
    """ρ such that the largest element of each row is of order one, where columns are
    divided by 2^γ, and then γ such that those of the columns are."""
    rho = largest(E - columns.along(gamma) - _ZERO, axis=1) + _ZERO
    left = columns.skew(E - _clipped(rho)[:, None] - _ZERO)  # zeros are shifted in
    return rho, largest(left, axis=0) + _ZERO


def scaled(
    A: Inexact[Array, "m w"], columns: Columns, scales: Scales
) -> Inexact[Array, "m w"]:
    return _divided(A, scales.rows[:, None], columns.along(scales.columns))


def _divided(
    A: Inexact[Array, "..."], r: Real[Array, "..."], c: Real[Array, "..."]
) -> Inexact[Array, "..."]:
    """A / (r c), of order one. The product may be out of range, and A / r too, but not
    A divided by the smaller first."""
    r, c = reciprocal_scale(r), reciprocal_scale(c)
    for by in (jnp.maximum(r, c), jnp.minimum(r, c)):
        A = jax.lax.mul(A, cast(by, A.dtype))
    return A


def _column_exponents(
    E: Real[Array, "m w"], columns: Columns, passes: Int[Array, ""]
) -> Real[Array, " n"]:
    """The γⱼ, rounded, by successive over-relaxation; zeros where scaled elements would
    still differ much in size, as they were before the last pass."""

    def left(rho, gamma):
        L = E - rho[:, None] - columns.along(gamma)
        some = L > _ZERO / 2
        return jnp.where(some, L, jnp.zeros_like(L)), some.astype(L.dtype)

    def step(carry):
        k, rho, gamma, _ = carry
        omega = jnp.where(k == passes, 1.0, _OMEGA).astype(E.dtype)
        total, count, far = _sums_and_most(*left(rho, gamma), axis=1)
        rho += omega * total / jnp.maximum(count, 1)
        total, count, _ = _sums_and_most(*map(columns.skew, left(rho, gamma)), axis=0)
        gamma += omega * total / jnp.maximum(count, 1)
        return k - 1, rho, gamma, far

    zeros = jnp.zeros(E.shape[0], E.dtype), jnp.zeros(columns.number, E.dtype)
    start = passes, *zeros, jnp.full_like(zeros[0], jnp.inf)
    out = while_loop(lambda carry: carry[0] > 0, step, start, inputs=(E, passes))
    _, rho, gamma, far = out
    far, of_rows, of_columns = largest_each(far, rho, gamma)
    used = (far < _ALIKE) & (jnp.maximum(of_rows, of_columns) < _range(E.dtype))
    gamma = jnp.round(gamma)
    return jnp.where(used, gamma, jnp.zeros_like(gamma))


def _sums_and_most(
    L: Real[Array, "..."], some: Real[Array, "..."], axis: int
) -> tuple[Real[Array, "..."], ...]:
    """Σ L, Σ some and max |L|, in one kernel."""
    zero = np.zeros((), L.dtype)
    return jax.lax.reduce((L, some, jnp.abs(L)), (zero,) * 3, _join, (axis,))


def _join(x: tuple[Array, ...], y: tuple[Array, ...]) -> tuple[Array, ...]:
    return x[0] + y[0], x[1] + y[1], jax.lax.max(x[2], y[2])


def _clipped_power(exponents: Real[Array, " n"]) -> Real[Array, " n"]:
    """Scales: 1 where nothing is scaled, and such that all are in range."""
    return two_to(_clipped(exponents))


def _clipped(exponents: Real[Array, " n"]) -> Real[Array, " n"]:
    """0 where nothing is scaled, and such that scales are in range."""
    most = _range(exponents.dtype)
    some = exponents > _ZERO / 2
    return jnp.clip(jnp.where(some, exponents, jnp.zeros_like(exponents)), -most, most)


def _range(dtype: Any) -> float:
    """The largest exponent of scales whose reciprocals are normal, too."""
    return float(-jnp.finfo(dtype).minexp - 2)


def _sizes(A: Inexact[Array, "m w"]) -> Real[Array, "m w"]:
    """As in `largest`, elementwise."""
    if jnp.iscomplexobj(A):
        return jnp.maximum(jnp.abs(A.real), jnp.abs(A.imag))
    return jnp.abs(A)
