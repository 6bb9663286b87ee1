"""Arrays inside `shard_map`, whose types say over which mesh axes their values vary.

JAX checks these types strictly for functions that were traced beforehand and for values
that loops carry. So a function is traced beforehand for inputs that vary over all
manual axes, and its inputs are cast to that when it is called. Outside `shard_map`
nothing here has an effect.
"""

import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

_T = TypeVar("_T")


def manual_axes() -> frozenset[str]:
    """The mesh axes that a surrounding `shard_map` maps over."""
    return frozenset(jax.sharding.get_abstract_mesh().manual_axes)


def as_when_lowered() -> AbstractContextManager[None]:
    """A context for calling a jitted function in abstract evaluation, so that lowering
    finds the trace again: while lowering JAX has a mesh set (possibly the empty one),
    while tracing it may have none, and it treats these as different."""
    return jax.sharding.use_abstract_mesh(jax.sharding.get_abstract_mesh())


def varying_axes(tree: PyTree) -> frozenset[str]:
    """The mesh axes that any array of a pytree varies over."""
    return frozenset().union(*map(_axes_of, jtu.tree_leaves(tree)))


def _axes_of(leaf: Any) -> frozenset[str]:
    if not isinstance(leaf, jax.Array):
        return frozenset()
    aval = jax.typeof(leaf)
    if hasattr(aval, "manual_axis_type"):
        return frozenset(aval.manual_axis_type.varying)
    return frozenset(getattr(aval, "vma", ()))  # its name in older versions of JAX


def vary(tree: _T, axes: frozenset[str]) -> _T:
    """The same arrays, declared to vary over these axes as well. Its transpose sums
    over them, as it must when every device has used the same array."""
    if not axes:
        return tree

    def cast(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        missing = tuple(axes - _axes_of(leaf))
        if not missing:
            return leaf
        if hasattr(jax.lax, "pcast"):
            return jax.lax.pcast(leaf, missing, to="varying")
        # its name in older versions of JAX
        return jax.lax.pvary(leaf, missing)  # pyright: ignore

    return jtu.tree_map(cast, tree)


def types_on_mesh(avals: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """The types of a primitive's outputs, for operands of these types.

    On a mesh they name it, and inside `shard_map` also the axes that any operand varies
    over. They come from JAX's own rules for a computation of these shapes.

    Args:
        avals: the types of the operands.
        outputs: types of the right shapes and dtypes.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return list(outputs)

    def stand_in(*arrays: Array) -> list[Array]:
        mark = functools.reduce(jnp.logical_or, [jnp.any(x == x) for x in arrays])
        return [jnp.where(mark, *2 * (jnp.zeros(x.shape, x.dtype),)) for x in outputs]

    return jax.make_jaxpr(stand_in)(*avals).out_avals


def examples(structure: PyTree, axes: frozenset[str]) -> PyTree:
    """Inputs to trace a function with: the structure itself, or, inside `shard_map`,
    arrays that vary over these axes."""
    if not axes:
        return structure

    def zeros(leaf: Any) -> Array:
        return vary(jnp.zeros(leaf.shape, leaf.dtype), axes)

    return jtu.tree_map(zeros, structure)
