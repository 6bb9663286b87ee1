"""QR: Householder triangularisation, without pivoting.

Solves systems of any shape and full rank: a tall A = QR in the sense of least squares,
x = R⁻¹Qᴴb; a wide one, by the factors of Aᴴ = QR, with minimum norm, x = QR⁻ᴴb.
Non-standard: it says when the rank is deficient. The computed R is that of A + E with
‖Eeⱼ‖ ≤ γ‖Aeⱼ‖ in each column (Higham, "Accuracy and Stability of Numerical Algorithms",
2nd ed., 2002, theorem 19.4, doi:10.1137/1.9780898718027),
so it is rank-deficient to working precision if R is, with columns of length one.

To scale its columns changes a problem of least squares only by x = C⁻¹y, and one with
damping if `damp`·I is scaled with them; QR is the same but for the range. Rows are
scaled too where A is square: of others the norm of the residual would change. As
reflections mix the rows, every row of the answer of a square system is checked, and it
is refined if one is not solved: see `_refinement`.

Damping makes the problem that of [damp·I; F], which solves min ‖Fx - b‖² + damp²‖x‖²
without a square (Golub and Van Loan, section 6.1.4), and of minimum norm [damp·I, Fᴴ]
for the adjoint. In this order reflections do not mix the rows of the identity, and F
below a large `damp` keeps its relative accuracy.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Real
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_options, check_state, is_zero
from .._projection import annihilated
from .._results import all_finite, both
from .._scaling import largest
from .._slogdet import check_determinant, slogdet_of, slogdet_of_factors
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._equilibration import Scales, dense, evenly, exponents, scaled
from ._factors import (
    check_damp,
    dense_matrix,
    householder,
    judge,
    lower_triangle,
    reciprocal_condition,
    solve_triangular,
)
from ._refinement import Square, as_square, judge_rows, refined
from ._reflectors import times_q


class _QRState(eqx.Module):
    square: Square | None  # if A is, without damping
    h: Inexact[Array, "p k"]  # R on and above the diagonal, the reflectors below
    taus: Inexact[Array, " k"]
    scales: Scales  # QR = R⁻¹FC⁻¹, with `damp`·C⁻¹ above
    reciprocal_condition: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True)


class QR(AbstractLinearSolver[_QRState]):
    """Householder QR, for operators of any shape and full rank.

    Gives the least-squares solution of a tall system, and the minimum-norm solution of
    a wide one. Reports `singular` when, to working precision, a column (for a wide
    operator, a row) is a combination of those before it, and `unstable` when the
    solution of a square system leaves an equation unsolved.
    `stats["reciprocal_condition"]` is an estimate for R, with columns of length one.
    For a square operator without `damp`, `stats["backward_error"]` is the largest |b -
    Ax|/(|A||x| + |b|) of a row.

    Args:
        damp: minimise ‖Ax - b‖² + damp²‖x‖² instead (ridge regression, Tikhonov
            regularisation; λ = damp²), from the factors of [damp·I; A], so that the
            condition number is not squared.

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
        F, scales, finite, wide = _scaled(A, self.damp)
        h, taus = householder(F)
        square = None
        if A.shape == F.shape and A.shape[0] == A.shape[1]:
            # F once more, by rows as A is: by columns, as LAPACK reads it, XLA would
            # transpose it for the products
            by_rows = scaled(A, dense(A), jax.lax.optimization_barrier(scales))
            square = as_square(by_rows, A)
        R = h[: h.shape[1]]
        # of R; contiguous, from LAPACK
        columns = largest(lower_triangle(R.T), axis=1)
        rcond, singular = reciprocal_condition(R, columns)
        verdict = judge(finite, singular=singular)
        packed = pack_structures(operator)
        return _QRState(
            square, h, taus, scales, rcond, verdict, packed, views.View(wide)
        )

    def compute(self, state, vector, options):
        check_state(state, _QRState, "QR")
        square, h, taus, scales = state.square, state.h, state.taus, state.scales
        stats = {"reciprocal_condition": state.reciprocal_condition}
        (p, k), m = h.shape, scales.rho.size

        def solve_with(b, adjoint):
            def solve(b):
                if not adjoint:  # least squares with F
                    c = times_q(h, taus, jnp.pad(b, (p - m, 0)), adjoint=True)
                    return solve_triangular(h[:k], c[:k], lower=False)
                # minimum norm with Fᴴ
                y = solve_triangular(h[:k], b, lower=False, adjoint=True)
                return times_q(h, taus, jnp.pad(y, (0, p - k)), adjoint=False)[p - m :]

            if square is None:
                return scales.scaled(b, adjoint, solve)
            x, stats["backward_error"] = refined(solve, square, scales, b, adjoint)
            return x

        x, result = views.solve(state, vector, h.dtype, solve_with)
        if square is not None:
            result = both(result, judge_rows(stats["backward_error"], h.dtype))
        return x, result, stats

    def transpose(self, state, options):
        check_state(state, _QRState, "QR")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _QRState, "QR")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


class _Scaled(NamedTuple):
    F: Inexact[Array, "p k"]
    scales: Scales
    finite: Bool[Array, ""]
    wide: bool  # whether A is the adjoint


def _scaled(A: Inexact[Array, "m n"], damp: Any) -> _Scaled:
    """A, or Aᴴ if that is tall, in the form that is factorised."""
    wide = A.shape[0] < A.shape[1]
    F = A.T.conj() if wide else A
    m, k = F.shape
    if m == k and is_zero(damp):
        return _Scaled(*evenly(F, dense(F)), wide)
    sizes = largest(F, axis=0)
    finite = all_finite(sizes)
    if not is_zero(damp):
        damp = jnp.asarray(damp, sizes.dtype)
        sizes = jnp.maximum(sizes, damp)
    scales = Scales(jnp.zeros((m,), sizes.dtype), exponents(sizes))
    columns = scales.columns
    F = F / columns.astype(F.dtype)[None]
    if not is_zero(damp):
        F = jnp.concatenate((jnp.diag((damp / columns).astype(F.dtype)), F))
    return _Scaled(F, scales, finite, wide)


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
        diagonal,
        turned=state.view.turned,
        scales=(state.scales.rows, state.scales.columns),
        verdict=state.verdict,
    )


@annihilated.register
def _(state: _QRState, vector):
    h, taus = state.h, state.taus
    (p, k), m = h.shape, state.scales.rho.size
    if p != m:  # damping
        return None

    def project(v, adjoint):
        if not adjoint or m == k:  # the columns of F are independent
            return jnp.zeros_like(v)
        c = times_q(h, taus, v, adjoint=True)
        return times_q(h, taus, c.at[:k].set(0), adjoint=False)

    return views.within(state, vector, h.dtype, project)
