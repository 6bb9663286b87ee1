"""The diagonals of sums, products and scalings of banded operators.

A product is as wide as its factors together: (AB)ᵢⱼ = Σₖ AᵢₖBₖⱼ, with i - j = (i - k) +
(k - j). No matrix `[n, n]` is formed.
"""

import jax.numpy as jnp
from jaxtyping import Array

from .._functions import bands, bandwidths
from .._operator import AbstractLinearOperator
from .._parts import operands
from .._properties import is_lower_triangular, is_upper_triangular
from .._skewed import skewed
from .._structures import common_dtype
from .add import AddLinearOperator
from .compose import ComposedLinearOperator
from .promoted import PromotedLinearOperator
from .scale import DivLinearOperator, MulLinearOperator, NegLinearOperator, scaled
from .tagged import TaggedLinearOperator

_Scaling = MulLinearOperator | DivLinearOperator | NegLinearOperator
_Widths = tuple[int, int]


def _both(operator: AbstractLinearOperator) -> tuple[_Widths, _Widths] | None:
    first, second = map(bandwidths, operands(operator))
    return None if first is None or second is None else (first, second)


def _known(operator: AbstractLinearOperator) -> _Widths:
    """`bands` is asked only where widths are known."""
    widths = bandwidths(operator)
    assert widths is not None
    return widths


def _narrow(widths: _Widths, operator: AbstractLinearOperator) -> _Widths:
    """No wider than the matrix."""
    most = max(operator.in_size() - 1, 0)
    return min(widths[0], most), min(widths[1], most)


def _resized(diagonals: Array, old: _Widths, new: _Widths) -> Array:
    """Diagonals cut off, or filled up with zeros."""
    (l, u), (lower, upper) = old, new
    diagonals = diagonals[max(u - upper, 0) : len(diagonals) - max(l - lower, 0)]
    return jnp.pad(diagonals, ((max(upper - u, 0), max(lower - l, 0)), (0, 0)))


@bandwidths.register
def _(operator: AddLinearOperator):
    widths = _both(operator)
    if widths is None:
        return None
    (l1, u1), (l2, u2) = widths
    return max(l1, l2), max(u1, u2)


@bands.register
def _(operator: AddLinearOperator):
    dtype = common_dtype(operator.in_structure(), operator.out_structure())
    new = _known(operator)
    parts = [
        _resized(bands(part), _known(part), new).astype(dtype)
        for part in operands(operator)
    ]
    return parts[0] + parts[1]


@bandwidths.register
def _(operator: ComposedLinearOperator):
    widths = _both(operator)
    if widths is None:
        return None
    (l1, u1), (l2, u2) = widths
    return _narrow((l1 + l2, u1 + u2), operator)


@bands.register
def _(operator: ComposedLinearOperator):
    (l1, u1), (l2, u2) = map(_known, operands(operator))
    a, b = map(bands, operands(operator))
    dtype = common_dtype([a, b])
    a, b, n = a.astype(dtype), b.astype(dtype), operator.in_size()
    # (AB)[r + s, j] = Σ A[r, j + s - u2] B[s, j], both in the storage of `bands`
    a = jnp.pad(a, ((0, 0), (u2, l2)))
    terms = jnp.stack([a[:, s : s + n] * b[s] for s in range(len(b))])
    full = jnp.sum(skewed(terms), axis=0)
    return _resized(full, (l1 + l2, u1 + u2), _known(operator))


@bandwidths.register
def _(operator: _Scaling):
    return bandwidths(operator.operator)


@bands.register
def _(operator: _Scaling):
    return scaled(operator, bands(operator.operator))


@bandwidths.register
def _(operator: TaggedLinearOperator):
    by_tags = bandwidths.dispatch(AbstractLinearOperator)(operator)
    by_type = bandwidths(operator.operator)
    if by_tags is not None or by_type is None:
        return by_tags
    lower, upper = by_type
    return (
        0 if is_upper_triangular(operator) else lower,
        0 if is_lower_triangular(operator) else upper,
    )


@bands.register
def _(operator: TaggedLinearOperator):
    inner, new = operator.operator, _known(operator)
    old = bandwidths(inner)
    if old is None:
        return bands.dispatch(AbstractLinearOperator)(operator)
    return _resized(bands(inner), old, new)


@bandwidths.register
def _(operator: PromotedLinearOperator):
    return bandwidths(operator.operator)


@bands.register
def _(operator: PromotedLinearOperator):
    return operator._promote(bands(operator.operator))
