"""In what order rows and columns are divided among devices."""

from typing import Any

import numpy as np

from ._bisection import bisected


def ordered(
    order: Any,
    column_order: Any,
    coordinates: tuple[np.ndarray, np.ndarray],
    shape: tuple[int, int],
    p: int,
    blocks: tuple[int, int],
) -> list[np.ndarray]:
    """The orders of rows and of columns: the old row, or column, of each new one.

    Args:
        order, column_order: as of `ShardedSparsityPattern`.
        coordinates: the rows and columns of the entries.
        shape: of the matrix.
        p: the number of blocks.
        blocks: how many rows and columns make a block.
    """
    (m, n), square = shape, shape[0] == shape[1]
    if isinstance(order, str) and order == "bisection":
        import scipy.sparse

        i, j = coordinates
        j = j if square else j + m
        size = m if square else m + n
        ones = np.ones(i.size, np.int8)
        graph = scipy.sparse.csr_array((ones, (i, j)), shape=(size, size))
        graph = scipy.sparse.csr_array(graph + graph.T)
        if square:
            return bisected(graph, p, (m,), blocks[:1]) * 2
        return bisected(graph, p, (m, n), blocks)
    if isinstance(order, str):
        if order != "given":
            raise ValueError(
                '`order` must be "given", "bisection" or a permutation of the rows, '
                f"but got {order!r}."
            )
        order = np.arange(m)
    rows = _permutation("order", order, m)
    if square:
        if column_order is not None:
            raise ValueError(
                "the columns of a square matrix have the order of its rows; leave "
                "`column_order` out."
            )
        return [rows, rows]
    columns = np.arange(n) if column_order is None else column_order
    return [rows, _permutation("column_order", columns, n)]


def _permutation(name: str, order: Any, size: int) -> np.ndarray:
    order = np.asarray(order)
    must = f"`{name}` must be a permutation of 0 to {size - 1}, but"
    if order.shape != (size,) or order.dtype.kind not in "iuf":
        raise ValueError(f"{must} got {order.dtype} of shape {order.shape}.")
    missing = np.setdiff1d(np.arange(size), order)
    if missing.size:
        raise ValueError(f"{must} {missing[0]} is not in it.")
    return order
