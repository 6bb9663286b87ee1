"""Scales, solutions and checks of many tridiagonal systems at once.

LAPACK's `gtsv` takes a call for each, and each step of it waits for the one before.
Here one instruction works on many: the batch is the last, contiguous axis, and all that
meets neighbouring rows is a loop over rows. The arithmetic is that of `gtsv`: in step
i, the row that is left and row i + 1 are

    dᵢ xᵢ   + uᵢ xᵢ₊₁                  = yᵢ
    lᵢ₊₁ xᵢ + mᵢ₊₁ xᵢ₊₁ + uᵢ₊₁ xᵢ₊₂  = bᵢ₊₁

and the one of the larger first element stays, while a multiple of it eliminates xᵢ from
the other. Only (d, u, y) is stored: the way back chooses again between the same rows,
and solves the one that stayed for xᵢ.

Where a row has no neighbour, another row is read: the element that meets it is zero.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real

from .._control_flow import cond_for_all, while_loop
from .._scaling import largest, reciprocal_scale
from ._equilibration import (
    MOST_INVERSE,
    NONE,
    PASSES,
    Evened,
    Scales,
    bands_by_rows,
    divided_twice,
    exponents,
    scales_of_both_sides,
    sizes_of,
)
from ._refinement import row_errors, significant_above
from ._tiny import pivot_size

Bands = tuple[
    Inexact[Array, "n batch"], Inexact[Array, "n batch"], Inexact[Array, "n batch"]
]
Row = tuple[Array, Array, Array]  # elements left of, on and right of the diagonal
_T = TypeVar("_T")


def evened(A: Inexact[Array, "3 n batch"]) -> Evened:
    """As `evenly_tridiagonal`. The loop over passes runs for all if any of them needs
    it."""
    rows, by = _rows_and_scales(A)
    left = _left_in_columns(rows, by)
    # 2 if A is not finite, 1 if both sides are to be scaled together, else 0
    flaw = (reciprocal_scale(left) > MOST_INVERSE).astype(jnp.int32)
    flaw = jnp.max(jnp.where(jnp.isfinite(left), flaw, 2)[1:-1], axis=0)
    passes = jnp.where(flaw == 1, PASSES, NONE).astype(jnp.int32)
    bands = rows[:, 0], rows[:, 1], rows[:, 2]
    of_rows = jnp.pad(_largest(bands), ((1, 1), (0, 0)))
    start = exponents(jnp.stack((of_rows, left)))

    def together(operands: Any) -> Array:
        rows, start, passes = operands
        A, scales = jnp.moveaxis(rows, 1, 0), Scales(*start[:, 1:-1])
        find = functools.partial(scales_of_both_sides, by_rows=bands_by_rows)
        found = jax.vmap(find, -1, -1)(A, scales, passes)
        return start.at[0, 1:-1].set(found.rho).at[1, 1:-1].set(found.gamma)

    wanted = jnp.any(passes != NONE)
    operands = rows, start, passes
    rho, gamma = cond_for_all(wanted, together, lambda x: x[1], operands)
    rho, around = rho[1:-1], (gamma[:-2], gamma[1:-1], gamma[2:])
    F = tuple(divided_twice(band, rho, c) for band, c in zip(bands, around))
    return Evened(F, Scales(rho, gamma[1:-1]), flaw < 2)


def _rows_and_scales(A: Any) -> tuple[Inexact[Array, "n 3 batch"], Array]:
    """The elements by rows, and reciprocal scales of the rows. They come out of a loop,
    as XLA would turn its operand again for each use outside."""
    _, n, batch = A.shape
    real = jnp.finfo(A.dtype).dtype

    def step(i: Array, found: Any) -> Any:
        rows, by = found
        row = [_element(A, part, i) for part in range(3)]
        scale = reciprocal_scale(_largest(row))
        return _put(rows, jnp.stack(row), i), _put(by, scale, i)

    start = jnp.zeros((n, 3, batch), A.dtype), jnp.zeros((n, batch), real)
    return _over(range(n), step, start, inputs=A)


def _largest(arrays: Any) -> Real[Array, "..."]:
    return functools.reduce(jnp.maximum, [sizes_of(x) for x in arrays])


def _left_in_columns(
    rows: Inexact[Array, "n 3 batch"], by: Real[Array, "n batch"]
) -> Real[Array, "n+2 batch"]:
    """The largest element of each column, once rows are divided by that of theirs, with
    a zero before and after."""
    n, batch = by.shape

    def step(i: Array, left: Array) -> Array:
        places = i - 1, i, i + 1 - n
        parts = [
            sizes_of(_element(rows, place, part)) * _at(by, place)
            for place, part in zip(places, (2, 1, 0))
        ]
        return _put(left, functools.reduce(jnp.maximum, parts), i + 1)

    start = jnp.zeros((n + 2, batch), by.dtype)
    return _over(range(n), step, start, inputs=(rows, by))


def solved(
    lower: Inexact[Array, "n batch"],
    main: Inexact[Array, "n batch"],
    upper: Inexact[Array, "n batch"],
    b: Inexact[Array, "n k batch"],
    *,
    adjoint: bool,
) -> Inexact[Array, "n k batch"]:
    """F⁻¹b or F⁻ᴴb; NaN where a pivot is zero."""
    bands, (n, k, batch) = (lower, main, upper), b.shape
    if k == 1:  # of an axis of size one, XLA would make a loop
        b = b[:, 0]
    each = *(1 for _ in b.shape[1:-1]), batch  # elements, which meet all columns of b
    row = _reader(bands, adjoint)
    _, m, u = row(0)
    left = jnp.zeros((n, 2 + k, batch), b.dtype)
    left = left.at[0].set(_joined(m, u, b[0]))

    def pair(left: Array, i: Array) -> tuple[Array, list[Array], list[Array]]:
        """Whether to swap the row that is left and the one below; both of them: three
        elements and the right-hand sides."""
        d, u = (_element(left, i, j).reshape(each) for j in range(2))
        y = _at(left, i, 2).reshape(b.shape[1:])
        below = [*(x.reshape(each) for x in row(i + 1)), _at(b, i + 1)]
        swap = pivot_size(below[0]) > pivot_size(d)
        return swap, [d, u, jnp.zeros_like(u), y], below

    def eliminate(i: Array, left: Array) -> Array:
        swap, current, below = pair(left, i)
        pick = functools.partial(jnp.where, swap)
        f = pick(current[0], below[0]) / pick(below[0], current[0])
        d, y = (pick(x, z) - f * pick(z, x) for x, z in zip(current[1::2], below[1::2]))
        u = pick(-f, 1) * below[2]
        return _put(left, _read_before(_joined(d, u, y)), i + 1)

    def substitute(i: Array, x: Array) -> Array:
        swap, current, below = pair(left, i)
        p, t, s, y = (jnp.where(swap, z, w) for z, w in zip(below, current))
        found = (y - t * _at(x, i + 1) - s * _at(x, i + 2)) / p
        return _put(x, _read_before(found), i)

    left = _over(range(n - 1), eliminate, left, inputs=(bands, b))
    p, y = left[n - 1, 0].reshape(each), left[n - 1, 2:].reshape(b.shape[1:])
    x = jnp.zeros((n + 1, *b.shape[1:]), b.dtype)
    x = x.at[n - 1].set(jnp.where(p == 0, jnp.nan, y / p))
    x = _over(range(n - 2, -1, -1), substitute, x, inputs=(bands, b, left))
    return x[:n].reshape(n, k, batch)


def row_error(
    bands: Bands,
    x: Inexact[Array, "n batch"],
    y: Inexact[Array, "n batch"],
    b: Inexact[Array, "n batch"],
    *,
    adjoint: bool,
) -> Real[Array, " batch"]:
    """That of `_refinement`, of many systems Fy = b or Fᴴy = b where x = C⁻¹y."""
    n, row = b.shape[0], _reader(bands, adjoint)
    most, most_of_x = largest(y, axis=0), largest(jnp.abs(x), axis=0)

    def step(i: Array, worst: Array) -> Array:
        elements = row(i)
        around = _row((y, y, y), i)
        met = [significant_above(v, most_of_x) for v in _row((x, x, x), i)]
        product = _dot(elements, around)
        size = [jnp.abs(a) for a in elements]
        right = _at(b, i)
        sizes, meets = _dot(size, map(jnp.abs, around)), _dot(size, met)
        error = row_errors(right - product, right, sizes, meets, most)
        return jnp.maximum(worst, error)

    inputs = bands, x, y, b, most, most_of_x
    return _over(range(n), step, jnp.zeros_like(most), inputs)


def _over(rows: range, step: Callable[[Array, _T], _T], start: _T, inputs: Any) -> _T:
    """What `step` makes of the start, row by row."""
    ahead = jnp.less if rows.step > 0 else jnp.greater
    _, last = while_loop(
        lambda carry: ahead(carry[0], rows.stop),
        lambda carry: (carry[0] + rows.step, step(*carry)),
        (jnp.asarray(rows.start), start),
        inputs,
    )
    return last


def _dot(a: Any, b: Any) -> Array:
    l, m, u = (x * y for x, y in zip(a, b))
    return l + m + u


def _reader(bands: Bands, adjoint: bool) -> Callable[[Any], Row]:
    """A function that gives row i, of Fᴴ if asked for."""

    def row(i: Array) -> Row:
        l, m, u = (_at(band, i) for band in bands)
        return l, m, u

    def of_adjoint(i: Array) -> Row:
        u, m, l = _column(bands, i)
        return u.conj(), m.conj(), l.conj()

    return of_adjoint if adjoint else row


def _column(bands: Bands, i: Any) -> Row:
    """The elements of column i, from top to bottom."""
    lower, main, upper = bands
    return _row((upper, main, lower), i)


def _row(arrays: Bands, i: Any) -> Row:
    """Rows i - 1, i and i + 1 of three arrays, cyclically: negative numbers count from
    the end."""
    before, here, after = arrays
    return _at(before, i - 1), _at(here, i), _at(after, i + 1 - here.shape[0])


def _at(x: Array, i: Any, start: int = 0) -> Array:
    """x[i], or x[i, start:], in one slice: if it were sliced again, LLVM would compute
    the place of every element, and use no vector instructions."""
    shape = x.shape[1] - start, *x.shape[2:]
    starts = i, start, *(0 for _ in shape[1:])
    return jax.lax.dynamic_slice(x, starts, (1, *shape)).reshape(shape)


def _element(x: Array, i: Any, j: Any) -> Array:
    """x[i, j], likewise."""
    shape = x.shape[2:]
    starts = i, j, *(0 for _ in shape)
    return jax.lax.dynamic_slice(x, starts, (1, 1, *shape)).reshape(shape)


def _joined(d: Array, u: Array, y: Array) -> Inexact[Array, "2+k batch"]:
    return jnp.concatenate([x.reshape(-1, x.shape[-1]) for x in (d, u, y)])


def _put(x: Array, row: Array, i: Any) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(x, row[None], i, 0)


def _read_before(row: Array) -> Array:
    """What is put into an array after other rows of it were read: in one kernel with
    that, XLA would copy all of the array."""
    return jax.lax.optimization_barrier(row)
