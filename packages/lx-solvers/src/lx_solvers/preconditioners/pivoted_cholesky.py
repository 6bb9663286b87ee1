"""A few columns of a pivoted Cholesky factorisation."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import (
    AbstractLinearOperator,
    diagonal,
    positive_semidefinite_tag,
)

from .._control_flow import scan
from ._flat import as_matvec, dtype_of, matmul
from ._low_rank import LowRank
from ._preconditioner import AbstractPreconditioner
from .nystrom import check_definite, check_rank


class PivotedCholesky(AbstractPreconditioner[LowRank]):
    """The inverse of L Lᴴ + μI, where L are the first columns of the pivoted Cholesky
    factorisation of H, for a positive definite operator H + μI.

    Harbrecht, Peters and Schneider 2012, doi:10.1016/j.apnum.2011.10.001; for
    kernel matrices with noise, Gardner et al. 2018, arXiv:1809.11165. It takes the
    operator's diagonal, one of its columns for each rank, and a singular value
    decomposition of L.

    Args:
        rank: the number of columns of L.
        shift: μ, the part of the operator that is a multiple of the identity. If None,
            it is the mean of the diagonal of H + μI - L Lᴴ.

    Raises:
        ValueError: the operator is not known to be positive semidefinite.

    ```python
    t = jnp.linspace(0, 1, 50)
    kernel = jnp.exp(-((t[:, None] - t) ** 2)) + 1e-3 * jnp.eye(50)
    operator = lx.MatrixLinearOperator(kernel, lx.positive_semidefinite_tag)
    solver = lx.CG(preconditioner=lx.PivotedCholesky(10, shift=1e-3))
    solution = lx.linear_solve(operator, jnp.ones(50), solver)
    ```
    """

    rank: int = eqx.field(static=True)
    shift: ArrayLike | None = None

    def __check_init__(self):
        check_rank(self.rank, "PivotedCholesky")

    def init(self, operator, options):
        check_definite(operator, "PivotedCholesky")
        rank = min(self.rank, operator.in_size())
        d = diagonal(operator).real
        μ = jnp.asarray(0.0 if self.shift is None else self.shift, d.dtype)
        L, left = _factor(operator, d, rank, μ)
        μ = jnp.mean(left) if self.shift is None else μ
        floor = jnp.finfo(d.dtype).eps * jnp.max(d)
        μ = jnp.maximum(μ, floor)
        U, singular, _ = jnp.linalg.svd(L, full_matrices=False)
        return LowRank(U, μ / (singular**2 + μ) - 1, 1 / μ)

    def apply(self, state, vector):
        return state.mv(vector)

    def transpose(self, state, options):
        return state.conj(), options

    def conj(self, state, options):
        return state.conj(), options

    def tags(self, operator):
        return frozenset((positive_semidefinite_tag,))


def _factor(
    operator: AbstractLinearOperator, d: Array, rank: int, μ: Array
) -> tuple[Array, Array]:
    """L [n, rank], and what it leaves of the diagonal of H."""
    A, dtype, n = as_matvec(operator), dtype_of(operator), d.size
    index = jnp.arange(n)
    least = jnp.finfo(d.dtype).eps * n * jnp.max(d)

    def step(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
        L, left = carry
        j = jnp.argmax(left)
        e = (index == j).astype(dtype)
        column = A(e) - μ.astype(dtype) * e - matmul(L, L[j].conj())
        pivot = left[j]
        fine = pivot > least
        scale = jnp.where(fine, jax.lax.rsqrt(jnp.where(fine, pivot, 1)), 0)
        l = scale.astype(dtype) * column
        left = jnp.where(index == j, 0, jnp.maximum(left - jnp.abs(l) ** 2, 0))
        return (L.at[:, k].set(l), jnp.where(fine, left, carry[1])), None

    start = jnp.zeros((n, rank), dtype), d - μ
    (L, left), _ = scan(step, start, jnp.arange(rank), inputs=operator)
    return L, left
