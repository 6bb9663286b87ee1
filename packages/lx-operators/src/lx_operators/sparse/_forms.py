"""The ways to sum the rows of a sparse matrix, and which suits which pattern.

*Chunks.* Each row is cut into chunks of w entries, the last one perhaps shorter; chunk
c has the entries from `starts[c]` to before `starts[c + 1]`. Laid out as arrays
`[w, chunks]` of values v and columns j,

    z = Σₖ v[k] · x[j[k]],    k = 1 … w, each term a whole array,

and yᵢ is the sum of the z of its chunks, which are sorted. With w the longest row there
is one chunk a row and y = z (the slots of ELLPACK); w = 1 is a sum over sorted entries.
A term costs about a nanosecond a chunk, and the sum of a chunk some three times as much
(it adds to memory, one after another): w is where that is least. A power-law graph of
10⁵ nodes and 7·10⁵ edges takes 0.6 ms in chunks of 4, 1.5 ms in chunks of 1, and SciPy
0.95 ms.

Several columns at once cost 10⁵ sums of vectors where one costs sums of numbers: on
CPUs, irregular rows go to the kernel for compressed rows that comes with JAX (power
law, 16 columns: 0.5 to 0.7 of SciPy's time, chunks 1.2).

*Diagonals.* Where the entries fill few diagonals, yᵢ = Σ_d v_d[i] · x[i + d], without
any index.
"""

import functools
import operator
from collections.abc import Iterable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int

from ._index_maps import taken
from ._indices import on_device

_SUM = 3.0  # what summing up a chunk costs, in terms
_WIDEST = 64  # terms of a chunk
UNROLLED = 16  # terms that read values entry by entry; each costs 8 ms to compile
# Terms read in one pass. Beyond, processors lose track of so many streams of memory:
# rows of 30 take 4.9 ms in one pass and 3.0 in passes of 8 (n = 86 000), but 0.009 and
# 0.021 where all is in the cache (n = 600).
_STREAMS, _IN_CACHE = 24, 2**20
_MOST_DIAGONALS = 32
KERNEL_COLUMNS = 4  # from as many columns on, irregular rows go to the CSR kernel
_FILL = 1.5  # numbers in the diagonals for each entry


class Chunks(eqx.Module):
    """How rows are cut: the first entry of each chunk, its row, and the first chunk of
    each row; None where each row is one chunk."""

    starts: Int[Array, " chunks+1"] | None
    rows: Int[Array, " chunks"] | None
    firsts: Int[Array, " m+1"] | None
    width: int = eqx.field(static=True)


def cut(lengths: np.ndarray, dtype: np.dtype) -> Chunks:
    """The chunks of rows of these lengths."""
    width, whole = best_width(np.bincount(lengths, minlength=1))
    return Chunks(None, None, None, width) if whole else pieces(lengths, width, dtype)


