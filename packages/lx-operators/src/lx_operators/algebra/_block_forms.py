"""Block diagonal and tridiagonal operators seen through what wraps them.

All that a tag says of a block diagonal whole, it says of its square blocks.
"""

from collections.abc import Callable
from typing import Any

from .._blocks import block_diagonal, block_grid, block_tridiagonal
from .._properties import known
from ..leaves.block import BlockLinearOperator, map_grid
from ..leaves.block_diagonal import flatten, map_blocks
from ..leaves.block_tridiagonal import BlockTridiagonalLinearOperator
from ..leaves.stacked import StackedLinearOperator, map_slices
from .promoted import PromotedLinearOperator, promoted
from .scale import DivLinearOperator, MulLinearOperator, NegLinearOperator, scaled
from .tagged import TaggedLinearOperator, with_tags


def blocks_mapped(fn: Callable[[Any], Any], operator: Any) -> Any:
    """The same of `fn(block)`."""
    if isinstance(operator, StackedLinearOperator):
        return map_slices(fn, operator)
    return map_blocks(fn, operator)


def block_shapes(operator: Any) -> list[tuple[int, int]]:
    """Rows and columns of each block; of a stack, of one."""
    if isinstance(operator, StackedLinearOperator):
        sizes = operator.out_size(), operator.in_size()
        m, n = (size // max(operator.size, 1) for size in sizes)
        return [(m, n)]
    return [(block.out_size(), block.in_size()) for block in flatten(operator)[0]]


@block_diagonal.register
def _(operator: TaggedLinearOperator):
    inner = block_diagonal(operator.operator)
    if inner is None or not all(m == n for m, n in block_shapes(inner)):
        return inner
    return blocks_mapped(lambda block: with_tags(block, operator.tags), inner)


@block_diagonal.register
def _(operator: PromotedLinearOperator):
    inner = block_diagonal(operator.operator)
    if inner is None:
        return None
    return blocks_mapped(lambda block: promoted(block, operator.dtype), inner)


@block_tridiagonal.register
def _(operator: BlockTridiagonalLinearOperator):
    return operator


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
    return BlockTridiagonalLinearOperator(*blocks, tags=known(operator))


@block_grid.register
def _(operator: TaggedLinearOperator):
    return block_grid(operator.operator)


@block_grid.register
def _(operator: PromotedLinearOperator):
    inner = block_grid(operator.operator)
    if inner is None:
        return None
    grid = map_grid(lambda block: promoted(block, operator.dtype), inner.blocks)
    return BlockLinearOperator(grid, known(operator))
