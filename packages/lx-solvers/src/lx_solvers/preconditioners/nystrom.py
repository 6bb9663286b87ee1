"""A randomised approximation of low rank."""

import dataclasses

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import (
    AbstractLinearOperator,
    is_positive_semidefinite,
    positive_semidefinite_tag,
)

from .._scaling import norm2
from ._flat import columns, dtype_of, matmul
from ._lanczos import noise
from ._low_rank import LowRank
from ._preconditioner import AbstractPreconditioner


class Nystrom(AbstractPreconditioner[LowRank]):
    """The randomised Nyström approximation, for a positive definite operator H + μI if
    H has few large eigenvalues: kernel matrices with noise, ridge regression.

    Frangella, Tropp and Udell 2023, doi:10.1137/21M1466244: with H ≈ U Λ Uᴴ of rank l,

        M = (λₗ + μ) U (Λ + μI)⁻¹ Uᴴ + (I - U Uᴴ)

    is such that the condition number of (H + μI) M does not depend on the large
    eigenvalues. The set-up costs l products with the operator, and each application 4 n
    l operations.

    Args:
        rank: l. If None, it is doubled until λₗ ≤ 10 μ, by the set-up outside `jit`,
            which needs concrete arrays.
        shift: μ, the part of the operator that is a multiple of the identity.
        max_rank: the largest rank to try.

    Raises:
        ValueError: the operator is not known to be positive semidefinite; no rank is
            given inside `jit`.

    ```python
    t = jnp.linspace(0, 1, 50)
    kernel = jnp.exp(-((t[:, None] - t) ** 2)) + 1e-3 * jnp.eye(50)
    operator = lx.MatrixLinearOperator(kernel, lx.positive_semidefinite_tag)
    solver = lx.CG(preconditioner=lx.Nystrom(rank=10, shift=1e-3))
    solution = lx.linear_solve(operator, jnp.ones(50), solver)
    ```
    """

    rank: int | None = eqx.field(static=True, default=None)
    shift: ArrayLike = 0.0
    max_rank: int = eqx.field(static=True, default=500, kw_only=True)

    def __check_init__(self):
        check_rank(self.rank, "Nystrom")

    def setup(self, operator):
        if self.rank is not None:
            return self
        check_definite(operator, "Nystrom")
        n = operator.in_size()
        most = min(self.max_rank, n)
        rank = min(8, most)
        while rank < most:
            _, eigenvalues = _compiled(operator, rank, self.shift)
            last = eigenvalues[-1]
            if isinstance(last, jax.core.Tracer):
                raise ValueError(
                    "`Nystrom` finds its rank from concrete arrays, outside of `jit`: "
                    "make it there, `preconditioner = Nystrom(shift=...)"
                    ".setup(operator)`, or give it a `rank`."
                )
            if last <= 10 * self.shift:
                break
            rank = min(2 * rank, most)
        return dataclasses.replace(self, rank=max(rank, 1))

    def init(self, operator, options):
        check_definite(operator, "Nystrom")
        n = operator.in_size()
        rank = min(self.rank or 1, n)
        U, eigenvalues = _approximation(operator, rank, self.shift)
        μ = jnp.asarray(self.shift, eigenvalues.dtype)
        least = eigenvalues[-1] + μ
        return LowRank(U, least / (eigenvalues + μ) - 1, jnp.ones_like(least))

    def apply(self, state, vector):
        return state.mv(vector)

    def transpose(self, state, options):
        return state.conj(), options

    def conj(self, state, options):
        return state.conj(), options

    def tags(self, operator):
        return frozenset((positive_semidefinite_tag,))


def check_rank(rank: int | None, name: str) -> None:
    if rank is not None and rank < 1:
        raise ValueError(f"`rank` of `{name}` must be at least 1, but got {rank}.")


def check_definite(operator: AbstractLinearOperator, name: str) -> None:
    if not is_positive_semidefinite(operator):
        raise ValueError(
            f"`{name}` needs an operator that is tagged `positive_semidefinite_tag`, "
            f"but got {operator!r}."
        )


def _approximation(
    operator: AbstractLinearOperator, rank: int, shift: ArrayLike
) -> tuple[Array, Array]:
    """U and Λ, descending, of the operator less the shift (algorithm 2.1)."""
    dtype = dtype_of(operator)
    Ω, _ = jnp.linalg.qr(noise((operator.in_size(), rank), dtype))
    Y = columns(operator, Ω)
    real = Y.real.dtype
    Y = Y - jnp.asarray(shift, real).astype(dtype) * Ω
    ν = jnp.finfo(dtype).eps * norm2(Y)
    Y = Y + ν.astype(dtype) * Ω
    core = matmul(Ω.conj().T, Y)
    C = jnp.linalg.cholesky((core + core.conj().T) / 2)
    B = jax.lax.linalg.triangular_solve(
        C, Y, left_side=False, lower=True, transpose_a=True, conjugate_a=True
    )
    U, singular, _ = jnp.linalg.svd(B, full_matrices=False)
    return U, jnp.maximum(singular**2 - ν, 0)


_compiled = eqx.filter_jit(_approximation)
