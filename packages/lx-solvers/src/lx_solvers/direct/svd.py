"""SVD: the pseudoinverse by the singular value decomposition A = UΣVᴴ.

Solves anything: x = VΣ†Uᴴb, where singular values that may be rounding errors count as
zero. With damping, x minimises ‖Ax - b‖² + damp²‖x‖², and Σ† holds σ/(σ² + damp²).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int, Real
from lx_operators.internal import PackedStructures, cast, pack_structures

from .._checks import check_options, check_state, is_zero
from .._projection import annihilated
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import (
    HIGHEST,
    check_damp,
    dense_matrix,
    judge,
    outside,
    pseudoinverse,
    scaled_or_zero,
)


class _SVDState(eqx.Module):
    U: Inexact[Array, "m k"]
    inverse: Real[Array, " k"]  # the diagonal of scale · Σ†
    VH: Inexact[Array, "k n"]
    scale: Real[Array, ""]
    rank: Int[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class SVD(AbstractLinearSolver[_SVDState]):
    """Singular value decomposition, for operators of any shape and rank.

    Gives the least-squares solution of minimum norm. `stats["rank"]` is the number of
    singular values that do not count as zero.

    Args:
        rcond: singular values of at most `rcond` times the largest count as zero.
            Default: 2·max(m, n)·eps, twice the usual bound for the rounding errors of
            the decomposition, to cover those of forming A as well.
        damp: minimise ‖Ax - b‖² + damp²‖x‖² instead (ridge regression, Tikhonov
            regularisation; λ = damp²). Then no singular value counts as zero. The
            condition number is not squared, so `damp` may be of any size.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 5.5.

    ```python
    operator = lx.MatrixLinearOperator(jnp.ones((3, 2)))
    solution = lx.linear_solve(operator, jnp.ones(3), lx.SVD())
    solution.value, solution.stats["rank"]  # [0.5, 0.5], 1
    ```
    """

    rcond: Any = None
    damp: Any = 0.0

    def __check_init__(self):
        check_damp(self.damp)

    def init(self, operator, options):
        check_options(options, (), "SVD")
        A = dense_matrix(operator)
        A, scale, finite = scaled_or_zero(A, self.damp)
        U, s, VH = jax.lax.linalg.svd(A, full_matrices=False)
        damp = self.damp if is_zero(self.damp) else self.damp / scale
        inverse, rank = pseudoinverse(s, self.rcond, max(A.shape), A.dtype, damp)
        packed = pack_structures(operator)
        return _SVDState(U, inverse, VH, scale, rank, judge(finite), packed)

    def compute(self, state, vector, options):
        check_state(state, _SVDState, "SVD")

        def solve_with(b, adjoint):
            U, VH = state.U, state.VH
            left, right = (VH.T.conj(), U.T.conj()) if not adjoint else (U, VH)
            c = jnp.matmul(right, b, precision=HIGHEST)
            c = cast(state.inverse, c.dtype) * (c / cast(state.scale, c.dtype))
            return jnp.matmul(left, c, precision=HIGHEST)

        x, result = views.solve(state, vector, state.U.dtype, solve_with)
        return x, result, {"rank": state.rank}

    def transpose(self, state, options):
        check_state(state, _SVDState, "SVD")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _SVDState, "SVD")
        return views.conj(state), {}

    def assume_full_rank(self):
        return False


@annihilated.register
def _(state: _SVDState, vector):
    def project(v, adjoint):
        basis = state.U if adjoint else state.VH.T.conj()
        return outside(basis, state.inverse != 0, v)

    return views.within(state, vector, state.U.dtype, project)
