"""Block diagonal operators with equal blocks, whose arrays are stacked."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array

from .._blocks import PLACES, block_diagonal, block_shapes, blocks_mapped
from .._functions import (
    add,
    bands,
    bandwidths,
    compose,
    diagonal,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import ATOM, layout, summary
from .._promotion import conform, promoted_mv
from .._properties import declared, known
from .._provenance import is_image, reflected, reflections, stronger
from .._simplify import PRODUCTS, SCALINGS, SUMS, Rewrite, Scaling
from .._structures import Frozen, common_dtype, freeze, structures_of
from .._tags import Tags, tridiagonal_tag
from ._rules import adjoint_by_parts, maps_to_parts


class StackedLinearOperator(AbstractLinearOperator):
    """A block diagonal operator with blocks of the same kind: block i acts on slice i
    of the vector.

    Everything, solves included, runs as one batch.

    Args:
        operator: an operator whose arrays all have one more axis in front, of size
            `size`. `jax.vmap` or `eqx.filter_vmap` of a function that builds an
            operator returns such an operator. Vectors have the same axis in front of
            every leaf.
        size: the number of blocks; by default the size of the arrays' leading axis.

    Raises:
        ValueError: the arrays' leading axes differ, or there is no array to tell
            `size`.

    ```python
    build = eqx.filter_vmap(lx.MatrixLinearOperator)
    operator = lx.StackedLinearOperator(build(jnp.ones((10, 3, 2))))
    operator.mv(jnp.ones((10, 2)))  # of shape [10, 3]
    ```
    """

    operator: AbstractLinearOperator
    size: int = eqx.field(static=True)
    # of one slice
    input_structure: Frozen = eqx.field(static=True)
    output_structure: Frozen = eqx.field(static=True)
    tags: Tags = eqx.field(static=True)
    text: str = eqx.field(static=True)

    def __init__(self, operator: AbstractLinearOperator, size: int | None = None):
        self.operator = operator
        self.size = _size(operator, size)
        facts = []

        def look(block: AbstractLinearOperator) -> None:
            facts.append(
                (*map(freeze, structures_of(block)), known(block), summary(block))
            )

        eqx.filter_eval_shape(lambda op: _vmap(look, self.size)(op), operator)
        (self.input_structure, self.output_structure, self.tags, self.text) = facts[0]

    def mv(self, vector):
        vector = conform(vector, self.in_structure(), "the vector")
        return _vmap(promoted_mv, self.size)(self.operator, vector)

    def as_matrix(self):
        matrices = _vmap(lambda block: block.as_matrix(), self.size)(self.operator)
        i, rows, top = jnp.arange(self.size), [], 0
        for y in self.output_structure.leaves:
            row, left = [jnp.zeros((self.size * y.size, 0), matrices.dtype)], 0
            for x in self.input_structure.leaves:
                part = matrices[:, top : top + y.size, left : left + x.size]
                spread = jnp.zeros((self.size, y.size, self.size, x.size), part.dtype)
                spread = spread.at[i, :, i, :].set(part)
                row.append(spread.reshape(self.size * y.size, self.size * x.size))
                left += x.size
            rows.append(jnp.concatenate(row, axis=1))
            top += y.size
        return jnp.concatenate(rows or [jnp.zeros((0, self.in_size()), matrices.dtype)])

    def transpose(self):
        return map_slices(lambda block: block.T, self)

    def in_structure(self):
        return _in_front(self.size, self.input_structure)

    def out_structure(self):
        return _in_front(self.size, self.output_structure)


def _size(operator: AbstractLinearOperator, size: int | None) -> int:
    arrays = jtu.tree_leaves(eqx.filter(operator, eqx.is_array))
    sizes = {array.shape[0] if array.ndim else None for array in arrays}
    sizes |= set() if size is None else {size}
    if len(sizes) != 1 or None in sizes:
        raise ValueError(
            "the arrays of `operator` must have one leading axis in common, but their "
            f"shapes are {', '.join(str(array.shape) for array in arrays) or 'none'}"
            f"{'' if size is None else f', and `size` is {size}'}; build it by "
            "`eqx.filter_vmap`, or give `size` if it has no arrays."
        )
    return next(size for size in sizes if size is not None)


def _vmap(fn: Callable, size: int) -> Callable:
    return eqx.filter_vmap(fn, in_axes=eqx.if_array(0), axis_size=size)


def map_slices(
    fn: Callable[..., Any], *operators: StackedLinearOperator
) -> StackedLinearOperator:
    size = operators[0].size
    parts = (operator.operator for operator in operators)
    return StackedLinearOperator(_vmap(fn, size)(*parts), size)


def _in_front(size: int, structure: Frozen) -> Any:
    return jtu.tree_map(
        lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype),
        structure.thaw(),
    )


def _leaves_match(operator: StackedLinearOperator) -> bool:
    ins, outs = operator.input_structure.leaves, operator.output_structure.leaves
    return [leaf.size for leaf in ins] == [leaf.size for leaf in outs]


def _single(operator: StackedLinearOperator) -> bool:
    """Whether there is one leaf, so that the slices' matrices are the diagonal blocks;
    with several leaves, the first leaves of all slices come first."""
    return len(operator.input_structure.leaves) == 1 and _leaves_match(operator)


@declared.register
def _(operator: StackedLinearOperator):
    if not _leaves_match(operator):
        return operator.tags - PLACES
    return operator.tags - (frozenset() if _single(operator) else {tridiagonal_tag})


maps_to_parts(StackedLinearOperator, map_slices)
adjoint_by_parts(StackedLinearOperator, map_slices)


@diagonal.register
def _(operator: StackedLinearOperator):
    if not _leaves_match(operator):
        return jnp.diagonal(operator.as_matrix())
    slices, start, parts = _vmap(diagonal, operator.size)(operator.operator), 0, []
    for leaf in operator.input_structure.leaves:
        parts.append(slices[:, start : start + leaf.size].ravel())
        start += leaf.size
    return jnp.concatenate(
        parts or [jnp.zeros(0, common_dtype(structures_of(operator)))]
    )


@tridiagonal.register
def _(operator: StackedLinearOperator):
    if not _single(operator) or not operator.in_size():
        return tridiagonal.dispatch(AbstractLinearOperator)(operator)
    main, lower, upper = _vmap(tridiagonal, operator.size)(operator.operator)

    def between(off: Array) -> Array:
        return jnp.pad(off, ((0, 0), (0, 1))).ravel()[:-1]

    return main.ravel(), between(lower), between(upper)


@bandwidths.register
def _(operator: StackedLinearOperator):
    if not _single(operator) or operator.in_size() != operator.out_size():
        return None
    found = []
    eqx.filter_eval_shape(
        _vmap(lambda block: found.append(bandwidths(block)), operator.size),
        operator.operator,
    )
    return found[0]


@bands.register
def _(operator: StackedLinearOperator):
    slices = _vmap(bands, operator.size)(operator.operator)
    return jnp.moveaxis(slices, 0, 1).reshape(slices.shape[1], -1)


# Slice by slice. A slice does not know where it came from, so A + Aᴴ and AᴴA are
# recognised here and built in each slice.


def _slicewise(fn: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def sliced(a: Any, b: Any) -> Any:
        if a.size != b.size:
            return None
        reflection = stronger(reflections(a, b))
        if reflection is None:
            return map_slices(fn, a, b)
        if is_image(a):
            return map_slices(lambda x: fn(reflected(x, reflection), x), b)
        return map_slices(lambda x: fn(x, reflected(x, reflection)), a)

    return sliced


_OWN = StackedLinearOperator
SUMS.append(Rewrite("diag(Aᵢ) + diag(Bᵢ) = diag(Aᵢ + Bᵢ)", _OWN, _OWN, _slicewise(add)))
PRODUCTS.append(
    Rewrite("diag(Aᵢ) diag(Bᵢ) = diag(AᵢBᵢ)", _OWN, _OWN, _slicewise(compose))
)
SCALINGS.append(Scaling("s diag(Aᵢ) = diag(sAᵢ)", _OWN, lambda a, s: map_slices(s, a)))


@block_diagonal.register
def _(operator: StackedLinearOperator):
    return operator


@block_shapes.register
def _(operator: StackedLinearOperator):
    sizes = operator.out_size(), operator.in_size()
    m, n = (size // max(operator.size, 1) for size in sizes)
    return [(m, n)]


@blocks_mapped.register
def _(operator: StackedLinearOperator, fn: Callable[[Any], Any]):
    return map_slices(fn, operator)


@layout.register
def _(operator: StackedLinearOperator):
    return f"StackedLinearOperator({operator.size} of {operator.text})", ATOM
