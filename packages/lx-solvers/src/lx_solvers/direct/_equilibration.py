"""Scales of rows and columns for Gaussian elimination.

Pivots are chosen within columns, so scaled columns do no harm; but row scales must be
right. Rows whose largest elements are one may be wrong where columns differ much in
size: a row of a sparse R B C is then as large as the largest column it meets. So R and
C are found together, by least squares:

    min Σ (log₂|aᵢⱼ| - ρᵢ - γⱼ)²    over the nonzero elements

(Curtis and Reid, "On the automatic scaling of matrices for Gaussian elimination", 1972,
doi:10.1093/imamat/10.1.118), by conjugate gradients for the γⱼ, with the ρᵢ eliminated.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Real
from lx_operators.internal import cast, skewed

from .._loops import while_loop
from .._scaling import exponent, largest, two_to
from ._factors import singular_below

_EVEN = 8  # log₂ of the sizes of columns, relative to their mean, that do no harm
_ALIKE = 13  # log₂ of the largest and smallest elements that scales can be meant for
_PASSES, _OMEGA = 32, 1.5
_ZERO = -20_000.0  # stands for log₂ 0; exact in float32, with fractions of 2⁻⁹


class Scales(eqx.Module):
    """R and C: aᵢⱼ was divided by rows[i] · columns[j]."""

    rows: Real[Array, "m *batch"]
    columns: Real[Array, "n *batch"]

    def solve(
        self,
        b: Inexact[Array, " n"],
        adjoint: bool,
        solve: Callable[
            [Inexact[Array, " n"]], tuple[Inexact[Array, " n"], Real[Array, ""]]
        ],
    ) -> tuple[Inexact[Array, " n"], Bool[Array, ""]]:
        """A⁻¹b or A⁻ᴴb, by a solve with the scaled matrix.

        Elimination fills zeros of sparse rows, and so mixes in rounding errors of the
        size of ‖y‖, where y is the scaled solution. These are large for an equation
        whose own terms are much smaller, and divided by scales for an x = C⁻¹y whose
        elements are.

        Args:
            b: the right-hand side.
            adjoint: which of the two.
            solve: from the scaled b to y, and the reciprocal condition number.

        Returns:
            x, and whether it may be lost in such errors. If only rows were scaled, that
            is not asked for A⁻ᴴb.
        """
        before, after = self.rows, self.columns
        if adjoint:
            before, after = after, before
        b = jax.lax.div(b, cast(before, b.dtype))
        y, reciprocal_condition = solve(b)
        x = jax.lax.div(y, cast(after, y.dtype))
        errors = singular_below(y.dtype) * largest(y)  # to be held against 1 / rcond
        reach = largest(1 / after)
        if adjoint:
            reach = jnp.where(jnp.any(self.columns != 1), reach, jnp.zeros_like(reach))
        least = jnp.min(jnp.abs(b), initial=jnp.inf)
        lost = errors * reach > reciprocal_condition * largest(x)
        return x, lost & (16 * errors > reciprocal_condition * least)


class _Columns(NamedTuple):
    number: Any
    along: Callable[[Array], Array]  # the number of its column, for every element
    skew: Callable[[Array], Array]  # the elements in one column below each other


def equilibrated(
    A: Inexact[Array, "m n *batch"],
) -> tuple[Inexact[Array, "m n *batch"], Scales]:
    """A with its rows divided by powers of two, so that the largest element of each is
    of order one; where columns then differ much in size, they are divided as well."""
    return _equilibrated(A, _Columns(A.shape[1], lambda c: c[None], lambda X: X))


def equilibrated_band(
    A: Inexact[Array, "n w"], lower: int
) -> tuple[Inexact[Array, "n w"], Scales]:
    """The same for a band matrix by rows: of row i the elements from column i - lower
    on."""
    n, w = A.shape

    def along(c: Real[Array, " n"]) -> Real[Array, "n w"]:
        c = jnp.pad(c, (lower, w - 1 - lower))
        return jnp.stack([c[t : t + n] for t in range(w)], axis=1)

    def skew(X: Real[Array, "n w"]) -> Real[Array, "w n"]:
        return skewed(X.T)[:, lower : lower + n]

    return _equilibrated(A, _Columns(n, along, skew))


def _equilibrated(
    A: Inexact[Array, "m w *batch"], columns: _Columns
) -> tuple[Inexact[Array, "m w *batch"], Scales]:
    sizes = _sizes(A)
    E = jnp.where(sizes > 0, exponent(sizes), jnp.full_like(sizes, _ZERO))
    gamma = _column_exponents(E, columns)
    rho = jnp.max(E - columns.along(gamma), axis=1, initial=_ZERO)
    rho = _within_range(jnp.where(rho > _ZERO / 2, rho, jnp.zeros_like(rho)))
    shift = rho[:, None] + columns.along(gamma)
    half = jnp.floor(shift / 2)  # 2 to the whole may be out of range
    for part in (half, shift - half):
        A = jax.lax.mul(A, cast(two_to(-part), A.dtype))
    return A, Scales(two_to(rho), two_to(gamma))


def _column_exponents(
    E: Real[Array, "m w *batch"], columns: _Columns
) -> Real[Array, "n *batch"]:
    """The γⱼ, rounded, by successive over-relaxation; zeros where they hardly differ.

    Args:
        E: log₂ of the elements.
        columns: where they are.
    """
    m, _, *batch = E.shape

    def left(rho, gamma):
        return jnp.where(some, E - rho[:, None] - columns.along(gamma), 0)

    def mean(X, axis):  # of the nonzero elements, from their sum and their number
        both = jax.lax.complex(X, some.astype(X.dtype))
        both = jnp.sum(columns.skew(both) if axis == 0 else both, axis=axis)
        return both.real / jnp.maximum(both.imag, 1)

    def step(carry):
        k, going, rho, gamma = carry
        first = (k == 0)[None]
        omega = jnp.where(first, 1.0, _OMEGA)
        limit = jnp.where(first, _EVEN, 0.5)
        rho += omega * mean(left(rho, gamma), 1)
        change = omega * mean(left(rho, gamma), 0)
        going = going & jnp.any(jnp.abs(change) > limit, axis=0)
        return k + going.astype(k.dtype), going & (k < _PASSES), rho, gamma + change

    some = E > _ZERO
    k = jnp.zeros(batch, jnp.int32)
    zeros = (jnp.zeros((size, *batch), E.dtype) for size in (m, columns.number))
    start = k, k == 0, *zeros
    out = while_loop(lambda carry: jnp.any(carry[1]), step, start, inputs=E)
    k, _, rho, gamma = out
    most = jnp.max(jnp.abs(left(rho, gamma)), axis=(0, 1), initial=0)
    wanted = ((k > 0) & (most < _ALIKE))[None]
    return jnp.where(wanted, _within_range(jnp.round(gamma)), jnp.zeros_like(gamma))


def _within_range(exponents: Real[Array, "n *batch"]) -> Real[Array, "n *batch"]:
    """Of scales whose reciprocals are normal, too."""
    most = float(-jnp.finfo(exponents.dtype).minexp - 2)
    return jnp.clip(exponents, -most, most)


def _sizes(A: Inexact[Array, "m w *batch"]) -> Real[Array, "m w *batch"]:
    """As in `largest`, elementwise."""
    if jnp.iscomplexobj(A):
        return jnp.maximum(jnp.abs(A.real), jnp.abs(A.imag))
    return jnp.abs(A)
