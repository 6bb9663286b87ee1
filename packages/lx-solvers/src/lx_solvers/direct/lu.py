"""LU: Gaussian elimination with partial pivoting.

Solves square nonsingular systems by P R⁻¹A = LU, where R scales the rows by powers of
two, so that badly scaled rows do no harm. Non-standard: it says when the factors are
worthless. They are those of R⁻¹A + E with |E| ≤ γₙ |L||U|, elementwise, and |lᵢⱼ| ≤ 1
(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, theorem 9.3,
doi:10.1137/1.9780898718027), so that two figures matter:

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
from lx_operators.internal import PackedStructures, cast, pack_structures

from .._checks import check_options, check_square, check_state
from .._results import both
from .._scaling import largest
from .._sizes import is_known
from .._slogdet import slogdet_of, slogdet_of_factors
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _tiny as tiny, _views as views
from ._batched import batched_primitive, linear_in_last
from ._equilibration import Scales, dense, factorised
from ._factors import (
    dense_matrix,
    equilibrated,
    grown_above,
    inverse_permutation,
    judge,
    lower_triangle,
    nan_unless,
    permuted,
    reciprocal_condition,
    solve_triangular,
)
from ._refinement import Square, as_square, judge_rows, refined


class _LUState(eqx.Module):
    lu: Inexact[Array, "n n"]  # L below the diagonal, U on and above it
    pivots: Int[Array, " n"]  # row i was swapped with row pivots[i]
    permutation: Int[Array, " n"]  # (A / rows)[permutation] = LU
    rows: Real[Array, " n"]
    scales: Scales | None  # of both sides, by which A was divided before,
    square: Square | None  # to this
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
    estimate for the factor U, with rows and columns scaled, and `stats["growth"]` is
    its largest element, for an operator scaled so that its largest elements are of
    order one.

    Args:
        two_sided: if the operator looks singular, scale rows and columns together and
            try again. This helps sparse operators whose columns differ by many orders
            of magnitude, which are otherwise reported as `singular`. The solution is
            then refined and every row of it checked, as in `QR`: the result may be
            `unstable`, and there is the same `stats["backward_error"]`. The scaled
            matrix is kept in addition to the factors, and compiling takes about three
            times as long.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 3.4; Curtis and
    Reid 1972, doi:10.1093/imamat/10.1.118.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    solution = lx.linear_solve(operator, jnp.array([5.0, 6.0]), lx.LU())
    ```
    """

    two_sided: bool = eqx.field(static=True, default=False)

    def init(self, operator, options):
        check_options(options, (), "LU")
        check_square(operator, "LU")
        A = dense_matrix(operator)

        def factorise(A):
            factors = tiny_lu_p.bind(A, stacked=False) if _is_tiny(A) else _factorise(A)
            factors = tiny.Factors(*factors)
            return factors, factors.singular

        scales = square = None
        if self.two_sided:
            factors, F, scales = factorised(A, dense(A), factorise)
            square = as_square(F, A)
        else:
            factors, _ = factorise(A)
        lu, pivots, permutation, rows, finite, singular, rcond, growth = factors
        unstable = growth > grown_above(A.dtype)
        verdict = judge(finite, singular=singular, unstable=unstable)
        packed = pack_structures(operator)
        factors = lu, pivots, permutation, rows, scales, square
        return _LUState(*factors, rcond, growth, verdict, packed)

    def compute(self, state, vector, options):
        check_state(state, _LUState, "LU")

        factors, scales = (state.lu, state.permutation, state.rows), state.scales
        square, stats = state.square, {}
        stats["reciprocal_condition"] = state.reciprocal_condition
        stats["growth"] = state.growth

        def solve_with(b, adjoint):
            def solve(b):
                if not _is_tiny(state.lu):
                    return _substitute(*factors, b, adjoint=adjoint)
                solve = functools.partial(tiny_solve_p.bind, stacked=False)
                return solve(*factors, b[:, None], adjoint=adjoint)[0][:, 0]

            if scales is None or square is None:
                return solve(b)
            x, stats["backward_error"] = refined(solve, square, scales, b, adjoint)
            return x

        x, result = views.solve(state, vector, state.lu.dtype, solve_with)
        if square is not None:
            result = both(result, judge_rows(stats["backward_error"], state.lu.dtype))
        return x, result, stats

    def transpose(self, state, options):
        check_state(state, _LUState, "LU")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _LUState, "LU")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _factorise(A: Inexact[Array, "n n"]) -> tiny.Factors:
    A, rows, finite = equilibrated(A)
    lu, pivots, permutation = jax.lax.linalg.lu(A)
    # of U; contiguous, from LAPACK
    columns = largest(lower_triangle(lu.T), axis=1)
    growth = largest(columns)
    lu = nan_unless(jax.lax.is_finite(growth), lu)
    rcond, singular = reciprocal_condition(lu, columns)
    factors = lu, pivots, permutation, rows
    return tiny.Factors(*factors, finite, singular, rcond, growth)


def _substitute(
    lu: Inexact[Array, "n n"],
    p: Int[Array, " n"],
    rows: Real[Array, " n"],
    b: Inexact[Array, " n"],
    *,
    adjoint: bool,
) -> Inexact[Array, " n"]:
    rows = cast(rows, b.dtype)
    if not adjoint:  # A = R Pᵀ L U
        y = permuted(jax.lax.div(b, rows), p)
        y = solve_triangular(lu, y, lower=True, unit_diagonal=True)
        return solve_triangular(lu, y, lower=False)
    y = solve_triangular(lu, b, lower=False, adjoint=True)
    z = solve_triangular(lu, y, lower=True, adjoint=True, unit_diagonal=True)
    z = permuted(z, inverse_permutation(p))
    return jax.lax.div(z, rows)


def _is_tiny(A: Array) -> bool:
    n = A.shape[0]
    return is_known(n) and 0 < n <= tiny.LARGEST


def _substitute_columns(*operands: Array, adjoint: bool) -> tuple[Array]:
    substitute = functools.partial(_substitute, adjoint=adjoint)
    return (jax.vmap(substitute, (None, None, None, 1), 1)(*operands),)


def _transpose(*operands: Array, adjoint: bool, stacked: bool) -> Array:
    *factors, ct = operands
    solve = functools.partial(tiny_solve_p.bind, adjoint=not adjoint, stacked=stacked)
    return solve(*factors, ct.conj())[0].conj()


tiny_lu_p = batched_primitive("tiny_lu", _factorise, tiny.eliminate)
tiny_solve_p = batched_primitive(
    "tiny_solve", _substitute_columns, tiny.substitute, columns=1
)
linear_in_last(tiny_solve_p, _transpose)


@slogdet_of.register
def _(state: _LUState):
    both_sides = state.scales
    scales = () if both_sides is None else (both_sides.rows, both_sides.columns)
    swapped = state.pivots != jnp.arange(state.pivots.size, dtype=state.pivots.dtype)
    return slogdet_of_factors(
        jnp.diagonal(state.lu),
        turned=state.view.turned,
        scales=(state.rows, *scales),
        odd=jnp.sum(swapped) % 2 == 1,
        verdict=state.verdict,
    )
