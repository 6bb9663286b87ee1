"""Subspaces that are kept from one system to the next."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array
from lx_operators import is_hermitian, is_symmetric

from .._scaling import norm2
from .._sequence import after, qr
from .._solver import Options
from ._bases import combine, gram
from ._driver import KrylovState
from ._scalars import where
from ._spaces import Space, as_matvec, spaces


class RecycledState(eqx.Module):
    """What `init` of a method that recycles returns: the state of an iterative solver,
    and a subspace, the rows of U, with C = A U orthonormal. Rows of zeros stand for
    what is not there."""

    krylov: KrylovState
    U: Array
    C: Array


def recycled_state(
    krylov: KrylovState, options: Options, size: int, solver: str
) -> RecycledState:
    """The state with the subspace of `options["recycle"]`, made anew for this operator;
    without, or from it, an empty one.

    Raises:
        ValueError: that option is no state of such a method, of this size.
    """
    X, _ = spaces(krylov.operator)
    old = options.get("recycle")
    shape = (size, *X.shape)
    if old is None:
        none = jnp.zeros(shape, X.dtype)
        return RecycledState(krylov, none, none)
    if not isinstance(old, RecycledState):
        raise ValueError(
            f"the option 'recycle' of `{solver}` must be the `state` of an earlier "
            f"solution by `{solver}`, but got a value of type `{type(old).__name__}`."
        )
    if old.U.shape != shape:
        raise ValueError(
            f"the option 'recycle' of `{solver}` has a subspace of shape "
            f"{old.U.shape}, but this solver keeps {shape}."
        )
    U = old.U.astype(X.dtype)
    AU = jax.vmap(as_matvec(krylov.operator))(U)
    return RecycledState(krylov, *orthonormal_image(U, AU, X))


def orthonormal_image(U: Array, AU: Array, X: Space) -> tuple[Array, Array]:
    """Another basis U of the same, for which A U is orthonormal, and A U."""
    k = len(U)
    size = jax.vmap(norm2)(AU)
    scale = where(size > 0, 1 / where(size > 0, size, 1), 0)[:, None]
    columns = _finite((scale.astype(X.dtype) * AU.reshape(k, -1)).T)
    Q, R = qr(jnp.pad(columns, ((0, k), (0, 0))))  # tall, whatever the size
    P, σ, Wh = jnp.linalg.svd(R)
    some = σ > 100 * X.eps
    inverse = where(some, 1 / where(some, σ, 1), 0)
    W = scale.astype(X.dtype) * (Wh.conj().T * inverse[None].astype(X.dtype))
    W, P = where(some[None], W, 0), where(some[None], P, 0)
    C = combine(P, Q.T[:, : X.size].reshape(U.shape))
    return combine(W, U), C


def _finite(a: Array) -> Array:
    """a; zeros if it is not finite, for which LAPACK may iterate for ever."""
    return where(jnp.all(jnp.isfinite(jnp.abs(a))), a, 0)


def kept(
    S: Array, F: Array, QR: tuple[Array, Array], there: Array, k: int
) -> tuple[Array, Array]:
    """The k-dimensional subspace of what S spans on which A is least, and its image:
    A S = F G, so with G = Q R (`triangular`) and Sᴴ S = Kᴴ K these are, of the largest
    singular values of K R⁻¹ = P Σ Wᴴ, S R⁻¹ W and F Q W, which is orthonormal.

    Args:
        there: which columns of G are not zero.
    """
    Q, R = QR
    λ, E = jnp.linalg.eigh(after(_finite(gram(S)), R))
    root = jnp.sqrt(jnp.maximum(λ, 0))[:, None].astype(S.dtype)
    K = root * E.conj().T
    KR = jax.lax.linalg.triangular_solve(R, K, left_side=False)
    KR = _finite(where(there[None], KR, 0))
    _, σ, Wh = jnp.linalg.svd(KR)
    some = (σ > 0)[:k]
    W = where(some[None], Wh[:k].conj().T, 0)
    W = where(there[:, None], W, 0)
    highest = jax.lax.Precision.HIGHEST
    Z = jax.lax.linalg.triangular_solve(R, W, left_side=True)
    return combine(Z, S), combine(jnp.matmul(Q, W, precision=highest), F)


def transposed_subspace(state: RecycledState, krylov: KrylovState) -> RecycledState:
    """The state for Aᵀ, whose subspace is that of A only where these are alike."""
    A, U, C = state.krylov.operator, state.U, state.C
    if is_symmetric(A):
        return RecycledState(krylov, U, C)
    if is_hermitian(A):
        return conjugated_subspace(state, krylov)
    return RecycledState(krylov, jnp.zeros_like(U), jnp.zeros_like(C))


def conjugated_subspace(state: RecycledState, krylov: KrylovState) -> RecycledState:
    """The state for Ā. Real and complex leaves together are arrays of real numbers
    here, and have an empty subspace then."""
    U, C = state.U.conj(), state.C.conj()
    if spaces(state.krylov.operator)[0].realified:
        U, C = jnp.zeros_like(U), jnp.zeros_like(C)
    return RecycledState(krylov, U, C)


def without(options: Options) -> Options:
    """The options without `recycle`, which is `init`'s."""
    return {name: value for name, value in options.items() if name != "recycle"}
