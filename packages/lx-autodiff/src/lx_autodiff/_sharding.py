"""Solves under explicit sharding.

Where a mesh axis is explicit, the sharding of every intermediate array must be spelled
out, which neither factorisations nor third-party solvers can do. So the whole solve runs
with these axes automatic, and only its outputs are given shardings: those of the inputs
of the same shape (the solution of a square system: the vector's), else replicated.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.tree_util as jtu
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree


def with_automatic_axes(
    fn: Callable[..., PyTree[Array]], arrays: Sequence[Array]
) -> PyTree[Array]:
    """`fn(*arrays)`, with the explicit axes of the current mesh made automatic."""
    mesh = _explicit_mesh(arrays)
    if mesh is None:
        return fn(*arrays)
    specs = {x.shape: jax.typeof(x).sharding.spec for x in reversed(arrays)}
    plain = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays]

    def sharding(x: Any) -> NamedSharding:
        return NamedSharding(mesh, specs.get(x.shape, PartitionSpec()))

    out = jtu.tree_map(sharding, jax.eval_shape(fn, *plain))
    return jax.sharding.auto_axes(fn, out_sharding=out)(*arrays)


def _explicit_mesh(arrays: Sequence[Array]) -> Any:
    """The mesh of the first array that is sharded along an explicit axis."""
    for x in arrays:
        sharding = jax.typeof(x).sharding
        types = getattr(sharding.mesh, "axis_types", None) or ()
        if AxisType.Explicit in types:
            return sharding.mesh
    return None
