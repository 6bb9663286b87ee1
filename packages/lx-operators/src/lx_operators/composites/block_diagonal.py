"""Block diagonal operators, whose blocks may be any operators."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import PyTree

from .._blocks import (
    block_diagonal,
    block_shapes,
    blocks_mapped,
    same_spaces,
    square,
    tags_of_blocks,
)
from .._composite import cached
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
from .._properties import declared
from .._simplify import PRODUCTS, SCALINGS, SUMS, Rewrite, Scaling
from .._structures import common_dtype, structures_of
from ._rules import adjoint_by_parts, maps_to_parts


class BlockDiagonalLinearOperator(AbstractLinearOperator):
    """A block diagonal operator: each block acts on its own part of the vector.

    Args:
        blocks: a pytree of operators, such as a list or a dictionary. A vector is the
            same pytree, with a block's vector in place of each block. Blocks of the
            same kind are cheaper as a `StackedLinearOperator`, which may be a block
            itself.

    Raises:
        ValueError: if a block is not an operator; the error names its position in
            `blocks`.

    ```python
    a = lx.MatrixLinearOperator(jnp.eye(2))
    b = lx.DiagonalLinearOperator(jnp.ones(3))
    operator = lx.BlockDiagonalLinearOperator({"a": a, "b": b})
    operator.mv({"a": jnp.ones(2), "b": jnp.ones(3)})
    ```
    """

    blocks: PyTree[AbstractLinearOperator]

    def __init__(self, blocks: PyTree[AbstractLinearOperator]):
        leaves, _ = jtu.tree_flatten_with_path(blocks, is_leaf=_is_operator)
        for path, block in leaves:
            if not _is_operator(block):
                raise ValueError(
                    f"`blocks{jtu.keystr(path)}` must be a linear operator, but is a "
                    f"value of type `{type(block).__name__}`; wrap arrays as "
                    "`MatrixLinearOperator(array)`."
                )
        self.blocks = blocks

    def mv(self, vector):
        vector = conform(vector, self.in_structure(), "the vector")
        blocks, treedef = flatten(self)
        parts = zip(blocks, treedef.flatten_up_to(vector))
        return treedef.unflatten([promoted_mv(block, x) for block, x in parts])

    def as_matrix(self):
        dtype, left, rows = common_dtype(*structures_of(self)), 0, []
        for block in flatten(self)[0]:
            right = self.in_size() - left - block.in_size()
            matrix = block.as_matrix().astype(dtype)
            rows.append(jnp.pad(matrix, ((0, 0), (left, right))))
            left += block.in_size()
        return jnp.concatenate(rows or [jnp.zeros((0, 0), dtype)])

    def transpose(self):
        return map_blocks(lambda block: block.T, self)

    @cached
    def in_structure(self):
        blocks, treedef = flatten(self)
        return treedef.unflatten([block.in_structure() for block in blocks])

    @cached
    def out_structure(self):
        blocks, treedef = flatten(self)
        return treedef.unflatten([block.out_structure() for block in blocks])


def _is_operator(x: Any) -> bool:
    return isinstance(x, AbstractLinearOperator)


def flatten(operator: BlockDiagonalLinearOperator) -> tuple[list[Any], Any]:
    """The blocks, and the tree that holds them."""
    return jtu.tree_flatten(operator.blocks, is_leaf=_is_operator)


def map_blocks(
    fn: Callable[[Any], Any], *operators: BlockDiagonalLinearOperator
) -> BlockDiagonalLinearOperator:
    blocks = (operator.blocks for operator in operators)
    return BlockDiagonalLinearOperator(jtu.tree_map(fn, *blocks, is_leaf=_is_operator))


def _meet(a: Any, b: Any, fit: Callable[..., bool]) -> bool:
    """Whether the blocks of b fit the blocks of a."""
    (first, a_def), (second, b_def) = flatten(a), flatten(b)
    return a_def == b_def and all(map(fit, first, second))


@declared.register
@cached
def _(operator: BlockDiagonalLinearOperator):
    return tags_of_blocks(flatten(operator)[0])


maps_to_parts(BlockDiagonalLinearOperator, map_blocks)
adjoint_by_parts(BlockDiagonalLinearOperator, map_blocks)


@diagonal.register
def _(operator: BlockDiagonalLinearOperator):
    blocks, _ = flatten(operator)
    if not blocks or not all(map(square, blocks)):
        return jnp.diagonal(operator.as_matrix())
    return _joined([diagonal(block) for block in blocks])


@tridiagonal.register
def _(operator: BlockDiagonalLinearOperator):
    blocks = [block for block in flatten(operator)[0] if block.in_size()]
    if not blocks or not all(map(square, blocks)):
        return tridiagonal.dispatch(AbstractLinearOperator)(operator)
    main, lower, upper = zip(*map(tridiagonal, blocks))

    def between(off: tuple) -> Any:
        apart = [jnp.pad(part, (0, 1)) for part in off[:-1]]
        return _joined([*apart, off[-1]])

    return _joined(main), between(lower), between(upper)


@bandwidths.register
def _(operator: BlockDiagonalLinearOperator):
    blocks, _ = flatten(operator)
    widths = [bandwidths(block) for block in blocks]
    if not blocks or any(width is None for width in widths):
        return None
    if any(block.in_size() != block.out_size() for block in blocks):
        return None
    lower, upper = zip(*widths)
    return max(lower), max(upper)


@bands.register
def _(operator: BlockDiagonalLinearOperator):
    (lower, upper), parts = bandwidths(operator) or (0, 0), []
    for block in flatten(operator)[0]:
        l, u = bandwidths(block) or (0, 0)
        parts.append(jnp.pad(bands(block), ((upper - u, lower - l), (0, 0))))
    return _joined(parts)


def _joined(arrays: Any) -> Any:
    dtype = common_dtype(list(arrays))
    return jnp.concatenate([array.astype(dtype) for array in arrays], axis=-1)


# Sums, products and scalings of block diagonal operators are block diagonal too.


def _sum(a, b):
    return map_blocks(add, a, b) if _meet(a, b, same_spaces) else None


def _product(a, b):
    fit = _meet(a, b, lambda x, y: structures_of(x)[0] == structures_of(y)[1])
    return map_blocks(compose, a, b) if fit else None


_OWN = BlockDiagonalLinearOperator
SUMS.append(Rewrite("diag(Aᵢ) + diag(Bᵢ) = diag(Aᵢ + Bᵢ)", _OWN, _OWN, _sum))
PRODUCTS.append(Rewrite("diag(Aᵢ) diag(Bᵢ) = diag(AᵢBᵢ)", _OWN, _OWN, _product))
SCALINGS.append(Scaling("s diag(Aᵢ) = diag(sAᵢ)", _OWN, lambda a, s: map_blocks(s, a)))


@block_diagonal.register
def _(operator: BlockDiagonalLinearOperator):
    return operator


@block_shapes.register
def _(operator: BlockDiagonalLinearOperator):
    return [(block.out_size(), block.in_size()) for block in flatten(operator)[0]]


@blocks_mapped.register
def _(operator: BlockDiagonalLinearOperator, fn: Callable[[Any], Any]):
    return map_blocks(fn, operator)


@layout.register
def _(operator: BlockDiagonalLinearOperator):
    texts = jtu.tree_map(lambda b: _Text(summary(b)), operator.blocks,
                         is_leaf=_is_operator)  # fmt: skip
    return f"BlockDiagonalLinearOperator({texts!r})", ATOM


class _Text(str):
    def __repr__(self) -> str:
        return str(self)
