"""Diagonals of one operator as those of a wider or narrower one."""

import jax.numpy as jnp
from jaxtyping import Array

from .._functions import bands, bandwidths
from .._operator import AbstractLinearOperator

Widths = tuple[int, int]


def widths_of(operator: AbstractLinearOperator) -> Widths:
    """`bands` is asked only where widths are known."""
    widths = bandwidths(operator)
    assert widths is not None
    return widths


def resized(diagonals: Array, old: Widths, new: Widths) -> Array:
    """Diagonals cut off, or filled up with zeros."""
    (l, u), (lower, upper) = old, new
    diagonals = diagonals[max(u - upper, 0) : len(diagonals) - max(l - lower, 0)]
    return jnp.pad(diagonals, ((max(upper - u, 0), max(lower - l, 0)), (0, 0)))


def fitted(operator: AbstractLinearOperator, widths: Widths) -> Array:
    """An operator's diagonals, as those of one with these widths."""
    return resized(bands(operator), widths_of(operator), widths)
