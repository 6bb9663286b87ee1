"""QR: Householder triangularisation, without pivoting.

Solves systems of any shape and full rank: a tall A = QR in the sense of least squares,
x = R⁻¹Qᴴb; a wide one, by the factors of Aᴴ = QR, with minimum norm, x = QR⁻ᴴb.
Non-standard: it says when the rank is deficient. The computed R is that of A + E with
‖Eeⱼ‖ ≤ γ‖Aeⱼ‖ in each column (Higham, "Accuracy and Stability of Numerical Algorithms",
2nd ed., 2002, theorem 19.4, doi:10.1137/1.9780898718027),
so it is rank-deficient to working precision if R is, with columns of length one.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_options, check_state
from .._projection import annihilated
from .._scaling import largest
from .._slogdet import check_determinant, slogdet_of, slogdet_of_factors
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import (
    check_damp,
    dense_matrix,
    householder,
    judge,
    lower_triangle,
    reciprocal_condition,
    solve_triangular,
    tall,
)
from ._reflectors import times_q


class _QRState(eqx.Module):
    h: Inexact[Array, "p k"]  # R on and above the diagonal, the reflectors below
    taus: Inexact[Array, " k"]
    rows: Real[Array, " m"]  # F = diag(rows) QR
    reciprocal_condition: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True)


class QR(AbstractLinearSolver[_QRState]):
    """Householder QR, for operators of any shape and full rank.

    The least-squares solution of a tall system, the solution of minimum norm of a wide
    one. Reports `singular` when a column is, to working precision, a combination of
    those before it (of a wide operator: a row). `stats["reciprocal_condition"]` is an
    estimate for R, with columns of length one.

    Args:
        damp: minimise ‖Ax - b‖² + damp²‖x‖² instead (ridge regression, Tikhonov
            regularisation; λ = damp²), by the factors of [damp·I; A], in which nothing
            is squared.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 5.2.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]))
    line = lx.linear_solve(operator, jnp.array([1.0, 3.0, 5.0]), lx.QR()).value
    ```
    """

    damp: Any = 0.0

    def __check_init__(self):
        check_damp(self.damp)

    def init(self, operator, options):
        check_options(options, (), "QR")
        A = dense_matrix(operator)
        F, rows, finite, wide = tall(A, self.damp, equilibrate=True)
        h, taus = householder(F)
        R = h[: h.shape[1]]
        # of R; contiguous, from LAPACK
        columns = largest(lower_triangle(R.T), axis=1)
        rcond, singular = reciprocal_condition(R, columns)
        verdict = judge(finite, singular=singular)
        return _QRState(
            h, taus, rows, rcond, verdict, pack_structures(operator), views.View(wide)
        )

    def compute(self, state, vector, options):
        check_state(state, _QRState, "QR")

        def solve_with(b, adjoint):
            h, taus, rows = state.h, state.taus, state.rows.astype(b.dtype)
            (p, k), m = h.shape, rows.size
            if not adjoint:  # least squares with F
                c = times_q(h, taus, jnp.pad(b / rows, (p - m, 0)), adjoint=True)
                return solve_triangular(h[:k], c[:k], lower=False)
            # minimum norm with Fᴴ
            y = solve_triangular(h[:k], b, lower=False, adjoint=True)
            x = times_q(h, taus, jnp.pad(y, (0, p - k)), adjoint=False)
            return x[p - m :] / rows

        stats = {"reciprocal_condition": state.reciprocal_condition}
        return *views.solve(state, vector, state.h.dtype, solve_with), stats

    def transpose(self, state, options):
        check_state(state, _QRState, "QR")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _QRState, "QR")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


@slogdet_of.register
def _(state: _QRState):
    p, k = state.h.shape
    check_determinant(p, k, "QR")
    # det Hᵢ = 1 - τᵢ vᵢᴴvᵢ is -τᵢ/conj(τᵢ), as |det Hᵢ| = 1; and 1 where Hᵢ = I
    tau = state.taus
    none = tau == 0
    safe = jnp.where(none, jnp.ones_like(tau), tau)
    reflections = jnp.where(none, jnp.ones_like(tau), -safe / safe.conj())
    diagonal = jnp.diagonal(state.h) * reflections
    return slogdet_of_factors(
        diagonal, turned=state.view.turned, scales=(state.rows,), verdict=state.verdict
    )


@annihilated.register
def _(state: _QRState, vector):
    h, taus = state.h, state.taus
    (p, k), m = h.shape, state.rows.size
    if p != m:  # damping
        return None

    def project(v, adjoint):
        if not adjoint or m == k:  # the columns of F are independent
            return jnp.zeros_like(v)
        c = times_q(h, taus, v, adjoint=True)
        return times_q(h, taus, c.at[:k].set(0), adjoint=False)

    return views.within(state, vector, h.dtype, project)
