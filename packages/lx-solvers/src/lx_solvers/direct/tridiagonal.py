"""Tridiagonal: Gaussian elimination with partial pivoting on three diagonals.

Solves tridiagonal nonsingular systems in O(n): F = R⁻¹AC⁻¹, with rows and columns
scaled by powers of two as in `Banded`, by LAPACK's `gtsv`. Non-standard: as a product
with A is as cheap as reading the vector, the answer itself is checked.

- `singular`: all elements of F are at most one, and x with ‖R⁻¹b‖ ≤ 4 eps ‖Cx‖ solves
  (A + E)x = 0 for an E of relative size 4 eps: A is singular to working precision.
- `unstable`: |b - Ax| > √eps (|A||x| + |b|) in some row (Oettli and Prager 1964,
  doi:10.1007/BF01386090), where a back end does not pivot, or columns are of so
  different scales that pivots were chosen wrongly. A smaller quotient is the same for
  all scales of rows and columns: x then solves a system whose elements differ from
  those of A and b by at most as much, relative to each.
"""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import ad
from jaxtyping import Array, Bool, Inexact, Real
from lx_operators import AbstractLinearOperator, is_tridiagonal, tridiagonal
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_options, check_square, check_state
from .._control_flow import scan
from .._results import both
from .._scaling import largest, reciprocal_scale
from .._sizes import variates
from .._slogdet import slogdet_of, slogdet_of_factors, tangent_of, trace_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _tridiagonal_batches as batches, _views as views
from ._batched import batched_primitive, linear_in_last
from ._equilibration import Scales, divided_bands, evenly_tridiagonal, shifted
from ._factors import judge, working_dtype
from ._refinement import judge_answer, ratio_or, row_error, significant

Bands = tuple[Inexact[Array, " n"], Inexact[Array, " n"], Inexact[Array, " n"]]


class _TridiagonalState(eqx.Module):
    """The bands of F = R⁻¹AC⁻¹."""

    # (Fx)ᵢ = lower[i] x[i-1] + main[i] x[i] + upper[i] x[i+1]; lower[0] = upper[-1] = 0
    lower: Inexact[Array, " n"]
    main: Inexact[Array, " n"]
    upper: Inexact[Array, " n"]
    scales: Scales
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class Tridiagonal(AbstractLinearSolver[_TridiagonalState]):
    """Elimination with partial pivoting, for tridiagonal operators.

    Reports `singular` when a pivot is zero, or when the solution shows that the
    operator is singular to working precision. `stats["backward_error"]` is the largest
    |b - Ax|/(|A||x| + |b|) of a row. `stats["reciprocal_condition"]` is an upper bound
    of 1/κ from this solution, with rows and columns scaled: the operator is at least
    this close to a singular one.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 4.3.

    ```python
    operator = lx.TridiagonalLinearOperator(
        2 * jnp.ones(4), -jnp.ones(3), -jnp.ones(3)
    )
    solution = lx.linear_solve(operator, jnp.ones(4), lx.Tridiagonal())
    ```
    """

    def init(self, operator, options):
        check_options(options, (), "Tridiagonal")
        check_square(operator, "Tridiagonal")
        if not is_tridiagonal(operator):
            raise ValueError(
                "`Tridiagonal` solves tridiagonal systems only, but the operator is "
                f"not known to be tridiagonal: {operator!r}. Tag it with "
                "`tridiagonal_tag`, or use `LU`."
            )
        main, lower, upper = tridiagonal(operator)
        dtype = working_dtype(main.dtype)
        main, lower, upper = (band.astype(dtype) for band in (main, lower, upper))
        if main.size:
            lower, upper = jnp.pad(lower, (1, 0)), jnp.pad(upper, (0, 1))
        # XLA reads a matrix of which these are diagonals once, if they are one array
        # behind a barrier, and otherwise once for each of their uses
        A = jax.lax.optimization_barrier(jnp.stack((lower, main, upper)))
        *F, rho, gamma, finite = evened_p.bind(A, stacked=False)
        lower, main, upper = F
        scales, verdict = Scales(rho, gamma), judge(finite)
        packed = pack_structures(operator)
        return _TridiagonalState(lower, main, upper, scales, verdict, packed)

    def compute(self, state, vector, options):
        check_state(state, _TridiagonalState, "Tridiagonal")
        stats = {}

        def solve_with(b, adjoint):
            if not b.size:
                return b
            bands = state.lower, state.main, state.upper

            def solve(b):
                y, *figures = _solve(bands, b, state.scales, adjoint)
                return y, figures

            x, (error, near) = state.scales.checked(b, adjoint, solve)
            stats.update(backward_error=error, reciprocal_condition=near)
            return x

        x, result = views.solve(state, vector, state.main.dtype, solve_with)
        if stats:
            result = both(result, judge_answer(*stats.values(), dtype=state.main.dtype))
        return x, result, stats

    def transpose(self, state, options):
        check_state(state, _TridiagonalState, "Tridiagonal")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _TridiagonalState, "Tridiagonal")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _adjoint(lower: Array, main: Array, upper: Array) -> Bands:
    return shifted(upper, 1).conj(), main.conj(), shifted(lower, -1).conj()


