"""Colours for the columns or rows of a sparse matrix, so that few products show it.

Columns that have no row in common can be told apart in one product with their sum
(Curtis, Powell and Reid 1974, doi:10.1093/imamat/13.1.117). Which columns go together
is a colouring of a graph. The survey, and the definitions used here: Gebremedhin, Manne
and Pothen 2005, What color is your Jacobian?, doi:10.1137/S0036144504444711.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Kind = Literal["columns", "rows", "symmetric"]


@dataclasses.dataclass(frozen=True)
class Colouring:
    """Which columns (rows) are multiplied together.

    `colours[j]` is the colour of column (row) j, below `count`; of a symmetric matrix,
    columns are coloured.
    """

    kind: Kind
    count: int
    colours: np.ndarray


def colour(pattern: Any, kinds: Sequence[Kind] = ("columns", "rows")) -> Colouring:
    """The colouring with the fewest colours of these kinds; the kind that is named
    first, if several take as few.

    Args:
        pattern: a `SparsityPattern` of known indices.
        kinds: "columns", "rows", and "symmetric" for a matrix that is its own
            transpose (or adjoint).
    """
    m, n = pattern.shape
    rows, columns = (np.asarray(x) for x in (pattern.rows, pattern.columns))
    starts, column_starts, transposed = (
        np.asarray(x)
        for x in (pattern.row_starts, pattern.column_starts, pattern.transposed)
    )
    best = None
    for kind in kinds:
        # no fewer than in the fullest row (column)
        least = {"columns": pattern.longest_row, "rows": pattern.longest_column}
        if best is not None and best.count <= least.get(kind, 1):
            continue
        match kind:
            case "columns":
                colours = _on_a_grid(rows, columns, n, least[kind], pattern.offsets)
                if colours is None:
                    colours = _apart(rows[transposed], column_starts, m, least[kind])
            case "rows":
                colours = _on_a_grid(columns, rows, m, least[kind], pattern.offsets)
                if colours is None:
                    colours = _apart(columns, starts, n, least[kind])
            case "symmetric":
                colours = _stars(columns, starts)
        count = int(colours.max(initial=-1)) + 1
        if best is None or count < best.count:
            best = Colouring(kind, count, colours)
    assert best is not None
    return best


def _on_a_grid(
    rows: np.ndarray, columns: np.ndarray, size: int, least: int, offsets: Any
) -> np.ndarray | None:
    """A colouring without a spare colour, if a linear one is found.

    Column j is the point (x, y, z) of a grid, and its colour x + a y + b z modulo the
    number of entries in the fullest row: optimal for bands and for the usual stencils
    (Goldfarb and Toint 1984, doi:10.1090/S0025-5718-1984-0744925-5). Tried where there
    are few diagonals, on some rows first.
    """
    if not offsets or not least:
        return None
    far = sorted({abs(d) for d in offsets if abs(d) > 1})
    grids = [(), *((w,) for w in far)]
    grids += [(w, v) for w in far for v in far if v > w and v % w == 0]
    some = np.flatnonzero(np.isin(rows, np.linspace(0, rows.max(), 64).astype(int)))
    few = rows[some].astype(np.int64), columns[some].astype(np.int64)
    for strides in grids:
        for slopes in itertools.product(range(least), repeat=len(strides)):
            if not _clear(few[0], _linear(few[1], strides, slopes, least), least):
                continue
            colours = _linear(np.arange(size), strides, slopes, least)
            if _clear(rows, colours[columns], least):
                return colours.astype(np.int32)
    return None


def _linear(
    j: np.ndarray, strides: Sequence[int], slopes: Sequence[int], count: int
) -> np.ndarray:
    colours, rest = np.zeros_like(j), j
    for stride, slope in zip(reversed(strides), reversed(slopes)):
        at, rest = np.divmod(rest, stride)
        colours = colours + slope * at
    return (colours + rest) % count


def _clear(rows: np.ndarray, colours: np.ndarray, count: int) -> bool:
    """Whether no row has a colour twice."""
    return bool(np.bincount(rows * np.int64(count) + colours).max(initial=0) <= 1)


def _apart(met: np.ndarray, starts: np.ndarray, others: int, least: int) -> np.ndarray:
    """Colours such that no two columns of one colour meet in a row.

    Greedy: in their own order, and, unless that takes no more colours than the fullest
    row has entries, with the fullest columns first.

    Args:
        met: the rows of each column, one column after the other.
        starts: where each column begins in `met`.
        others: the number of rows.
        least: the number of colours at which no better order is looked for.
    """
    size = starts.size - 1
    colours = _greedy(met, starts, others, range(size))
    if size and colours.max() >= least:
        order = np.argsort(-np.diff(starts), kind="stable")
        if not np.array_equal(order, np.arange(size)):
            again = _greedy(met, starts, others, order.tolist())
            colours = min(colours, again, key=np.max)
    return colours


def _greedy(
    met: np.ndarray, starts: np.ndarray, others: int, order: Sequence[int]
) -> np.ndarray:
    """Each column takes the first colour that none of its rows has seen. The colours
    that a row has seen are the bits of one integer, so that the cost is linear in the
    number of entries."""
    seen = [0] * others
    rows, ends = met.tolist(), starts.tolist()
    colours = [0] * (len(ends) - 1)
    for j in order:
        mine = rows[ends[j] : ends[j + 1]]
        taken = 0
        for i in mine:
            taken |= seen[i]
        bit = ~taken & (taken + 1)
        colours[j] = bit.bit_length() - 1
        for i in mine:
            seen[i] |= bit
    return np.asarray(colours, np.int32)


def _stars(columns: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """A star colouring of a symmetric pattern: neighbours differ, and no path of four
    vertices has two colours alone. Then of each pair of elements (i, j), (j, i), one is
    the only one of its row in the columns of its colour.

    Greedy, as algorithm 4.1 of Gebremedhin, Tarafdar, Manne and Pothen 2007
    (doi:10.1137/050639879), with sets of colours as the bits of integers: `one[v]`, at
    one neighbour of v or more, `two[v]`, at two or more, and `ends[w]`, at neighbours x
    of w that have another neighbour of w's colour.
    """
    size = starts.size - 1
    one, two, ends = [0] * size, [0] * size, [0] * size
    bits = [0] * size  # 0: not coloured yet
    all_columns, where = columns.tolist(), starts.tolist()
    for v in range(size):
        near = [w for w in all_columns[where[v] : where[v + 1]] if w != v]
        taken, twice = one[v], two[v]
        for w in near:
            # a path x, w, v: x's colour is free if w can be told from all others
            if not bits[w] or bits[w] & twice:
                taken |= one[w]
            else:
                taken |= ends[w]
        bit = bits[v] = ~taken & (taken + 1)
        for w in near:
            if bits[w] & twice:
                ends[w] |= bit
        for x in near:
            if one[x] & bit:
                if bits[x]:
                    if two[x] & bit:
                        ends[v] |= bits[x]
                    else:
                        for w in all_columns[where[x] : where[x + 1]]:
                            if bits[w] == bit:
                                ends[w] |= bits[x]
                two[x] |= bit
            one[x] |= bit
    return np.asarray([bit.bit_length() - 1 for bit in bits], np.int32)


def seen_alone(
    rows: np.ndarray, columns: np.ndarray, colours: np.ndarray, count: int
) -> np.ndarray:
    """Whether each entry is the only one of its row in the columns of its colour."""
    pairs = rows.astype(np.int64) * count + colours[columns]
    _, which, times = np.unique(pairs, return_inverse=True, return_counts=True)
    return times[which.reshape(-1)] == 1
