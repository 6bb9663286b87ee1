"""Cholesky: A = LLᴴ, or -A = LLᴴ.

Solves Hermitian definite systems: the operator must be tagged positive or negative
semidefinite, and be nonsingular. Non-standard: it says when A is not definite to
working precision. LLᴴ is A + E with |eᵢⱼ| ≤ γₙ₊₁ √(aᵢᵢaⱼⱼ)
(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, theorem 10.5,
doi:10.1137/1.9780898718027), so A may be singular if DAD is to working precision, where
dᵢ = 1/√aᵢᵢ gives DL rows of length one: how the variables are scaled does no harm.

The condition of DAD is estimated by two triangular solves. A batch, which has no use
for the estimate if only the status is asked for, is spared them where the diagonal of
DL shows each matrix to be nonsingular (`clearly_nonsingular`): up to some 100 unknowns,
if they are well conditioned.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Real
from lx_operators import is_negative_semidefinite, is_positive_semidefinite
from lx_operators.internal import PackedStructures, diagonal_of, pack_structures

from .._checks import check_options, check_square, check_state
from .._control_flow import unless_clear
from .._gaussian import check_positive, root_of, turned_root
from .._results import succeeded
from .._scaling import largest
from .._slogdet import slogdet_of, slogdet_of_factors
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import (
    HIGHEST,
    clearly_nonsingular,
    dense_matrix,
    judge,
    lower_triangle,
    reciprocal_condition,
    solve_triangular,
)


class _CholeskyState(eqx.Module):
    L: Inexact[Array, "n n"]
    negative: bool = eqx.field(static=True)  # F = -LLᴴ
    reciprocal_condition: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class Cholesky(AbstractLinearSolver[_CholeskyState]):
    """Cholesky factorisation, for operators tagged positive or negative semidefinite
    that are nonsingular.

    Reads only the lower triangle of the matrix. Reports `singular` when the matrix is
    not definite to working precision. `stats["reciprocal_condition"]` is an estimate
    for the operator with its diagonal scaled to one.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 4.2.

    ```python
    matrix = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    operator = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
    solution = lx.linear_solve(operator, jnp.array([1.0, 0.0]), lx.Cholesky())
    ```
    """

    def init(self, operator, options):
        check_options(options, (), "Cholesky")
        check_square(operator, "Cholesky")
        positive = is_positive_semidefinite(operator)
        if not positive and not is_negative_semidefinite(operator):
            raise ValueError(
                "`Cholesky` solves definite systems only, but the operator is not "
                f"known to be semidefinite: {operator!r}. Tag it with "
                "`positive_semidefinite_tag` or `negative_semidefinite_tag`, or use "
                "`LU` or, if it is Hermitian, `Eigh`."
            )
        A = dense_matrix(operator)
        A = A if positive else -A
        L = jax.lax.linalg.cholesky(A, symmetrize_input=False)
        rcond, singular, finite = _condition(A, L)
        verdict = judge(finite, singular=singular)
        packed = pack_structures(operator)
        return _CholeskyState(L, not positive, rcond, verdict, packed)

    def compute(self, state, vector, options):
        check_state(state, _CholeskyState, "Cholesky")

        def solve_with(b, adjoint):  # F is Hermitian: Fᴴ = F
            b = -b if state.negative else b
            y = solve_triangular(state.L, b, lower=True)
            return solve_triangular(state.L, y, lower=True, adjoint=True)

        stats = {"reciprocal_condition": state.reciprocal_condition}
        return *views.solve(state, vector, state.L.dtype, solve_with), stats

    def transpose(self, state, options):
        check_state(state, _CholeskyState, "Cholesky")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _CholeskyState, "Cholesky")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _decided(
    A: Inexact[Array, "n n"], L: Inexact[Array, "n n"]
) -> tuple[Real[Array, ""], Bool[Array, ""], Bool[Array, ""]]:
    """The reciprocal condition number of D A D, whether that is singular, and whether A
    is finite. `cholesky` returns NaN where a pivot is not positive."""
    rows = jax.lax.sqrt(diagonal_of(A).real)
    rcond, singular = reciprocal_condition(L, rows, lower=True, power=2)
    return rcond, singular, jnp.isfinite(largest(lower_triangle(A)))


def _is_clear(A: Inexact[Array, "n n"], L: Inexact[Array, "n n"]) -> Bool[Array, ""]:
    """Whether A is clearly nonsingular, and so finite: L would be NaN."""
    rows = jax.lax.sqrt(diagonal_of(A).real)
    return clearly_nonsingular(diagonal_of(L), rows, power=2)


def _of_clear(
    A: Inexact[Array, "n n"], L: Inexact[Array, "n n"]
) -> tuple[Real[Array, ""], Bool[Array, ""], Bool[Array, ""]]:
    rcond, _, _ = _decided(A, L)
    return rcond, jnp.zeros((), bool), jnp.ones((), bool)


_condition = unless_clear(_is_clear, _decided, _of_clear)


@slogdet_of.register
def _(state: _CholeskyState):
    diagonal = jnp.diagonal(state.L)
    pivots = -diagonal if state.negative else diagonal
    sign, logabs = slogdet_of_factors(pivots, verdict=state.verdict)
    return sign, 2 * logabs


@root_of.register
def _(state: _CholeskyState, z):
    check_positive(state.negative)
    L = jnp.where(succeeded(state.verdict), lower_triangle(state.L), jnp.nan)

    def multiplied(z: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
        return jnp.matmul(L, z, precision=HIGHEST)

    return turned_root(multiplied, state.view.turned, z)
