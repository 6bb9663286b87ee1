"""Diagonals of matrices, stored as rows."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ._functions import bands, bandwidths
from ._operator import AbstractLinearOperator

Widths = tuple[int, int]

# A sparse operator counts as a band matrix if the band holds at most this many numbers
# per entry.
WIDEST = 4


def diagonal_of(matrix: Inexact[Array, "n n"], offset: int = 0) -> Inexact[Array, "k"]:
    """A diagonal of a square matrix, as a slice of its elements: in a batch twice as
    fast as a gather."""
    n = matrix.shape[0]
    if not isinstance(n, int) or n <= abs(offset):  # symbolic, or nothing to slice
        return jnp.diagonal(matrix, offset)
    first, step = max(offset, -offset * n), n + 1
    limit = first + (n - abs(offset) - 1) * step + 1
    return jax.lax.slice(matrix.reshape(n * n), (first,), (limit,), (step,))


def widths_of(operator: AbstractLinearOperator) -> Widths:
    """The operator's bandwidths, which must be known."""
    widths = bandwidths(operator)
    assert widths is not None
    return widths


def resized(diagonals: Array, old: Widths, new: Widths) -> Array:
    """Diagonals for other bandwidths: cut off, or padded with zeros."""
    (l, u), (lower, upper) = old, new
    diagonals = diagonals[max(u - upper, 0) : len(diagonals) - max(l - lower, 0)]
    return jnp.pad(diagonals, ((max(upper - u, 0), max(lower - l, 0)), (0, 0)))


def fitted(operator: AbstractLinearOperator, widths: Widths) -> Array:
    """An operator's diagonals, for these bandwidths."""
    return resized(bands(operator), widths_of(operator), widths)


def shifted_rows(rows: Inexact[Array, "w m ..."]) -> Inexact[Array, "w w+m-1 ..."]:
    """Row r shifted by r to the right, zeros elsewhere.

    Padded to length w + m and put one after another, row r starts at r·(w + m), which
    is r after r·(w + m - 1).
    """
    w, m, *rest = rows.shape
    padding = [(0, 0), (0, w), *((0, 0) for _ in rest)]
    flat = jnp.pad(rows, padding).reshape(w * (w + m), *rest)
    return flat[: w * (w + m - 1)].reshape(w, w + m - 1, *rest)
