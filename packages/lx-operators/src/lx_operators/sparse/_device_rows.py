"""Each device's rows as a pattern of its own, all of equal static facts, so that they
are one pattern of arrays `[p, ...]`."""

from collections.abc import Sequence

import jax
import numpy as np

from ._division import Division
from ._forms import Chunks, best_width, pieces
from ._indices import index_dtype
from .pattern import SparsityPattern


def device_rows(
    rows: Sequence[np.ndarray],
    columns: Sequence[np.ndarray],
    shape: tuple[int, int],
    division: Division,
) -> SparsityPattern:
    """The patterns of all devices, from the rows and columns of those whose lists are
    made here. What pads the entries is in no row, as `row_starts` ends before it.

    Args:
        rows, columns: of the entries, by row and then by column, as each device counts
            them.
        shape: of one device's rows.
        division: the devices, and which lists are made here.
    """
    (m, n) = shape
    size = max(division.gathered([i.size for i in rows]))
    transposed, untransposed = [], []
    for i, j in zip(rows, columns):
        order = np.arange(size, dtype=index_dtype(size))
        order[: i.size] = np.lexsort((i, j))
        back = np.empty_like(order)
        back[order] = np.arange(size, dtype=order.dtype)
        transposed.append(order)
        untransposed.append(back)
    row_lengths = [np.bincount(i, minlength=m) for i in rows]
    column_lengths = [np.bincount(j, minlength=n) for j in columns]
    row_starts, column_starts = (
        [np.concatenate([[0], np.cumsum(x)]) for x in lengths]
        for lengths in (row_lengths, column_lengths)
    )
    with jax.ensure_compile_time_eval():
        out = SparsityPattern([], [], shape)
    fields = dict(
        rows=division.put_padded(rows, max(m - 1, 0), size),
        columns=division.put_padded(columns, max(n - 1, 0), size),
        row_starts=division.put_padded(row_starts, 0),
        column_starts=division.put_padded(column_starts, 0),
        transposed=division.put_padded(transposed, 0),
        untransposed=division.put_padded(untransposed, 0),
        by_rows=_chunks(row_lengths, size, division),
        by_columns=_chunks(column_lengths, size, division),
        size=size,
        longest_row=_longest(row_lengths, division),
        longest_column=_longest(column_lengths, division),
        lower=max(m - 1, 0),
        upper=max(n - 1, 0),
        is_symmetric=False,
        exact=False,
        offsets=None,
    )
    for name, value in fields.items():
        object.__setattr__(out, name, value)
    return out


def _longest(lengths: Sequence[np.ndarray], division: Division) -> int:
    return max(division.gathered([int(np.max(x, initial=0)) for x in lengths]))


def _chunks(lengths: Sequence[np.ndarray], size: int, division: Division) -> Chunks:
    """The chunks of each device's rows, of one width, padded by empty ones; entries
    that are chunks are padded as entries are."""
    width, whole = best_width(_histogram(lengths, division))
    if whole:
        return Chunks(None, None, None, width)
    with jax.ensure_compile_time_eval():
        each = [pieces(x, width, np.dtype(np.int64)) for x in lengths]
    count = size
    if width > 1:
        count = max(division.gathered([np.asarray(x.rows).size for x in each]))
    starts, rows, firsts = [], [], []
    for x, length in zip(each, lengths):
        assert x.starts is not None and x.rows is not None and x.firsts is not None
        ends = np.asarray(x.starts)
        starts.append(np.pad(ends, (0, count + 1 - ends.size), mode="edge"))
        last = max(length.size - 1, 0)
        rows.append(np.pad(x.rows, (0, count - x.rows.size), constant_values=last))
        firsts.append(np.asarray(x.firsts))
    return Chunks(
        division.put_padded(starts, 0),
        division.put_padded(rows, 0),
        division.put_padded(firsts, 0),
        width,
    )


def _histogram(lengths: Sequence[np.ndarray], division: Division) -> np.ndarray:
    """How many rows of all devices have each length."""
    counts = division.gathered([np.bincount(x, minlength=1) for x in lengths])
    out = np.zeros(max(x.size for x in counts), np.int64)
    for x in counts:
        out[: x.size] += x
    return out
