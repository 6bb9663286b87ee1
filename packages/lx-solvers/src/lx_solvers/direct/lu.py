"""LU: Gaussian elimination with partial pivoting.

Solves square nonsingular systems by P R⁻¹AC⁻¹ = LU, where R and C scale rows and
columns by powers of two, so that bad scaling does no harm. Non-standard: it says when
the factors are worthless. They are those of R⁻¹AC⁻¹ + E with |E| ≤ γₙ |L||U|,
elementwise, and |lᵢⱼ| ≤ 1 (Higham, "Accuracy and Stability of Numerical Algorithms",
2nd ed., 2002, theorem 9.3, doi:10.1137/1.9780898718027), so that two figures matter:

- `reciprocal_condition`, of U with columns of length one: `singular` if it is rounding
  error. L is almost always well conditioned.
- `growth`, max |U|, where all elements were of order one: `unstable` if it is so large
  that E may be above √eps.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int, Real
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_options, check_square, check_state
from .._results import all_finite, both
from .._scaling import largest
from .._sizes import is_known
from .._slogdet import slogdet_of, slogdet_of_factors
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _tiny as tiny, _views as views
from ._batched import batched_primitive, linear_in_last
from ._equilibration import Scales, equilibrated
from ._factors import (
    dense_matrix,
    grown_above,
    inverse_permutation,
    judge,
    lower_triangle,
    permuted,
    reciprocal_condition,
    solve_triangular,
)


class _LUState(eqx.Module):
    lu: Inexact[Array, "n n"]  # L below the diagonal, U on and above it
    pivots: Int[Array, " n"]  # row i was swapped with row pivots[i]
    permutation: Int[Array, " n"]  # (R⁻¹AC⁻¹)[permutation] = LU
    scales: Scales
    reciprocal_condition: Real[Array, ""]
    growth: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class LU(AbstractLinearSolver[_LUState]):
    """Gaussian elimination with partial pivoting, for square nonsingular operators.

    Reports `singular` when the operator is singular to working precision (rows or
    columns of very different scale do no harm), and `unstable` when elements grew so
    much that the solution would be worthless. `stats["reciprocal_condition"]` is an
    estimate for the factor U, with rows and columns scaled, and `stats["growth"]` its
    largest element, where those of the scaled operator are of order one.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 3.4.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    solution = lx.linear_solve(operator, jnp.array([5.0, 6.0]), lx.LU())
    ```
    """

    def init(self, operator, options):
        check_options(options, (), "LU")
        check_square(operator, "LU")
        A = dense_matrix(operator)
        factors = tiny_lu_p.bind(A, stacked=False) if _is_tiny(A) else _factorise(A)
        *factors, rows, columns, finite, singular, rcond, growth = factors
        unstable = growth > grown_above(A.dtype)
        verdict = judge(finite, singular=singular, unstable=unstable)
        packed = pack_structures(operator)
        scales = Scales(rows, columns)
        return _LUState(*factors, scales, rcond, growth, verdict, packed)

    def compute(self, state, vector, options):
        check_state(state, _LUState, "LU")
        factors, rcond = (state.lu, state.permutation), state.reciprocal_condition
        lost = []

        def solve_with(b, adjoint):
            def substitute(b):
                if not _is_tiny(state.lu):
                    return _substitute(*factors, b, adjoint=adjoint), rcond
                solve = functools.partial(tiny_solve_p.bind, stacked=False)
                return solve(*factors, b[:, None], adjoint=adjoint)[0][:, 0], rcond

            x, in_errors = state.scales.solve(b, adjoint, substitute)
            lost.append(in_errors)
            return x

        x, result = views.solve(state, vector, state.lu.dtype, solve_with)
        result = both(result, judge(True, singular=lost[0]))
        return x, result, {"reciprocal_condition": rcond, "growth": state.growth}

    def transpose(self, state, options):
        check_state(state, _LUState, "LU")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _LUState, "LU")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _factorise(A: Inexact[Array, "n n"]) -> tiny.Factors:
    A, scales = equilibrated(A)
    lu, pivots, permutation = jax.lax.linalg.lu(A)
    # of U; contiguous, from LAPACK
    sizes = largest(lower_triangle(lu.T), axis=1)
    rcond, singular = reciprocal_condition(lu, sizes)
    factors = lu, pivots, permutation, scales.rows, scales.columns
    return tiny.Factors(*factors, all_finite(A), singular, rcond, largest(sizes))


def _substitute(
    lu: Inexact[Array, "n n"],
    p: Int[Array, " n"],
    b: Inexact[Array, " n"],
    *,
    adjoint: bool,
) -> Inexact[Array, " n"]:
    if not adjoint:  # Pᵀ L U
        y = solve_triangular(lu, permuted(b, p), lower=True, unit_diagonal=True)
        return solve_triangular(lu, y, lower=False)
    y = solve_triangular(lu, b, lower=False, adjoint=True)
    z = solve_triangular(lu, y, lower=True, adjoint=True, unit_diagonal=True)
    return permuted(z, inverse_permutation(p))


def _is_tiny(A: Array) -> bool:
    n = A.shape[0]
    return is_known(n) and 0 < n <= tiny.LARGEST


def _substitute_columns(*operands: Array, adjoint: bool) -> tuple[Array]:
    substitute = functools.partial(_substitute, adjoint=adjoint)
    return (jax.vmap(substitute, (None, None, 1), 1)(*operands),)


def _transpose(*operands: Array, adjoint: bool, stacked: bool) -> Array:
    *factors, ct = operands
    solve = functools.partial(tiny_solve_p.bind, adjoint=not adjoint, stacked=stacked)
    return solve(*factors, ct.conj())[0].conj()


tiny_lu_p = batched_primitive("tiny_lu", _factorise, tiny.eliminate)
tiny_solve_p = batched_primitive(
    "tiny_solve", _substitute_columns, tiny.substitute, columns=True
)
linear_in_last(tiny_solve_p, _transpose)


@slogdet_of.register
def _(state: _LUState):
    swapped = state.pivots != jnp.arange(state.pivots.size, dtype=state.pivots.dtype)
    return slogdet_of_factors(
        jnp.diagonal(state.lu),
        turned=state.view.turned,
        scales=(state.scales.rows, state.scales.columns),
        odd=jnp.sum(swapped) % 2 == 1,
        verdict=state.verdict,
    )
