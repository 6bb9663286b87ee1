"""Norms of maps that can only be applied, estimated from below."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Real
from lx_operators.internal import cast, complex_to_real_dtype

Map = Callable[[Array], Array]

_COLUMNS = 8  # that the estimator carries


def max_norm(
    M: Callable[[tuple[Array, ...]], Array],
    MH: Callable[[Array], tuple[Array, ...]],
    n: int,
    dtype: Any,
) -> Real[Array, ""]:
    """‖M‖∞ = ‖Mᴴ‖₁, where M goes from several arrays to one of size n.

    Exact for few rows. Else the largest ‖Mᴴz‖₁ found, ‖z‖₁ = 1: first for columns z of
    signs, then, twice, for the unit vectors along which it grows most (Higham and
    Tisseur 2000, algorithm 2.2, doi:10.1137/S0895479899356080).
    """
    if n == 0:
        return jnp.zeros((), complex_to_real_dtype(dtype))
    many = jax.vmap(MH, 1, 1)

    def norms(Y: tuple[Array, ...]) -> Array:
        return jnp.sum(jnp.abs(jnp.concatenate(Y)), axis=0)

    if n <= _COLUMNS:
        return jnp.max(norms(many(jnp.eye(n, dtype=dtype))))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (n, _COLUMNS))
    signs[:, 0] = 1.0

    def step(_, carry):
        X, best = carry
        Y = many(X)
        best = jnp.maximum(best, jnp.max(norms(Y)))
        gradient = jax.vmap(M, 1, 1)(jtu.tree_map(jnp.sign, Y))
        _, rows = jax.lax.top_k(jnp.max(jnp.abs(gradient), axis=1), _COLUMNS)
        return jax.nn.one_hot(rows, n, dtype=dtype, axis=0), best

    zero = jnp.zeros((), complex_to_real_dtype(dtype))
    return jax.lax.fori_loop(0, 3, step, (jnp.asarray(signs / n, dtype), zero))[1]


def two_norm(A: Map, AH: Map, n: int, dtype: Any, steps: int) -> Real[Array, ""]:
    """‖A‖₂ by the power method, from below."""
    real = complex_to_real_dtype(dtype)
    start = jnp.asarray(np.random.default_rng(0).standard_normal(n), dtype)

    def step(_, carry):
        v, _ = carry
        v = v / cast(jnp.linalg.norm(v), dtype)
        Av = A(v)
        return AH(Av), jnp.linalg.norm(Av)

    return jax.lax.fori_loop(0, steps, step, (start, jnp.zeros((), real)))[1]
