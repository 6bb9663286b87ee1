"""An operator of a few diagonals."""

import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Inexact

from .._bands import shifted_rows
from .._checks import check_claims, check_square
from .._functions import bands, bandwidths, conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform
from .._properties import declared, is_own_transpose
from .._simplify import PRODUCTS, Rewrite
from .._structures import common_dtype, dtype_of, floating, shape_of
from .._tags import (
    Tags,
    as_tags,
    lower_triangular_tag,
    transpose_tags,
    tridiagonal_tag,
    upper_triangular_tag,
)
from .diagonal import DiagonalLinearOperator


class BandedLinearOperator(AbstractLinearOperator):
    """A matrix with `lower` diagonals below and `upper` diagonals above the main one.

    A product costs O(n·(lower + upper + 1)); the matrix itself is never formed.

    Args:
        bands: an array `[lower + upper + 1, n]` in the storage of LAPACK and of
            `scipy.linalg.solve_banded`: the element in row i and column j is
            `bands[upper + i - j, j]`. Elements outside the matrix are ignored. Integers
            become floating.
        lower, upper: the number of diagonals below and above the main one.
        tags: a tag or an iterable of tags.
        rows: the number of rows of the matrix; by default it is square.

    Raises:
        ValueError: if `bands` is not two-dimensional, or its number of rows does not
            fit `lower` and `upper`; or if one of these or `rows` is not a nonnegative
            integer.

    ```python
    # [[4, 1, 0], [2, 4, 1], [3, 2, 4]]
    diagonals = jnp.array([[0.0, 1, 1], [4, 4, 4], [2, 2, 0], [3, 0, 0]])
    operator = lx.BandedLinearOperator(diagonals, lower=2, upper=1)
    # differences of four numbers: [[-1, 1, 0, 0], [0, -1, 1, 0], [0, 0, -1, 1]]
    differences = lx.BandedLinearOperator(
        jnp.array([[0.0, 1, 1, 1], [-1, -1, -1, 0]]), lower=0, upper=1, rows=3
    )
    ```
    """

    bands: Inexact[Array, "w n"]
    lower: int = eqx.field(static=True)
    upper: int = eqx.field(static=True)
    tags: Tags = eqx.field(static=True)
    rows: int = eqx.field(static=True)

    def __init__(
        self,
        bands: ArrayLike,
        lower: int,
        upper: int,
        tags: object = (),
        *,
        rows: int | None = None,
    ):
        _check_widths(bands, lower, upper)
        rows = jnp.shape(bands)[1] if rows is None else rows
        if not _is_symbolic(rows):
            _check_number("rows", rows)
            rows = int(rows)
        self.lower, self.upper, self.rows = int(lower), int(upper), rows
        # a NaN outside the matrix must not reach a derivative either
        self.bands = _inside(floating(bands), self.upper, self.rows)
        self.tags = as_tags(tags)
        check_claims(self)

    def mv(self, vector):
        x = conform(vector, self.in_structure(), "the vector")
        # (row r, column j) belongs to row j + r - upper of the matrix
        terms = shifted_rows(self.bands.astype(x.dtype) * x[None])
        return _rows_of(jnp.sum(terms, axis=0), self.upper, self.rows)

    def as_matrix(self):
        i, j = jnp.arange(self.rows)[:, None], jnp.arange(self.in_size())[None, :]
        row = self.upper + i - j
        inside = (row >= 0) & (row < len(self.bands))
        elements = self.bands[jnp.clip(row, 0, len(self.bands) - 1), j]
        return jnp.where(inside, elements, jnp.zeros_like(elements))

    def transpose(self):
        if is_own_transpose(self):
            return self
        # the elements of row i of the matrix in column i, from the right to the left
        by_rows = _rows_of(shifted_rows(self.bands), self.upper, self.rows)
        return BandedLinearOperator(
            by_rows[::-1],
            self.upper,
            self.lower,
            transpose_tags(self.tags),
            rows=self.in_size(),
        )

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.bands.shape[1:], self.bands.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct((self.rows,), self.bands.dtype)

    shape = property(shape_of)
    dtype = property(dtype_of)


def _rows_of(
    diagonals: Inexact[Array, "... c"], upper: int, rows: int
) -> Inexact[Array, "... m"]:
    """The rows of the matrix, from its diagonals after `shifted_rows`: the first row is
    at `upper`, and rows beyond the last diagonal are zero."""
    x = diagonals[..., upper : upper + rows]
    padding = [(0, 0)] * (x.ndim - 1) + [(0, rows - x.shape[-1])]
    return jnp.pad(x, padding)


