"""A circulant operator: periodic convolution."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Inexact

from .._checks import check_square
from .._fourier import from_spectrum, spectrum
from .._functions import conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform
from .._properties import declared, is_own_transpose
from .._simplify import (
    PRODUCTS,
    SCALINGS,
    SUMS,
    Rewrite,
    Scaling,
    both_orders,
    multiple_of_identity,
)
from .._structures import common_dtype, dtype_of, floating, shape_of
from .._tags import Tags, as_tags, transpose_tags


class CirculantLinearOperator(AbstractLinearOperator):
    """Periodic convolution with a kernel, computed by fast Fourier transforms.

    A kernel `[n]` is the first column c of the circulant matrix with elements c[(i - j)
    mod n]. A kernel with more axes makes a block circulant matrix with circulant
    blocks, which maps arrays of the kernel's shape. A product costs O(n log n).

    Args:
        column: the kernel, an array with at least one axis; integers become floating.
        tags: a tag or an iterable of tags.

    Raises:
        ValueError: `column` is a scalar.

    ```python
    difference = lx.CirculantLinearOperator(jnp.array([-2.0, 1.0, 0.0, 0.0, 1.0]))
    difference.mv(jnp.arange(5.0))  # second differences of a periodic sequence
    ```
    """

    column: Inexact[Array, "..."]
    tags: Tags = eqx.field(static=True)

    def __init__(self, column: ArrayLike, tags: object = ()):
        if jnp.ndim(column) == 0:
            raise ValueError(
                "`column` must be an array of at least one axis, but got a scalar; "
                "a multiple of the identity is `scalar * IdentityLinearOperator(...)`."
            )
        self.column = floating(column)
        self.tags = as_tags(tags)

    def mv(self, vector):
        x = conform(vector, self.in_structure(), "the vector")
        c = self.column.astype(x.dtype)
        return from_spectrum(spectrum(c) * spectrum(x), x.shape, x.dtype)

    def as_matrix(self):
        shape = self.column.shape
        grid = np.indices(shape).reshape(len(shape), -1)
        apart = grid[:, :, None] - grid[:, None, :]
        return self.column[tuple(d % n for d, n in zip(apart, shape))]

    def transpose(self):
        if is_own_transpose(self):
            return self
        return CirculantLinearOperator(
            _reversed(self.column), transpose_tags(self.tags)
        )

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.column.shape, self.column.dtype)

    def out_structure(self):
        return self.in_structure()

    shape = property(shape_of)
    dtype = property(dtype_of)


def _reversed(c: Array) -> Array:
    """c[-i mod n]"""
    axes = tuple(range(c.ndim))
    return jnp.roll(jnp.flip(c), (1,) * c.ndim, axes)


@declared.register
def _(operator: CirculantLinearOperator):
    return operator.tags


@materialise.register
def _(operator: CirculantLinearOperator):
    return operator


@diagonal.register
def _(operator: CirculantLinearOperator):
    c = operator.column
    return jnp.broadcast_to(c.ravel()[:1], (c.size,))


@tridiagonal.register
def _(operator: CirculantLinearOperator):
    check_square(operator)
    c = operator.column
    main = diagonal(operator)
    if c.size < 2:
        return main, main[:0], main[:0]
    grid = np.indices(c.shape).reshape(c.ndim, -1)
    step = grid[:, 1:] - grid[:, :-1]
    below = c[tuple(d % k for d, k in zip(step, c.shape))]
    above = c[tuple(-d % k for d, k in zip(step, c.shape))]
    return main, below, above


@conj.register
def _(operator: CirculantLinearOperator):
    if not jnp.iscomplexobj(operator.column):
        return operator
    return CirculantLinearOperator(operator.column.conj(), operator.tags)


def shifted(column: Array, multiple: Any) -> Array | None:
    """The first column of A + sI, from that of A; None if it would have to be complex,
    or if the other operator is no multiple of the identity."""
    shift = multiple_of_identity(multiple)
    if shift is None:
        return None
    one = jnp.ones((1,), column.dtype)
    s = shift(jax.ShapeDtypeStruct(one.shape, one.dtype)).mv(one)[0]
    if jnp.iscomplexobj(s) and not jnp.iscomplexobj(column):
        return None
    return column.at[(0,) * column.ndim].add(s.astype(column.dtype))


def _shifted(a, b):
    column = shifted(a.column, b)
    return None if column is None else CirculantLinearOperator(column)


def _sum(a, b):
    dtype = common_dtype([a.column, b.column])
    return CirculantLinearOperator(a.column.astype(dtype) + b.column.astype(dtype))


_OWN = CirculantLinearOperator
PRODUCTS.append(
    Rewrite(
        "F⁻¹ΛF F⁻¹MF = F⁻¹ΛMF",
        _OWN,
        _OWN,
        lambda a, b: CirculantLinearOperator(a.mv(b.column)),
    )
)
SUMS.append(Rewrite("F⁻¹ΛF + F⁻¹MF = F⁻¹(Λ + M)F", _OWN, _OWN, _sum))
SUMS.extend(
    both_orders("F⁻¹ΛF + sI = F⁻¹(Λ + sI)F", _OWN, AbstractLinearOperator, _shifted)
)
SCALINGS.append(
    Scaling(
        "s F⁻¹ΛF = F⁻¹(sΛ)F",
        _OWN,
        lambda a, s: CirculantLinearOperator(s.array(a.column)),
    )
)
