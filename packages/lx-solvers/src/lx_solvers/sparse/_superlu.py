"""SuperLU, which comes with SciPy, and SciPy with JAX.

Supernodal LU with threshold pivoting (Demmel, Eisenstat, Gilbert, Li and Liu 1999,
doi:10.1137/S0895479895291765). Where rows and columns have nearly the same pattern, and
the diagonal is there, minimum degree on A + Aᵀ with a preference for pivots on the
diagonal keeps the factors two to seventy times smaller than SciPy's default, minimum
degree on AᵀA, with which all other matrices are factorised.

The ordering of the first factorisation is kept in the analysis: further matrices are
permuted beforehand.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph
from scipy.sparse.linalg import splu

from ._protocol import (
    CSC,
    Kind,
    NotDefiniteError,
    SingularMatrixError,
    SparseBackend,
    SparseFactors,
)
from ._selected_inverse import selected_inverse

_ALIKE = 0.5  # share of the entries off the diagonal whose mirror image is stored
_PREFERENCE = 0.01  # a pivot on the diagonal may be this much smaller than its column


@dataclasses.dataclass(frozen=True)
class SuperLU(SparseBackend):
    """SciPy's SuperLU. All four dtypes; definite matrices by LU without exchanges,
    which shows the signs of the pivots."""

    def supports(self, kind: Kind, dtype: np.dtype) -> bool:
        return kind in ("general", "definite")

    def analyse(self, matrix: CSC, kind: Kind, robust: bool) -> "_Ordering":
        alike = kind == "definite" or not robust and _nearly_symmetric(matrix)
        return _Ordering(alike, matrix)

    def factor(self, analysis: "_Ordering", matrix: CSC, kind: Kind) -> "_Factors":
        kept = analysis.kept
        if kept is None:
            arrays = matrix.values, matrix.rows, matrix.starts
        else:
            arrays = matrix.values[kept.gather], kept.rows, kept.starts
        A = sp.csc_matrix(arrays, (matrix.n, matrix.n), copy=False)
        A.has_sorted_indices = A.has_canonical_format = True
        first = "MMD_AT_PLUS_A" if analysis.symmetric else "COLAMD"
        threshold = _PREFERENCE if analysis.symmetric else 1.0
        try:
            lu = splu(
                A,
                permc_spec=first if kept is None else "NATURAL",
                diag_pivot_thresh=0.0 if kind == "definite" else threshold,
                options={"SymmetricMode": analysis.symmetric, "Equil": False},
            )
        except RuntimeError as error:
            raise SingularMatrixError(str(error)) from None
        if kept is None:
            analysis.keep(matrix, lu.perm_c)
        order = None if kept is None else kept.order
        factors = _Factors(lu, order, analysis.symmetric)
        if kind == "definite":
            factors.check_definite()
        return factors


class _Kept(NamedTuple):
    """The pattern in the order that SuperLU chose."""

    order: np.ndarray
    gather: np.ndarray
    rows: np.ndarray
    starts: np.ndarray


class _Ordering:
    """The order of the columns, and of the rows if `symmetric`; none at first."""

    def __init__(self, symmetric: bool, matrix: CSC):
        self.symmetric = symmetric
        self.kept: _Kept | None = None
        self.nbytes = 8 * (matrix.n + matrix.rows.size)  # soon

    def keep(self, matrix: CSC, perm_c: np.ndarray) -> None:
        """Remember the order that SuperLU found. Column j went to `perm_c[j]`."""
        n = matrix.n
        order = np.empty(n, np.int32)
        order[perm_c] = np.arange(n, dtype=np.int32)
        numbers = np.arange(matrix.rows.size, dtype=np.int32)
        A = sp.csc_matrix((numbers, matrix.rows, matrix.starts), (n, n))[:, order]
        A = A[order] if self.symmetric else A
        A.sort_indices()
        self.kept = _Kept(order, A.data, A.indices, A.indptr)


class _Factors(SparseFactors):
    """The factors of A, or of A with its columns (and rows) in another order."""

    def __init__(self, lu: Any, order: np.ndarray | None, symmetric: bool):
        self.lu, self.order, self.symmetric = lu, order, symmetric
        self.pivots: np.ndarray | None = None
        size = 4 * int(lu.nnz) if lu.nnz > 0 else 0
        self.nbytes = size + int(lu.nnz) * 16 + 16 * lu.shape[0]

    def solve(self, b: np.ndarray, adjoint: bool) -> np.ndarray:
        order, turn = self.order, "H" if adjoint else "N"
        if order is None:
            return self.lu.solve(b, turn)
        # (A P) y = b with x = P y; the adjoint has P on the other side
        if self.symmetric or adjoint:
            b = b[order]
        x = self.lu.solve(b, turn)
        if not self.symmetric and adjoint:
            return x
        out = np.empty_like(x)
        out[order] = x
        return out

    def slogdet(self) -> tuple[Any, float]:
        pivots = self._pivots()
        sizes = np.abs(pivots)
        with np.errstate(divide="ignore"):
            log = float(np.sum(np.log(sizes, dtype=np.float64)))
        sign = np.prod(pivots / sizes) * _parity(self.lu.perm_r)
        sign = sign * _parity(self.lu.perm_c)
        if self.order is not None and not self.symmetric:
            sign = sign * _parity(self.order)
        return sign, log

    def root(self, z: np.ndarray) -> np.ndarray:
        # P B Pᵀ = LDLᴴ, where B is A with its lines in another order
        d = np.sqrt(self._pivots().real).astype(z.dtype)
        w = (self.lu.L @ (d[:, None] * z))[self.lu.perm_r]
        if self.order is not None:
            w[self.order] = w.copy()
        return w

    def inverse_at(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        # LU = P_r B P_c, where B is A with its lines in another order
        if self.order is not None:
            place = np.empty_like(self.order)
            place[self.order] = np.arange(self.order.size, dtype=place.dtype)
            i, j = place[i], place[j] if self.symmetric else j
        i, j = self.lu.perm_c[i], self.lu.perm_r[j]
        return selected_inverse(self.lu.L, self.lu.U, i, j)

    def check_definite(self) -> None:
        pivots = self._pivots()
        if not np.array_equal(self.lu.perm_r, self.lu.perm_c):
            raise SingularMatrixError("a pivot is zero")
        least = float(np.min(pivots.real))
        if least <= 0:  # of a matrix scaled to a diagonal near one
            rounding = 4 * len(pivots) * np.finfo(pivots.dtype).eps
            kind = NotDefiniteError if least < -rounding else SingularMatrixError
            raise kind(f"a pivot is {least}")
        self.inertia = (len(pivots), 0, 0)

    def _pivots(self) -> Any:
        if self.pivots is None:
            self.pivots = self.lu.U.diagonal()
        return self.pivots


def _nearly_symmetric(matrix: CSC) -> bool:
    """Whether the diagonal is stored, and most of the pattern with its mirror image."""
    n, starts, rows, _ = matrix
    A = sp.csc_matrix((np.ones(rows.size, np.int8), rows, starts), (n, n), copy=False)
    A.has_sorted_indices = A.has_canonical_format = True
    on_diagonal = int(A.diagonal().sum(dtype=np.int64))
    if on_diagonal < n:
        return False
    mirrored = A.multiply(A.T.tocsc()).nnz - n
    return bool(mirrored >= _ALIKE * (rows.size - n))


def _parity(permutation: np.ndarray) -> int:
    """1 for an even permutation, -1 for an odd one: n minus the number of cycles."""
    n = permutation.size
    graph = sp.csr_matrix(
        (np.ones(n, np.int8), permutation, np.arange(n + 1)), shape=(n, n)
    )
    cycles = scipy.sparse.csgraph.connected_components(graph, return_labels=False)
    return 1 if (n - cycles) % 2 == 0 else -1