def _inside(
    bands: Inexact[Array, "w n"], upper: int, rows: int
) -> Inexact[Array, "w n"]:
    """The same, with zeros where there is no row."""
    column, diagonal = (jax.lax.broadcasted_iota(int, bands.shape, k) for k in (1, 0))
    row = column + diagonal - upper
    return jnp.where((row >= 0) & (row < rows), bands, jnp.zeros_like(bands))


def _diagonal(operator: BandedLinearOperator, offset: int) -> Array:
    """The elements (i, i + offset)."""
    row, first = operator.upper - offset, max(offset, 0)
    end = max(min(operator.in_size(), operator.rows + offset), first)
    if not 0 <= row < len(operator.bands):
        return jnp.zeros(end - first, operator.bands.dtype)
    return operator.bands[row, first:end]


def _is_symbolic(size: object) -> bool:
    """Whether this is a size of a program that is exported for all sizes. Where nobody
    has imported `jax.export`, there is none."""
    export = sys.modules.get("jax.export")
    return export is not None and export.is_symbolic_dim(size)


def _check_number(name: str, number: object) -> None:
    integer = hasattr(number, "__index__") and not isinstance(number, bool)
    if not integer or number < 0:  # pyright: ignore[reportOperatorIssue]
        of = "rows" if name == "rows" else "diagonals"
        raise ValueError(
            f"`{name}` must be a number of {of}, an integer of at least 0, but got "
            f"{number!r}."
        )


def _check_widths(bands: ArrayLike, lower: int, upper: int) -> None:
    _check_number("lower", lower)
    _check_number("upper", upper)
    shape = jnp.shape(bands)
    if len(shape) != 2 or shape[0] != lower + upper + 1:
        raise ValueError(
            f"`bands` must have shape [lower + upper + 1, n], with `lower={lower}` and "
            f"`upper={upper}` that is [{lower + upper + 1}, n], but got {shape}; row r "
            "holds the diagonal with j - i = upper - r, its elements in the columns j."
        )


@declared.register
def _(operator: BandedLinearOperator):
    lower, upper = operator.lower, operator.upper
    tags = set(operator.tags)
    if operator.rows != operator.in_size():
        return frozenset(tags)
    if lower <= 1 and upper <= 1:
        tags.add(tridiagonal_tag)
    if upper == 0:
        tags.add(lower_triangular_tag)
    if lower == 0:
        tags.add(upper_triangular_tag)
    return frozenset(tags)


@materialise.register
def _(operator: BandedLinearOperator):
    return operator


@diagonal.register
def _(operator: BandedLinearOperator):
    return _diagonal(operator, 0)


@tridiagonal.register
def _(operator: BandedLinearOperator):
    check_square(operator)
    main, lower, upper = (_diagonal(operator, offset) for offset in (0, -1, 1))
    return main, lower, upper


@bandwidths.register
def _(operator: BandedLinearOperator):
    return operator.lower, operator.upper


@bands.register
def _(operator: BandedLinearOperator):
    return _inside(operator.bands, operator.upper, operator.rows)


@conj.register
def _(operator: BandedLinearOperator):
    if not jnp.iscomplexobj(operator.bands):
        return operator
    return _with_bands(operator, operator.bands.conj(), operator.tags)


def _with_bands(operator: BandedLinearOperator, bands: Array, tags: Tags) -> Any:
    """An operator of the same shape."""
    return BandedLinearOperator(
        bands, operator.lower, operator.upper, tags, rows=operator.rows
    )


def _diagonal_banded(d, b):
    (w, n), elements = b.bands.shape, diagonal(d)
    if not elements.size:
        return None
    row = np.arange(n)[None, :] + np.arange(w)[:, None] - b.upper
    dtype = common_dtype([elements, b.bands])
    elements = elements[np.clip(row, 0, elements.size - 1)].astype(dtype)
    return _with_bands(b, elements * b.bands.astype(dtype), frozenset())


def _banded_diagonal(b, d):
    elements = diagonal(d)
    dtype = common_dtype([elements, b.bands])
    bands = b.bands.astype(dtype) * elements.astype(dtype)[None, :]
    return _with_bands(b, bands, frozenset())


# Only as views: `Bᴴ @ (D @ B)` is known to be semidefinite by its factors alone.
_OWN, _DIAGONAL = BandedLinearOperator, DiagonalLinearOperator
PRODUCTS.extend(
    (
        Rewrite("(DB)ᵢⱼ = dᵢbᵢⱼ", _DIAGONAL, _OWN, _diagonal_banded, signs=False),
        Rewrite("(BD)ᵢⱼ = bᵢⱼdⱼ", _OWN, _DIAGONAL, _banded_diagonal, signs=False),
    )
)
