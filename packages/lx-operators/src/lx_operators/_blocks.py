"""Facts about operators made of blocks."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ._operator import AbstractLinearOperator
from ._properties import known
from ._structures import structures_of
from ._tags import (
    Tags,
    diagonal_tag,
    lower_triangular_tag,
    nonsingular_tag,
    tridiagonal_tag,
    unit_diagonal_tag,
    upper_triangular_tag,
)

# Tags that say where a matrix has elements.
PLACES = frozenset(
    (
        diagonal_tag,
        tridiagonal_tag,
        unit_diagonal_tag,
        lower_triangular_tag,
        upper_triangular_tag,
    )
)


@functools.singledispatch
def block_diagonal(operator: Any) -> Any:
    """The same map as a `BlockDiagonalLinearOperator` or a `StackedLinearOperator`;
    None if it is not known to be one."""
    return None


@functools.singledispatch
def block_grid(operator: Any) -> Any:
    """The same map as a `BlockLinearOperator`; None if it is not known to be one."""
    return None


@functools.singledispatch
def block_tridiagonal(operator: Any) -> Any:
    """The same map as a `BlockTridiagonalLinearOperator`; None if it is not known to be
    one."""
    return None


def block_tridiagonal_of(operator: Any, fn: Callable[[Any], Any]) -> Any:
    """The block tridiagonal form of a wrapper around a block tridiagonal operator: `fn`
    applied to its blocks."""
    inner = block_tridiagonal(operator.operator)
    if inner is None:
        return None
    blocks = fn((inner.diagonal, inner.lower_diagonal, inner.upper_diagonal))
    return type(inner)(*blocks, tags=known(operator))


@functools.singledispatch
def block_shapes(operator: Any) -> list[tuple[int, int]]:
    """Rows and columns of each block that `block_diagonal` returns; for a stack, of one
    block."""
    raise NotImplementedError


@functools.singledispatch
def blocks_mapped(operator: Any, fn: Callable[[Any], Any]) -> Any:
    """The result of `block_diagonal` or `block_grid`, with `fn` applied to each
    block."""
    raise NotImplementedError


Grid = tuple[tuple[AbstractLinearOperator | None, ...], ...]


def map_grid(fn: Callable[[Any], Any], grid: Grid) -> Grid:
    return tuple(
        tuple(None if block is None else fn(block) for block in row) for row in grid
    )


def square(operator: AbstractLinearOperator) -> bool:
    return operator.in_size() == operator.out_size()


def same_spaces(a: AbstractLinearOperator, b: AbstractLinearOperator) -> bool:
    return structures_of(a) == structures_of(b)


def tags_of_blocks(blocks: Sequence[AbstractLinearOperator]) -> Tags:
    """The tags that hold for a block matrix because they hold for every block.

    Tags about positions of elements need square blocks on the diagonal. Blocks of full
    rank give a matrix of full rank if none has fewer rows than columns, or none has
    fewer columns than rows.
    """
    if not blocks:
        return frozenset()
    tags = frozenset.intersection(*map(known, blocks))
    if not all(map(square, blocks)):
        tags -= PLACES
    sizes = [(block.out_size(), block.in_size()) for block in blocks]
    if not (all(m >= n for m, n in sizes) or all(m <= n for m, n in sizes)):
        tags -= {nonsingular_tag}
    return tags
