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
    reciprocal_scale,
    two_to,
)

_ALIKE = 13  # log₂ of the largest and smallest elements that scales can be meant for
MOST_INVERSE = 2.0**_ALIKE  # of the largest element of a column that is not small
PASSES, _OMEGA = 32, 1.5
NONE = -2  # 0 and -1 count the last pass: with the exponents of columns, and without
_ZERO = -20_000.0  # stands for log₂ 0; exact in float32, with fractions of 2⁻⁹

_Factors = TypeVar("_Factors")
_Figures = TypeVar("_Figures")


class Scales(eqx.Module):
    """R and C, powers of two: aᵢⱼ was divided by 2^ρᵢ and 2^γⱼ."""

    rho: Real[Array, " m"]  # `two_to` rounds it; scales and reciprocals are normal
    gamma: Real[Array, " n"]

    @property
    def rows(self) -> Real[Array, " m"]:
        return two_to(self.rho)

    @property
    def columns(self) -> Real[Array, " n"]:
        return two_to(self.gamma)

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
        return divided(b, self.gamma if adjoint else self.rho)

    def unscaled(self, y: Inexact[Array, " n"], adjoint: bool) -> Inexact[Array, " n"]:
        """x, from the solution y of the scaled system."""
        return divided(y, self.rho if adjoint else self.gamma)


def divided(x: Inexact[Array, " n"], by: Real[Array, " n"]) -> Inexact[Array, " n"]:
    """x divided by powers of two, of these exponents."""
    return jax.lax.mul(x, cast(two_to(-by), x.dtype))


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
        return factors, failed | (jnp.min(scales.gamma, initial=0) < -_ALIKE), scales

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
    dtype = sizes_of(A).dtype
    nothing = jnp.zeros(A.shape[0], dtype), jnp.zeros(columns.number, dtype)
    scales = scales_of_both_sides(A, Scales(*nothing), passes, lambda A: (A, columns))
    return scaled(A, columns, scales), scales


class Evened(NamedTuple):
    F: Any
    scales: Scales
    finite: Bool[Array, ""]  # whether A is


def evenly(A: Inexact[Array, "m w"], columns: Columns) -> Evened:
    """As `equilibrated`, and with both sides scaled together if rows alone leave
    columns so small that pivots may be chosen wrongly."""
    sizes = sizes_of(A)
    of_rows = largest(sizes, axis=1)
    by = reciprocal_scale(of_rows)[:, None]
    left = largest(columns.skew(sizes * by), axis=0)
    scales, finite = _evened(A, of_rows, left, lambda A: (A, columns))
    return Evened(scaled(A, columns, scales), scales, finite)


def evenly_tridiagonal(A: Inexact[Array, "3 n"]) -> Evened:
    """The same of a tridiagonal matrix by its bands: lower, which begins with a zero,
    main, and upper, which ends with a zero. Some ten times faster for long ones."""
    sizes = [sizes_of(band) for band in A]
    of_rows = functools.reduce(jnp.maximum, sizes)
    by = reciprocal_scale(of_rows)
    below, main, above = (size * by for size in sizes)
    left = functools.reduce(jnp.maximum, (shifted(below, -1), main, shifted(above, 1)))
    scales, finite = _evened(A, of_rows, left, bands_by_rows)
    return Evened(divided_bands(A, scales), scales, finite)


def divided_bands(A: Inexact[Array, "3 n"], scales: Scales) -> tuple[Array, ...]:
    c = scales.gamma
    around = shifted(c, 1), c, shifted(c, -1)
    return tuple(divided_twice(band, scales.rho, c) for band, c in zip(A, around))


def bands_by_rows(A: Inexact[Array, "3 n"]) -> tuple[Inexact[Array, "n 3"], Columns]:
    return A.T, band(A.T, 1)


def shifted(x: Array, by: int) -> Array:
    """xᵢ moved to place i + by, with zeros shifted in: unlike `jnp.roll`, which joins
    two pieces, part of the kernel that reads it."""
    return jax.lax.pad(x, jnp.zeros((), x.dtype), ((by, -by, 0),))


def _evened(
    A: Any,
    of_rows: Real[Array, " m"],
    left: Real[Array, " n"],
    by_rows: Callable[[Any], tuple[Inexact[Array, "m w"], Columns]],
) -> tuple[Scales, Bool[Array, ""]]:
    """The scales of rows by their largest elements, and of columns by those that are
    left: found anew, for both sides together, if one of these is small. And whether A
    is finite."""
    # the first is NaN if any element of A is not finite
    most, inverse = largest_each(left, reciprocal_scale(left))
    passes = jnp.where(inverse > MOST_INVERSE, PASSES, NONE).astype(jnp.int32)
    start = Scales(exponents(of_rows), exponents(left))
    scales = scales_of_both_sides(A, start, passes, by_rows)
    return scales, jax.lax.is_finite(most)


