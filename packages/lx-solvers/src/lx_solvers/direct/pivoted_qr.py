"""PivotedQR: the pseudoinverse by a complete orthogonal decomposition.

Column-pivoted Householder QR, FP = QR with |r₁₁| ≥ |r₂₂| ≥ …, tells the rank r (F is A,
or Aᴴ if that is tall). The rows of R from r on count as zero; a second QR, Rᴴ = ZT,
compresses the others, so that F = Q Tᴴ Zᴴ Pᵀ with T of order r, and F† = P Z T⁻ᴴ Qᴴ
(Golub and Van Loan, "Matrix Computations", 4th ed., 2013, sections 5.4.1-5.4.7;
Businger and Golub 1965, doi:10.1007/BF01436084). Non-standard: r is not known when the
program is compiled, so the zero rows stay, and T has ones on the diagonal there.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int, Real
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_options, check_state
from .._projection import annihilated
from .._scaling import eps, largest
from .._sequence import after
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import (
    HIGHEST,
    check_damp,
    dense_matrix,
    householder,
    inverse_permutation,
    judge,
    outside,
    solve_triangular,
    tall,
)
from ._pivoting import pivoted_qr
from ._reflectors import times_q


class _PivotedQRState(eqx.Module):
    Q: Inexact[Array, "p k"]
    T: Inexact[Array, "k k"]  # below its diagonal stand the reflectors of Z
    taus: Inexact[Array, " k"]
    permutation: Int[Array, " k"]  # F[:, permutation] = diag(rows) QR
    rows: Real[Array, " m"]
    rank: Int[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True)


class PivotedQR(AbstractLinearSolver[_PivotedQRState]):
    """Column-pivoted QR, for operators of any shape and rank.

    Gives the least-squares solution of minimum norm, several times faster than `SVD`.
    `stats["rank"]` is the numerical rank.

    Args:
        rcond: a column counts as dependent on the others if the norm of its independent
            part is at most `rcond` times that of the largest column. Default: at most
            eps times that of the largest column, or 2·max(m, n)·eps times its own norm,
            which bounds the rounding errors in it. So a matrix of full rank with badly
            scaled columns keeps its rank.
        damp: minimise ‖Ax - b‖² + damp²‖x‖² instead (ridge regression, Tikhonov
            regularisation; λ = damp²), from the factors of [damp·I; A], so that the
            condition number is not squared.

    ```python
    operator = lx.MatrixLinearOperator(jnp.ones((3, 2)))
    solution = lx.linear_solve(operator, jnp.ones(3), lx.PivotedQR())
    solution.value, solution.stats["rank"]  # [0.5, 0.5], 1
    ```
    """

    rcond: Any = None
    damp: Any = 0.0

    def __check_init__(self):
        check_damp(self.damp)

    def init(self, operator, options):
        check_options(options, (), "PivotedQR")
        A = dense_matrix(operator)
        F, rows, finite, wide = tall(A, self.damp)
        Q, R, permutation = pivoted_qr(F)
        rank = _rank(R, self.rcond, max(A.shape))
        counts = jnp.arange(R.shape[0], dtype=jnp.int32) < rank
        R = after(jnp.where(counts[None], R.T.conj(), 0), Q)
        T, taus = householder(R)
        finite = after(finite, taus)  # and what comes after the verdict
        T = T + jnp.diag(jnp.where(counts, 0, 1).astype(T.dtype))
        return _PivotedQRState(
            Q, T, taus, permutation, rows, rank, judge(finite),
            pack_structures(operator), views.View(wide),
        )  # fmt: skip

    def compute(self, state, vector, options):
        check_state(state, _PivotedQRState, "PivotedQR")

        def solve_with(b, adjoint):
            Q, T, taus, p = state.Q, state.T, state.taus, state.permutation
            counts = jnp.arange(p.size, dtype=jnp.int32) < state.rank
            rows = state.rows.astype(b.dtype)
            m = rows.size
            if not adjoint:  # P Z T⁻ᴴ Qᴴ b
                c = jnp.matmul(
                    Q[Q.shape[0] - m :].T.conj(), b / rows, precision=HIGHEST
                )
                y = solve_triangular(
                    T, jnp.where(counts, c, 0), lower=False, adjoint=True
                )
                z = times_q(T, taus, y, adjoint=False)
                return z[inverse_permutation(p)]
            # Q T⁻¹ Zᴴ Pᵀ b
            y = times_q(T, taus, b[p], adjoint=True)
            c = solve_triangular(T, jnp.where(counts, y, 0), lower=False)
            return jnp.matmul(Q[Q.shape[0] - m :], c, precision=HIGHEST) / rows

        x, result = views.solve(state, vector, state.Q.dtype, solve_with)
        return x, result, {"rank": state.rank}

    def transpose(self, state, options):
        check_state(state, _PivotedQRState, "PivotedQR")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _PivotedQRState, "PivotedQR")
        return views.conj(state), {}

    def assume_full_rank(self):
        return False


def _rank(R: Inexact[Array, "k k"], rcond: Any, size: int) -> Int[Array, ""]:
    """How many columns count: those before the first that does not."""
    u = eps(R.dtype)
    diagonal = jnp.abs(jnp.diagonal(R))
    limit = largest(diagonal) * jnp.asarray(
        u if rcond is None else rcond, diagonal.dtype
    )
    counts = diagonal > limit
    if rcond is None:
        counts &= diagonal > 2 * size * u * largest(R, axis=0)
    return jnp.sum(jnp.cumprod(counts.astype(jnp.int32)), dtype=jnp.int32)


@annihilated.register
def _(state: _PivotedQRState, vector):
    Q, T, taus, p = state.Q, state.T, state.taus, state.permutation
    if Q.shape[0] != state.rows.size:  # damping
        return None
    counts = jnp.arange(p.size, dtype=jnp.int32) < state.rank

    def project(v, adjoint):
        if adjoint:
            return outside(Q, counts, v)
        c = times_q(T, taus, v[p], adjoint=True)
        z = times_q(T, taus, jnp.where(counts, 0, c), adjoint=False)
        return z[inverse_permutation(p)]

    return views.within(state, vector, Q.dtype, project)
