"""A matrix of some diagonals, anywhere."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Inexact

from .._bands import WIDEST
from .._checks import check_claims, check_square
from .._functions import bands, bandwidths, conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform
from .._properties import declared, is_own_transpose
from .._structures import dtype_of, floating, shape_of
from .._tags import (
    Tags,
    as_tags,
    diagonal_tag,
    lower_triangular_tag,
    transpose_tags,
    tridiagonal_tag,
    upper_triangular_tag,
)


class SparseDiagonalsLinearOperator(AbstractLinearOperator):
    """A matrix with entries on a few diagonals, which need not be adjacent: the
    Laplacian of a grid has its entries on five or seven diagonals that lie far apart.
    Products need no indices.

    Args:
        diagonals: an array `[d, n]` in the storage of `scipy.sparse.dia_array`:
            `diagonals[k, j]` is the element in row `j - offsets[k]` and column j. What
            lies outside the matrix is ignored. Integers become floating.
        offsets: column minus row of each diagonal, d different integers.
        tags: a tag or an iterable of tags.
        rows: the number of rows of the matrix; by default it is square.

    Raises:
        ValueError: offsets that are not integers, or not distinct; not as many
            diagonals as offsets; a tag that needs a square matrix.

    ```python
    # [[2, 0, 1], [0, 2, 0], [3, 0, 2]]
    diagonals = jnp.array([[3.0, 0, 0], [2, 2, 2], [0, 0, 1]])
    operator = lx.SparseDiagonalsLinearOperator(diagonals, (-2, 0, 2))
    operator.mv(jnp.ones(3))  # [3., 2., 5.]
    ```
    """

    diagonals: Inexact[Array, "d n"]
    offsets: tuple[int, ...] = eqx.field(static=True)
    tags: Tags = eqx.field(static=True)
    rows: int = eqx.field(static=True)

    def __init__(
        self,
        diagonals: ArrayLike,
        offsets: Sequence[int],
        tags: object = (),
        *,
        rows: int | None = None,
    ):
        diagonals = floating(diagonals)
        self.offsets = _checked_offsets(offsets)
        if diagonals.ndim != 2 or len(diagonals) != len(self.offsets):
            raise ValueError(
                "`diagonals` must have shape [d, n] with as many rows as there are "
                f"`offsets`, {len(self.offsets)}, but has shape {diagonals.shape}."
            )
        n = diagonals.shape[1]
        self.rows = n if rows is None else _checked_rows(rows)
        # a NaN outside the matrix must not reach a derivative either
        row = np.arange(n)[None, :] - np.array(self.offsets, int).reshape(-1, 1)
        inside = (row >= 0) & (row < self.rows)
        self.diagonals = jnp.where(inside, diagonals, jnp.zeros_like(diagonals))
        self.tags = as_tags(tags)
        check_claims(self)

    @classmethod
    def from_scipy(
        cls, matrix: Any, tags: object = ()
    ) -> "SparseDiagonalsLinearOperator":
        """The operator of a SciPy sparse matrix, with the diagonals that have entries.

        Args:
            matrix: the SciPy matrix, preferably of format `dia`.
            tags: a tag or an iterable of tags.

        Returns:
            A `SparseDiagonalsLinearOperator`.
        """
        if not hasattr(matrix, "todia"):
            raise ValueError(
                "the matrix must be a SciPy sparse matrix or array, but has type "
                f"`{type(matrix).__name__}`."
            )
        dia, (m, n) = matrix.todia(), matrix.shape
        data = np.zeros((len(dia.offsets), n), dia.data.dtype)
        width = min(n, dia.data.shape[1])
        data[:, :width] = dia.data[:, :width]
        return cls(data, tuple(map(int, dia.offsets)), tags, rows=m)

    def mv(self, vector):
        x = conform(vector, self.in_structure(), "the vector")
        total = jnp.zeros(self.rows, x.dtype)
        for line, offset in zip(self.diagonals.astype(x.dtype), self.offsets):
            total = total + _moved(line * x, -offset, self.rows)
        return total

    def as_matrix(self):
        matrix = jnp.zeros((self.rows, self.in_size()), self.diagonals.dtype)
        for line, offset in zip(self.diagonals, self.offsets):
            i, j = jnp.indices(matrix.shape)
            spread = jnp.broadcast_to(line[None, :], matrix.shape)
            matrix = jnp.where(j - i == offset, spread, matrix)
        return matrix

    def transpose(self):
        if is_own_transpose(self):
            return self
        lines = [_moved(x, -d, self.rows) for x, d in zip(self.diagonals, self.offsets)]
        nothing = jnp.zeros((0, self.rows), self.diagonals.dtype)
        return SparseDiagonalsLinearOperator(
            jnp.stack(lines) if lines else nothing,
            tuple(-d for d in self.offsets),
            transpose_tags(self.tags),
            rows=self.in_size(),
        )

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.diagonals.shape[1:], self.diagonals.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct((self.rows,), self.diagonals.dtype)

    shape = property(shape_of)
    dtype = property(dtype_of)


def _moved(line: Inexact[Array, " n"], by: int, m: int) -> Inexact[Array, " m"]:
    """The elements moved to higher places, those beyond m cut off."""
    zero = jnp.zeros((), line.dtype)
    return jax.lax.pad(line, zero, [(by, m - line.size - by, 0)])


def _checked_offsets(offsets: Any) -> tuple[int, ...]:
    given = np.asarray(offsets)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise ValueError(f"`offsets` must be a list of integers, but got {offsets!r}.")
    if len(set(given.tolist())) != given.size:
        raise ValueError(f"`offsets` must be different, but are {given.tolist()}.")
    return tuple(int(d) for d in given)


def _checked_rows(rows: Any) -> int:
    if not hasattr(rows, "__index__") or isinstance(rows, bool) or rows < 0:
        raise ValueError(f"`rows` must be an integer of at least 0, but got {rows!r}.")
    return int(rows)


def widths(operator: SparseDiagonalsLinearOperator) -> tuple[int, int]:
    """How many diagonals below and above the main one."""
    lower = max([0, *(-d for d in operator.offsets)])
    upper = max([0, *operator.offsets])
    return lower, upper


def line_of(operator: SparseDiagonalsLinearOperator, offset: int) -> Array:
    """The elements (i, i + offset)."""
    first = max(offset, 0)
    end = max(min(operator.in_size(), operator.rows + offset), first)
    if offset not in operator.offsets:
        return jnp.zeros(end - first, operator.diagonals.dtype)
    return operator.diagonals[operator.offsets.index(offset), first:end]


@declared.register
def _(operator: SparseDiagonalsLinearOperator):
    tags, (lower, upper) = set(operator.tags), widths(operator)
    if operator.rows != operator.in_size():
        return frozenset(tags)
    if lower == upper == 0:
        tags.add(diagonal_tag)
    if lower <= 1 and upper <= 1:
        tags.add(tridiagonal_tag)
    if upper == 0:
        tags.add(lower_triangular_tag)
    if lower == 0:
        tags.add(upper_triangular_tag)
    return frozenset(tags)


@materialise.register
def _(operator: SparseDiagonalsLinearOperator):
    return operator


@conj.register
def _(operator: SparseDiagonalsLinearOperator):
    if not jnp.iscomplexobj(operator.diagonals):
        return operator
    return SparseDiagonalsLinearOperator(
        operator.diagonals.conj(), operator.offsets, operator.tags, rows=operator.rows
    )


@diagonal.register
def _(operator: SparseDiagonalsLinearOperator):
    return line_of(operator, 0)


@tridiagonal.register
def _(operator: SparseDiagonalsLinearOperator):
    check_square(operator)
    main, lower, upper = (line_of(operator, offset) for offset in (0, -1, 1))
    return main, lower, upper


@bandwidths.register
def _(operator: SparseDiagonalsLinearOperator):
    lower, upper = widths(operator)
    if lower + upper + 1 > WIDEST * max(len(operator.offsets), 1):
        return None
    return lower, upper


@bands.register
def _(operator: SparseDiagonalsLinearOperator):
    lower, upper = widths(operator)
    nothing = jnp.zeros_like(operator.diagonals, shape=(operator.in_size(),))
    lines = [
        operator.diagonals[operator.offsets.index(d)]
        if d in operator.offsets
        else nothing
        for d in range(upper, -lower - 1, -1)
    ]
    return jnp.stack(lines)
