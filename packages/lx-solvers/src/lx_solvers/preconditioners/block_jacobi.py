"""The blocks on the diagonal."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array
from lx_operators import (
    AbstractLinearOperator,
    SparseLinearOperator,
    is_negative_semidefinite,
    is_positive_semidefinite,
)
from lx_operators.internal import block_grid, check_matrix, unwrapped

from ._flat import HIGHEST, dtype_of, matmul, on_flat
from ._preconditioner import AbstractPreconditioner, definite_tags


class _State(eqx.Module):
    inverses: tuple[Array, ...]
    """One matrix for each leaf; or all blocks, of one size, `[k, b, b]`."""


class BlockJacobi(AbstractPreconditioner[_State]):
    """Division by the blocks on the diagonal.

    Saad 2003, section 12.2, doi:10.1137/1.9780898718003. The blocks are inverted in the
    set-up, by Cholesky factors if the operator is definite. They are read from sparse
    and block operators; for others the matrix is formed.

    Args:
        size: of blocks of consecutive unknowns; the last one may be smaller. If None,
            there is a block for each leaf of the operator's input structure.

    If a block is singular, or not definite although the operator is, the solve ends in
    `preconditioner_failed`.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1, 0, 0], [1, 3, 1, 0], [0, 1, 4, 2], [0, 0, 2, 5]]),
        lx.positive_semidefinite_tag,
    )
    solver = lx.CG(preconditioner=lx.BlockJacobi(size=2))
    solution = lx.linear_solve(operator, jnp.ones(4), solver)
    ```
    """

    size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.size is not None and self.size < 1:
            raise ValueError(
                f"`size` of `BlockJacobi` must be at least 1, but got {self.size}."
            )

    def init(self, operator, options):
        sign = 0
        if is_positive_semidefinite(operator):
            sign = 1
        elif is_negative_semidefinite(operator):
            sign = -1
        if self.size is None:
            blocks = _leaf_blocks(operator)
        else:
            blocks = (_blocks(operator, self.size, sign or 1),)
        return _State(tuple(_inverse(block, sign) for block in blocks))

    def apply(self, state, vector):
        def fn(r: Array) -> Array:
            n = r.size
            if self.size is None:
                parts, start = [], 0
                for inverse in state.inverses:
                    stop = start + len(inverse)
                    parts.append(matmul(inverse.astype(r.dtype), r[start:stop]))
                    start = stop
                return jnp.concatenate(parts)
            (inverses,) = state.inverses
            r = jnp.pad(r, (0, inverses.shape[0] * self.size - n))
            r = r.reshape(-1, self.size)
            inverses = inverses.astype(r.dtype)
            z = jnp.einsum("kij,kj->ki", inverses, r, precision=HIGHEST)
            return z.reshape(-1)[:n]

        return on_flat(fn, vector)

    def transpose(self, state, options):
        return _State(tuple(jnp.swapaxes(x, -1, -2) for x in state.inverses)), options

    def conj(self, state, options):
        return _State(tuple(x.conj() for x in state.inverses)), options

    def tags(self, operator):
        return definite_tags(operator)


def _inverse(blocks: Array, sign: int) -> Array:
    if not sign:
        return jnp.linalg.inv(blocks)
    one = jnp.eye(blocks.shape[-1], dtype=blocks.dtype)
    identity = jnp.broadcast_to(one, blocks.shape)
    C = jnp.linalg.cholesky(sign * blocks)  # NaN, if it is not definite
    half = jax.lax.linalg.triangular_solve(C, identity, left_side=True, lower=True)
    adjoint = jnp.swapaxes(half.conj(), -1, -2)
    return sign * jnp.matmul(adjoint, half, precision=HIGHEST)


def _leaf_blocks(operator: AbstractLinearOperator) -> tuple[Array, ...]:
    leaves = jtu.tree_leaves(operator.in_structure())
    if len(leaves) < 2:
        raise ValueError(
            "`BlockJacobi()` has a block for each leaf of the operator's input "
            "structure, which has one leaf: give a `size`, `BlockJacobi(size=...)`."
        )
    grid = block_grid(operator)
    if grid is not None:
        mine = [row[i] for i, row in enumerate(grid.blocks)]
        shapes = [jtu.tree_leaves(x) for x in operator.in_structure()]
        if all(len(leaves) == 1 for leaves in shapes) and None not in mine:
            dtype = dtype_of(operator)
            return tuple(block.as_matrix().astype(dtype) for block in mine)
    check_matrix(operator, *_NO_MATRIX)
    matrix, start, found = operator.as_matrix(), 0, []
    for leaf in leaves:
        stop = start + math.prod(leaf.shape)
        found.append(matrix[start:stop, start:stop])
        start = stop
    return tuple(found)


def _blocks(operator: AbstractLinearOperator, size: int, sign: int) -> Array:
    """The blocks `[k, size, size]`; the last one is padded by ±1 on its diagonal."""
    n = operator.in_size()
    count = -(-n // size)
    A: Any = unwrapped(operator)
    if isinstance(A, SparseLinearOperator):
        i, j = A.pattern.rows, A.pattern.columns
        inside = i // size == j // size
        values = jnp.where(inside, A.values, jnp.zeros_like(A.values))
        zeros = jnp.zeros((count, size, size), A.values.dtype)
        blocks = zeros.at[i // size, i % size, j % size].add(values)
    else:
        check_matrix(operator, *_NO_MATRIX)
        matrix = operator.as_matrix()
        pad = count * size - n
        matrix = jnp.pad(matrix, ((0, pad), (0, pad)))
        matrix = matrix.reshape(count, size, count, size)
        index = jnp.arange(count)
        blocks = matrix[index, :, index, :]
    last = jnp.arange(size) >= n - (count - 1) * size
    return blocks.at[-1].add(jnp.diag(sign * last.astype(blocks.dtype)))


_NO_MATRIX = (
    "`BlockJacobi`, which reads the blocks from it,",
    "Write the operator as a sparse or a block operator, whose blocks are read without "
    "it; or pass the blocks' inverse as an operator in `options`.",
)
