"""rslab, an extra: `pip install "lx-solvers[sparse]"`.

Supernodal LDLᵀ (Bunch and Kaufman 1977, doi:10.1090/S0025-5718-1977-0428694-0) and LU,
and for matrices whose factors are hardly larger than themselves, as those of circuits,
a left-looking LU of the blocks of a block triangular form (Davis and Palamadai Natarajan
2010, doi:10.1145/1824801.1824814).
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from ._protocol import (
    CSC,
    Kind,
    NotDefiniteError,
    SingularMatrixError,
    SparseBackend,
    SparseFactors,
)


_FILL = 8  # up to this many times the entries: factors as sparse as a circuit's


@dataclasses.dataclass(frozen=True)
class Rslab(SparseBackend):
    """rslab: LU of general matrices, LDLᵀ of symmetric ones, real or complex, with the
    inertia of real ones."""

    def supports(self, kind: Kind, dtype: np.dtype) -> bool:
        # Aᵀ = A is not Aᴴ = A
        return kind != "definite" or np.dtype(dtype).kind == "f"

    def analyse(self, matrix: CSC, kind: Kind, robust: bool) -> "_Analysis":
        import rslab

        A: Any = sp.csc_matrix(
            (matrix.values, matrix.rows, matrix.starts), (matrix.n, matrix.n)
        )
        if kind != "general":
            columns = np.repeat(np.arange(matrix.n), np.diff(matrix.starts))
            lower = np.flatnonzero(matrix.rows >= columns)
            return _Analysis(rslab.analyze(A, path="ldlt"), lower)
        if robust:
            return _Analysis(rslab.analyze(A, path="lu", pivot_threshold=1.0), None)
        try:
            light = rslab.analyze(A, path="klu")
        except RuntimeError as error:
            raise SingularMatrixError(str(error)) from None
        if light.factor_nnz <= _FILL * A.nnz:
            return _Analysis(light, None)
        return _Analysis(rslab.analyze(A, path="lu"), None)

    def factor(self, analysis: "_Analysis", matrix: CSC, kind: Kind) -> "_Factors":
        values, lower = matrix.values, analysis.lower
        values = values if lower is None else values[lower]
        try:
            factors = analysis.symbolic.factor(values)
        except RuntimeError as error:
            raise SingularMatrixError(str(error)) from None
        out = _Factors(factors)
        if kind != "general" and values.dtype.kind == "f":
            out.inertia = tuple(map(int, factors.inertia))
            if kind == "definite" and out.inertia != (matrix.n, 0, 0):
                raise NotDefiniteError(f"the inertia is {out.inertia}")
        return out


class _Analysis(NamedTuple):
    symbolic: Any
    lower: np.ndarray | None  # which entries are in the lower triangle

    @property
    def nbytes(self) -> int:
        lower = 0 if self.lower is None else self.lower.nbytes
        return int(self.symbolic.heap_bytes) + lower


class _Factors(SparseFactors):
    def __init__(self, factors: Any):
        self.factors = factors
        self.nbytes = int(factors.heap_bytes)

    def solve(self, b: np.ndarray, adjoint: bool) -> np.ndarray:
        if not adjoint:
            return self.factors.solve(b)
        return self.factors.solve_transpose(b.conj()).conj()
