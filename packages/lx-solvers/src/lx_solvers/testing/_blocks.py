"""Problems of banded matrices and of matrices made of blocks."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from lx_operators import (
    BandedLinearOperator,
    BlockDiagonalLinearOperator,
    BlockLinearOperator,
    BlockTridiagonalLinearOperator,
    MatrixLinearOperator,
    StackedLinearOperator,
)

from ._families import definite, halves, split, structured
from ._problems import Draw, Matrix, spectral


def _banded(A: Array, tags: Any) -> BandedLinearOperator:
    lower, upper, n = 2, 1, len(A)
    i = np.arange(lower + upper + 1)[:, None] - upper + np.arange(n)
    inside = (i >= 0) & (i < n)
    bands = jnp.pad(A, ((0, 1), (0, 0)))[np.where(inside, i, n), np.arange(n)]
    return BandedLinearOperator(bands, lower, upper, tags)


def _side_by_side(A: Array, tags: Any) -> BlockDiagonalLinearOperator:
    k = len(A) // 3
    blocks = {"a": A[:k, :k], "b": A[k:, k:]}
    made = {name: MatrixLinearOperator(block, tags) for name, block in blocks.items()}
    return BlockDiagonalLinearOperator(made)


def _stacked(A: Array, tags: Any) -> StackedLinearOperator:
    blocks = split(A)
    i = np.arange(len(blocks))
    build = eqx.filter_vmap(MatrixLinearOperator)
    return StackedLinearOperator(build(blocks[i, i]), len(blocks))


def _grid(A: Array, tags: Any) -> BlockLinearOperator:
    k = (len(A) + 1) // 2
    rows = (A[:k, :k], A[:k, k:]), (A[k:, :k], A[k:, k:])
    return BlockLinearOperator(
        [[*map(MatrixLinearOperator, row)] for row in rows], tags
    )


def _lower_grid(A: Array, tags: Any) -> BlockLinearOperator:
    (a, _), (c, d) = _grid(A, tags).blocks
    return BlockLinearOperator([[a, None], [c, d]])


def _block_tridiagonal(A: Array, tags: Any) -> BlockTridiagonalLinearOperator:
    blocks = split(A, len(A) // halves(len(A)))
    i = np.arange(len(blocks))
    below, above = blocks[i[1:], i[:-1]], blocks[i[:-1], i[1:]]
    return BlockTridiagonalLinearOperator(blocks[i, i], below, above, tags)


def _apart(distance: int, block: Callable[[int], Any]) -> Callable[[Matrix], Matrix]:
    """Only the elements in blocks within this distance of the diagonal; `block(n)`
    numbers the rows."""

    def mask(A: Matrix) -> Matrix:
        i = np.asarray(block(len(A)))
        return A * (np.abs(i[:, None] - i) <= distance)

    return mask


def _third(n: int) -> Any:
    return 1 * (np.arange(n) >= n // 3)


def _half(n: int) -> Any:
    return np.arange(n) // max(n // halves(n), 1)


def _deficient_blocks(draw: Draw, m: int, n: int) -> Matrix:
    k, A = n // 3, np.zeros((n, n), draw(0).dtype)
    for block in (A[:k, :k], A[k:, k:]):
        size = len(block)
        block[:] = spectral(draw, size, size, np.arange(size) < size // 2)
    return A


_block_diagonal = structured("block diagonal", _apart(0, _third), _side_by_side)
_block_rows = structured(
    "block tridiagonal",
    _apart(1, lambda n: np.arange(n) // halves(n)),
    _block_tridiagonal,
)
_square_grid = structured("blocks", lambda A: A, _grid)

BLOCKS = (
    structured("banded", lambda A: np.triu(np.tril(A, 1), -2), _banded),
    _block_diagonal,
    _block_diagonal._replace(
        name="deficient block diagonal", matrix=_deficient_blocks, deficient=True
    ),
    structured("stacked", _apart(0, _half), _stacked),
    _square_grid,
    definite("definite blocks", _square_grid),
    structured(
        "block lower triangular",
        lambda A: A - np.triu(A, 1) * (np.arange(len(A)) >= (len(A) + 1) // 2),
        _lower_grid,
    ),
    _block_rows,
    definite("definite block tridiagonal", _block_rows),
)
