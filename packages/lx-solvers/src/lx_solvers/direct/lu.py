"""LU: Gaussian elimination with partial pivoting.

Solves square nonsingular systems by P R⁻¹A = LU, where R scales the rows by powers of
two, so that badly scaled rows do no harm. Non-standard: it says when the factors are
worthless. They are those of R⁻¹A + E with |E| ≤ γₙ |L||U|, elementwise, and |lᵢⱼ| ≤ 1
(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, theorem 9.3,
doi:10.1137/1.9780898718027), so that two figures matter:

- `singular`: U is singular to working precision once its columns have length one. L is
  almost always well conditioned.
- `unstable`: elements grew so much, from order one to max |U|, that E may be above
  √eps.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Int, Real
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_options, check_square, check_state
from .._slogdet import slogdet_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _dense as dense


class _LUState(eqx.Module):
    lu: Inexact[Array, "n n"]  # L below the diagonal, U on and above it
    pivots: Int[Array, " n"]  # row i was swapped with row pivots[i]
    permutation: Int[Array, " n"]  # (A / rows)[permutation] = LU
    rows: Real[Array, " n"]
    verdict: RESULTS
    packed: PackedStructures
    view: dense.View = eqx.field(static=True, default=dense.View())


class LU(AbstractLinearSolver[_LUState]):
    """Gaussian elimination with partial pivoting, for square nonsingular operators.

    Reports `singular` when the operator is singular to working precision (rows or
    columns of very different scale do no harm), and `unstable` when elements grew so
    much that the solution would be worthless.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 3.4.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [3.0, 4.0]]))
    solution = lx.linear_solve(operator, jnp.array([5.0, 6.0]), lx.LU())
    ```
    """

    def init(self, operator, options):
        check_options(options, (), "LU")
        check_square(operator, "LU")
        A, rows, finite = dense.equilibrated(dense.dense_matrix(operator))
        lu, pivots, permutation = jax.lax.linalg.lu(A)
        verdict, packed = _verdict(lu, finite), pack_structures(operator)
        return _LUState(lu, pivots, permutation, rows, verdict, packed)

    def compute(self, state, vector, options):
        check_state(state, _LUState, "LU")

        def solve_with(b, adjoint):
            lu, p, rows = state.lu, state.permutation, state.rows.astype(b.dtype)
            if not adjoint:  # A = R Pᵀ L U
                y = (b / rows)[p]
                y = dense.triangular(lu, y, lower=True, unit_diagonal=True)
                return dense.triangular(lu, y, lower=False)
            y = dense.triangular(lu, b, lower=False, adjoint=True)
            z = dense.triangular(lu, y, lower=True, adjoint=True, unit_diagonal=True)
            return z[dense.inverse_permutation(p)] / rows

        return *dense.solve(state, vector, state.lu.dtype, solve_with), {}

    def transpose(self, state, options):
        check_state(state, _LUState, "LU")
        return dense.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _LUState, "LU")
        return dense.conj(state), {}

    def assume_full_rank(self):
        return True


def _verdict(lu: Inexact[Array, "n n"], finite: Bool[Array, ""]) -> RESULTS:
    eps = dense.eps(lu.dtype)
    columns = dense.largest(jnp.tril(lu.T), axis=1)  # of U; contiguous, from LAPACK
    unstable = 4 * eps * dense.largest(columns) > eps**0.5
    return dense.judge(finite, dense.near_singular(lu, columns), unstable)


@slogdet_of.register
def _(state: _LUState):
    diagonal = jnp.diagonal(state.lu)
    swapped = state.pivots != jnp.arange(state.pivots.size, dtype=state.pivots.dtype)
    odd = jnp.sum(swapped) % 2 == 1
    sign, logabs = dense.slogdet(diagonal, state.view, state.rows)
    return jnp.where(odd, -sign, sign), logabs
