"""LU of many tiny matrices at once.

LAPACK takes a call for each, which costs more than the arithmetic. Here one instruction
works on many: the batch is the last, contiguous axis, and elimination is a loop over
columns, over pieces of the batch that stay in the cache.

An unbatched LU is LAPACK's; see `_batched.py`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Int, Real

from .._control_flow import scan
from .._scaling import power_of_two
from .._sizes import variates
from ._factors import singular_below

LARGEST = 8  # larger matrices are LAPACK's


class Factors(NamedTuple):
    """(A / rows)[permutation] = LU, and what it is worth; see `LU`."""

    lu: Inexact[Array, "n n *batch"]
    pivots: Int[Array, "n *batch"]
    permutation: Int[Array, "n *batch"]
    rows: Real[Array, "n *batch"]
    finite: Bool[Array, "*batch"]
    singular: Bool[Array, "*batch"]
    reciprocal_condition: Real[Array, "*batch"]
    growth: Real[Array, "*batch"]


def eliminate(A: Inexact[Array, "n n batch"]) -> Factors:
    """Gaussian elimination of rows scaled by powers of two, with partial pivoting.

    Rows stay where they are. The pivot's row, found among those that are still
    `active`, holds by then all multipliers and is the next row of the factors.
    """
    n = A.shape[0]

    def scaled(_: None, row: Array) -> tuple[None, tuple[Array, Array]]:
        scale = power_of_two(_maximum(_size(row)))
        return None, (row * (1 / scale)[None].astype(row.dtype), scale)

    _, (A, rows) = scan(scaled, None, A)
    finite = jnp.all(jnp.isfinite(A), axis=(0, 1))
    index = jnp.arange(n, dtype=jnp.int32)[:, None]
    all_rows = jnp.broadcast_to(index, rows.shape)

    def step(carry, k):
        A, active, places = carry
        column = jax.lax.dynamic_index_in_dim(A, k, 1, keepdims=False)
        size = jnp.where(active, pivot_size(column), -1)
        most = _maximum(size)[None]
        # the first row, of those not yet taken, if NaN hides which is the largest
        eligible = active & ((size == most) | jnp.isnan(most))
        p = jnp.min(jnp.where(eligible, index, n - 1), axis=0)
        row = _take(A, p[None, None])[0]
        pivot = jax.lax.dynamic_index_in_dim(row, k, 0, keepdims=False)
        place = _take(places, p[None])[0]  # LAPACK would have swapped it with row k
        places = jnp.where(places == k, place[None], places)
        active = active & (index != p[None])
        multipliers = column / jnp.where(active, pivot[None], 1)
        rest = jnp.where(index > k, row, 0)[None]
        new = A - multipliers[:, None] * rest
        new = jnp.where(index == k, multipliers[:, None], new)
        return (jnp.where(active[:, None], new, A), active, places), (row, place, p)

    start = A, jnp.ones_like(rows, bool), all_rows
    (A, active, places), out = scan(step, start, index[:-1, 0])
    p = jnp.min(jnp.where(active, index, n - 1), axis=0)[None]  # the row that is left
    last = _take(A, p[None])[0], _take(places, p)[0], p[0]
    lu, pivots, permutation = (jnp.concatenate((x, y[None])) for x, y in zip(out, last))
    columns = _maximum(jnp.where(index[:, None] <= index[None], _size(lu), 0))
    rcond = _reciprocal_condition(lu, columns)
    return Factors(
        lu,
        pivots,
        permutation,
        rows,
        finite,
        ~(rcond > singular_below(lu.dtype)),
        rcond,
        jnp.max(columns, axis=0),
    )


def substitute(
    lu: Inexact[Array, "n n batch"],
    permutation: Int[Array, "n batch"],
    rows: Real[Array, "n batch"],
    b: Inexact[Array, "n k batch"],
    *,
    adjoint: bool,
) -> tuple[Inexact[Array, "n k batch"]]:
    """A⁻¹ b, or A⁻ᴴ b, from the factors of A."""
    rows = rows[:, None].astype(b.dtype)
    if not adjoint:
        y = _take(b / rows, permutation[:, None])
        y = _triangular(lu, y, lower=True, unit_diagonal=True)
        return (_triangular(lu, y, lower=False),)
    y = _triangular(lu, b, lower=False, adjoint=True)
    z = _triangular(lu, y, lower=True, adjoint=True, unit_diagonal=True)
    return (_take(z, jnp.argsort(permutation, axis=0)[:, None]) / rows,)


def _triangular(
    T: Inexact[Array, "n n batch"],
    b: Inexact[Array, "n k batch"],
    *,
    lower: bool,
    adjoint: bool = False,
    unit_diagonal: bool = False,
) -> Inexact[Array, "n k batch"]:
    """T⁻¹ b or T⁻ᴴ b, of one triangle, by columns."""
    index = jnp.arange(T.shape[0], dtype=jnp.int32)[:, None, None]
    forward = lower != adjoint

    def step(y, k):
        column = jax.lax.dynamic_index_in_dim(T, k, 0 if adjoint else 1, keepdims=False)
        column = (column.conj() if adjoint else column)[:, None]
        x = jax.lax.dynamic_index_in_dim(y, k, 0)
        if not unit_diagonal:
            x = x / jax.lax.dynamic_index_in_dim(column, k, 0)
        left = index > k if forward else index < k
        return jnp.where(left, y - column * x, jnp.where(index == k, x, y)), None

    return scan(step, b, index[:, 0, 0], inputs=T, reverse=not forward)[0]


def _reciprocal_condition(
    U: Inexact[Array, "n n batch"], lengths: Real[Array, "n batch"]
) -> Real[Array, " batch"]:
    """As in `_factors`."""
    lengths = lengths[:, None].astype(U.dtype)
    b = jnp.asarray(variates((len(U), 1, 1), U.dtype)) * lengths
    y = _triangular(U, b, lower=False, adjoint=True)
    x = _triangular(U, y, lower=False) * lengths
    x, y = (jnp.linalg.norm(v[:, 0], axis=0) for v in (x, y))
    ratio = y / x
    return jnp.where(ratio > 0, ratio, jnp.zeros_like(ratio))


def _size(x: Inexact[Array, "..."]) -> Real[Array, "..."]:
    """As in `largest`, elementwise."""
    if jnp.iscomplexobj(x):
        return jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag))
    return jnp.abs(x)


def pivot_size(x: Inexact[Array, "..."]) -> Real[Array, "..."]:
    """The size by which LAPACK chooses pivots: |re| + |im|."""
    return jnp.abs(x.real) + jnp.abs(x.imag) if jnp.iscomplexobj(x) else jnp.abs(x)


def _maximum(x: Real[Array, "n ..."]) -> Real[Array, "..."]:
    """Along the first axis. A NaN may be lost, as in `jnp.max` on CPUs, which XLA
    leaves to a library that is slow in this shape."""
    least = jnp.asarray(-jnp.inf, x.dtype)
    return jax.lax.reduce(x, least, _larger, (0,))


def _larger(a: Array, b: Array) -> Array:
    return jnp.where(b > a, b, a)


def _take(x: Array, rows: Int[Array, "..."]) -> Array:
    """The given rows of each member of the batch."""
    rows = jnp.broadcast_to(rows, (rows.shape[0], *x.shape[1:]))
    return jnp.take_along_axis(x, rows, 0, mode="promise_in_bounds")
