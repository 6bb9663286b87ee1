"""For each element of an array, the set of inputs that it depends on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array

Shape = tuple[int, ...]
Matrix = Any  # a boolean `csr_array`, for whose shapes SciPy has no types

# Beyond this number of entries, of one array, all its elements are taken to depend on
# all that any of them does.
_ROOM = 2**28


class Sets:
    """Element i of an array depends on the inputs in row `index[i]` of `rows`, or on
    none where that is negative.

    Elements with equal sets share a row: to move elements is to move numbers, and a
    scalar that depends on all inputs is broadcast without copies of its long row.

    Args:
        rows: a boolean matrix `[k, n]`, n the number of inputs.
        index: integers `[size]`; `None` for 0, 1, …, k - 1.
    """

    __slots__ = ("index", "rows")

    def __init__(self, rows: Matrix, index: np.ndarray | None = None):
        self.rows = rows
        self.index = index

    @property
    def size(self) -> int:
        return self.rows.shape[0] if self.index is None else self.index.size

    @property
    def width(self) -> int:
        return self.rows.shape[1]

    def take(self, positions: np.ndarray) -> "Sets":
        """The elements at flat `positions`; the empty set where these are negative."""
        positions = positions.reshape(-1)
        if self.index is None:
            return Sets(self.rows, positions)
        if not self.index.size:
            return Sets(self.rows, np.full(positions.size, -1))
        index = np.where(positions < 0, -1, self.index[positions])
        return Sets(self.rows, index)

    def without(self, dropped: np.ndarray) -> "Sets":
        """The empty set at the elements of the mask `dropped`."""
        if not dropped.any():
            return self
        return self.take(np.where(dropped.reshape(-1), -1, np.arange(self.size)))

    def lengths(self) -> np.ndarray:
        """How many inputs each element depends on."""
        lengths = np.diff(self.rows.indptr).astype(np.int64)
        if self.index is None:
            return lengths
        return np.where(self.index < 0, 0, np.append(lengths, 0)[self.index])

    def count(self) -> int:
        """How many entries `matrix` would hold."""
        return int(self.lengths().sum())

    def matrix(self) -> Matrix:
        """The sets as the rows of a boolean matrix `[size, n]`.

        Raises:
            ValueError: it would have 2³¹ entries or more.
        """
        if self.index is None:
            return self.rows
        count = self.count()
        if count > np.iinfo(np.int32).max:
            raise ValueError(
                f"the sparsity pattern, of shape {(self.size, self.width)}, would have "
                f"{count} entries: the function is not sparse. Use a solver that needs "
                "products alone."
            )
        lengths = self.lengths()
        ends = np.cumsum(lengths)
        shift = np.repeat(self.rows.indptr[self.index] - (ends - lengths), lengths)
        columns = self.rows.indices[shift + np.arange(count, dtype=shift.dtype)]
        starts = np.concatenate([[0], ends]).astype(np.int32)
        return _csr(columns, starts, (self.size, self.width))

    def reduced(self, targets: np.ndarray, size: int) -> "Sets":
        """Sets of `size` elements: number j is the union of those whose target is j."""
        return self.combined(targets.reshape(-1), np.arange(self.size), size)

    def combined(self, to: np.ndarray, of: np.ndarray, size: int) -> "Sets":
        """Sets of `size` elements: number j is the union of the elements `of[to ==
        j]`."""
        kept = to >= 0
        if self.index is not None:
            of = np.where(of < 0, -1, self.index[of])
        kept &= of >= 0
        to, of = to[kept], of[kept]
        ones = np.ones(to.size, bool)
        by: Matrix = csr_array((ones, (to, of)), shape=(size, self.rows.shape[0]))
        by.sum_duplicates()
        if np.diff(self.rows.indptr)[by.indices].sum(dtype=np.int64) > _ROOM:
            return everything([self], size)
        return Sets(_canonical(by @ self.rows))


def _csr(columns: np.ndarray, starts: np.ndarray, shape: Shape) -> Matrix:
    rows: Matrix = csr_array(
        (np.ones(columns.size, bool), columns, starts), shape=shape
    )
    rows.has_sorted_indices = True
    rows.has_canonical_format = True
    return rows


def _canonical(rows: Matrix) -> Matrix:
    rows.sum_duplicates()
    return rows


def identity(size: int, width: int, start: int = 0) -> Sets:
    """Element i depends on input `start + i`."""
    columns = np.arange(start, start + size, dtype=np.int32)
    return Sets(_csr(columns, np.arange(size + 1, dtype=np.int32), (size, width)))


def union(sets: Sequence[Sets]) -> Sets:
    """Element by element, of arrays of one size."""
    first, *others = sets
    for other in others:
        first = _union(first, other)
    return first


def _union(a: Sets, b: Sets) -> Sets:
    if a.rows is b.rows and _same(a.index, b.index):
        return a
    room = 8 * (a.rows.nnz + b.rows.nnz + a.size)
    if a.count() + b.count() <= room:
        return Sets(_canonical(a.matrix() + b.matrix()))
    # Long rows, each shared by many elements: each pair of rows is united once, and
    # where one has all of the other, it is the union.
    i, j = _numbers(a).astype(np.int64), _numbers(b)
    pairs, index = np.unique(
        (i + 1) * (b.rows.shape[0] + 1) + j + 1, return_inverse=True
    )
    i, j = np.divmod(pairs, b.rows.shape[0] + 1)
    left, right = Sets(a.rows, i - 1), Sets(b.rows, j - 1)
    shorter = left.lengths() <= right.lengths()
    within = np.where(shorter, _contained(left, right, shorter), False)
    around = np.where(~shorter, _contained(right, left, ~shorter), False)
    apart = np.flatnonzero(~(within | around))
    both = left.take(apart), right.take(apart)
    if both[0].count() + both[1].count() > _ROOM:
        return everything([a, b], a.size)
    rest = Sets(_canonical(both[0].matrix() + both[1].matrix()))
    start = pairs.size
    chosen = np.where(within, start, 0) + np.arange(start)
    chosen[apart] = 2 * start + np.arange(apart.size)
    every = concatenated([left, right, rest], [start, start, apart.size])
    return every.take(chosen).take(index.reshape(-1))


def _contained(few: Sets, many: Sets, asked: np.ndarray) -> np.ndarray:
    """Whether each set of `few` is within that of `many`, where that is asked."""
    few = few.without(~asked)
    if few.count() > _ROOM:
        return np.zeros(few.size, bool)
    members = few.matrix().tocoo()
    width = np.int64(few.width)
    rows = many.rows.tocoo()
    elements = rows.row * width + rows.col  # sorted
    wanted = _numbers(many)[members.row] * width + members.col
    place = np.searchsorted(elements, wanted)
    found = np.append(elements, -1)[place] == wanted
    return np.bincount(members.row[found], minlength=few.size) == few.lengths()


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a, b)


def _numbers(sets: Sets) -> np.ndarray:
    return np.arange(sets.size) if sets.index is None else sets.index


def concatenated(sets: Sequence[Sets | None], sizes: Sequence[int]) -> Sets:
    """The elements of one array after those of the other; `None`: they depend on
    nothing."""
    rows, index, start = [], [], 0
    for one, size in zip(sets, sizes):
        if one is None:
            index.append(np.full(size, -1))
            continue
        numbers = _numbers(one)
        index.append(np.where(numbers < 0, -1, numbers + start))
        rows.append(one.rows)
        start += one.rows.shape[0]
    starts = np.cumsum([0] + [matrix.nnz for matrix in rows])
    pointers = [matrix.indptr[1:] + base for matrix, base in zip(rows, starts)]
    stacked = _csr(
        np.concatenate([matrix.indices for matrix in rows]),
        np.concatenate([[0], *pointers]).astype(np.int32),
        (start, rows[0].shape[1]),
    )
    return Sets(stacked, np.concatenate(index))


def along(sets: Sets, shape: Shape, axes: Sequence[int]) -> Sets:
    """Each element depends on what any element of its line (plane, …) along `axes`
    depends on."""
    if all(shape[axis] == 1 for axis in axes):
        return sets
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    lines = np.broadcast_to(positions(kept), shape).reshape(-1)
    return sets.reduced(lines, int(np.prod(kept, dtype=int))).take(lines)


def everything(sets: Sequence[Sets], size: int) -> Sets:
    """Each of `size` elements depends on all that any of these does."""
    seen = np.zeros(sets[0].width, bool)
    for one in sets:
        numbers = np.unique(_numbers(one))
        seen[Sets(one.rows, numbers).matrix().indices] = True
    columns = np.flatnonzero(seen).astype(np.int32)
    starts = np.array([0, columns.size], np.int32)
    row = _csr(columns, starts, (1, seen.size))
    return Sets(row, np.zeros(size, int))


def positions(shape: Sequence[int]) -> np.ndarray:
    """The flat position of each element of an array."""
    return np.arange(int(np.prod(shape, dtype=int)), dtype=np.int64).reshape(shape)
