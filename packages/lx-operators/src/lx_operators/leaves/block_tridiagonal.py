"""An operator of three diagonals of blocks."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Inexact

from .._bands import shifted_rows
from .._blocks import block_tridiagonal
from .._checks import check_claims
from .._functions import bands, bandwidths, conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform
from .._properties import declared, is_own_transpose
from .._structures import common_dtype, dtype_of, floating, shape_of
from .._tags import Tags, as_tags, transpose_tags, tridiagonal_tag


class BlockTridiagonalLinearOperator(AbstractLinearOperator):
    """A block tridiagonal matrix of n by n square blocks of size b, acting on arrays
    `[n, b]`.

    Args:
        diagonal: an array `[n, b, b]`.
        lower_diagonal: an array `[n - 1, b, b]`, block i in block row i + 1 and block
            column i.
        upper_diagonal: an array `[n - 1, b, b]`, block i in block row i and block
            column i + 1.
        tags: a tag or an iterable of tags.

    Raises:
        ValueError: if blocks are not square, or their shapes or numbers do not fit.

    ```python
    eye = jnp.tile(jnp.eye(2), (4, 1, 1))
    operator = lx.BlockTridiagonalLinearOperator(4 * eye, -eye[1:], -eye[1:])
    operator.mv(jnp.ones((4, 2)))
    ```
    """

    diagonal: Inexact[Array, "n b b"]
    lower_diagonal: Inexact[Array, "n-1 b b"]
    upper_diagonal: Inexact[Array, "n-1 b b"]
    tags: Tags = eqx.field(static=True)

    def __init__(
        self,
        diagonal: ArrayLike,
        lower_diagonal: ArrayLike,
        upper_diagonal: ArrayLike,
        tags: object = (),
    ):
        names = ("diagonal", "lower_diagonal", "upper_diagonal")
        blocks = [floating(d) for d in (diagonal, lower_diagonal, upper_diagonal)]
        shape = blocks[0].shape
        if len(shape) != 3 or shape[1] != shape[2]:
            raise ValueError(
                "`diagonal` must hold n square blocks in an array [n, b, b], but got "
                f"shape {shape}."
            )
        off = (max(shape[0] - 1, 0), *shape[1:])
        for name, block in zip(names[1:], blocks[1:]):
            if block.shape != off:
                raise ValueError(
                    f"`{name}` must have shape {off}, one block less than `diagonal` "
                    f"of shape {shape}, but got {block.shape}."
                )
        dtype = common_dtype(blocks)
        blocks = [block.astype(dtype) for block in blocks]
        self.diagonal, self.lower_diagonal, self.upper_diagonal = blocks
        self.tags = as_tags(tags)
        check_claims(self)

    def mv(self, vector):
        x = conform(vector, self.in_structure(), "the vector")
        if not x.size:
            return x
        y = _times(self.diagonal, x)
        below = jnp.pad(_times(self.lower_diagonal, x[:-1]), ((1, 0), (0, 0)))
        above = jnp.pad(_times(self.upper_diagonal, x[1:]), ((0, 1), (0, 0)))
        return y + below + above

    def as_matrix(self):
        n, b, _ = self.diagonal.shape
        i = jnp.arange(n)
        matrix = jnp.zeros((n, b, n, b), self.diagonal.dtype)
        matrix = matrix.at[i, :, i, :].set(self.diagonal)
        matrix = matrix.at[i[1:], :, i[:-1], :].set(self.lower_diagonal)
        matrix = matrix.at[i[:-1], :, i[1:], :].set(self.upper_diagonal)
        return matrix.reshape(n * b, n * b)

    def transpose(self):
        if is_own_transpose(self):
            return self
        main, lower, upper = (jnp.swapaxes(block, 1, 2) for block in _blocks(self))
        tags = transpose_tags(self.tags)
        return BlockTridiagonalLinearOperator(main, upper, lower, tags)

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.diagonal.shape[:2], self.diagonal.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct(self.diagonal.shape[:2], self.diagonal.dtype)

    shape = property(shape_of)
    dtype = property(dtype_of)


def _blocks(operator: BlockTridiagonalLinearOperator) -> tuple[Array, Array, Array]:
    return operator.diagonal, operator.lower_diagonal, operator.upper_diagonal


def _times(blocks: Inexact[Array, "n b b"], x: Inexact[Array, "n b"]) -> Array:
    return jnp.einsum(
        "nij,nj->ni", blocks.astype(x.dtype), x, precision=jax.lax.Precision.HIGHEST
    )


@declared.register
def _(operator: BlockTridiagonalLinearOperator):
    single = operator.diagonal.shape[1] <= 1
    return operator.tags | ({tridiagonal_tag} if single else frozenset())


@materialise.register
def _(operator: BlockTridiagonalLinearOperator):
    return operator


@diagonal.register
def _(operator: BlockTridiagonalLinearOperator):
    return jnp.diagonal(operator.diagonal, axis1=1, axis2=2).ravel()


@tridiagonal.register
def _(operator: BlockTridiagonalLinearOperator):
    main, lower, upper = _blocks(operator)

    def off(offset: int, between: Array) -> Array:
        within = jnp.diagonal(main, offset, axis1=1, axis2=2)
        between = jnp.pad(between, (0, 1))[:, None]
        return jnp.concatenate((within, between), axis=1).ravel()[:-1]

    if not main.size:
        empty = jnp.zeros(0, main.dtype)
        return empty, empty, empty
    return diagonal(operator), off(-1, lower[:, 0, -1]), off(1, upper[:, -1, 0])


@bandwidths.register
def _(operator: BlockTridiagonalLinearOperator):
    n, b, _ = operator.diagonal.shape
    width = max((2 if n > 1 else 1) * b - 1, 0)
    return width, width


@bands.register
def _(operator: BlockTridiagonalLinearOperator):
    main, lower, upper = _blocks(operator)
    n, b, _ = main.shape
    columns = main
    if n > 1:
        above = jnp.pad(upper, ((1, 0), (0, 0), (0, 0)))
        below = jnp.pad(lower, ((0, 1), (0, 0), (0, 0)))
        columns = jnp.concatenate((above, main, below), axis=1)
    # the elements of later columns of a block stand further up in the storage
    shifted = shifted_rows(jnp.moveaxis(columns, 0, 2).swapaxes(0, 1)[::-1])[::-1]
    rows = jnp.moveaxis(shifted, 0, 2)
    return rows.reshape(rows.shape[0], n * b)


@conj.register
def _(operator: BlockTridiagonalLinearOperator):
    if not jnp.iscomplexobj(operator.diagonal):
        return operator
    main, lower, upper = (block.conj() for block in _blocks(operator))
    return BlockTridiagonalLinearOperator(main, lower, upper, operator.tags)


@block_tridiagonal.register
def _(operator: BlockTridiagonalLinearOperator):
    return operator
