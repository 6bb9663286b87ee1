"""Scales of the augmented system of least squares, on the host.

Row i of a least-squares problem that is multiplied by a large number acts as a
constraint: its multiplier sᵢ is then small, and F y = b holds there. In

    K = [ αI  F  ]
        [ Fᴴ -D² ]

let R and C be scales of s and y. k rows are constraints, as many as F has columns; for
the others the element α of the diagonal is as large as any in its row. Which k that
are follows from k elements of F in different rows and columns whose product is largest:
for K this is the largest product of n elements, and there are R and C for which these
elements are near one and no other is larger (Duff and Koster 2001,
doi:10.1137/S0895479899358443; Duff and Pralet 2005, doi:10.1137/04061043X). R K R then
has a condition on which multiples of rows have no influence. Its logarithm is

    rᵢ = 0, cⱼ ≤ -fᵢⱼ                    for rows that are no constraints,
    rᵢ = -fᵢⱼ - cⱼ ≤ 0, rᵢ + fᵢₗ + cₗ ≤ 0   for the constraint i that serves column j,

where α is one, and f is log |F|: bounds of the c and of their differences, of which the
largest solution is computed (Bellman and Ford). Damping adds the rows of D to F.
"""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from ._systems import System

_FLAT = 10  # rows whose binary exponents differ by no more are not graded
_SWEEPS = 100  # at most; a few are common


def augmented_scales(system: System, sizes: np.ndarray) -> np.ndarray | None:
    """Scales of rows and columns alike, powers of two; None if the rows are not graded,
    or no k elements of F serve its k columns."""
    task, pattern, _ = system
    m, k = task.rows, task.n - task.rows
    rows, columns = pattern.rows, pattern.columns
    upper = (rows < m) & (columns >= m) & (sizes > 0)
    i, j, f = rows[upper], columns[upper] - m, _exponents(sizes[upper])
    if not _is_graded(i, f, m):
        return None
    diagonal = (rows == columns) & (sizes > 0)
    at, d = rows[diagonal], _exponents(sizes[diagonal])
    alpha = d[0]
    damped = at >= m
    i = np.concatenate((i, at[damped]))
    j = np.concatenate((j, at[damped] - m))
    f = np.concatenate((f, (d[damped] + alpha) / 2))
    graph = sp.csr_matrix((f - f.min() + 1, (i, j)), (m + k, k))
    try:
        constraints, served = min_weight_full_bipartite_matching(graph, maximize=True)
    except ValueError:
        return None
    serves = np.full(m + k, -1)
    serves[constraints] = served
    own = serves[i]
    c = _column_scales(own, j, f, k)
    r = np.zeros(m + k)
    chosen = own == j
    r[i[chosen]] = -f[chosen] - c[j[chosen]]
    exponents = np.concatenate((r[:m] - alpha / 2, c + alpha / 2))
    info = np.finfo(sizes.dtype)
    limit = info.maxexp // 2 - 2  # so that squares are finite
    exponents = np.clip(np.floor(exponents), -limit, limit).astype(np.int32)
    return np.ldexp(sizes.dtype.type(1), exponents)


def _column_scales(own: np.ndarray, j: np.ndarray, f: np.ndarray, k: int) -> np.ndarray:
    """c, from the elements f in columns j; `own` is the column that their row serves,
    or -1."""
    constraint, chosen = own >= 0, own == j
    served = np.zeros(k)
    served[j[chosen]] = f[chosen]
    most = np.full(k, -np.inf)
    np.maximum.at(most, j[~constraint], f[~constraint])
    p, q = own[constraint], j[constraint]
    apart = f[constraint] - served[p]  # cₗ ≤ cⱼ - apart, for j = p and l = q

    c = -_relaxed(served, p, q, apart)
    c = np.where(np.isfinite(most), -most, c)
    return _relaxed(c, q, p, apart)


def _relaxed(x: np.ndarray, i: np.ndarray, j: np.ndarray, d: np.ndarray) -> np.ndarray:
    """The largest y ≤ x with yᵢ ≤ yⱼ - d for each of the differences d."""
    y = x.copy()
    for _ in range(_SWEEPS):
        before = y.copy()
        np.minimum.at(y, i, before[j] - d)
        if np.array_equal(y, before):
            break
    return y


def _is_graded(i: np.ndarray, f: np.ndarray, m: int) -> bool:
    most = np.full(m, -np.inf)
    np.maximum.at(most, i, f)
    most = most[np.isfinite(most)]
    return bool(most.size and np.ptp(most) > _FLAT)


def _exponents(x: np.ndarray) -> np.ndarray:
    return np.frexp(x)[1] - 1.0
