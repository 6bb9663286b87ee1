"""Elements of the inverse where a matrix has entries, from its sparse factors.

With A = L D U, L and U of unit diagonal, the inverse Z obeys (Takahashi, Fagan and Chen
1973; Erisman and Tinney 1975, doi:10.1145/360680.360704)

    Z = U⁻¹D⁻¹ + Z (I - L) = D⁻¹L⁻¹ + (I - U) Z,

so that column j and row j, where the factors have entries s > j, follow from Z[s, s]:

    Z[s, j] = -Z[s, s] L[s, j],   Z[j, s] = -U[j, s] Z[s, s],
    Z[j, j] = 1 / D[j] - U[j, s] Z[s, j].

Elimination makes s, but for its first element p, part of the entries of column p: all
of Z[s, s] is in the block that was computed for p. Blocks are kept until the last
column that needs them has been there.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp


def selected_inverse(L: Any, U: Any, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Z[i, j], elements of (L U)⁻¹.

    Args:
        L: `[n, n]`, lower triangular of unit diagonal, in SciPy's CSC.
        U: `[n, n]`, upper triangular, in SciPy's CSC.
        i, j: rows and columns of elements; (j, i) must be where L + U may have entries.

    Returns:
        The elements.
    """
    n = L.shape[0]
    d = U.diagonal()
    U = U.tocsr()
    structures = _structures(L, U, i, j)
    least = np.minimum(i, j)
    asked = np.argsort(least, kind="stable")
    asked_from = np.searchsorted(least[asked], np.arange(n + 1))
    waiting = np.zeros(n, np.int64)
    for s in structures:
        if s.size:
            waiting[s[0]] += 1
    blocks: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    out = np.empty(i.size, d.dtype)
    for k in range(n - 1, -1, -1):
        s = structures[k]
        l, u = _line(L, k, s), _line(U, k, s) / d[k]
        Z = np.empty((s.size + 1, s.size + 1), d.dtype)
        if s.size:
            parent = int(s[0])
            indices, block = blocks[parent]
            where = np.searchsorted(indices, s)
            Zss = block[where[:, None], where]
            waiting[parent] -= 1
            if not waiting[parent]:
                del blocks[parent]
            Z[1:, 1:] = Zss
            Z[1:, 0] = -Zss @ l
            Z[0, 1:] = -u @ Zss
        Z[0, 0] = 1 / d[k] - u @ Z[1:, 0]
        indices = np.concatenate(([k], s))
        these = asked[asked_from[k] : asked_from[k + 1]]
        if these.size:
            where = (
                np.searchsorted(indices, i[these]),
                np.searchsorted(indices, j[these]),
            )
            out[these] = Z[where]
        if waiting[k]:
            blocks[k] = indices, Z
    return out


def _structures(L: Any, U: Any, i: np.ndarray, j: np.ndarray) -> list[np.ndarray]:
    """For each column, below the diagonal, where L or Uᵀ have entries, and where
    elimination would put some if the pattern were symmetric."""
    n = L.shape[0]
    U = U.tocoo()
    lower = L.tocoo()
    rows = np.concatenate((lower.row, U.col, np.maximum(i, j)))
    columns = np.concatenate((lower.col, U.row, np.minimum(i, j)))
    off = rows > columns
    ones = np.ones(np.count_nonzero(off), np.int8)
    pattern: Any = sp.csc_matrix((ones, (rows[off], columns[off])), (n, n))
    pattern.sum_duplicates()
    out = np.split(pattern.indices.astype(np.int64), pattern.indptr[1:-1])
    for s in out:
        if s.size > 1:
            parent = out[s[0]]
            if not _contains(parent, s[1:]):
                out[s[0]] = np.union1d(parent, s[1:])
    return out


def _contains(larger: np.ndarray, smaller: np.ndarray) -> bool:
    """Whether all of these indices are among those; both are sorted."""
    if smaller.size > larger.size:
        return False
    where = np.searchsorted(larger, smaller)
    return where[-1] < larger.size and bool((larger[where] == smaller).all())


def _line(matrix: Any, k: int, s: np.ndarray) -> np.ndarray:
    """The elements of one column or row at these indices."""
    start, end = matrix.indptr[k], matrix.indptr[k + 1]
    indices, data = matrix.indices[start:end], matrix.data[start:end]
    off = indices > k
    out = np.zeros(s.size, data.dtype)
    out[np.searchsorted(s, indices[off])] = data[off]
    return out
