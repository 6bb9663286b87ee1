"""Vectors in the user's order, and sharded ones in that of a pattern."""

from functools import partial
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jaxtyping import Array

from ._division import OWN_ROWS, axis_kind, check_same


def check_length(vector: Array, size: int, other: int, instead: str) -> None:
    """Refuses a vector of another length; if it is the `other` one, says what to pass
    `instead`."""
    if vector.shape != (size,):
        hint = f"; for one of shape ({other},) pass `{instead}`"
        raise ValueError(
            f"`vector` must have shape ({size},), but has shape {vector.shape}"
            f"{hint if vector.shape == (other,) else ''}."
        )


def check_same_values(name: str, x: Array, index: Array, sharding: Any) -> None:
    """Refuses arrays of one process's own that differ from those of the others."""
    traced = any(isinstance(each, jax.core.Tracer) for each in (x, index))
    if not traced and x.sharding.device_set <= {*jax.local_devices()}:
        check_same(sharding.mesh, name, np.asarray(x), hint=OWN_ROWS)


def flat(index: Array) -> Array:
    """`[p, q]` as `[p q]`, also if q is 0 and p is sharded over an explicit axis."""
    return index.reshape(-1) if index.size else jnp.zeros(0, index.dtype)


def read(x: Array, index: Array, sharding: NamedSharding) -> Array:
    """The elements at these indices, zero at negative ones."""
    if not index.size:  # JAX compiles no program of nothing for an explicit mesh
        return jnp.zeros(index.shape, x.dtype, device=sharding)
    return _read(x, index, sharding)


@partial(jax.jit, static_argnames="sharding")
def _read(x: Array, index: Array, sharding: NamedSharding) -> Array:
    def local(x: Array, index: Array) -> Array:
        zero = jnp.zeros_like(x, shape=())
        return jnp.where(index >= 0, x.at[index].get(mode="clip"), zero)

    return _as_sharded(local, sharding)(x, index)


def write(x: Array, index: Array, size: int, sharding: NamedSharding) -> Array:
    """The transpose: elements put at these indices, those at negative ones dropped."""
    if not index.size:
        return jnp.zeros(size, x.dtype, device=sharding)
    return _write(x, index, size, sharding)


@partial(jax.jit, static_argnames=("size", "sharding"))
def _write(x: Array, index: Array, size: int, sharding: NamedSharding) -> Array:
    def local(x: Array, index: Array) -> Array:
        index = jnp.where(index >= 0, index, size)
        return jnp.zeros_like(x, shape=(size,)).at[index].set(x, mode="drop")

    return _as_sharded(local, sharding)(x, index)


def _as_sharded(fn: Any, sharding: NamedSharding) -> Any:
    """`fn`, its result sharded so, on a mesh of automatic or explicit axes, or both."""
    mesh = sharding.mesh
    explicit = [axis_kind(mesh, axis) == AxisType.Explicit for axis in sharding.spec]
    if AxisType.Explicit in mesh.axis_types and all(explicit):
        return jax.sharding.auto_axes(fn, out_sharding=sharding)
    return lambda *args: jax.lax.with_sharding_constraint(fn(*args), sharding)
