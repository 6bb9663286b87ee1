"""An operator divided by a power of two near its norm, so that products of it and its
adjoint neither overflow nor underflow."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike
from lx_operators import AbstractLinearOperator
from lx_operators.internal import complex_to_real_dtype, strict_promotion

from .._scaling import norm2, power_of_two, reciprocal_scale
from .._sizes import is_known, sqrt_of
from ..krylov._scalars import barrier, where
from ..krylov._spaces import Space, product, spaces


def scaled(
    A: AbstractLinearOperator, damp: ArrayLike | None
) -> tuple[AbstractLinearOperator, Array, Array | None, Array]:
    """σA with a power of two σ near 1 / ‖[A; damp I]‖, hence exact; σ; σ damp; and a
    lower bound of ‖σA‖.

    ‖A‖ is seen from one product.
    """
    X, _ = spaces(A)
    v, v_norm = _probe(X)
    Av = jax.lax.stop_gradient(norm2(product(A)(v)))
    d = None if damp is None else jnp.asarray(damp, X.real_dtype)
    size = Av if d is None else jnp.maximum(Av, v_norm * d)
    known = (size > 0) & jax.lax.is_finite(size)
    v_norm = jnp.asarray(v_norm, X.real_dtype)
    σ = reciprocal_scale(size) * power_of_two(v_norm)
    σ = where(known, σ, 1)
    for info in map(jnp.finfo, _dtypes(A)):
        σ = jnp.clip(σ, 2.0 ** (info.minexp + 1), 2.0 ** (info.maxexp - 3))
    if has_factors(A):
        A = times_scalar(σ, A)
    else:
        σ = jnp.ones_like(σ)
    if d is not None:  # XLA would make (σd)² of σ² and d², which need not be in range
        d = barrier(σ * d)
    return A, σ, d, σ * Av / v_norm


def _probe(X: Space) -> tuple[Array, Any]:
    """A vector v that no operator is likely to annihilate, and so small that nothing
    overflows, as Σ |vᵢ| ≤ 1: hashes of the indices, so that no array is a constant of
    the program. And ‖v‖, at most."""
    n = math.prod(X.shape)
    hashes = jax.lax.iota(jnp.uint32, n) * np.uint32(2654435769)
    hashes = (hashes ^ (hashes >> np.uint32(15))) * np.uint32(2246822519)
    hashes = (hashes ^ (hashes >> np.uint32(13))) >> np.uint32(8)
    signed = hashes.astype(X.real_dtype) * 2.0**-23 - 1.0
    if is_known(n):
        size: Any = 2.0 ** -max(n - 1, 1).bit_length()
    else:
        size = reciprocal_scale(2.0 * jnp.asarray(n, X.real_dtype))
    v = (signed * size).astype(X.dtype).reshape(X.shape)
    return v, sqrt_of(max(n, 1) if is_known(n) else n) * size


def _dtypes(A: AbstractLinearOperator) -> set[Any]:
    leaves = jtu.tree_leaves((A.in_structure(), A.out_structure()))
    return {leaf.dtype for leaf in leaves} or {np.dtype(np.float32)}


def has_factors(A: AbstractLinearOperator) -> bool:
    """Whether an array can be a factor of A that changes no dtype."""
    return len(_dtypes(A)) == 1 or not strict_promotion()


def times_scalar(s: Array, A: AbstractLinearOperator) -> AbstractLinearOperator:
    """s A, in the dtypes of A."""
    dtype = min(_dtypes(A), key=lambda dtype: jnp.finfo(dtype).bits)
    if len(_dtypes(A)) > 1:
        dtype = complex_to_real_dtype(dtype)
    return A * s.astype(dtype)
