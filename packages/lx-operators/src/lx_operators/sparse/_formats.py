"""Entries of other libraries' sparse matrices, of dense ones and of stencils."""

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ._indices import check_pointers, check_range

Coordinates = tuple[Any, Any, tuple[int, int]]


def coordinates_of_scipy(matrix: Any) -> tuple[Coordinates, np.ndarray]:
    """The rows, columns and shape of a SciPy matrix, sorted and without duplicates; and
    the values of its entries."""
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
    return (rows, csr.indices, csr.shape), csr.data


def _check_compressed(matrix: Any) -> None:
    """Checks the index arrays of CSR and CSC, which SciPy's own methods trust."""
    if matrix.format not in ("csr", "csc"):
        return
    major, minor = matrix.shape if matrix.format == "csr" else matrix.shape[::-1]
    names = ("row", "column") if matrix.format == "csr" else ("column", "row")
    check_pointers(matrix.indptr, major, len(matrix.indices), names[0])
    check_range(np.asarray(matrix.indices), minor, names[1], matrix.shape)


def nonzeros(dense: Any) -> tuple[np.ndarray, ...]:
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


def stencil_coordinates(
    offsets: Any, grid: tuple[int, ...], periodic: bool | tuple[bool, ...]
) -> Coordinates:
    """The rows, columns and shape of a stencil on a grid, offset by offset."""
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
    every = np.concatenate(rows + empty), np.concatenate(columns + empty)
    return *every, (size, size)


def coordinates_of_bcoo(matrix: Any) -> tuple[Any, Any, Any, tuple[int, int]]:
    """Values, rows, columns and shape; padding is dropped."""
    indices, data = getattr(matrix, "indices", None), getattr(matrix, "data", None)
    if indices is None or data is None or jnp.ndim(indices) != 2:
        raise ValueError(_not_plain("BCOO", matrix))
    if jnp.ndim(data) != 1 or indices.shape[1] != 2 or len(matrix.shape) != 2:
        raise ValueError(_not_plain("BCOO", matrix))
    rows, columns = indices[:, 0], indices[:, 1]
    m, n = matrix.shape
    inside = (rows < m) & (columns < n)
    if isinstance(inside, jax.core.Tracer):
        inside = inside & (rows >= 0) & (columns >= 0)  # else an error
        data = jnp.where(inside, data, jnp.zeros_like(data))
        rows, columns = (jnp.where(inside, x, 0) for x in (rows, columns))
    else:
        keep = np.flatnonzero(np.asarray(inside))
        if keep.size < rows.size:
            rows, columns, data = (x[keep] for x in (rows, columns, data))
    return data, rows, columns, matrix.shape


def coordinates_of_bcsr(matrix: Any) -> tuple[Any, Any, Any, tuple[int, int]]:
    """Values, rows, columns and shape."""
    starts, columns = (getattr(matrix, x, None) for x in ("indptr", "indices"))
    if starts is None or columns is None or jnp.ndim(starts) != 1:
        raise ValueError(_not_plain("BCSR", matrix))
    if jnp.ndim(matrix.data) != 1 or len(matrix.shape) != 2:
        raise ValueError(_not_plain("BCSR", matrix))
    (m, n), size = matrix.shape, columns.size
    if isinstance(starts, jax.core.Tracer):
        entries = jnp.arange(size, dtype=starts.dtype)
        rows = jnp.searchsorted(starts, entries, side="right") - 1
        inside = (entries < starts[-1]) & (columns >= 0) & (columns < n)
        data = jnp.where(inside, matrix.data, jnp.zeros_like(matrix.data))
        rows, columns = (jnp.where(inside, x, 0) for x in (rows, columns))
        return data, rows, columns, (m, n)
    check_pointers(starts, m, size, "row")
    lengths = np.diff(np.asarray(starts, np.int64))
    rows = np.repeat(np.arange(m), lengths)
    data, columns = matrix.data[: rows.size], columns[: rows.size]
    if not isinstance(columns, jax.core.Tracer):
        check_range(np.asarray(columns), n, "column", (m, n))
    return data, rows, columns, (m, n)


def check_finite(values: Any, rows: Any, columns: Any) -> None:
    if isinstance(values, jax.core.Tracer):
        return
    finite = np.isfinite(np.asarray(values))
    if not finite.all():
        k = int(np.argmin(finite))
        where = ""
        if not any(isinstance(x, jax.core.Tracer) for x in (rows, columns)):
            where = f", in row {int(rows[k])} and column {int(columns[k])},"
        raise ValueError(f"entry {k}{where} is {values[k]}; values must be finite.")


def _not_plain(kind: str, matrix: Any) -> str:
    got = f"a value of type `{type(matrix).__name__}`"
    if hasattr(matrix, "n_batch"):
        got = f"{matrix!r} with {matrix.n_batch} batch and {matrix.n_dense} dense axes"
    return f"the {kind} matrix must have no batch or dense axes, but is {got}."
