"""Sizes that may be symbolic: `jax.export` traces a function for all of them at once.

A comparison with a symbolic size may be inconclusive, on which JAX raises. Code that
takes another path for some sizes first asks whether the size is known, and takes the
general path if it is not.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact


def is_known(*sizes: Any) -> bool:
    """Whether no size is symbolic."""
    return all(isinstance(size, int | np.integer) for size in sizes)


def sqrt_of(size: Any) -> Any:
    """√size: a number, or a weakly typed array if the size is symbolic."""
    return math.sqrt(size) if is_known(size) else jnp.sqrt(size * 1.0)


def variates(shape: tuple[Any, ...], dtype: Any) -> np.ndarray | Inexact[Array, "..."]:
    """Normal variates, the same in every run: a vector in general position."""
    if is_known(*shape):
        return np.random.default_rng(0).standard_normal(shape).astype(dtype)
    return jax.random.normal(jax.random.key(0), shape, jnp.finfo(dtype).dtype).astype(
        dtype
    )
