"""Block diagonal and tridiagonal operators seen through what wraps them.

All that a tag says of a block diagonal whole, it says of its square blocks. What is
inside is of a type that is imported with it: nothing here imports one.
"""

from collections.abc import Callable
from typing import Any

from .._blocks import (
    block_diagonal,
    block_grid,
    block_shapes,
    block_tridiagonal,
    blocks_mapped,
    map_grid,
)
from .._properties import known
from .promoted import PromotedLinearOperator, promoted
from .scale import DivLinearOperator, MulLinearOperator, NegLinearOperator, scaled
from .tagged import TaggedLinearOperator, with_tags


@block_diagonal.register
def _(operator: TaggedLinearOperator):
    inner = block_diagonal(operator.operator)
    if inner is None or not all(m == n for m, n in block_shapes(inner)):
        return inner
    return blocks_mapped(inner, lambda block: with_tags(block, operator.tags))


@block_diagonal.register
def _(operator: PromotedLinearOperator):
    inner = block_diagonal(operator.operator)
    if inner is None:
        return None
    return blocks_mapped(inner, lambda block: promoted(block, operator.dtype))


@block_tridiagonal.register
def _(operator: TaggedLinearOperator):
    return _of_blocks(operator, lambda blocks: blocks)


@block_tridiagonal.register
def _(operator: PromotedLinearOperator):
    return _of_blocks(operator, operator._promote)


@block_tridiagonal.register
def _(operator: MulLinearOperator | DivLinearOperator | NegLinearOperator):
    return _of_blocks(operator, lambda blocks: scaled(operator, blocks))


def _of_blocks(operator: Any, fn: Callable[[Any], Any]) -> Any:
    inner = block_tridiagonal(operator.operator)
    if inner is None:
        return None
    blocks = fn((inner.diagonal, inner.lower_diagonal, inner.upper_diagonal))
    return type(inner)(*blocks, tags=known(operator))


@block_grid.register
def _(operator: TaggedLinearOperator):
    return block_grid(operator.operator)


@block_grid.register
def _(operator: PromotedLinearOperator):
    inner = block_grid(operator.operator)
    if inner is None:
        return None
    grid = map_grid(lambda block: promoted(block, operator.dtype), inner.blocks)
    return type(inner)(grid, known(operator))
