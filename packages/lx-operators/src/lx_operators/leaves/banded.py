"""An operator of a few diagonals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Inexact

from .._checks import check_claims
from .._functions import bands, bandwidths, conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform
from .._properties import declared, is_own_transpose
from .._simplify import PRODUCTS, Rewrite
from .._skewed import skewed
from .._structures import common_dtype, floating
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
    """A square matrix of `lower` diagonals below and `upper` above the main one.

    A product costs O(n·(lower + upper + 1)); the matrix itself is never formed.

    Args:
        bands: an array `[lower + upper + 1, n]` in the storage of LAPACK and of
            `scipy.linalg.solve_banded`: the element in row i and column j is
            `bands[upper + i - j, j]`. What lies outside the matrix is ignored. Integers
            become floating.
        lower, upper: the number of diagonals below and above the main one.
        tags: a tag or an iterable of tags.

    Raises:
        ValueError: `bands` is not two-dimensional, or has another number of rows than
            the widths say; a width is no integer of at least 0.

    ```python
    # [[4, 1, 0], [2, 4, 1], [3, 2, 4]]
    diagonals = jnp.array([[0.0, 1, 1], [4, 4, 4], [2, 2, 0], [3, 0, 0]])
    operator = lx.BandedLinearOperator(diagonals, lower=2, upper=1)
    ```
    """

    bands: Inexact[Array, "w n"]
    lower: int = eqx.field(static=True)
    upper: int = eqx.field(static=True)
    tags: Tags = eqx.field(static=True)

    def __init__(self, bands: ArrayLike, lower: int, upper: int, tags: object = ()):
        _check_widths(bands, lower, upper)
        self.lower, self.upper = int(lower), int(upper)
        # also a NaN outside of the matrix must not reach a derivative
        self.bands = _inside(floating(bands), self.upper)
        self.tags = as_tags(tags)
        check_claims(self)

    def mv(self, vector):
        x = conform(vector, self.in_structure(), "the vector")
        # (row r, column j) belongs to row j + r - upper of the matrix
        terms = skewed(self.bands.astype(x.dtype) * x[None])
        return jnp.sum(terms, axis=0)[self.upper : self.upper + x.size]

    def as_matrix(self):
        i = jnp.arange(self.in_size())
        row = self.upper + i[:, None] - i[None, :]
        inside = (row >= 0) & (row < len(self.bands))
        elements = self.bands[jnp.clip(row, 0, len(self.bands) - 1), i[None, :]]
        return jnp.where(inside, elements, jnp.zeros_like(elements))

    def transpose(self):
        if is_own_transpose(self):
            return self
        rows = _by_rows(self.bands, self.upper)
        return BandedLinearOperator(
            rows[::-1], self.upper, self.lower, transpose_tags(self.tags)
        )

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.bands.shape[1:], self.bands.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct(self.bands.shape[1:], self.bands.dtype)


def _by_rows(bands: Inexact[Array, "w n"], upper: int) -> Inexact[Array, "w n"]:
    """The elements of row i of the matrix in column i, from the right to the left; zero
    where there is no column."""
    return skewed(bands)[:, upper : upper + bands.shape[1]]


def _inside(bands: Inexact[Array, "w n"], upper: int) -> Inexact[Array, "w n"]:
    """The same, zero where there is no row."""
    w, n = bands.shape
    row = np.arange(n) + np.arange(w)[:, None] - upper
    return jnp.where((row >= 0) & (row < n), bands, jnp.zeros_like(bands))


def _diagonal(operator: BandedLinearOperator, offset: int) -> Array:
    """The elements (i, i + offset)."""
    row, n = operator.upper - offset, operator.in_size()
    if not 0 <= row < len(operator.bands):
        return jnp.zeros(max(n - abs(offset), 0), operator.bands.dtype)
    return operator.bands[row, max(offset, 0) : n + min(offset, 0)]


def _check_widths(bands: ArrayLike, lower: int, upper: int) -> None:
    for name, width in (("lower", lower), ("upper", upper)):
        if isinstance(width, bool) or not hasattr(width, "__index__") or width < 0:
            raise ValueError(
                f"`{name}` must be a number of diagonals, an integer of at least 0, "
                f"but got {width!r}."
            )
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
    main, lower, upper = (_diagonal(operator, offset) for offset in (0, -1, 1))
    return main, lower, upper


@bandwidths.register
def _(operator: BandedLinearOperator):
    return operator.lower, operator.upper


@bands.register
def _(operator: BandedLinearOperator):
    return _inside(operator.bands, operator.upper)


@conj.register
def _(operator: BandedLinearOperator):
    if not jnp.iscomplexobj(operator.bands):
        return operator
    return BandedLinearOperator(
        operator.bands.conj(), operator.lower, operator.upper, operator.tags
    )


def _diagonal_banded(d, b):
    (w, n), elements = b.bands.shape, diagonal(d)
    if not elements.size:
        return None
    row = np.arange(n)[None, :] + np.arange(w)[:, None] - b.upper
    dtype = common_dtype([elements, b.bands])
    elements = elements[np.clip(row, 0, elements.size - 1)].astype(dtype)
    return BandedLinearOperator(elements * b.bands.astype(dtype), b.lower, b.upper)


def _banded_diagonal(b, d):
    elements = diagonal(d)
    dtype = common_dtype([elements, b.bands])
    bands = b.bands.astype(dtype) * elements.astype(dtype)[None, :]
    return BandedLinearOperator(bands, b.lower, b.upper)


PRODUCTS.extend(
    (
        Rewrite(
            "(DB)ᵢⱼ = dᵢbᵢⱼ",
            DiagonalLinearOperator,
            BandedLinearOperator,
            _diagonal_banded,
        ),
        Rewrite(
            "(BD)ᵢⱼ = bᵢⱼdⱼ",
            BandedLinearOperator,
            DiagonalLinearOperator,
            _banded_diagonal,
        ),
    )
)