def _solve(
    bands: Bands, b: Inexact[Array, " n"], scales: Scales, adjoint: bool
) -> tuple[Inexact[Array, " n"], Real[Array, ""], Real[Array, ""]]:
    """The solution y of Fy = b or Fᴴy = b, the largest backward error of a row, and how
    near to a singular matrix F is."""
    b, params = b[:, None], {"adjoint": adjoint, "stacked": False}
    (y,) = tridiagonal_solve_p.bind(*bands, b, **params)
    x = scales.unscaled(y[:, 0], adjoint)[:, None]
    known = jax.lax.stop_gradient((*bands, x, y, b))
    error, near = tridiagonal_figures_p.bind(*known, **params)
    return y[:, 0], error[0], near[0]


def _one_solved(*operands: Array, adjoint: bool) -> Array:
    lower, main, upper, b = operands
    if adjoint:
        lower, main, upper = _adjoint(lower, main, upper)
    return jax.lax.linalg.tridiagonal_solve(lower, main, upper, b)


def _of_columns(figures: Callable, *operands: Array, adjoint: bool) -> tuple:
    *bands, x, y, b = operands
    figures = functools.partial(figures, tuple(bands), adjoint=adjoint)
    if b.shape[1] == 1:
        return (*(figure[None] for figure in figures(x[:, 0], y[:, 0], b[:, 0])),)
    return jax.vmap(figures, 1)(x, y, b)


def _one_figures(
    bands: Bands, x: Array, y: Array, b: Array, *, adjoint: bool
) -> tuple[Real[Array, ""], Real[Array, ""]]:
    """The last two of `_solve`."""
    bands = _adjoint(*bands) if adjoint else bands
    sized = _sizes(bands)
    sizes, of_x = _times(sized, jnp.abs(y)), significant(x)
    error = row_error(b - _times(bands, y), b, sizes, _times(sized, of_x), y)
    return error, ratio_or(largest(b), largest(y), 1)


def _many_figures(
    bands: Bands, x: Array, y: Array, b: Array, *, adjoint: bool
) -> tuple[Real[Array, " batch"], Real[Array, " batch"]]:
    error = batches.row_error(bands, x, y, b, adjoint=adjoint)
    return error, ratio_or(largest(b, axis=0), largest(y, axis=0), 1)


def _evened_tangent(primals: Any, tangents: Any, *, stacked: bool) -> Any:
    """Scales are piecewise constant."""
    out = evened_p.bind(*primals, stacked=stacked)
    *_, rho, gamma, finite = out
    divide = jax.vmap(divided_bands) if stacked else divided_bands
    zeros = jnp.zeros_like(rho), jnp.zeros_like(gamma)
    moved = divide(tangents[0], Scales(rho, gamma))
    return out, [*moved, *zeros, np.zeros(finite.shape, jax.dtypes.float0)]


def _transpose(*operands: Array, adjoint: bool, stacked: bool) -> Array:
    *bands, ct = operands
    solve = functools.partial(tridiagonal_solve_p.bind, *bands, stacked=stacked)
    return solve(ct.conj(), adjoint=not adjoint)[0].conj()


def _moved(*tangents: Array, adjoint: bool, stacked: bool) -> Array:
    """Fy = b moves as if -dF y were added to db."""

    def effect(y: Array, lower: Array, main: Array, upper: Array) -> Array:
        bands = lower, main, upper
        return -_times(_adjoint(*bands) if adjoint else bands, y)

    *bands, y = tangents
    effect = jax.vmap(effect, (1, None, None, None), 1)
    return (jax.vmap(effect) if stacked else effect)(y, *bands)


