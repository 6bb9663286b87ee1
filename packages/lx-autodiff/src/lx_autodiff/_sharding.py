"""Solves under explicit sharding.

Where a mesh axis is explicit, the sharding of every intermediate array must be spelled
out, which neither factorisations nor third-party solvers can do. So the whole solve
runs with these axes automatic, and only its outputs are given shardings: those of the
inputs of the same shape (the solution of a square system: the vector's), else
replicated. The user's own functions, which were written for explicit axes, are called
with these.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.tree_util as jtu
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree
from lx_operators import FunctionLinearOperator

from ._partition import Static, split


class Layout(NamedTuple):
    """A mesh with explicit axes, and how arrays of each shape lie on it."""

    mesh: Any
    by_shape: tuple[tuple[tuple[int, ...], PartitionSpec], ...]

    def sharding(self, x: Any) -> NamedSharding:
        spec = dict(self.by_shape).get(x.shape, PartitionSpec())
        return NamedSharding(self.mesh, spec)


def explicit_layout(arrays: Sequence[Array]) -> Layout | None:
    """How arrays lie, if any is sharded along an explicit axis; else None."""
    shardings = [jax.typeof(x).sharding for x in arrays]
    meshes = [
        s.mesh
        for s in shardings
        if AxisType.Explicit in (getattr(s.mesh, "axis_types", None) or ())
    ]
    if not meshes:
        return None
    by_shape = {x.shape: s.spec for x, s in zip(reversed(arrays), reversed(shardings))}
    return Layout(meshes[0], tuple(by_shape.items()))


def on_automatic_axes(fn: Callable[..., PyTree[Array]]) -> Callable[..., PyTree[Array]]:
    """The same function of a static value and arrays, which runs where no axis of the
    mesh is explicit."""

    @functools.wraps(fn)
    def run(static: Static, *arrays: Array) -> PyTree[Array]:
        layout = explicit_layout(arrays)
        if layout is None:
            return fn(static, *arrays)
        return with_automatic_axes(fn, static, arrays, layout)

    return run


def with_automatic_axes(
    fn: Callable[..., PyTree[Array]],
    static: Static,
    arrays: Sequence[Array],
    layout: Layout,
) -> PyTree[Array]:
    """`fn(static, *arrays)`, with the explicit axes of the mesh made automatic."""
    specs = static.join([jax.typeof(x).sharding.spec for x in arrays])

    treedefs = []

    def automatic(*arrays: Array) -> list[Array]:
        tree = _with_explicit_functions(static.join(arrays), specs, layout)
        wrapped, rest = split(tree)
        leaves, treedef = jtu.tree_flatten(fn(rest, *wrapped))
        treedefs.append(treedef)
        return leaves

    replicated = NamedSharding(layout.mesh, PartitionSpec())
    trial = jax.sharding.auto_axes(automatic, out_sharding=replicated)
    shardings = [layout.sharding(x) for x in jax.eval_shape(trial, *arrays)]
    run = jax.sharding.auto_axes(automatic, out_sharding=shardings)
    leaves: Any = run(*arrays)
    return jtu.tree_unflatten(treedefs[-1], leaves)


class _Explicit(eqx.Module):
    """A function written for explicit axes, called where they are automatic."""

    fn: Callable
    specs: tuple[PartitionSpec, ...] = eqx.field(static=True)  # of the arrays in `fn`
    layout: Layout = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        arrays, static = split((self.fn, args))
        own = [NamedSharding(self.layout.mesh, spec) for spec in self.specs]
        given = [self.layout.sharding(x) for x in arrays[len(own) :]]

        def explicit(*arrays: Array) -> Any:
            fn, args = static.join(arrays)
            return fn(*args)

        enter = jax.sharding.explicit_axes(explicit, in_sharding=(*own, *given))
        return enter(*arrays)


def _with_explicit_functions(tree: Any, specs: Any, layout: Layout) -> Any:
    """`tree`, in which the functions of operators enter explicit axes when called."""

    def wrap(node: Any, node_specs: Any) -> Any:
        if not _has_function(node):
            return node
        leaves = jtu.tree_leaves(node_specs.fn, is_leaf=_is_spec)
        own = tuple(spec for spec in leaves if _is_spec(spec))
        return eqx.tree_at(lambda op: op.fn, node, _Explicit(node.fn, own, layout))

    return jtu.tree_map(wrap, tree, specs, is_leaf=_has_function)


def _is_spec(leaf: Any) -> bool:
    return isinstance(leaf, PartitionSpec)


def _has_function(node: Any) -> bool:
    if isinstance(node, FunctionLinearOperator):
        return True
    # by its name, so that its class is not imported
    return type(node).__name__ == "JacobianLinearOperator"
