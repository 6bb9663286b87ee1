"""Banded: Gaussian elimination with partial pivoting on a band, and QR.

Square systems: P R⁻¹FC⁻¹ = LU, where R and C scale rows and columns by powers of two,
as in `LU`, and F is A or Aᴴ, whichever has the fewer diagonals below the main one. With
l below and u above, pivoting fills l more above (Golub and Van Loan, "Matrix
Computations", 4th ed., 2013, section 4.3.5), so that elimination is a scan over a
window of l + 1 rows and l + u + 1 columns: 2 n l (l + u) operations. L stays a product
of swaps and eliminations, as in LAPACK's `gbtrf`.

Non-standard: it says when the factors are worthless, by the criteria of `LU` (see
there), which cost two more substitutions, and checks and refines every row of the
answer: see `_refinement`. F triangular is not eliminated, and like `Triangular` reports
exact zeros only.

Others: FD⁻¹ = QR, where D scales the columns by powers of two and F is the tall one of
A and Aᴴ; x = D⁻¹R⁻¹Qᴴb solves Fx = b in the sense of least squares, and QR⁻ᴴD⁻¹b is the
solution of minimum norm of Fᴴx = b, as in `QR`.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int, Real
from lx_operators import AbstractLinearOperator
from lx_operators.internal import (
    PackedStructures,
    bands,
    bandwidths,
    pack_structures,
    ravel,
    shifted_rows,
    size_of,
    unravel,
)

from .._checks import check_options, check_state
from .._control_flow import scan
from .._projection import annihilated
from .._results import all_finite, both
from .._scaling import largest, power_of_two
from .._slogdet import (
    check_determinant,
    slogdet_of,
    slogdet_of_factors,
    tangent_of,
    trace_of,
)
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._band import BandQR, back, band_qr, figures, forward, times, times_adjoint
from ._equilibration import Scales, band, factorised
from ._factors import grown_above, judge, singular_below, working_dtype
from ._refinement import Square, as_square, judge_rows, refined


class _Factors(eqx.Module):
    U: Inexact[Array, "n w"]  # U[j, t] = uⱼ,ⱼ₊ₜ
    L: Inexact[Array, "n l"]  # L[j, t]: of row j taken from row j + 1 + t
    pivots: Int[Array, " n"]  # row j was swapped with row j + pivots[j]


class _BandedState(eqx.Module):
    factors: _Factors
    square: Square  # what was factorised
    scales: Scales
    reciprocal_condition: Real[Array, ""]
    growth: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class _BandedQRState(eqx.Module):
    qr: BandQR
    columns: Real[Array, " n"]
    reciprocal_condition: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True)


class Banded(AbstractLinearSolver[_BandedState | _BandedQRState]):
    """Elimination or QR on a band, for operators of full rank that are known to have
    few diagonals: `BandedLinearOperator`, and sums, products and multiples of banded,
    tridiagonal and diagonal operators.

    With l diagonals below and u above the main one, it takes O(n·min(l, u)·(l + u))
    operations for the factors and O(n·(l + u)) for each vector, in n sequential steps.
    For a tall operator it gives the least-squares solution, for a wide one the
    minimum-norm solution, both by QR, with O(n·(l + u)²) operations for the factors.

    Reports `singular` when the operator is singular to working precision (rows or
    columns of very different scale do no harm), and `unstable` when elements grew so
    much that the solution would be worthless, or when it leaves an equation of a square
    system unsolved. `stats` has `reciprocal_condition` and, for a square operator,
    `growth`, as for `LU`, and `backward_error`, as for `QR`. A triangular operator is
    reported as singular only if it has a zero on the diagonal, and has no
    `backward_error`.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 4.3.

    ```python
    # [[4, 1, 0], [2, 4, 1], [3, 2, 4]]
    diagonals = jnp.array([[0.0, 1, 1], [4, 4, 4], [2, 2, 0], [3, 0, 0]])
    operator = lx.BandedLinearOperator(diagonals, lower=2, upper=1)
    solution = lx.linear_solve(operator, jnp.array([5.0, 7.0, 9.0]), lx.Banded())
    ```
    """

    def init(self, operator, options):
        check_options(options, (), "Banded")
        widths = bandwidths(operator)
        if widths is None:
            raise ValueError(
                "`Banded` solves systems of few diagonals, but how many this operator "
                f"has is not known: {operator!r}. Make it a `BandedLinearOperator`, or "
                "use `LU`."
            )
        lower, upper = widths
        A = bands(operator)
        A = A.astype(working_dtype(A.dtype))
        if operator.in_size() != operator.out_size():
            return _factorise_rectangular(operator, A, lower, upper)
        # row i of F from its first diagonal to its last
        if lower > upper:
            lower, upper = upper, lower
            F, view = A.conj().T, views.View(adjoint=True)
        else:
            F, view = shifted_rows(A)[::-1, upper : upper + A.shape[1]].T, views.View()

        def factorise(F):
            factors = _factorise(F, lower)
            rcond, growth = figures(factors.U)
            if lower:
                singular = ~(rcond > singular_below(F.dtype))
            else:
                singular = jnp.any(factors.U[:, 0] == 0)
            return (factors, rcond, growth, singular, all_finite(F)), singular

        out, scaled, scales = factorised(F, band(F, lower), factorise)
        factors, rcond, growth, singular, finite = out
        unstable = growth > grown_above(F.dtype) if lower else False
        verdict = judge(finite, singular=singular, unstable=unstable)
        packed = pack_structures(operator)
        square = as_square(scaled, F)
        return _BandedState(
            factors, square, scales, rcond, growth, verdict, packed, view
        )

    def compute(self, state, vector, options):
        check_state(state, (_BandedState, _BandedQRState), "Banded")
        if isinstance(state, _BandedQRState):
            stats = {"reciprocal_condition": state.reciprocal_condition}
            solve = functools.partial(_solve_rectangular, state)
            return *views.solve(state, vector, state.qr.R.dtype, solve), stats

        factors, scales, square = state.factors, state.scales, state.square
        lower = factors.L.shape[1]
        stats = {
            "reciprocal_condition": state.reciprocal_condition,
            "growth": state.growth,
        }

        def solve_with(b, adjoint):
            def substitute(b):
                if not adjoint:  # (Pᵀ L) U
                    return back(factors.U, _eliminate(factors, b))
                return _eliminate_adjoint(factors, forward(factors.U, b))

            if not lower:
                return scales.scaled(b, adjoint, substitute)
            times = functools.partial(_times, lower)
            x, stats["backward_error"] = refined(
                substitute, square, scales, b, adjoint, times
            )
            return x

        x, result = views.solve(state, vector, factors.U.dtype, solve_with)
        if lower:
            result = both(result, judge_rows(stats["backward_error"], factors.U.dtype))
        return x, result, stats

    def transpose(self, state, options):
        check_state(state, (_BandedState, _BandedQRState), "Banded")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, (_BandedState, _BandedQRState), "Banded")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _factorise(F: Inexact[Array, "n w"], lower: int) -> _Factors:
    """The factors of a band matrix, given by rows."""
    n, w = F.shape
    if lower == 0:
        return _Factors(F, jnp.zeros((n, 0), F.dtype), jnp.zeros(n, jnp.int32))

    def step(window, below):  # rows j … j + l, from column j on
        pivot = jnp.argmax(jnp.abs(window[:, 0])).astype(jnp.int32)
        window = _swapped(window, pivot)
        top, rest = window[0], window[1:]
        safe = jnp.where(top[0] == 0, jnp.ones_like(top[0]), top[0])
        multipliers = rest[:, 0] / safe
        rest = rest[:, 1:] - multipliers[:, None] * top[None, 1:]
        rest = jnp.pad(rest, ((0, 0), (0, 1)))
        return jnp.concatenate((rest, below[None])), (top, multipliers, pivot)

    F = jnp.pad(F, ((0, lower + 1), (0, 0)))
    # row i starts at column i - l, the window at column 0
    i = np.arange(lower + 1)[:, None]
    first = jnp.pad(F[: lower + 1], ((0, 0), (0, lower)))
    window = first[i, np.arange(w) + lower - i]
    _, factors = scan(step, window, F[lower + 1 :])
    return _Factors(*factors)


def _swapped(x: Inexact[Array, "l ..."], pivot: Array) -> Inexact[Array, "l ..."]:
    """Rows 0 and `pivot` exchanged."""
    row = jnp.arange(x.shape[0], dtype=pivot.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    chosen = row == pivot
    top = jnp.sum(jnp.where(chosen, x, jnp.zeros_like(x)), axis=0)
    return jnp.where(row == 0, top, jnp.where(chosen, x[0], x))


def _eliminate(factors: _Factors, b: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """(Pᵀ L)⁻¹ b."""
    n, l = factors.L.shape
    if l == 0:
        return b

    def step(window, row):
        multipliers, pivot, below = row
        window = _swapped(window, pivot)
        rest = window[1:] - multipliers * window[0]
        return jnp.append(rest, below), window[0]

    b = jnp.pad(b, (0, l + 1))
    _, y = scan(step, b[: l + 1], (factors.L, factors.pivots, b[l + 1 :]))
    return y


def _eliminate_adjoint(
    factors: _Factors, y: Inexact[Array, " n"]
) -> Inexact[Array, " n"]:
    """(Pᵀ L)⁻ᴴ y."""
    n, l = factors.L.shape
    if l == 0:
        return y

    def step(below, row):
        y, multipliers, pivot = row
        top = y - jnp.sum(multipliers.conj() * below)
        window = _swapped(jnp.concatenate((top[None], below)), pivot)
        return window[:-1], window[-1]

    start = jnp.zeros(l, y.dtype)
    first, rest = scan(step, start, (y, factors.L, factors.pivots), reverse=True)
    return jnp.concatenate((first, rest))[:n]


def _times(
    lower: int, F: Inexact[Array, "n w"], Y: Inexact[Array, "n k"], adjoint: bool
) -> Inexact[Array, "n k"]:
    """F Y, or Fᵀ Y."""
    columns = band(F, lower)

    def product(y: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        if adjoint:
            return jnp.sum(columns.skew(F * y[:, None]), axis=0)
        return jnp.sum(F * columns.along(y), axis=1)

    return jnp.stack([product(Y[:, k]) for k in range(Y.shape[1])], axis=1)


# Tall and wide operators


def _factorise_rectangular(
    operator: AbstractLinearOperator, A: Inexact[Array, "w n"], lower: int, upper: int
) -> _BandedQRState:
    m, n = operator.out_size(), operator.in_size()
    wide = m < n
    if wide:
        m, n, lower, upper = n, m, upper, lower
    i, t = np.arange(m)[:, None], np.arange(lower + upper + 1)[None]
    column = i - lower + t  # of the element t of row i of F
    inside = (column >= 0) & (column < n)
    # row j of Aᴴ is column j of A
    F = A.conj().T if wide else A[lower + upper - t, np.where(inside, column, 0)]
    F = jnp.where(inside, F, jnp.zeros_like(F))
    sizes = jnp.zeros(n, jnp.finfo(F.dtype).dtype)
    columns = power_of_two(sizes.at[np.where(inside, column, 0)].max(jnp.abs(F)))
    scales = jnp.where(inside, columns[np.where(inside, column, 0)], 1)
    qr = band_qr(F / scales.astype(F.dtype), n, lower)
    rcond, _ = figures(qr.R)
    finite = all_finite(largest(F, axis=1))
    verdict = judge(finite, singular=~(rcond > singular_below(F.dtype)))
    packed, view = pack_structures(operator), views.View(adjoint=wide)
    return _BandedQRState(qr, columns, rcond, verdict, packed, view)


def _solve_rectangular(
    state: _BandedQRState, b: Inexact[Array, " m"], adjoint: bool
) -> Inexact[Array, " n"]:
    qr, columns = state.qr, state.columns.astype(b.dtype)
    if not adjoint:  # least squares with F
        return back(qr.R, times_adjoint(qr, b)[0]) / columns
    y = forward(qr.R, b / columns)  # minimum norm with Fᴴ
    return times(qr, y, jnp.zeros(_excess(state), b.dtype))


def _excess(state: _BandedQRState) -> int:
    """By how many rows F has more than columns."""
    ins, outs = state.packed.in_structure.thaw(), state.packed.out_structure.thaw()
    return abs(size_of(ins) - size_of(outs))


@annihilated.register
def _(state: _BandedQRState, vector):
    def project(v, adjoint):
        if not adjoint:  # the columns of F are independent
            return jnp.zeros_like(v)
        top, rest = times_adjoint(state.qr, v)
        return times(state.qr, jnp.zeros_like(top), rest)

    return views.within(state, vector, state.qr.R.dtype, project)


@slogdet_of.register
def _(state: _BandedQRState):
    n = state.columns.size
    check_determinant(n + _excess(state), n, "Banded")
    raise AssertionError("unreachable: a square operator is not factorised by QR")


@slogdet_of.register
def _(state: _BandedState):
    factors = state.factors
    odd = jnp.sum(factors.pivots != 0) % 2 == 1
    return slogdet_of_factors(
        factors.U[:, 0],
        turned=state.view.turned,
        scales=(state.scales.rows, state.scales.columns),
        odd=odd,
        verdict=state.verdict,
    )


@trace_of.register
def _(state: _BandedState, solver, tangent):
    """Σ Zⱼᵢ dAᵢⱼ over the band, Z = A⁻¹. Columns of Z are solved for in batches, and
    only their parts within the band are kept: O(n²·(l + u)) operations, O(n) memory."""
    lower, upper = bandwidths(tangent.primal) or (0, 0)
    n, w = len(state.factors.U), lower + upper + 1
    outs, dtype = tangent.out_structure(), state.factors.U.dtype

    def column(i: Array) -> Array:
        unit = (jnp.arange(n) == i).astype(dtype)
        z, _, _ = solver.compute(state, unravel(unit, outs), {})
        padded = jnp.pad(ravel(z, dtype), (lower, upper))
        return jax.lax.dynamic_slice_in_dim(padded, i, w)

    moved = tangent_of(bands, tangent).astype(dtype)
    by_rows = shifted_rows(moved)[::-1, upper : upper + n].T
    if n == 0:
        return jnp.sum(by_rows)
    return jnp.sum(jax.lax.map(column, jnp.arange(n), batch_size=min(n, 64)) * by_rows)
