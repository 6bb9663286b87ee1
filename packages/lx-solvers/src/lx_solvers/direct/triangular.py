"""Triangular: forward or back substitution.

Solves lower and upper triangular nonsingular systems. Substitution is the exact
solution for T + E with |E| ≤ γₙ |T| elementwise (Higham, "Accuracy and Stability of
Numerical Algorithms", 2nd ed., 2002, theorem 8.5, doi:10.1137/1.9780898718027): no such
E makes a diagonal element zero that was not, so only an exact zero is `singular`. It is
`unstable` if the reciprocal of a diagonal element, by which LAPACK multiplies, is no
normal number.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact
from lx_operators import (
    diagonal,
    has_unit_diagonal,
    is_diagonal,
    is_lower_triangular,
    is_upper_triangular,
)
from lx_operators.internal import PackedStructures, diagonal_of, pack_structures

from .._checks import check_options, check_square, check_state
from .._scaling import largest
from .._slogdet import slogdet_of, slogdet_of_factors
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import (
    judge,
    own_matrix,
    solve_triangular,
    working_dtype,
)


class _TriangularState(eqx.Module):
    T: Inexact[Array, "n n"]  # only one triangle is ever read
    lower: bool = eqx.field(static=True)
    unit_diagonal: bool = eqx.field(static=True)
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class Triangular(AbstractLinearSolver[_TriangularState]):
    """Substitution, for operators tagged lower or upper triangular.

    Reads only that triangle of the matrix, and not the diagonal if it is known to hold
    ones. Reports `singular` when a diagonal element is zero, and `unstable` when one is
    so large that its reciprocal is not a normal number.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 3.1.

    ```python
    matrix = jnp.array([[2.0, 0.0], [1.0, 4.0]])
    operator = lx.MatrixLinearOperator(matrix, lx.lower_triangular_tag)
    solution = lx.linear_solve(operator, jnp.array([2.0, 5.0]), lx.Triangular())
    ```
    """

    def init(self, operator, options):
        check_options(options, (), "Triangular")
        check_square(operator, "Triangular")
        lower = is_lower_triangular(operator)
        if not lower and not is_upper_triangular(operator):
            raise ValueError(
                "`Triangular` solves triangular systems only, but the operator is not "
                f"known to be triangular: {operator!r}. Tag it with "
                "`lower_triangular_tag` or `upper_triangular_tag`, or use `LU`."
            )
        if is_diagonal(operator):
            T = jnp.diag(diagonal(operator))
            T = T.astype(working_dtype(T.dtype))
        else:
            T = own_matrix(operator)
        unit = has_unit_diagonal(operator)
        offset = -1 if unit else 0
        still = jax.lax.stop_gradient(T)
        read = jnp.tril(still, offset) if lower else jnp.triu(still, -offset)
        finite = jnp.isfinite(largest(read))
        verdict = judge(finite) if unit else _verdict(diagonal_of(still), finite)
        return _TriangularState(T, lower, unit, verdict, pack_structures(operator))

    def compute(self, state, vector, options):
        check_state(state, _TriangularState, "Triangular")

        def solve_with(b, adjoint):
            # LAPACK reads matrices by columns. The rows of T, as it lies in memory, are
            # the columns of Tᵀ: XLA need not copy it. T x = b is Tᵀᴴ x̄ = b̄.
            x = solve_triangular(
                state.T.T,
                b.conj(),
                lower=not state.lower,
                adjoint=not adjoint,
                unit_diagonal=state.unit_diagonal,
            )
            return x.conj()

        dtype = state.T.dtype
        return *views.solve(state, vector, dtype, solve_with, waits=False), {}

    def transpose(self, state, options):
        check_state(state, _TriangularState, "Triangular")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _TriangularState, "Triangular")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _verdict(d: Inexact[Array, " n"], finite: Bool[Array, ""]) -> RESULTS:
    zero = jnp.any(d == 0)
    unstable = largest(d) > 1 / jnp.finfo(d.dtype).tiny
    return judge(finite, singular=zero, unstable=unstable)


@slogdet_of.register
def _(state: _TriangularState):
    d = jnp.diagonal(state.T)
    d = jnp.ones_like(d) if state.unit_diagonal else d
    return slogdet_of_factors(d, turned=state.view.turned)
