"""Banded: Gaussian elimination with partial pivoting on a band.

Solves P R⁻¹F = LU, where R scales the rows by powers of two and F is A or Aᴴ, whichever
has the fewer diagonals below the main one. With l below and u above, pivoting fills l
more above (Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 4.3.5), so
that elimination is a scan over a window of l + 1 rows and l + u + 1 columns:
2 n l (l + u) operations. L stays a product of swaps and eliminations, as in LAPACK's
`gbtrf`.

Non-standard: it says when the factors are worthless, by the criteria of `LU` (see
there), which cost two more substitutions. F triangular is not eliminated, and like
`Triangular` reports exact zeros only.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int, Real
from lx_operators.internal import (
    PackedStructures,
    bands,
    bandwidths,
    pack_structures,
    ravel,
    skewed,
    unravel,
)

from .._checks import check_options, check_square, check_state
from .._loops import scan
from .._results import all_finite
from .._scaling import largest, power_of_two
from .._slogdet import slogdet_of, slogdet_of_factors, tangent_of, trace_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import judge, judge_factors, working_dtype


class _Factors(eqx.Module):
    U: Inexact[Array, "n w"]  # U[j, t] = uⱼ,ⱼ₊ₜ
    L: Inexact[Array, "n l"]  # L[j, t]: of row j taken from row j + 1 + t
    pivots: Int[Array, " n"]  # row j was swapped with row j + pivots[j]


class _BandedState(eqx.Module):
    factors: _Factors
    rows: Real[Array, " n"]
    reciprocal_condition: Real[Array, ""]
    growth: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class Banded(AbstractLinearSolver[_BandedState]):
    """Gaussian elimination with partial pivoting on a band, for operators known to have
    few diagonals: `BandedLinearOperator`, and sums, products and scalings of such, of
    tridiagonal and of diagonal ones.

    With l diagonals below and u above the main one, it takes O(n·min(l, u)·(l + u))
    operations for the factors and O(n·(l + u)) for each vector, in n sequential steps.

    Reports `singular` when the operator is singular to working precision (rows or
    columns of very different scale do no harm), and `unstable` when elements grew so
    much that the solution would be worthless; `stats` have `reciprocal_condition` and
    `growth`, as of `LU`. A triangular operator is singular only if it has a zero on the
    diagonal.

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
        check_square(operator, "Banded")
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
        # row i of F from its first diagonal to its last
        if lower > upper:
            lower, upper = upper, lower
            F, view = A.conj().T, views.View(adjoint=True)
        else:
            F, view = skewed(A)[::-1, upper : upper + A.shape[1]].T, views.View()
        sizes = largest(F, axis=1)
        rows = power_of_two(sizes)
        factors = _factorise(F / rows[:, None].astype(F.dtype), lower)
        rcond, growth = _figures(factors)
        finite = all_finite(sizes)
        if lower:
            verdict = judge_factors(finite, rcond, growth, dtype=F.dtype)
        else:
            verdict = judge(finite, singular=jnp.any(factors.U[:, 0] == 0))
        packed = pack_structures(operator)
        return _BandedState(factors, rows, rcond, growth, verdict, packed, view)

    def compute(self, state, vector, options):
        check_state(state, _BandedState, "Banded")

        def solve_with(b, adjoint):
            factors, rows = state.factors, state.rows.astype(b.dtype)
            if not adjoint:  # F = R (Pᵀ L) U
                return _back(factors.U, _eliminate(factors, b / rows))
            return _eliminate_adjoint(factors, _forward(factors.U, b)) / rows

        stats = {
            "reciprocal_condition": state.reciprocal_condition,
            "growth": state.growth,
        }
        return *views.solve(state, vector, state.factors.U.dtype, solve_with), stats

    def transpose(self, state, options):
        check_state(state, _BandedState, "Banded")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _BandedState, "Banded")
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


def _back(U: Inexact[Array, "n w"], y: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """U⁻¹ y."""
    n, w = U.shape

    def step(known, row):
        u, y = row
        x = (y - jnp.sum(u[1:] * known)) / u[0]
        return jnp.concatenate((x[None], known))[: w - 1], x

    return scan(step, jnp.zeros(w - 1, y.dtype), (U, y), reverse=True)[1]


def _forward(U: Inexact[Array, "n w"], b: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """U⁻ᴴ b."""
    n, w = U.shape

    def step(known, row):  # what is known of (Uᴴ y)ⱼ …
        u, b = row
        y = (b - known[0]) / u[0].conj()
        return jnp.append(known[1:] + u[1:].conj() * y, jnp.zeros_like(y)), y

    return scan(step, jnp.zeros(w, b.dtype), (U, b))[1]


def _figures(factors: _Factors) -> tuple[Real[Array, ""], Real[Array, ""]]:
    """The reciprocal condition number of U, by one step of inverse iteration as in
    `_factors.reciprocal_condition`, and its largest element."""
    U = factors.U
    n = len(U)
    columns = jnp.max(skewed(jnp.abs(U).T), axis=0, initial=0)[:n]
    growth = largest(columns)
    if n == 0:
        return jnp.ones_like(growth), growth
    lengths = columns.astype(U.dtype)
    z = jnp.asarray(np.random.default_rng(0).standard_normal(n), U.dtype)
    y = _forward(U, z * lengths)
    x = _back(U, y) * lengths
    ratio = jnp.linalg.norm(y) / jnp.linalg.norm(x)
    return jnp.where(ratio > 0, ratio, jnp.zeros_like(ratio)), growth


@slogdet_of.register
def _(state: _BandedState):
    factors = state.factors
    odd = jnp.sum(factors.pivots != 0) % 2 == 1
    return slogdet_of_factors(
        factors.U[:, 0],
        turned=state.view.turned,
        rows=state.rows,
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
    by_rows = skewed(moved)[::-1, upper : upper + n].T
    if n == 0:
        return jnp.sum(by_rows)
    return jnp.sum(jax.lax.map(column, jnp.arange(n), batch_size=min(n, 64)) * by_rows)
