"""Factors of a matrix, from the cache or made anew.

A is scaled to F = R⁻¹ A C⁻¹, where R and C are of powers of two that bring the largest
element of each row, then of each column, near one: exact, so that badly scaled rows and
columns do no harm. Definite and symmetric matrices have R = C. A backend sees F alone.

The first solve shows whether the factors are any good. If not, a fresh analysis is
made, if it can lead to other pivots.
"""

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph

from ._cache import sparse_cache
from ._condition import reciprocal_condition, singular_below
from ._protocol import (
    CSC,
    Kind,
    NotDefiniteError,
    SingularMatrixError,
    SparseBackend,
    SparseFactors,
)
from ._scales import Scales, scaled
from ._superlu import SuperLU
from ._systems import CODES, SUCCESSFUL, Pattern, System

log = logging.getLogger("lx_solvers")


class Factored(NamedTuple):
    """A factorised matrix, or why there are no factors."""

    code: int
    factors: SparseFactors | None = None
    scales: "Scales | None" = None
    row_starts: np.ndarray | None = None
    reciprocal_condition: float = 0.0
    unmatched: tuple[int, int] = (-1, -1)  # a row and a column without a pivot

    @property
    def nbytes(self) -> int:
        if self.factors is None or self.scales is None:
            return 64
        return (
            self.factors.nbytes + self.scales.rows.nbytes + self.scales.columns.nbytes
        )


class _Symbolic(NamedTuple):
    """The pattern by columns, and what the backend keeps of it."""

    starts: np.ndarray
    order: np.ndarray  # of the entries, to sort them by columns
    rows: np.ndarray  # in this order
    analysis: Any
    backend: SparseBackend
    kind: Kind

    @property
    def nbytes(self) -> int:
        mine = sum(x.nbytes for x in self[:3])
        return mine + int(getattr(self.analysis, "nbytes", 0))


def factored(system: System, key: bytes) -> Factored:
    """From the cache, or made anew."""

    def make() -> Factored:
        try:
            with np.errstate(all="ignore"):
                return _factorise(system)
        except MemoryError:
            return Factored(CODES["out_of_memory"])
        except Exception:
            log.exception("a sparse factorisation failed unexpectedly")
            return Factored(CODES["host_failure"])

    return sparse_cache.get(key, make)


def _factorise(system: System) -> Factored:
    task, pattern, values = system
    if not np.isfinite(values).all():
        return Factored(CODES["nonfinite_input"])
    if task.n == 0:
        return Factored(SUCCESSFUL, reciprocal_condition=1.0)
    if _has_empty_line(pattern):
        return Factored(CODES["singular"], unmatched=_unmatched(system))
    key = b"symbolic" + pattern.key
    made: list[_Symbolic] = []
    scales, F = scaled(system)
    if isinstance(scales, str):
        return Factored(CODES[scales])

    def analysed(robust: bool = False) -> _Symbolic:
        made.append(_analyse(system, F, robust, task.backend, task.kind))
        return made[-1]

    def tries() -> Iterator[_Symbolic]:
        """The analyses to try: a known one, one for these values, and the safest
        one."""
        yield sparse_cache.get(key, analysed)
        if not made:
            yield analysed()
        if task.kind == "general":
            yield analysed(robust=True)
        elif task.kind != "definite":  # with pivots from anywhere
            yield _analyse(system, F, True, SuperLU(), "general")

    best = _Attempt("singular")
    try:
        for symbolic in tries():
            attempt = _attempt(task.n, symbolic, F, scales)
            if best.factors is None or attempt.error < best.error:
                best = attempt
                if symbolic is not sparse_cache.peek(key) and best.factors is not None:
                    sparse_cache.put(key, symbolic)
            if best.error <= np.finfo(F.dtype).eps ** 0.75:
                break
    except SingularMatrixError:  # an analysis that looks at values
        pass
    if best.factors is None:
        unmatched = (-1, -1)
        if best.status == "singular":
            unmatched = _unmatched(system)
        return Factored(CODES[best.status], unmatched=unmatched)
    rcond = reciprocal_condition(best.factors, scales, best.first)
    code, unmatched = SUCCESSFUL, (-1, -1)
    if not rcond > singular_below(F.dtype):
        code, unmatched = CODES["singular"], _unmatched(system)
    return Factored(code, best.factors, scales, pattern.row_starts, rcond, unmatched)


class _Attempt(NamedTuple):
    status: str
    factors: SparseFactors | None = None
    error: float = np.inf  # the backward error of `first`
    first: Any = None  # F⁻¹ e/n


def _attempt(n: int, symbolic: _Symbolic, F: np.ndarray, scales: Scales) -> _Attempt:
    matrix = CSC(n, symbolic.starts, symbolic.rows, F[symbolic.order])
    try:
        factors = symbolic.backend.factor(symbolic.analysis, matrix, symbolic.kind)
    except SingularMatrixError:
        return _Attempt("singular")
    except NotDefiniteError:
        return _Attempt("not_definite")
    e = np.full(n, 1 / n, F.dtype)
    x = factors.solve(e, False)
    product = sp.csc_matrix(
        (matrix.values, matrix.rows, matrix.starts), (n, n), copy=False
    )
    size = scales.row_norm * largest(x) + 1 / n
    error = largest(e - product @ x) / size
    return _Attempt("successful", factors, error if np.isfinite(error) else np.inf, x)


def _analyse(
    system: System, F: np.ndarray, robust: bool, backend: SparseBackend, kind: Kind
) -> _Symbolic:
    task, pattern, _ = system
    entries = np.arange(F.size, dtype=np.int32)
    by_rows = sp.csr_matrix(
        (entries, pattern.columns, pattern.row_starts), (task.n, task.n), copy=False
    )
    by_columns: Any = by_rows.tocsc()
    starts, rows, order = by_columns.indptr, by_columns.indices, by_columns.data
    matrix = CSC(task.n, starts, rows, F[order])
    analysis = backend.analyse(matrix, kind, robust)
    return _Symbolic(starts, order, rows, analysis, backend, kind)


def _has_empty_line(pattern: Pattern) -> bool:
    empty_row = (np.diff(pattern.row_starts) == 0).any()
    return (
        empty_row or (np.bincount(pattern.columns, minlength=pattern.task.n) == 0).any()
    )


def _unmatched(system: System) -> tuple[int, int]:
    """A row and a column that no choice of nonzero pivots can serve."""
    task, pattern, values = system
    graph: Any = sp.csr_matrix(
        ((values != 0).astype(np.int8), pattern.columns, pattern.row_starts),
        (task.n, task.n),
        copy=True,
    )
    graph.eliminate_zeros()
    match = scipy.sparse.csgraph.maximum_bipartite_matching(graph, perm_type="column")
    rows = np.flatnonzero(match < 0)
    if not rows.size:
        return -1, -1
    free = np.setdiff1d(np.arange(task.n), match)
    return int(rows[0]), int(free[0])


def largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(x), initial=0))
