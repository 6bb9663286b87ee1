"""rslab, the extra `sparse`.

Supernodal LDLᵀ (Bunch and Kaufman 1977, doi:10.1090/S0025-5718-1977-0428694-0) and LU;
and for matrices whose factors are hardly larger than themselves, as those of circuits,
a left-looking LU of the blocks of a block triangular form (Davis and Palamadai
Natarajan 2010, doi:10.1145/1824801.1824814).
"""

import dataclasses
import functools
import logging
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

# Minimum fill is what the race of the cheap orderings nearly always ends with, at half
# the cost of the analysis; large systems still race it against nested dissection.
_ORDERING = {"race_candidates": ["amf"]}
# Whether the light path serves is known after its symbolic factorisation, which takes a
# third of the first solve on a plane grid, and three quarters in a box (20³). So only
# matrices are tried most of whose columns have no more entries than this.
_FEW = 3
_FILL = 4  # up to this many times the entries: factors as sparse as a circuit's


@dataclasses.dataclass(frozen=True)
class Rslab(SparseBackend):
    """rslab: LU of general matrices, LDLᵀ of the others, with the inertia of Hermitian
    ones. Complex Hermitian matrices B + iC are factorised as the real symmetric
    [B, -C; C, B], all of whose eigenvalues are those of B + iC, twice."""

    def supports(self, kind: Kind, dtype: np.dtype) -> bool:
        return True

    def analyse(self, matrix: CSC, kind: Kind, robust: bool) -> "_Analysis":
        if kind != "general":
            split = kind != "symmetric" and matrix.values.dtype.kind == "c"
            rows, columns, which = _lower(matrix, split)
            values, n = _parts(matrix.values, split)[which], (1 + split) * matrix.n
            A: Any = sp.csc_matrix((values, (rows, columns)), (n, n))
            return _Analysis(_analysed(A, "ldlt", **_ORDERING), which, split)
        A = sp.csc_matrix(
            (matrix.values, matrix.rows, matrix.starts), (matrix.n, matrix.n)
        )
        if robust:  # supernodal LU exchanges rows within a supernode only
            return _Analysis(_analysed(A, "klu", pivot_threshold=1.0))
        if np.median(np.diff(matrix.starts)) <= _FEW:
            light = _analysed(A, "klu")
            if light.factor_nnz <= _FILL * A.nnz:
                return _Analysis(light)
        return _Analysis(_analysed(A, "lu", **_ORDERING))

    def factor(self, analysis: "_Analysis", matrix: CSC, kind: Kind) -> "_Factors":
        values, split = matrix.values, analysis.split
        if analysis.which is not None:
            values = _parts(values, split)[analysis.which]
        try:
            factors = analysis.symbolic.factor(values)
        except RuntimeError as error:
            raise SingularMatrixError(str(error)) from None
        out = _Factors(factors, split, kind != "general")
        if kind != "general" and values.dtype.kind == "f":
            positive, negative, zero = (int(x) // (1 + split) for x in factors.inertia)
            out.inertia = positive, negative, zero
            if kind == "definite" and positive < matrix.n:
                kind_of = NotDefiniteError if negative else SingularMatrixError
                raise kind_of(f"the inertia is {out.inertia}")
        return out


@functools.cache
def _library() -> Any:
    """rslab, whose messages go to the logger `lx_solvers.rslab`, for debugging: what
    they are about ends in a status."""
    import rslab

    log = logging.getLogger("lx_solvers.rslab")
    rslab.set_log_sink(lambda level, message: log.debug("%s: %s", level, message))
    return rslab


def _analysed(A: Any, path: str, **settings: Any) -> Any:
    try:
        return _library().analyze(A, path=path, **settings)
    except RuntimeError as error:  # the pattern, or these values, are singular
        raise SingularMatrixError(str(error)) from None


def _parts(values: Any, split: bool) -> np.ndarray:
    """The values of B, C, -C and B."""
    if not split:
        return values
    real, imag = values.real, values.imag
    return np.concatenate((real, imag, -imag, real))


def _lower(matrix: CSC, split: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and columns of the lower triangle, by columns, and which of the parts'
    values stand there."""
    n, rows = matrix.n, matrix.rows
    columns = np.repeat(np.arange(n, dtype=rows.dtype), np.diff(matrix.starts))
    if split:
        rows = np.concatenate((rows, rows + n, rows, rows + n))
        columns = np.concatenate((columns, columns, columns + n, columns + n))
    which = np.flatnonzero(rows >= columns)
    which = which[np.lexsort((rows[which], columns[which]))]
    return rows[which], columns[which], which


class _Analysis(NamedTuple):
    symbolic: Any
    which: np.ndarray | None = None  # of the parts' values, those of the lower triangle
    split: bool = False  # into real and imaginary part

    @property
    def nbytes(self) -> int:
        which = 0 if self.which is None else self.which.nbytes
        return int(self.symbolic.heap_bytes) + which


class _Factors(SparseFactors):
    def __init__(self, factors: Any, split: bool, symmetric: bool):
        self.factors, self.split, self.symmetric = factors, split, symmetric
        self.nbytes = int(factors.heap_bytes)

    def solve(self, b: Any, adjoint: bool) -> np.ndarray:
        if self.split:  # Hermitian
            x = self.factors.solve(np.concatenate((b.real, b.imag)))
            real, imag = np.split(x, 2)
            return real + 1j * imag
        if not adjoint:
            return self.factors.solve(b)
        return self.factors.solve_transpose(b.conj()).conj()

    def solve_many(self, b: Any, adjoint: bool) -> np.ndarray:
        if b.shape[1] == 1 or adjoint and not self.symmetric:
            return super().solve_many(b, adjoint)
        if self.split:
            x = self.factors.solve_many(np.concatenate((b.real, b.imag)))
            real, imag = np.split(x, 2)
            return real + 1j * imag
        b = b.conj() if adjoint else b  # A⁻ᴴ is the conjugate of A⁻¹
        x = self.factors.solve_many(np.ascontiguousarray(b))
        return x.conj() if adjoint else x
