"""Where the entries of a sparse matrix are."""

import copy
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int

from .._structures import floating
from ._forms import Chunks, cut, few_diagonals, uncut
from ._index_maps import Assembly, collect, reading, spread


class SparsityPattern(eqx.Module):
    """Where a sparse matrix has entries: one pattern serves many matrices.

    Entries are sorted by row, then by column, and no two of them are in one place. All
    that depends on the pattern alone is computed when it is built: build it once,
    outside of `jit`, and pass it around. It is a pytree of integer arrays and a few
    static facts, so that functions of it are compiled once for all patterns of equal
    facts.

    Args:
        rows, columns: integer arrays `[k]`, where contributions to the matrix are, in
            any order; several may be in one place (see `assemble`).
        shape: the number of rows and of columns of the matrix.

    If `rows` or `columns` is traced, nothing is known of it but its length: entries are
    sorted, but those in one place stay apart (their values add up all the same), and
    `longest_row`, `lower` and all the facts are what they are of a full matrix.

    Attributes:
        rows, columns: where the entries are, `[size]`.
        row_starts: the first entry of each row, and `size`: `[m + 1]`.
        column_starts: likewise for the entries sorted by column, `[n + 1]`.
        transposed: the order of entries that sorts them by column, then row, `[size]`.
        untransposed: its inverse, `[size]`.
        shape: the number of rows and columns.
        size: the number of entries.
        longest_row, longest_column: the most entries in a row, in a column.
        lower, upper: the number of diagonals below and above the main one.
        is_symmetric: whether the transpose has the same pattern.
        offsets: column minus row of each diagonal that has entries, if they are few
            and nearly full; else None.
        exact: whether the indices were known when the pattern was built.

    Raises:
        ValueError: indices that are no integers, not one-dimensional, not of one
            length, or outside of the matrix.

    ```python
    # [[4, 1, 0], [1, 4, 1], [0, 1, 4]]
    rows, columns = [0, 0, 1, 1, 1, 2, 2], [0, 1, 0, 1, 2, 1, 2]
    pattern = lx.SparsityPattern(rows, columns, (3, 3))
    pattern.is_symmetric, pattern.longest_row  # True, 3
    ```
    """

    rows: Int[Array, " size"]
    columns: Int[Array, " size"]
    row_starts: Int[Array, " m+1"]
    column_starts: Int[Array, " n+1"]
    transposed: Int[Array, " size"]
    untransposed: Int[Array, " size"]
    by_rows: Chunks  # how products sum
    by_columns: Chunks  # likewise, of the transpose
    assembly: Assembly | None
    shape: tuple[int, int] = eqx.field(static=True)
    size: int = eqx.field(static=True)
    longest_row: int = eqx.field(static=True)
    longest_column: int = eqx.field(static=True)
    lower: int = eqx.field(static=True)
    upper: int = eqx.field(static=True)
    is_symmetric: bool = eqx.field(static=True)
    offsets: tuple[int, ...] | None = eqx.field(static=True)
    exact: bool = eqx.field(static=True)

    def __init__(self, rows: Any, columns: Any, shape: tuple[int, int]):
        shape = _checked_shape(shape)
        if any(isinstance(x, jax.core.Tracer) for x in (rows, columns)):
            _traced(self, rows, columns, shape)
            return
        rows, columns = _checked_indices(rows, columns, shape)
        rows, columns, assembly = _sorted(rows, columns, shape)
        with jax.ensure_compile_time_eval():
            _fill(self, rows, columns, shape, assembly)

    @classmethod
    def from_coo(
        cls, rows: Any, columns: Any, shape: tuple[int, int]
    ) -> "SparsityPattern":
        """The pattern of coordinates, the same as `SparsityPattern(rows, columns,
        shape)`."""
        return cls(rows, columns, shape)

    @classmethod
    def from_scipy(cls, matrix: Any) -> "SparsityPattern":
        """The pattern of a SciPy sparse matrix or array, of any format. Explicit zeros
        are entries.

        Args:
            matrix: the SciPy matrix.

        Raises:
            ValueError: no SciPy sparse matrix; or its index arrays are damaged.
        """
        return scipy_entries(matrix)[0]

    @classmethod
    def from_dense(cls, mask: Any) -> "SparsityPattern":
        """The pattern of the nonzero elements of a dense matrix, or of a mask.

        Args:
            mask: an array `[m, n]`; its values must be known.
        """
        return cls(*_nonzeros(mask), np.shape(mask))  # pyright: ignore

    @classmethod
    def from_stencil(
        cls,
        offsets: Any,
        grid: tuple[int, ...],
        periodic: bool | tuple[bool, ...] = False,
    ) -> "SparsityPattern":
        """The pattern of a stencil on a grid: each point is coupled to its neighbours
        at these offsets. Points are numbered with the last axis fastest, as `ravel`
        does.

        Args:
            offsets: the neighbours, each a tuple of as many integers as the grid has
                axes; `(0, 0)` is the point itself.
            grid: the number of points along each axis.
            periodic: whether the grid closes; for all axes, or for each.

        Returns:
            A `SparsityPattern`. Its `assemble` takes the numbers of the first offset at
            all points that have this neighbour, in order, then those of the second.

        ```python
        cross = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
        lx.SparsityPattern.from_stencil(cross, (100, 100))  # 49600 entries
        ```
        """
        grid = tuple(grid)
        closed = (periodic,) * len(grid) if isinstance(periodic, bool) else periodic
        points = np.indices(grid).reshape(len(grid), -1)
        size, rows, columns = points.shape[1], [], []
        for offset in offsets:
            if np.shape(offset) != (len(grid),) or len(closed) != len(grid):
                raise ValueError(
                    "each of `offsets` (and `periodic`) must have a number for each of "
                    f"the {len(grid)} axes of the grid, but got {offset!r}."
                )
            there = points + np.array(offset, int)[:, None]
            inside = np.ones(size, bool)
            for axis, (n, wraps) in enumerate(zip(grid, closed)):
                if wraps:
                    there[axis] %= n
                inside &= (there[axis] >= 0) & (there[axis] < n)
            rows.append(np.flatnonzero(inside))
            columns.append(np.ravel_multi_index(tuple(there[:, inside]), grid))
        empty = [np.arange(0)]
        return cls(
            np.concatenate(rows + empty), np.concatenate(columns + empty), (size, size)
        )

    def assemble(
        self, values: Inexact[Array, " contributions"]
    ) -> Inexact[Array, " size"]:
        """The values of the entries, from those of the contributions that the pattern
        was made of: what is in one place is summed.

        Works under `jit`, `vmap` and derivatives, on a fixed pattern.

        Args:
            values: an array `[k]`, in the order of the `rows` and `columns` that the
                pattern was made of.

        Returns:
            An array `[size]`.

        Raises:
            ValueError: another number of contributions.
        """
        values = floating(values)
        k, assembly = self.size, self.assembly
        if assembly is not None:
            k = assembly.target.size if assembly.of is None else assembly.of
        if values.shape != (k,):
            raise ValueError(
                f"`values` must be a one-dimensional array of {k} contributions, as "
                "many as the pattern was made of, but has shape "
                f"{values.shape}."
            )
        if assembly is None:
            return values
        if assembly.of is not None:
            return spread(values, assembly)
        return collect(values, assembly, self.size)

    def submatrix(self, rows: Any, columns: Any) -> "SparsityPattern":
        """The pattern of some rows and columns, in the order they are given. Its
        `assemble` takes the values of this pattern to those of the submatrix.

        Args:
            rows, columns: integer arrays without duplicates, or masks `[m]` and `[n]`.

        Returns:
            A `SparsityPattern`.

        Raises:
            ValueError: indices that are no such thing; a traced pattern.
        """
        if isinstance(self.rows, jax.core.Tracer):
            raise ValueError(
                "the submatrix of a traced pattern is not known; make it outside of "
                "`jit`, and pass it in."
            )
        (m, n), found = self.shape, []
        for name, given, bound in (("rows", rows, m), ("columns", columns, n)):
            found.append(_chosen(name, given, bound, self.shape))
        (row_of, k), (column_of, l) = found
        row = row_of[np.asarray(self.rows)]
        column = column_of[np.asarray(self.columns)]
        kept = np.flatnonzero((row >= 0) & (column >= 0))
        kept = kept[np.lexsort((column[kept], row[kept]))]
        with jax.ensure_compile_time_eval():
            out = SparsityPattern(row[kept], column[kept], (k, l))
            _set(out, assembly=reading(kept, self.size))
        return out

    def transpose(self) -> "SparsityPattern":
        """The pattern of the transposed matrix; nothing is sorted again."""
        out = copy.copy(self)
        _set(
            out,
            rows=self.columns[self.transposed],
            columns=self.rows[self.transposed],
            row_starts=self.column_starts,
            column_starts=self.row_starts,
            transposed=self.untransposed,
            untransposed=self.transposed,
            by_rows=self.by_columns,
            by_columns=self.by_rows,
            assembly=None,
            shape=self.shape[::-1],
            longest_row=self.longest_column,
            longest_column=self.longest_row,
            lower=self.upper,
            upper=self.lower,
            offsets=self.offsets and tuple(-d for d in reversed(self.offsets)),
        )
        return out

    def without_assembly(self) -> "SparsityPattern":
        """The same entries, without what `assemble` needs."""
        if self.assembly is None:
            return self
        out = copy.copy(self)
        _set(out, assembly=None)
        return out

    def block_diagonal(self) -> "SparsityPattern":
        """Of a batch of patterns, whose arrays have one more axis in front: the pattern
        of the block diagonal matrix."""
        (m, n), size, count = self.shape, self.size, len(self.rows)
        dtype = index_dtype(count * m + 1, count * n + 1, count * size + 1)

        def shifted(x: Array, by: int) -> Array:
            shifts = by * jnp.arange(count, dtype=dtype)[:, None]
            return (x.astype(dtype) + shifts).reshape(-1)

        def starts(x: Array, size: int = size) -> Array:
            end = jnp.full(1, count * size, dtype)
            return jnp.concatenate([shifted(x[:, :-1], size), end])

        def chunks(x: Chunks, m: int) -> Chunks:
            if x.starts is None or x.rows is None or x.firsts is None:
                return x
            firsts = starts(x.firsts, x.rows.shape[-1])
            return Chunks(starts(x.starts), shifted(x.rows, m), firsts, x.width)

        out, square = copy.copy(self), m == n
        _set(
            out,
            rows=shifted(self.rows, m),
            columns=shifted(self.columns, n),
            row_starts=starts(self.row_starts),
            column_starts=starts(self.column_starts),
            transposed=shifted(self.transposed, size),
            untransposed=shifted(self.untransposed, size),
            by_rows=chunks(self.by_rows, m),
            by_columns=chunks(self.by_columns, n),
            assembly=None,
            shape=(count * m, count * n),
            size=count * size,
            lower=self.lower if square else max(count * m - 1, 0),
            upper=self.upper if square else max(count * n - 1, 0),
            offsets=self.offsets if square else None,
        )
        return out

    @property
    def T(self) -> "SparsityPattern":
        """The pattern of the transposed matrix."""
        return self.transpose()

    @property
    def is_lower(self) -> bool:
        """Whether no entry is above the diagonal."""
        return self.upper == 0

    @property
    def is_upper(self) -> bool:
        """Whether no entry is below the diagonal."""
        return self.lower == 0

    @property
    def is_diagonal(self) -> bool:
        """Whether all entries are on the diagonal."""
        return self.lower == self.upper == 0

    @property
    def form(self) -> str:
        """How products sum, in words."""
        if self.offsets is not None:
            return f"{len(self.offsets)} diagonals"
        if self.by_rows.rows is None:
            return f"rows of up to {self.by_rows.width}"
        return f"rows in pieces of {self.by_rows.width}"

    @property
    def density(self) -> float:
        """The share of the matrix that has entries."""
        m, n = self.shape
        return self.size / max(m * n, 1)

    def __eq__(self, other: object) -> bool:  # pyright: ignore
        """Equal shapes and equal entries. Patterns of traced indices are equal only if
        they share their arrays."""
        if not isinstance(other, SparsityPattern):
            return False
        if (self.shape, self.size) != (other.shape, other.size):
            return False
        return all(
            _same(x, y)
            for x, y in ((self.rows, other.rows), (self.columns, other.columns))
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.size))

    def __repr__(self) -> str:
        m, n = self.shape
        return f"SparsityPattern([{m}, {n}], {self.size} entries, {self.form})"


