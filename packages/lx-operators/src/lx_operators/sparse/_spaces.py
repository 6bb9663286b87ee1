"""The structures of a sparse operator's vectors, which are flat arrays by default."""

from typing import Any

import jax
from jaxtyping import Array, PyTree

from .._promotion import conform
from .._structures import (
    Frozen,
    Structure,
    describe,
    freeze_structure,
    ravel,
    size_of,
    unravel,
)


def frozen(structure: PyTree | None, size: int, argument: str) -> Frozen | None:
    if structure is None:
        return None
    frozen = freeze_structure(structure, argument)
    if size_of(frozen.thaw()) != size:
        raise ValueError(
            f"`{argument}` must have {size} scalars, as many as the pattern has "
            f"{'columns' if argument[0] == 'i' else 'rows'}, but is "
            f"{describe(frozen.thaw())}."
        )
    flat = len(frozen.leaves) == 1 and frozen.leaves[0].shape == (size,)
    leaf_alone = frozen.treedef == jax.tree_util.tree_structure(0)
    return None if flat and leaf_alone else frozen


def structure(operator: Any, side: int, dtype: Any) -> Structure:
    """The input structure, side 0, or the output structure, side 1."""
    frozen = operator.structures[side]
    if frozen is None:
        return jax.ShapeDtypeStruct((operator.pattern.shape[1 - side],), dtype)
    leaves = [jax.ShapeDtypeStruct(x.shape, dtype) for x in frozen.leaves]
    return jax.tree_util.tree_unflatten(frozen.treedef, leaves)


def conformed(
    operator: Any, dtype: Any, vector: PyTree, transposed: bool = False
) -> tuple[Array, Any]:
    """A vector as a flat array; and a function from a flat product to the output
    structure."""
    side = int(transposed)
    x = conform(vector, structure(operator, side, dtype), "the vector")
    x = x if operator.structures[side] is None else ravel(x)

    def out(y: Array) -> PyTree[Array]:
        if operator.structures[1 - side] is None:
            return y
        return unravel(y, structure(operator, 1 - side, dtype))

    return x, out
