"""The normal equations of an operator that is divided by a power of two near its norm,
so that products of it and its adjoint neither overflow nor underflow."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike
from lx_operators import (
    AbstractLinearOperator,
    IdentityLinearOperator,
    TaggedLinearOperator,
    positive_semidefinite_tag,
)
from lx_operators.internal import complex_to_real_dtype, strict_promotion

from .._scaling import norm2, power_of_two, reciprocal_scale
from .._sizes import is_known, sqrt_of
from .._solver import Options
from ..krylov._options import first_guess, preconditioner
from ..krylov._scalars import barrier, packed, times, unpacked, where
from ..krylov._spaces import Space, as_matvec, spaces


def normalised(
    A: AbstractLinearOperator, damp: ArrayLike | None
) -> tuple[AbstractLinearOperator, Array, Array | None, Array]:
    """σA with a power of two σ near 1 / ‖[A; damp I]‖, hence exact; σ; σ damp; and a
    lower bound of ‖σA‖.

    ‖A‖ is seen from one product.
    """
    X, _ = spaces(A)
    v, v_norm = _probe(X)
    Av = jax.lax.stop_gradient(norm2(as_matvec(A)(v)))
    d = None if damp is None else jnp.asarray(damp, X.real_dtype)
    size = Av if d is None else jnp.maximum(Av, v_norm * d)
    known = (size > 0) & jax.lax.is_finite(size)
    v_norm = jnp.asarray(v_norm, X.real_dtype)
    σ = reciprocal_scale(size) * power_of_two(v_norm)
    σ = where(known, σ, 1)
    for info in map(jnp.finfo, _dtypes(A)):
        σ = jnp.clip(σ, 2.0 ** (info.minexp + 1), 2.0 ** (info.maxexp - 3))
    factors = _has_factors(A)
    σ = σ if factors else jnp.ones_like(σ)
    # together, as XLA would compute σ anew for each of its uses
    σ, A_norm = unpacked(packed(σ, σ * Av / v_norm))
    A = _times_scalar(σ, A) if factors else A
    if d is not None:  # XLA would make (σd)² of σ² and d², which need not be in range
        d = barrier(σ * d)
    return A, σ, d, A_norm


def equations(
    A: AbstractLinearOperator, d: Array | None, tall: bool
) -> AbstractLinearOperator:
    """AᴴA + d² I, or A Aᴴ + d² I."""
    normal = A.H @ A if tall else A @ A.H
    if d is None:
        return normal
    damping = IdentityLinearOperator(normal.in_structure())
    damping = _times_scalar(d * d, damping)
    return TaggedLinearOperator(normal + damping, positive_semidefinite_tag)


def guess_of(options: Options, X: Space, Y: Space, tall: bool) -> Array | None:
    """x; of a wide operator w in x = Aᴴ w, or none."""
    y0 = first_guess(options, X, "Normal")
    M: Any = options.get("preconditioner")
    if tall or y0 is None:
        return y0
    return None if M is None else Y.ravel(M.H.mv(X.solution(y0)))


def inner_options(
    operator: AbstractLinearOperator, σ: Array, tall: bool, options: Options
) -> Options:
    """The options for the normal equations of σA, which start at zero."""
    options = {name: value for name, value in options.items() if name != "y0"}
    M = preconditioner(options, operator, "Normal", inverse=True)
    if M is None:
        return options
    if _has_factors(M):
        M = _times_scalar(reciprocal_scale(σ), M)
    options["preconditioner"] = M @ M.H if tall else M.H @ M
    return options


def times_both(x: Array, p: Array, q: Array) -> Array:
    """x p q, for powers of two p and q whose product need not be in range."""
    pq = p * q
    normal = (pq >= jnp.finfo(pq.dtype).tiny) & jax.lax.is_finite(pq)
    return times(where(normal, 1, q), times(where(normal, pq, p), x))


def _probe(X: Space) -> tuple[Array, Any]:
    """A vector v that no operator is likely to annihilate, and so small that nothing
    overflows, as Σ |vᵢ| ≤ 1: hashes of the indices, so that no array is a constant of
    the program. And ‖v‖, at most."""
    n = math.prod(X.shape)
    hashes = jax.lax.iota(jnp.uint32, n) * np.uint32(2654435769)
    hashes = (hashes ^ (hashes >> np.uint32(15))) * np.uint32(2246822519)
    hashes = hashes ^ (hashes >> np.uint32(13))
    if is_known(n):
        size: Any = 2.0 ** -max(n - 1, 1).bit_length()
    else:
        size = reciprocal_scale(2.0 * jnp.asarray(n, X.real_dtype))
    signed = hashes.astype(X.real_dtype) * (2.0**-31 * size) - size
    v = signed.astype(X.dtype).reshape(X.shape)
    return v, sqrt_of(max(n, 1) if is_known(n) else n) * size


def _dtypes(A: AbstractLinearOperator) -> set[Any]:
    leaves = jtu.tree_leaves((A.in_structure(), A.out_structure()))
    return {leaf.dtype for leaf in leaves} or {np.dtype(np.float32)}


def _has_factors(A: AbstractLinearOperator) -> bool:
    """Whether an array can be a factor of A that changes no dtype."""
    return len(_dtypes(A)) == 1 or not strict_promotion()


def _times_scalar(s: Array, A: AbstractLinearOperator) -> AbstractLinearOperator:
    """s A, in the dtypes of A."""
    dtype = min(_dtypes(A), key=lambda dtype: jnp.finfo(dtype).bits)
    if len(_dtypes(A)) > 1:
        dtype = complex_to_real_dtype(dtype)
    return A * s.astype(dtype)
