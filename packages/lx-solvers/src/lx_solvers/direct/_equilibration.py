"""Scales of rows and columns for Gaussian elimination.

Rows are scaled to largest elements of one, then columns, which leaves the largest of
each row at one. Pivots are chosen within columns, so that scales of columns do neither
harm nor good by themselves, but keep all in range. A row of a sparse R B C, however, is
as large as the largest column it meets, so that its scale may be wrong. Where factors
fail, R and C are found together, by least squares:

    min Σ (log₂|aᵢⱼ| - ρᵢ - γⱼ)²    over the nonzero elements

(Curtis and Reid, "On the automatic scaling of matrices for Gaussian elimination", 1972,
doi:10.1093/imamat/10.1.118), and used if what is left differs little in size.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Int, Real
from lx_operators.internal import cast

from .._control_flow import while_loop
from .._scaling import exponent, largest, two_to
from ._factors import singular_below

_ALIKE = 13  # log₂ of the largest and smallest elements that scales can be meant for
PASSES, _OMEGA = 32, 1.5
_LOST = 0.25  # of a solution, in rounding errors by their bound: they are mostly less
_UNEVEN = 2.0**-_ALIKE  # of columns: rows alone were scaled wrongly, perhaps
_ZERO = -20_000.0  # stands for log₂ 0; exact in float32, with fractions of 2⁻⁹

_Factors = TypeVar("_Factors")


class Scales(eqx.Module):
    """R and C: aᵢⱼ was divided by rows[i] · columns[j]."""

    rows: Real[Array, " m"]
    columns: Real[Array, " n"]
    fills: Bool[Array, ""]  # whether zeros that are filled lose parts of solutions

    def solve(
        self,
        b: Inexact[Array, " n"],
        adjoint: bool,
        solve: Callable[[Inexact[Array, " n"]], Inexact[Array, " n"]],
        reciprocal_condition: Real[Array, ""],
    ) -> tuple[Inexact[Array, " n"], Bool[Array, ""]]:
        """A⁻¹b or A⁻ᴴb, by a solve with the scaled matrix.

        Elimination fills zeros of sparse rows, and so mixes in rounding errors of the
        size of ‖y‖, where y is the scaled solution. These are large for an equation
        whose own terms are much smaller, and divided by scales for an x = C⁻¹y whose
        elements are.

        Args:
            b: the right-hand side.
            adjoint: which of the two.
            solve: from the scaled b to y.
            reciprocal_condition: of the scaled matrix.

        Returns:
            x, and whether it may be lost in such errors.
        """
        x, y = self.scaled(b, adjoint, solve)
        after = self.rows if adjoint else self.columns
        errors = singular_below(y.dtype) * largest(y) * largest(1 / after)
        lost = errors > _LOST * reciprocal_condition * largest(x)
        return x, self.fills & lost

    def scaled(
        self,
        b: Inexact[Array, " n"],
        adjoint: bool,
        solve: Callable[[Inexact[Array, " n"]], Inexact[Array, " n"]],
    ) -> tuple[Inexact[Array, " n"], Inexact[Array, " n"]]:
        """x, and the solution of the scaled system, of which nothing is said."""
        before, after = self.rows, self.columns
        if adjoint:
            before, after = after, before
        y = solve(jax.lax.div(b, cast(before, b.dtype)))
        return jax.lax.div(y, cast(after, y.dtype)), y


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
) -> tuple[_Factors, Scales]:
    """The factors of A with its rows scaled; if they fail, or if this left columns so
    small that pivots may be chosen wrongly, with both sides scaled together.

    Args:
        A, columns: as in `equilibrated`.
        factorise: from the scaled matrix to its factors, and whether they failed.

    Returns:
        The factors and the scales.
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
    return while_loop(running, step, start, inputs=A)[2]


def equilibrated(
    A: Inexact[Array, "m w"], columns: Columns, passes: Int[Array, ""] | None = None
) -> tuple[Inexact[Array, "m w"], Scales]:
    """A with rows and columns divided by powers of two, so that the largest element of
    each is of order one.

    Args:
        A: a matrix, by rows.
        columns: where its columns are.
        passes: of least squares; without any, rows are scaled by their largest element.
            None if the zeros of rows that are scaled alone are filled at once (by QR).
    """
    E = _exponents(A)
    gamma, together = jnp.zeros((columns.number,), E.dtype), True
    if passes is not None:
        gamma, together = _column_exponents(E, columns, passes)
    rho, gamma = _largest_one(E, columns, gamma)
    uneven = jnp.min(gamma, initial=0) < -_ALIKE
    fills = (together | uneven) & jnp.any(E == _ZERO)
    return _divided(A, rho[:, None], columns.along(gamma)), Scales(
        two_to(rho), two_to(gamma), fills
    )


