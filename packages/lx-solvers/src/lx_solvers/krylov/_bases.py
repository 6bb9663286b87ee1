"""Several vectors as one array, whose first axis counts them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from ._spaces import Space

_HIGHEST = jax.lax.Precision.HIGHEST


def coordinates(V: Array, w: Array) -> Array:
    """Vᴴ w, for the rows of V."""
    axes = tuple(range(w.ndim))
    rows = tuple(axis + 1 for axis in axes)
    return jax.lax.dot_general(
        V, w.conj(), ((rows, axes), ((), ())), precision=_HIGHEST
    ).conj()


def combine(y: Array, V: Array) -> Array:
    """Σ yᵢ Vᵢ; of a matrix y, one for each of its columns."""
    return jax.lax.dot_general(y, V, (((0,), (0,)), ((), ())), precision=_HIGHEST)


def with_row(V: Array, v: Array, i: ArrayLike) -> Array:
    """V, with v as its row i."""
    return jax.lax.dynamic_update_index_in_dim(V, v, jnp.asarray(i, jnp.int32), 0)


def row(V: Array, i: Array) -> Array:
    """Vᵢ."""
    return jax.lax.dynamic_index_in_dim(V, i, 0, keepdims=False)


def rows_times(y: Array, V: Array) -> Array:
    """yᵢ Vᵢ."""
    return jax.lax.broadcast_in_dim(y.astype(V.dtype), V.shape, (0,)) * V


def inner(V: Array, W: Array) -> Array:
    """⟨Vᵢ, Wⱼ⟩."""
    axes = tuple(range(1, V.ndim))
    return jax.lax.dot_general(
        V.conj(), W, ((axes, axes), ((), ())), precision=_HIGHEST
    )


def gram(V: Array) -> Array:
    """⟨Vᵢ, Vⱼ⟩."""
    return inner(V, V)


def shadows(count: int, X: Space) -> Array:
    """`count` orthonormal vectors in no particular direction, the same in each call:
    what residuals are made orthogonal to, in methods that do so.

    A matrix has exceptional directions, and constants or the right-hand side are often
    among these; random vectors are not.
    """
    P = jax.random.normal(jax.random.key(1), (count, *X.shape), X.dtype)
    for _ in range(2):  # Cholesky's QR, twice, is as good as Householder's
        L = jax.lax.linalg.cholesky(gram(P).conj())
        unit = jnp.eye(count, dtype=P.dtype)
        solve = jax.lax.linalg.triangular_solve
        P = combine(solve(L, unit, left_side=True, lower=True).T, P)
    return P
