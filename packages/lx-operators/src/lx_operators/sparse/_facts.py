"""Facts that are computed when a pattern is built: orders, forms and static fields."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._forms import cut, few_diagonals, uncut
from ._index_maps import Assembly
from ._indices import index_dtype, on_device


def in_order(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, tuple | None]:
    """The entries by row, then column, without duplicates; and the assembly, or None if
    the contributions already are the entries in this order."""
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


def facts(
    rows: np.ndarray,
    columns: np.ndarray,
    shape: tuple[int, int],
    assembly: tuple | None = None,
) -> dict[str, Any]:
    """All fields of a pattern whose entries are sorted and distinct."""
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
        target, order, entries = (on_device(x.astype(kind)) for x in arrays)
        summing = Assembly(target, order, entries, unique)
    return dict(
        rows=on_device(rows),
        columns=on_device(columns),
        row_starts=on_device(row_starts.astype(dtype)),
        column_starts=on_device(column_starts.astype(dtype)),
        transposed=on_device(transposed),
        untransposed=on_device(untransposed),
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


def facts_of_traced(rows: Any, columns: Any, shape: tuple[int, int]) -> dict[str, Any]:
    """All fields of a pattern for which only the number of contributions is known."""
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
    return dict(
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
