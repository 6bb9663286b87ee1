"""Tridiagonal: Gaussian elimination with partial pivoting on three diagonals.

Solves tridiagonal nonsingular systems in O(n), by LAPACK's `gtsv`. Non-standard: as a
product with A is as cheap as reading the vector, the answer itself is checked.

- `singular`: with R and C the scales of rows and columns, all elements of R⁻¹AC⁻¹ are
  at most one, and x with ‖R⁻¹b‖ ≤ 4 eps ‖Cx‖ solves (A + E)x = 0 for an E of relative
  size 4 eps: A is singular to working precision.
- `unstable`: ‖b - Ax‖ > √eps (‖A‖‖x‖ + ‖b‖), where a back end does not pivot.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact
from lx_operators import is_tridiagonal, tridiagonal
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_options, check_square, check_state
from .._loops import scan
from .._slogdet import slogdet_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _dense as dense


class _TridiagonalState(eqx.Module):
    # (Ax)ᵢ = lower[i] x[i-1] + main[i] x[i] + upper[i] x[i+1]; lower[0] = upper[-1] = 0
    lower: Inexact[Array, " n"]
    main: Inexact[Array, " n"]
    upper: Inexact[Array, " n"]
    verdict: RESULTS
    packed: PackedStructures
    view: dense.View = eqx.field(static=True, default=dense.View())


class Tridiagonal(AbstractLinearSolver[_TridiagonalState]):
    """Elimination with partial pivoting, for tridiagonal operators.

    Reports `singular` when a pivot is zero, or when the solution shows that the
    operator is singular to working precision.

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
        dtype = dense.working_dtype(main.dtype)
        main, lower, upper = (band.astype(dtype) for band in (main, lower, upper))
        if main.size:
            lower, upper = jnp.pad(lower, (1, 0)), jnp.pad(upper, (0, 1))
        finite = jnp.isfinite(dense.largest(jnp.stack((lower, main, upper))))
        packed = pack_structures(operator)
        return _TridiagonalState(lower, main, upper, dense.judge(finite), packed)

    def compute(self, state, vector, options):
        check_state(state, _TridiagonalState, "Tridiagonal")
        flaws = []

        def solve_with(b, adjoint):
            bands = state.lower, state.main, state.upper
            if not b.size:
                return b
            bands = _adjoint(*bands) if adjoint else bands
            x = jax.lax.linalg.tridiagonal_solve(*bands, b[:, None])[:, 0]
            flaws.extend(_flaws(bands, b, x))
            return x

        x, result = dense.solve(state, vector, state.main.dtype, solve_with)
        for flaw, name in zip(flaws, (RESULTS.unstable, RESULTS.singular)):
            result = RESULTS.where(flaw & (result == RESULTS.successful), name, result)
        return x, result, {}

    def transpose(self, state, options):
        check_state(state, _TridiagonalState, "Tridiagonal")
        return dense.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _TridiagonalState, "Tridiagonal")
        return dense.conj(state), {}

    def assume_full_rank(self):
        return True


def _adjoint(lower: Array, main: Array, upper: Array) -> tuple[Array, Array, Array]:
    up, down = jnp.roll(lower, -1).conj(), jnp.roll(upper, 1).conj()
    return down, main.conj(), up


def _product(bands: tuple[Array, Array, Array], x: Array) -> Array:
    lower, main, upper = bands
    return lower * jnp.roll(x, 1) + main * x + upper * jnp.roll(x, -1)


def _flaws(
    bands: tuple[Array, Array, Array], b: Array, x: Array
) -> tuple[Bool[Array, ""], Bool[Array, ""]]:
    """Whether x is no solution, and whether A is singular to working precision."""
    n, eps = b.size, dense.eps(b.dtype)
    sizes = jnp.abs(jnp.stack(bands))
    rows = dense.power_of_two(jnp.max(sizes, axis=0))
    lower, main, upper = sizes / rows[None]
    columns = jnp.maximum(jnp.maximum(jnp.roll(lower, -1), main), jnp.roll(upper, 1))
    null = dense.largest(b / rows.astype(b.dtype)) <= 4 * eps * dense.largest(
        x * columns.astype(x.dtype)
    )
    nonzero = dense.largest(b) > 0
    residual = dense.largest(b - _product(bands, x))
    size = dense.largest(sizes) * dense.largest(x) + dense.largest(b)
    return ~(residual <= eps**0.5 * n * size), null & nonzero


@slogdet_of.register
def _(state: _TridiagonalState):
    pivots, swaps = _eliminate(state.lower, state.main, state.upper)
    sign, logabs = dense.slogdet(pivots, state.view)
    return jnp.where(jnp.sum(swaps) % 2 == 1, -sign, sign), logabs


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