def _set(pattern: SparsityPattern, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(pattern, name, value)


def _same(x: Any, y: Any) -> bool:
    if x is y:
        return True
    if isinstance(x, jax.core.Tracer) or isinstance(y, jax.core.Tracer):
        return False
    return np.array_equal(np.asarray(x), np.asarray(y))


# What is checked


def _checked_shape(shape: Any) -> tuple[int, int]:
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    integers = all(hasattr(n, "__index__") and n >= 0 for n in sizes)
    if len(sizes) != 2 or not integers:
        raise ValueError(
            "`shape` must be the number of rows and of columns, two integers of at "
            f"least 0, but got {shape!r}."
        )
    return int(sizes[0]), int(sizes[1])


def _checked_indices(
    rows: Any, columns: Any, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    found = []
    for name, indices, bound in zip(("rows", "columns"), (rows, columns), shape):
        x = np.asarray(indices)
        if x.size == 0 and not isinstance(indices, jax.Array | np.ndarray):
            x = x.astype(np.int64)
        if x.ndim != 1 or x.dtype.kind not in "iu":
            raise ValueError(
                f"`{name}` must be a one-dimensional array of integers, but got "
                f"{x.dtype} of shape {x.shape}."
            )
        check_range(x, bound, name[:-1], shape)
        found.append(x)
    rows, columns = found
    if rows.size != columns.size:
        raise ValueError(
            "`rows` and `columns` must be of one length, a row and a column for each "
            f"entry, but got {rows.size} and {columns.size}."
        )
    return rows, columns


def check_range(x: np.ndarray, bound: int, name: str, shape: tuple[int, int]) -> None:
    """Indices from 0 to below `bound`."""
    if x.size and (x.min() < 0 or x.max() >= bound):
        k = int(np.argmax((x < 0) | (x >= bound)))
        raise ValueError(
            f"entry {k} is in {name} {x[k]}, but the matrix has shape {shape}: {name}s "
            f"are counted from 0 to {bound - 1}."
        )


# How a pattern is filled


def _chosen(
    name: str, given: Any, bound: int, shape: tuple[int, int]
) -> tuple[np.ndarray, int]:
    """Where each row or column goes, -1 if nowhere, and how many there are."""
    chosen = np.asarray(given)
    if chosen.dtype == bool and chosen.shape == (bound,):
        chosen = np.flatnonzero(chosen)
    if chosen.size == 0:
        chosen = chosen.astype(int)
    if chosen.ndim != 1 or chosen.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` must be a one-dimensional array of integers, or a mask "
            f"[{bound}], but got {chosen.dtype} of shape {chosen.shape}."
        )
    check_range(chosen, bound, name[:-1], shape)
    if np.unique(chosen).size != chosen.size:
        raise ValueError(f"`{name}` must be different, but some are there twice.")
    out = np.full(bound, -1)
    out[chosen] = np.arange(chosen.size)
    return out, chosen.size


def index_dtype(*numbers: int) -> np.dtype:
    """The integer dtype for indices up to these numbers."""
    return np.dtype(np.int32 if max(numbers) < 2**31 else np.int64)


def _sorted(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, tuple | None]:
    """Entries by row, then column, each once; and the assembly, unless contributions
    are the entries as they stand."""
    key = rows.astype(np.int64) * max(shape[1], 1) + columns
    if np.all(key[1:] > key[:-1]):
        return rows, columns, None
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.concatenate([np.ones(1, bool), key[1:] != key[:-1]])
    entries = np.cumsum(first) - 1
    target = np.empty_like(entries)
    target[order] = entries
    chosen = order[first]
    return rows[chosen], columns[chosen], (target, order, entries, bool(first.all()))


def _fill(
    pattern: SparsityPattern,
    rows: np.ndarray,
    columns: np.ndarray,
    shape: tuple[int, int],
    assembly: tuple | None = None,
) -> None:
    """Fill in a pattern of sorted entries, no two in one place."""
    import scipy.sparse

    (m, n), size = shape, rows.size
    dtype = index_dtype(m + 1, n + 1, size + 1)
    rows, columns = rows.astype(dtype), columns.astype(dtype)
    row_starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=m))])
    by_rows = scipy.sparse.csr_array(
        (np.arange(size, dtype=dtype), columns, row_starts.astype(dtype)), shape=shape
    )
    by_columns = by_rows.tocsc()
    transposed, column_starts = by_columns.data, by_columns.indptr
    transposed = np.asarray(transposed, dtype)
    untransposed = np.empty_like(transposed)
    untransposed[transposed] = np.arange(size, dtype=dtype)
    symmetric = m == n and np.array_equal(rows, columns[transposed])
    symmetric = symmetric and np.array_equal(columns, rows[transposed])
    counts = np.bincount((columns.astype(np.int64) - rows) + m, minlength=m + 1)
    filled = np.flatnonzero(counts) - m  # diagonals, by column minus row
    row_lengths, column_lengths = np.diff(row_starts), np.diff(column_starts)
    summing = None
    if assembly is not None:
        *arrays, unique = assembly
        kind = index_dtype(len(arrays[0]))
        target, order, entries = (jnp.asarray(x.astype(kind)) for x in arrays)
        summing = Assembly(target, order, entries, unique)
    _set(
        pattern,
        rows=jnp.asarray(rows),
        columns=jnp.asarray(columns),
        row_starts=jnp.asarray(row_starts.astype(dtype)),
        column_starts=jnp.asarray(column_starts.astype(dtype)),
        transposed=jnp.asarray(transposed),
        untransposed=jnp.asarray(untransposed),
        by_rows=cut(row_lengths, dtype),
        by_columns=cut(column_lengths, dtype),
        assembly=summing,
        shape=shape,
        size=int(size),
        longest_row=int(np.max(row_lengths, initial=0)),
        longest_column=int(np.max(column_lengths, initial=0)),
        lower=int(max(-np.min(filled, initial=0), 0)),
        upper=int(max(np.max(filled, initial=0), 0)),
        is_symmetric=bool(symmetric),
        offsets=few_diagonals(counts, -m, shape) if size else None,
        exact=True,
    )


def _traced(
    pattern: SparsityPattern, rows: Any, columns: Any, shape: tuple[int, int]
) -> None:
    """Fill in a pattern of which only the number of contributions is known."""
    rows, columns = jnp.asarray(rows), jnp.asarray(columns)
    dtypes = (rows.dtype, columns.dtype)
    integers = all(jnp.issubdtype(d, jnp.integer) for d in dtypes)
    if rows.ndim != 1 or rows.shape != columns.shape or not integers:
        raise ValueError(
            "`rows` and `columns` must be one-dimensional arrays of integers of one "
            f"length, but got {dtypes[0]} of shape {rows.shape} and {dtypes[1]} of "
            f"shape {columns.shape}."
        )
    (m, n), size = shape, rows.size
    dtype = index_dtype(m + 1, n + 1, size + 1)
    rows, columns = rows.astype(dtype), columns.astype(dtype)
    order = jnp.lexsort((columns, rows)).astype(dtype)
    counting = jnp.arange(size, dtype=dtype)
    rows, columns = rows[order], columns[order]
    transposed = jnp.lexsort((rows, columns)).astype(dtype)
    target = _inverse(order, counting)
    row_starts, column_starts = _starts(rows, m), _starts(columns[transposed], n)
    _set(
        pattern,
        rows=rows,
        columns=columns,
        row_starts=row_starts,
        column_starts=column_starts,
        transposed=transposed,
        untransposed=_inverse(transposed, counting),
        by_rows=uncut(rows, row_starts),
        by_columns=uncut(columns[transposed], column_starts),
        assembly=Assembly(target, order, counting, True),
        shape=shape,
        size=int(size),
        longest_row=int(size),
        longest_column=int(size),
        lower=max(m - 1, 0),
        upper=max(n - 1, 0),
        is_symmetric=False,
        offsets=None,
        exact=False,
    )


def _starts(indices: Array, n: int) -> Array:
    bounds = jnp.arange(n + 1, dtype=indices.dtype)
    return jnp.searchsorted(indices, bounds).astype(indices.dtype)


def _inverse(order: Array, counting: Array) -> Array:
    return jnp.zeros_like(order).at[order].set(counting, unique_indices=True)


# Where entries come from


def scipy_entries(matrix: Any) -> tuple[SparsityPattern, np.ndarray]:
    """The pattern of a SciPy matrix, and the values of its entries."""
    if not hasattr(matrix, "tocsr") or not hasattr(matrix, "nnz"):
        raise ValueError(
            "the matrix must be a SciPy sparse matrix or array, but has type "
            f"`{type(matrix).__name__}`; for a dense array use `from_dense`, for "
            "coordinates `from_coo`."
        )
    if len(matrix.shape) != 2:
        raise ValueError(
            f"`matrix` must be two-dimensional, but has shape {matrix.shape}."
        )
    _check_compressed(matrix)
    csr = matrix.tocsr()
    if not csr.has_canonical_format:
        csr = csr.copy() if csr is matrix else csr
        csr.sum_duplicates()
    (m, _), lengths = csr.shape, np.diff(csr.indptr)
    rows = np.repeat(np.arange(m), lengths)
    return SparsityPattern(rows, csr.indices, csr.shape), csr.data


def _check_compressed(matrix: Any) -> None:
    """The index arrays of CSR and CSC, which SciPy's own methods trust."""
    if matrix.format not in ("csr", "csc"):
        return
    major, minor = matrix.shape if matrix.format == "csr" else matrix.shape[::-1]
    names = ("row", "column") if matrix.format == "csr" else ("column", "row")
    check_pointers(matrix.indptr, major, len(matrix.indices), names[0])
    check_range(np.asarray(matrix.indices), minor, names[1], matrix.shape)


def check_pointers(starts: Any, n: int, size: int, name: str) -> None:
    """The pointers of compressed storage."""
    starts = np.asarray(starts)
    if starts.shape != (n + 1,):
        raise ValueError(
            f"the {name} pointers must be {n + 1} numbers, one more than there are "
            f"{name}s, but have shape {starts.shape}."
        )
    if starts[0] != 0 or starts[-1] > size:
        raise ValueError(
            f"the {name} pointers must run from 0 to the number of entries, {size}, "
            f"but run from {starts[0]} to {starts[-1]}."
        )
    if np.any(starts[1:] < starts[:-1]):
        k = int(np.argmax(starts[1:] < starts[:-1]))
        raise ValueError(
            f"the {name} pointers must not decrease, but that of {name} {k} is "
            f"{starts[k]} and the next {starts[k + 1]}."
        )


def _nonzeros(dense: Any) -> tuple[np.ndarray, ...]:
    if isinstance(dense, jax.core.Tracer):
        raise ValueError(
            "the pattern of a traced matrix is not known; build the pattern outside "
            "of `jit`, from an example or a mask, and pass it in."
        )
    if np.ndim(dense) != 2:
        raise ValueError(
            f"the array must be two-dimensional, but has shape {np.shape(dense)}."
        )
    return np.nonzero(np.asarray(dense))
