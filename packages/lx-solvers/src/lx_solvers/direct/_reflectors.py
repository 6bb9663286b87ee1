"""Q of a Householder factorisation, applied and never formed.

A `vmap` over vectors becomes one product of Q with a matrix, whose columns are the
vectors: `jax.lax.linalg.ormqr` itself would copy the reflectors for each vector.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from .._control_flow import scan
from .._sizes import is_known

_HIGHEST = jax.lax.Precision.HIGHEST
_BLOCK = 32  # columns of a block of reflectors: its T costs m·n·32 operations


def times_q(
    h: Inexact[Array, "m k"],
    taus: Inexact[Array, " k"],
    c: Inexact[Array, " m"],
    *,
    adjoint: bool,
) -> Inexact[Array, " m"]:
    """Q c or Qᴴ c, for Q = H₁ … Hₖ, Hᵢ = I - τᵢ vᵢ vᵢᴴ with vᵢ below the diagonal of h.

    Args:
        h, taus: as LAPACK's `geqrf` returns them.
        c: a vector.
        adjoint: whether Qᴴ is meant.
    """
    if 0 in h.shape:
        return c
    # which of them is batched decides how: so Qᴴ and Q are two functions of arrays only
    product = _adjoint_times if adjoint else _times
    return product(h, taus, c[:, None])[:, 0]


def _merging(product):
    """`product(h, taus, C)`, under `vmap` over C alone with more columns in C."""
    merged = jax.custom_batching.custom_vmap(product)

    @merged.def_vmap
    def _(size, batched, h, taus, C):
        if batched[0] or batched[1]:
            axes = [0 if b else None for b in batched]
            return jax.vmap(product, axes)(h, taus, C), True
        m, k = C.shape[1:]
        columns = merged(h, taus, jnp.moveaxis(C, 0, 1).reshape(m, size * k))
        return jnp.moveaxis(columns.reshape(m, size, k), 1, 0), True

    return merged


def _product(h: Array, taus: Array, C: Array, adjoint: bool) -> Array:
    if hasattr(jax.lax.linalg, "ormqr"):  # since JAX 0.9
        return jax.lax.linalg.ormqr(h, taus, C, left=True, transpose=adjoint)
    return blocked(h, taus, C, adjoint)


@_merging
def _times(h, taus, C):
    return _product(h, taus, C, False)


@_merging
def _adjoint_times(h, taus, C):
    return _product(h, taus, C, True)


def blocked(
    h: Inexact[Array, "m k"],
    taus: Inexact[Array, " k"],
    C: Inexact[Array, "m c"],
    adjoint: bool,
) -> Inexact[Array, "m c"]:
    """Q C or Qᴴ C by blocks of reflectors, for JAX without `ormqr`.

    A block is I - V T Vᴴ with T⁻¹ = diag(1/τ) + triu(VᴴV, 1) (Schreiber and Van Loan
    1989, doi:10.1137/0910005; Joffrain et al. 2006, doi:10.1145/1141885.1141886).
    """
    m, k = h.shape
    size = min(_BLOCK, k) if is_known(k) else _BLOCK
    count = -(-k // size)
    pad = count * size - k
    none = taus == 0  # Hᵢ = I, for which vᵢ = 0 and any τᵢ but 0 will do
    V = jnp.where(none, 0, jnp.tril(h, -1) + jnp.eye(m, k, dtype=h.dtype))
    inverse = 1 / jnp.where(none, jnp.ones_like(taus), taus)
    V = jnp.pad(V, ((0, 0), (0, pad))).reshape(m, count, size).transpose(1, 0, 2)
    inverse = jnp.pad(inverse, (0, pad), constant_values=1).reshape(count, size)

    def block(C, V_and_inverse):
        V, inverse = V_and_inverse
        VH = V.T.conj()
        T = jnp.triu(jnp.matmul(VH, V, precision=_HIGHEST), 1) + jnp.diag(inverse)
        W = jax.lax.linalg.triangular_solve(
            T,
            jnp.matmul(VH, C, precision=_HIGHEST),
            left_side=True,
            lower=False,
            transpose_a=adjoint,
            conjugate_a=adjoint,
        )
        return C - jnp.matmul(V, W, precision=_HIGHEST), None

    return scan(block, C, (V, inverse), reverse=not adjoint)[0]