def evenly(
    A: Inexact[Array, "m w"], columns: Columns
) -> tuple[Inexact[Array, "m w"], Scales]:
    """As `equilibrated`, and with both sides scaled together if rows alone leave
    columns so small that pivots may be chosen wrongly."""
    E = _exponents(A)
    _, gamma = _largest_one(E, columns, jnp.zeros((columns.number,), E.dtype))
    uneven = jnp.min(gamma, initial=0) < -_ALIKE
    passes = jnp.where(uneven, PASSES, 0).astype(jnp.int32)
    return equilibrated(A, columns, passes)


def evenly_tridiagonal(
    A: Inexact[Array, "3 n"],
) -> tuple[Inexact[Array, "3 n"], Scales]:
    """The same of a tridiagonal matrix by its bands, of which those outside the main
    one begin, or end, with a zero: some ten times faster for long ones."""
    E = _exponents(A)
    rho = _clipped(functools.reduce(jnp.maximum, E))
    below, main, above = E - rho[None]
    left = jnp.maximum(jnp.roll(below, -1), jnp.roll(above, 1))
    gamma = _clipped(jnp.maximum(left, main))

    def step(carry):
        passes, _, _ = carry
        columns = band(E.T, 1)
        gamma, _ = _column_exponents(E.T, columns, passes)
        return passes - PASSES, *_largest_one(E.T, columns, gamma)

    uneven = jnp.min(gamma, initial=0) < -_ALIKE
    start = jnp.where(uneven, PASSES, 0).astype(jnp.int32), rho, gamma
    out = while_loop(lambda carry: carry[0] > 0, step, start, inputs=A)
    _, rho, gamma = out
    around = jnp.stack((jnp.roll(gamma, 1), gamma, jnp.roll(gamma, -1)))
    fills = jnp.ones((), bool)
    return _divided(A, rho[None], around), Scales(two_to(rho), two_to(gamma), fills)


def _exponents(A: Inexact[Array, "m w"]) -> Real[Array, "m w"]:
    sizes = _sizes(A)
    return jnp.where(sizes > 0, exponent(sizes), jnp.full_like(sizes, _ZERO))


def _largest_one(
    E: Real[Array, "m w"], columns: Columns, gamma: Real[Array, " n"]
) -> tuple[Real[Array, " m"], Real[Array, " n"]]:
    """ρ such that the largest element of each row is of order one, where columns are
    divided by 2^γ, and then γ such that those of the columns are."""
    rho = _clipped(jnp.max(E - columns.along(gamma), axis=1, initial=_ZERO))
    left = columns.skew(E - rho[:, None] - _ZERO)  # zeros are shifted in
    return rho, _clipped(jnp.max(left, axis=0, initial=0) + _ZERO)


def _divided(
    A: Inexact[Array, "..."], rho: Real[Array, "..."], gamma: Real[Array, "..."]
) -> Inexact[Array, "..."]:
    """A / 2^(ρ + γ)."""
    shift = rho + gamma
    half = jnp.floor(shift / 2)  # 2 to the whole may be out of range
    for part in (half, shift - half):
        A = jax.lax.mul(A, cast(two_to(-part), A.dtype))
    return A


def _column_exponents(
    E: Real[Array, "m w"], columns: Columns, passes: Int[Array, ""]
) -> tuple[Real[Array, " n"], Bool[Array, ""]]:
    """The γⱼ, rounded, by successive over-relaxation, and whether they are used: zeros
    where scaled elements would still differ much in size."""

    def left(rho, gamma):
        return jnp.where(some, E - rho[:, None] - columns.along(gamma), 0)

    def mean(X, axis):  # of the nonzero elements, from their sum and their number
        both = jax.lax.complex(X, some.astype(X.dtype))
        both = jnp.sum(columns.skew(both) if axis == 0 else both, axis=axis)
        return both.real / jnp.maximum(both.imag, 1)

    def step(carry):
        k, rho, gamma = carry
        omega = jnp.where(k == passes, 1.0, _OMEGA)
        rho += omega * mean(left(rho, gamma), 1)
        gamma += omega * mean(left(rho, gamma), 0)
        return k - 1, rho, gamma

    some = E > _ZERO
    zeros = (jnp.zeros((size,), E.dtype) for size in (E.shape[0], columns.number))
    start = passes, *zeros
    out = while_loop(lambda carry: carry[0] > 0, step, start, inputs=(E, passes))
    _, rho, gamma = out
    most = jnp.max(jnp.abs(left(rho, gamma)), initial=0)
    far = jnp.maximum(largest(rho), largest(gamma)) > _range(E.dtype)
    used = (passes > 0) & (most < _ALIKE) & ~far
    gamma = jnp.round(gamma)
    return jnp.where(used, gamma, jnp.zeros_like(gamma)), used


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
