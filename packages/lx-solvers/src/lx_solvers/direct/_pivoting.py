"""Column-pivoted QR on every back end."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from .._control_flow import scan

_HIGHEST = jax.lax.Precision.HIGHEST

Factors = tuple[
    Inexact[Array, "m k"],
    Inexact[Array, "k k"],
    Int[Array, " k"],
]


def pivoted_qr(F: Inexact[Array, "m k"]) -> Factors:
    """Q, R and the permutation of F[:, permutation] = QR, for m ≥ k.

    LAPACK's `geqp3` where JAX offers it; elsewhere `swapping_qr`.
    """
    if 0 in F.shape:
        k = F.shape[1]
        return F, jnp.zeros((k, k), F.dtype), jnp.arange(k, dtype=jnp.int32)
    return jax.lax.platform_dependent(F, cpu=_lapack, default=swapping_qr)


def _lapack(F: Array) -> Factors:
    Q, R, permutation = jax.lax.linalg.qr(F, pivoting=True, full_matrices=False)
    return Q, R, permutation.astype(jnp.int32)


def swapping_qr(F: Inexact[Array, "m k"]) -> Factors:
    """The same as a loop over columns: at each, the remaining column of largest norm is
    swapped to the front and eliminated by a reflection (Businger and Golub 1965,
    doi:10.1007/BF01436084). The norms are computed anew at each step."""
    m, k = F.shape
    rows = jnp.arange(m, dtype=jnp.int32)
    columns = jnp.arange(k, dtype=jnp.int32)

    def step(carry, j):
        R, Q, permutation = carry
        below = jnp.where((rows >= j)[:, None], R, 0)
        norms = jnp.linalg.norm(below, axis=0)
        p = jnp.argmax(jnp.where(columns >= j, norms, -jnp.ones_like(norms))).astype(
            jnp.int32
        )
        order = jnp.where(columns == j, p, jnp.where(columns == p, j, columns))
        R, permutation, below = R[:, order], permutation[order], below[:, order]
        x, norm = below[:, j], norms[p]
        size = jnp.abs(x[j])
        safe = jnp.where(size == 0, jnp.ones_like(size), size).astype(x.dtype)
        phase = jnp.where(size == 0, jnp.ones_like(safe), x[j] / safe)
        v = x + jnp.where(rows == j, phase * norm.astype(x.dtype), jnp.zeros_like(x))
        half = norm * (norm + size)  # of vᴴv, for v = x + ‖x‖ eⱼ xⱼ/|xⱼ|
        tau = jnp.where(half == 0, 0, 1 / jnp.where(half == 0, 1, half)).astype(x.dtype)

        def reflect(M):  # I - τvvᴴ
            return M - tau * jnp.outer(v, jnp.matmul(v.conj(), M, precision=_HIGHEST))

        def reflect_right(M):
            return M - tau * jnp.outer(jnp.matmul(M, v, precision=_HIGHEST), v.conj())

        return (reflect(R), reflect_right(Q), permutation), None

    carry = F, jnp.eye(m, dtype=F.dtype), columns
    (R, Q, permutation), _ = scan(step, carry, columns)
    return Q[:, :k], jnp.triu(R[:k]), permutation