def exponents(sizes: Real[Array, " n"]) -> Real[Array, " n"]:
    """⌊log₂⌋ of sizes, for `Scales`; 0 where nothing is scaled."""
    most = _range(sizes.dtype)
    clipped = jnp.clip(exponent(sizes), -most, most)
    return jnp.where(sizes > 0, clipped, jnp.zeros_like(sizes))


def scales_of_both_sides(
    A: Any,
    start: Scales,
    passes: Int[Array, ""],
    by_rows: Callable[[Any], tuple[Inexact[Array, "m w"], Columns]],
) -> Scales:
    """Scales of both sides: ρ and γ by successive over-relaxation, then those by which
    the largest element of each row is of order one where columns are divided by 2^γ,
    and then the largest of each column. If scaled elements still differ much in size,
    as they were before the last columns were relaxed, with γ = 0.

    Args:
        A: a matrix, in any form.
        start: what the scales are where there are no passes at all.
        passes: of over-relaxation, before the last pass; `NONE` to return `start`.
        by_rows: A's elements by rows, and where its columns are.
    """
    A = jax.lax.stop_gradient(A)  # scales are piecewise constant

    def step(carry):
        # behind a barrier, as XLA would compute the exponents before the loop
        inputs, (k, rho, gamma) = jax.lax.optimization_barrier((A, carry))
        elements, columns = by_rows(inputs)
        E = _exponents(elements)
        # numbers instead of conditions, for each of which LLVM would write the loops
        # over rows and columns twice
        last, kept = (k <= 0).astype(E.dtype), (k >= 0).astype(E.dtype)
        omega = jnp.where(k == PASSES, 1.0, _OMEGA).astype(E.dtype) * (1 - last)
        bound = _range(E.dtype)

        def left(rho):
            return E - rho[:, None] - columns.along(gamma * kept)

        def moved(x, total, count, most):
            # all in the numerator, as XLA repeats what is no quotient in each use
            x = omega * total + (x * kept + last * most) * count
            return jnp.clip(x, -bound * count, bound * count) / jnp.maximum(count, 1)

        *sums, far = _figures(left(rho * kept), axis=1)
        rho = moved(rho, *sums)
        far, most = largest_each(far, rho)
        used = (far < _ALIKE) & (most < bound)
        *sums, _ = _figures(columns.skew(left(rho)), axis=0)
        k -= jnp.where((k > 1) | (k == 1) & used, 1, 2)
        return k, rho, moved(gamma, *sums)

    carry = passes, start.rho, start.gamma
    carry = while_loop(lambda carry: carry[0] > NONE, step, carry, (A, passes))
    return Scales(*carry[1:])


def _exponents(A: Inexact[Array, "m w"]) -> Real[Array, "m w"]:
    """log₂ |aᵢⱼ| - log₂ 0, so that zeros may be shifted in."""
    sizes = sizes_of(A)
    return jnp.where(sizes > 0, exponent(sizes) - _ZERO, jnp.zeros_like(sizes))


def scaled(
    A: Inexact[Array, "m w"], columns: Columns, scales: Scales
) -> Inexact[Array, "m w"]:
    return divided_twice(A, scales.rho[:, None], columns.along(scales.gamma))


def divided_twice(
    A: Inexact[Array, "..."], rho: Real[Array, "..."], gamma: Real[Array, "..."]
) -> Inexact[Array, "..."]:
    """A / 2^(ρ + γ), of order one. The product of both scales may be out of range, and
    A divided by one too, but not A divided by the smaller first."""
    r, c = two_to(-rho), two_to(-gamma)
    for by in (jnp.maximum(r, c), jnp.minimum(r, c)):
        A = jax.lax.mul(A, cast(by, A.dtype))
    return A


def _figures(E: Real[Array, "..."], axis: int) -> list[Real[Array, "..."]]:
    """Σ L, the number of them, max L and max |L|, in one kernel, for the logarithms L
    of nonzero elements, which `_exponents` found."""
    some = E > -_ZERO / 2
    L = jnp.where(some, E + _ZERO, jnp.zeros_like(E))
    operands, zero = (L, some.astype(E.dtype), E, jnp.abs(L)), np.zeros((), E.dtype)
    total, count, most, far = jax.lax.reduce(operands, (zero,) * 4, _join, (axis,))
    return [total, count, most + _ZERO, far]


def _join(x: tuple[Array, ...], y: tuple[Array, ...]) -> tuple[Array, ...]:
    return x[0] + y[0], x[1] + y[1], *map(jax.lax.max, x[2:], y[2:])


def _range(dtype: Any) -> float:
    """The largest exponent of scales whose reciprocals are normal, too."""
    return float(-jnp.finfo(dtype).minexp - 2)


def sizes_of(A: Inexact[Array, "m w"]) -> Real[Array, "m w"]:
    """As in `largest`, elementwise."""
    if jnp.iscomplexobj(A):
        return jnp.maximum(jnp.abs(A.real), jnp.abs(A.imag))
    return jnp.abs(A)
