"""Eigh: the pseudoinverse by the eigendecomposition A = WΛWᴴ.

Solves Hermitian systems, definite or not, singular or not: x = WΛ†Wᴴb, where
eigenvalues that may be rounding errors count as zero.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int, Real
from lx_operators import is_hermitian
from lx_operators.internal import PackedStructures, cast, pack_structures

from .._checks import check_options, check_square, check_state
from .._projection import annihilated
from .._slogdet import slogdet_of, slogdet_of_factors
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import (
    HIGHEST,
    dense_matrix,
    judge,
    lower_triangle,
    outside,
    pseudoinverse,
    scaled_or_zero,
)


class _EighState(eqx.Module):
    W: Inexact[Array, "n n"]
    eigenvalues: Real[Array, " n"]  # of A / scale
    inverse: Real[Array, " n"]  # the diagonal of scale · Λ†
    scale: Real[Array, ""]
    rank: Int[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class Eigh(AbstractLinearSolver[_EighState]):
    """Eigendecomposition, for Hermitian operators of any rank, definite or not.

    Gives the least-squares solution of minimum norm. `stats["rank"]` is the number of
    eigenvalues that do not count as zero. Reads only the lower triangle of the matrix.

    Args:
        rcond: eigenvalues of at most `rcond` times the largest, in modulus, count as
            zero. Default: 2·n·eps, as in `SVD`.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, chapter 8.

    ```python
    matrix = jnp.array([[0.0, 1.0], [1.0, 0.0]])
    operator = lx.MatrixLinearOperator(matrix, lx.symmetric_tag)
    solution = lx.linear_solve(operator, jnp.array([1.0, 2.0]), lx.Eigh())
    ```
    """

    rcond: Any = None

    def init(self, operator, options):
        check_options(options, (), "Eigh")
        check_square(operator, "Eigh")
        if not is_hermitian(operator):
            raise ValueError(
                "`Eigh` solves Hermitian systems only, but the operator is not known "
                f"to be Hermitian: {operator!r}. Tag it with `hermitian_tag` (or "
                "`symmetric_tag`, if it is real), or use `SVD`."
            )
        A = lower_triangle(dense_matrix(operator))
        A, scale, finite = scaled_or_zero(A)
        W, eigenvalues = jax.lax.linalg.eigh(A, symmetrize_input=False)
        inverse, rank = pseudoinverse(eigenvalues, self.rcond, A.shape[0], A.dtype)
        return _EighState(
            W, eigenvalues, inverse, scale, rank, judge(finite),
            pack_structures(operator),
        )  # fmt: skip

    def compute(self, state, vector, options):
        check_state(state, _EighState, "Eigh")

        def solve_with(b, adjoint):  # F is Hermitian: Fᴴ = F
            W = state.W
            c = jnp.matmul(W.T.conj(), b, precision=HIGHEST)
            c = cast(state.inverse, c.dtype) * (c / cast(state.scale, c.dtype))
            return jnp.matmul(W, c, precision=HIGHEST)

        x, result = views.solve(state, vector, state.W.dtype, solve_with)
        return x, result, {"rank": state.rank}

    def transpose(self, state, options):
        check_state(state, _EighState, "Eigh")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _EighState, "Eigh")
        return views.conj(state), {}

    def assume_full_rank(self):
        return False


@slogdet_of.register
def _(state: _EighState):
    values = jnp.where(state.inverse != 0, state.eigenvalues, 0)
    rows = jnp.broadcast_to(state.scale, values.shape)
    return slogdet_of_factors(values, scales=(rows,), verdict=state.verdict)


@annihilated.register
def _(state: _EighState, vector):
    def project(v, adjoint):
        return outside(state.W, state.inverse != 0, v)

    return views.within(state, vector, state.W.dtype, project)