def best_width(counts: np.ndarray) -> tuple[int, bool]:
    """The entries of a chunk, and whether each row is to be one.

    Args:
        counts: how many rows have 0, 1, 2, … entries.
    """
    sizes, longest = np.arange(counts.size), max(counts.size - 1, 1)
    every = float(counts.sum() * longest)  # the terms, if each row is a chunk
    if longest <= _WIDEST:
        width, least = longest, every
    else:
        width, least = 0, np.inf
    for w in range(1, min(longest, UNROLLED) + 1):
        chunks = int(np.sum(counts * -(-sizes // w)))
        cost = chunks * (w + _SUM)
        if cost < least:
            width, least = w, cost
    return width, width == longest and least == every


def pieces(lengths: np.ndarray, width: int, dtype: np.dtype) -> Chunks:
    """The chunks of this width."""
    each = -(-lengths // width)
    rows = np.repeat(np.arange(lengths.size), each)
    ends, firsts = np.cumsum(lengths), np.concatenate([[0], np.cumsum(each)])
    starts = (ends - lengths)[rows] + width * (np.arange(rows.size) - firsts[rows])
    starts = np.concatenate([starts, ends[-1:]])
    starts, rows, firsts = (on_device(x.astype(dtype)) for x in (starts, rows, firsts))
    return Chunks(starts, rows, firsts, width)


def uncut(rows: Int[Array, " size"], row_starts: Int[Array, " m+1"]) -> Chunks:
    """Chunks of one entry, where lengths are not known."""
    return Chunks(jnp.arange(rows.size + 1, dtype=rows.dtype), rows, row_starts, 1)


def few_diagonals(
    counts: np.ndarray, first: int, shape: tuple[int, int]
) -> tuple[int, ...] | None:
    """Column minus row of each diagonal that has entries, if these are few and full.

    Args:
        counts: the number of entries of each diagonal.
        first: column minus row of the first of them.
        shape: of the matrix.
    """
    offsets = np.flatnonzero(counts) + first
    if offsets.size > _MOST_DIAGONALS:
        return None
    (m, n), size = shape, int(counts.sum())
    lengths = np.minimum(m, n - offsets) - np.maximum(0, -offsets)
    return tuple(map(int, offsets)) if lengths.sum() <= _FILL * size else None


def where(there: Array, values: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
    """The existing values, and zeros elsewhere."""
    # sharded as the values are, where that is a part of their type
    there = jnp.zeros_like(values, bool) | jnp.broadcast_to(there, values.shape)
    return jnp.where(there, values, jnp.zeros_like(values))


def chunk_entries(
    starts: Int[Array, " chunks+1"], steps: Int[Array, "*w"], size: int
) -> tuple[Int[Array, "*w chunks"], Array]:
    """The entries at these steps from the start of each chunk, and whether they are in
    it."""
    entries = jnp.add.outer(steps.astype(starts.dtype), starts[:-1])
    there = entries < jnp.broadcast_to(starts[1:], entries.shape)
    return jnp.minimum(entries, max(size - 1, 0)), there


def terms_of_chunks(
    laid: Inexact[Array, "*b w chunks"],
    columns: Int[Array, "w chunks"],
    x: Inexact[Array, "..."],
) -> Inexact[Array, "..."]:
    """Σₖ v[k] · x[j[k]], with x `[*b, n, *k]`."""
    axis, w = laid.ndim - 2, len(columns)
    if w <= _STREAMS or laid.size <= _IN_CACHE:
        return sum_of_terms([(laid[..., k, :], columns[k]) for k in range(w)], x, axis)

    def step(total: Array, slot: tuple[Array, Array]) -> tuple[Array, None]:
        return total + sum_of_terms([slot], x, axis), None

    laid = jnp.moveaxis(laid, -2, 0)
    first = sum_of_terms([(laid[0], columns[0])], x, axis)
    total, _ = jax.lax.scan(step, first, (laid[1:], columns[1:]), unroll=8)
    return total


def sum_of_terms(
    slots: Iterable[tuple[Array, Array]], x: Inexact[Array, "..."], axis: int
) -> Inexact[Array, "..."]:
    """Σ v · x[j] over pairs of values v `[*b, chunks]` and columns j `[chunks]`."""

    def term(v: Array, j: Array) -> Array:
        read = taken(x, j, axis)
        return v.reshape(*v.shape, *(1,) * (read.ndim - v.ndim)) * read

    return functools.reduce(operator.add, (term(v, j) for v, j in slots))


def sum_of_diagonals(
    diagonals: Inexact[Array, "... d m"],
    x: Inexact[Array, "..."],
    offsets: tuple[int, ...],
) -> Inexact[Array, "..."]:
    """yᵢ = Σ_d v_d[i] · x[i + d], with x `[*b, n, *k]`.

    Zeros go around x, so that each diagonal reads one slice of it. Several columns are
    not copied for that: the rows that read no zeros take x as it is.
    """
    axis = diagonals.ndim - 2
    m, n = diagonals.shape[-1], x.shape[axis]
    inner = max(-offsets[0], 0), min(m, n - offsets[-1])
    if x.ndim == axis + 1 or inner[0] >= inner[1]:
        return _some_rows(diagonals, x, offsets, axis, 0, m)
    ranges = ((0, inner[0]), inner, (inner[1], m))
    parts = [
        _some_rows(diagonals, x, offsets, axis, *rows)
        for rows in ranges
        if rows[0] < rows[1]
    ]
    return jnp.concatenate(parts, axis)


def _some_rows(
    diagonals: Array, x: Array, offsets: tuple[int, ...], axis: int, low: int, high: int
) -> Array:
    """The rows from `low` to before `high` of a product by diagonals."""
    first, size, n = (
        low + offsets[0],
        high - low + offsets[-1] - offsets[0],
        x.shape[axis],
    )
    start = min(max(first, 0), n)
    stop = min(max(first + size, start), n)
    before = min(max(-first, 0), size)
    padding = [(0, 0)] * x.ndim
    padding[axis] = before, size - before - (stop - start)
    x = jax.lax.slice_in_dim(x, start, stop, axis=axis)
    x = jnp.pad(x, padding) if any(padding[axis]) else x

    def term(k: int, d: int) -> Array:
        v = diagonals[..., k, low:high]
        part = d - offsets[0]
        part = jax.lax.slice_in_dim(x, part, part + high - low, axis=axis)
        return v.reshape(*v.shape, *(1,) * (part.ndim - v.ndim)) * part

    return functools.reduce(operator.add, (term(k, d) for k, d in enumerate(offsets)))
