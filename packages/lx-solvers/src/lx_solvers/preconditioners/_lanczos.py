"""The largest eigenvalue, by a few steps of Lanczos' process."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real

from .._control_flow import scan
from .._scaling import norm2, real_dot


def noise(shape: tuple[Any, ...], dtype: Any) -> Inexact[Array, "..."]:
    """Numbers between -1 and 1 that look like chance, and are the same in every run: an
    integer hash of their place (Wellons 2018, "Prospecting for hash functions",
    lowbias32). They are computed where they are used, as an array of constants would be
    part of the program, and slow to compile.

    Args:
        shape: of one or two axes.
        dtype: theirs; complex ones have no imaginary part.
    """
    x = jax.lax.broadcasted_iota(jnp.uint32, shape, 0) + jnp.uint32(1)
    if len(shape) > 1:
        columns = jax.lax.broadcasted_iota(jnp.uint32, shape, 1)
        x = x + jnp.uint32(0x9E3779B9) * columns
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = (x ^ (x >> jnp.uint32(shift))) * jnp.uint32(factor)
    real = jnp.finfo(dtype).dtype
    return (x.astype(real) / jnp.asarray(2.0**31, real) - 1).astype(dtype)


def largest_eigenvalue(
    product: Callable[[Array], Array], n: Any, dtype: Any, steps: int
) -> Real[Array, ""]:
    """An upper bound, as a rule, of the largest eigenvalue of a Hermitian semidefinite
    map: the largest Ritz value plus the norm of its residual (Zhou and Li 2011,
    doi:10.1016/j.laa.2010.06.034).

    The vectors are not reorthogonalised, as what rounding adds are copies of
    eigenvalues found already (Paige 1980, doi:10.1016/0024-3795(80)90167-6).

    Args:
        product: the map, of flat vectors.
        n, dtype: size and dtype of these.
        steps: how many products.
    """
    v = noise((n,), dtype)
    v = v / norm2(v).astype(dtype)
    v_old, β = jnp.zeros_like(v), jnp.zeros((), norm2(v).dtype)

    def step(carry: Any, _: Any) -> Any:
        v_old, v, β = carry
        w = product(v) - β.astype(dtype) * v_old
        α = real_dot(v, w)
        w = w - α.astype(dtype) * v
        β = norm2(w)
        inverse = jnp.where(β > 0, 1 / jnp.where(β > 0, β, 1), 0)
        return (v, inverse.astype(dtype) * w, β), (α, β)

    _, (α, β) = scan(step, (v_old, v, β), jnp.arange(steps), inputs=v)
    T = jnp.diag(α) + jnp.diag(β[:-1], 1) + jnp.diag(β[:-1], -1)
    ritz, Q = jnp.linalg.eigh(T)
    return ritz[-1] + jnp.abs(β[-1] * Q[-1, -1])
