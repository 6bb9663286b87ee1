"""Several vectors as one array, whose first axis counts them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jaxtyping import Array, ArrayLike

from .._scaling import norm2
from .._sequence import qr
from ._scalars import where
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
    return with_rows(V, v[None], jnp.asarray(i).astype(jnp.int32))


@custom_vmap
def with_rows(V: Array, W: Array, i: Array) -> Array:
    """V, with the few rows of W in place of its own from i on."""
    return jax.lax.dynamic_update_slice_in_dim(V, W, i, 0)


@with_rows.def_vmap
def _(size: int, batched: Any, *arrays: Array) -> tuple[Array, bool]:
    """In one pass over V: a scatter of rows, each at a place of its own, takes longer
    than all else of a step."""

    def placed(V: Array, W: Array, i: Array) -> Array:
        at = np.arange(len(V), dtype=np.int32) - i
        for k, w in enumerate(W):
            V = where(jax.lax.broadcast_in_dim(at == k, V.shape, (0,)), w[None], V)
        return V

    axes = [0 if flag else None for flag in batched]
    return jax.vmap(placed, axes, axis_size=size)(*arrays), True


def row(V: Array, i: Array) -> Array:
    """Vᵢ."""
    return jax.lax.dynamic_index_in_dim(V, i, 0, keepdims=False)


def rows_times(y: Array, V: Array) -> Array:
    """yᵢ Vᵢ."""
    return jax.lax.broadcast_in_dim(y.astype(V.dtype), V.shape, (0,)) * V


def rows_where(some: Array, V: Array) -> Array:
    """Some rows of V, with zeros in place of the others."""
    some = jax.lax.broadcast_in_dim(some, V.shape, (0,))
    return where(some, V, 0)


def inner(V: Array, W: Array) -> Array:
    """⟨Vᵢ, Wⱼ⟩."""
    axes = tuple(range(1, V.ndim))
    return jax.lax.dot_general(
        V.conj(), W, ((axes, axes), ((), ())), precision=_HIGHEST
    )


def gram(V: Array) -> Array:
    """⟨Vᵢ, Vⱼ⟩."""
    return inner(V, V)


def orthonormal(Z: Array, least: float) -> Array:
    """An orthonormal basis of what the rows of Z span; zeros in place of what is
    independent of others by no more than `least` of its length."""
    size = jax.vmap(norm2)(Z)
    Z = rows_times(where(size > 0, 1 / where(size > 0, size, 1), 0), Z)
    k, n = len(Z), Z[0].size
    columns = jnp.pad(Z.reshape(k, n).T, ((0, max(k - n, 0)), (0, 0)))
    own = jnp.abs(jnp.diagonal(jnp.linalg.qr(columns, mode="r")))
    # the dependent ones last, whose columns of Q have a part of those after them
    Q, R = qr(columns[:, jnp.argsort(-own)])
    some = jnp.abs(jnp.diagonal(R)) > least
    return rows_times(some, Q[:n].T.reshape(Z.shape))


def triangular(H: Array) -> tuple[Array, Array]:
    """Q and R of H = Q R, where columns of zeros stand for what is not there: R has
    ones on its diagonal for these, and zeros else."""
    absent = jnp.all(H == 0, axis=0)
    own = jnp.where(absent[None], jnp.eye(len(absent), dtype=H.dtype), 0)
    Q, R = qr(jnp.concatenate([H, own]))
    return Q[: len(H)], R


def least_squares(H: Array, B: Array) -> tuple[Array, Array]:
    """Y that makes the columns of B - H Y least, and their 2-norms. Columns of zeros
    have zeros in Y; NaN if others depend on each other."""
    Q, R = triangular(H)
    QB = jnp.matmul(Q.conj().T, B, precision=_HIGHEST)
    Y = jax.lax.linalg.triangular_solve(R, QB, left_side=True)
    rest = B - jnp.matmul(H, Y, precision=_HIGHEST)
    return Y, jnp.sqrt(jnp.sum(jnp.abs(rest) ** 2, 0))


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
