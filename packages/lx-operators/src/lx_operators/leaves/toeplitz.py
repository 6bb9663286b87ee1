"""A Toeplitz operator: constant along every diagonal."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Inexact

from .._checks import check_claims, check_square
from .._fourier import fast_length, from_spectrum, spectrum
from .._functions import conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform
from .._properties import declared, is_own_transpose
from .._simplify import SCALINGS, SUMS, Rewrite, Scaling, both_orders
from .._structures import common_dtype, dtype_of, floating, shape_of
from .._tags import Tags, as_tags, hermitian_tag, symmetric_tag, transpose_tags
from .circulant import shifted


class ToeplitzLinearOperator(AbstractLinearOperator):
    """A Toeplitz matrix, which is constant along its diagonals. Products use fast
    Fourier transforms.

    Its element in row i and column j is `column[i - j]` for i ≥ j and `row[j - i]` for
    i < j. A product embeds it in a circulant matrix, and costs O((m + n) log(m + n)).

    Args:
        column: the first column, an array `[m]`; integers become floating.
        row: the first row, an array `[n]`, whose first element is ignored in favour of
            that of `column`. By default the conjugate of `column`: a real operator is
            then symmetric, and a complex one is Hermitian if its diagonal is real,
            which you have to state by a tag.
        tags: a tag or an iterable of tags.

    Raises:
        ValueError: if an array is not one-dimensional, or empty; or if a tag needs m =
            n.

    ```python
    times = jnp.linspace(0.0, 1.0, 5)
    kernel = lx.ToeplitzLinearOperator(
        jnp.exp(-times), tags=lx.positive_semidefinite_tag
    )
    kernel.mv(jnp.ones(5))
    ```
    """

    column: Inexact[Array, " m"]
    row: Inexact[Array, " n"] | None
    tags: Tags = eqx.field(static=True)

    def __init__(
        self, column: ArrayLike, row: ArrayLike | None = None, tags: object = ()
    ):
        shapes = [np.shape(x) for x in (column, row) if x is not None]
        if any(len(shape) != 1 or shape == (0,) for shape in shapes):
            raise ValueError(
                "`column` and `row` must be one-dimensional of at least one element, "
                f"but got shapes {', '.join(map(str, shapes))}."
            )
        self.column = floating(column)
        self.row = None
        if row is not None:
            row = floating(row)
            dtype = common_dtype([self.column, row])
            self.column, self.row = self.column.astype(dtype), row.astype(dtype)
        self.tags = as_tags(tags)
        check_claims(self)

    def mv(self, vector):
        x = conform(vector, self.in_structure(), "the vector")
        m, n = self.out_size(), self.in_size()
        size = fast_length(m + n - 1)
        kernel = spectrum(_kernel(self, size).astype(x.dtype))
        y = from_spectrum(kernel * spectrum(x, (size,)), (size,), x.dtype)
        return y[:m]

    def as_matrix(self):
        m, n = self.out_size(), self.in_size()
        apart = np.arange(m)[:, None] - np.arange(n)[None, :]
        return _kernel(self, m + n - 1)[apart]

    def transpose(self):
        if is_own_transpose(self):
            return self
        row = _row(self).at[0].set(self.column[0])
        return ToeplitzLinearOperator(row, self.column, transpose_tags(self.tags))

    def in_structure(self):
        n = self.column if self.row is None else self.row
        return jax.ShapeDtypeStruct(n.shape, self.column.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct(self.column.shape, self.column.dtype)

    shape = property(shape_of)
    dtype = property(dtype_of)


def _row(operator: ToeplitzLinearOperator) -> Inexact[Array, " n"]:
    return operator.column.conj() if operator.row is None else operator.row


def _kernel(operator: ToeplitzLinearOperator, size: int) -> Inexact[Array, " size"]:
    """The first column of a circulant matrix that has the Toeplitz one in its corner:
    element k mod `size` belongs to the diagonal i - j = k."""
    column, row = operator.column, _row(operator)
    gap = jnp.zeros(size - column.size - row.size + 1, column.dtype)
    return jnp.concatenate((column, gap, row[:0:-1]))


@declared.register
def _(operator: ToeplitzLinearOperator):
    if operator.row is None and not jnp.iscomplexobj(operator.column):
        return operator.tags | {symmetric_tag, hermitian_tag}
    return operator.tags


@materialise.register
def _(operator: ToeplitzLinearOperator):
    return operator


@diagonal.register
def _(operator: ToeplitzLinearOperator):
    n = min(operator.out_size(), operator.in_size())
    return jnp.broadcast_to(operator.column[:1], (n,))


@tridiagonal.register
def _(operator: ToeplitzLinearOperator):
    check_square(operator)
    n = operator.column.size
    off = (operator.column[1:2], _row(operator)[1:2])
    lower, upper = (jnp.broadcast_to(x, (n - 1,)) for x in off)
    return diagonal(operator), lower, upper


@conj.register
def _(operator: ToeplitzLinearOperator):
    if not jnp.iscomplexobj(operator.column):
        return operator
    row = None if operator.row is None else operator.row.conj()
    return ToeplitzLinearOperator(operator.column.conj(), row, operator.tags)


def _shifted(a, b):
    column = shifted(a.column, b)
    return None if column is None else ToeplitzLinearOperator(column, a.row)


def _sum(a, b):
    dtype = common_dtype([a.column, b.column])
    column = a.column.astype(dtype) + b.column.astype(dtype)
    if a.row is None and b.row is None:
        return ToeplitzLinearOperator(column)
    return ToeplitzLinearOperator(column, _row(a).astype(dtype) + _row(b).astype(dtype))


def _scaled(a, s):
    column = s.array(a.column)
    if a.row is not None:
        return ToeplitzLinearOperator(column, s.array(a.row))
    row = s.array(a.column.conj()) if s.complex() else None
    return ToeplitzLinearOperator(column, row)


_OWN = ToeplitzLinearOperator
SUMS.append(Rewrite("sᵢ₋ⱼ + tᵢ₋ⱼ = (s + t)ᵢ₋ⱼ", _OWN, _OWN, _sum))
SUMS.extend(
    both_orders(
        "T + sI has s more on its diagonal", _OWN, AbstractLinearOperator, _shifted
    )
)
SCALINGS.append(Scaling("(sT)ᵢⱼ = s tᵢ₋ⱼ", _OWN, _scaled))