FEWEST = 64  # for fewer, LAPACK is as fast
evened_p = batched_primitive(
    "evened_bands", evenly_tridiagonal, batches.evened, fewest=FEWEST, larger=64
)
tridiagonal_solve_p = batched_primitive(
    "tridiagonal_solve",
    _one_solved,
    batches.solved,
    columns=1,
    fewest=FEWEST,
    larger=8,
)
tridiagonal_figures_p = batched_primitive(
    "tridiagonal_figures",
    functools.partial(_of_columns, _one_figures),
    functools.partial(_of_columns, _many_figures),
    columns=3,
    fewest=FEWEST,
    larger=8,
)
ad.primitive_jvps[evened_p] = _evened_tangent
linear_in_last(tridiagonal_solve_p, _transpose, _moved)


def _times(bands: Bands, y: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    l, m, u = bands
    return l * shifted(y, 1) + m * y + u * shifted(y, -1)


def _sizes(bands: Bands) -> Bands:
    l, m, u = bands
    return jnp.abs(l), jnp.abs(m), jnp.abs(u)


@slogdet_of.register
def _(state: _TridiagonalState):
    bands, verdict = (state.lower, state.main, state.upper), state.verdict
    pivots, swaps = _eliminate(*bands)
    if pivots.size:  # inverse iteration, as in `_factors.reciprocal_condition`
        z = jnp.asarray(variates(pivots.shape, pivots.dtype))
        y, *_ = _solve(bands, z, state.scales, True)
        _, *figures = _solve(bands, _of_order_one(y), state.scales, False)
        seen = judge_answer(*figures, dtype=pivots.dtype)
        verdict = both(verdict, seen)
    return slogdet_of_factors(
        pivots,
        turned=state.view.turned,
        scales=(state.scales.rows, state.scales.columns),
        odd=jnp.sum(swaps) % 2 == 1,
        verdict=verdict,
    )


@trace_of.register
def _(state: _TridiagonalState, solver, tangent):
    """The product of the pivots p is ± det F for all F near by, so that the trace is
    Σ dp/p: O(n) operations and memory."""
    if state.view != views.View():
        return None
    bands, dtype = (state.lower, state.main, state.upper), state.main.dtype

    def take(operator: AbstractLinearOperator) -> Array:
        main, lower, upper = tridiagonal(operator)
        if main.size:
            lower, upper = jnp.pad(lower, (1, 0)), jnp.pad(upper, (0, 1))
        return jnp.stack((lower, main, upper))

    rows = state.scales.rows.astype(dtype)
    moved = tangent_of(take, tangent).astype(dtype) / rows[None]
    columns = state.scales.columns.astype(dtype)
    around = jnp.roll(columns, 1), columns, jnp.roll(columns, -1)
    moved = tuple(band / c for band, c in zip(moved, around))
    pivots, by = jax.jvp(lambda *bands: _eliminate(*bands)[0], bands, moved)
    return jnp.sum(by / pivots)


def _of_order_one(x: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    return x * reciprocal_scale(largest(x)).astype(x.dtype)


def _eliminate(
    lower: Inexact[Array, " n"], main: Inexact[Array, " n"], upper: Inexact[Array, " n"]
) -> tuple[Inexact[Array, " n"], Bool[Array, " n-1"]]:
    """The pivots of elimination with partial pivoting, and which rows were swapped."""

    def step(row, below):
        d, u = row  # of the current row, from its diagonal on
        l, d_below, u_below = below
        swap = jnp.abs(l) > jnp.abs(d)
        pivot = jnp.where(swap, l, d)
        safe = jnp.where(pivot == 0, jnp.ones_like(pivot), pivot)
        f = jnp.where(swap, d, l) / safe
        top = jnp.where(swap, d_below, u), jnp.where(swap, u_below, jnp.zeros_like(u))
        bottom = (
            jnp.where(swap, u, d_below),
            jnp.where(swap, jnp.zeros_like(u), u_below),
        )
        return (bottom[0] - f * top[0], bottom[1] - f * top[1]), (pivot, swap)

    if not main.size:
        return main, jnp.zeros(0, bool)
    rest = lower[1:], main[1:], upper[1:]
    last, (pivots, swaps) = scan(step, (main[0], upper[0]), rest)
    return jnp.append(pivots, last[0]), swaps
