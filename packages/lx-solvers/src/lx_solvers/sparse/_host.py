"""The work on the host: factorise, solve, and say how it went.

A is scaled to F = R⁻¹ A C⁻¹, where R and C are of powers of two that bring the largest
element of each row, then of each column, near one: exact, so that badly scaled rows and
columns do no harm. Definite and symmetric matrices have R = C. A backend sees F alone.

How far F is from a singular matrix is estimated once, from solves with its factors
(Hager 1984, doi:10.1137/0905023; Higham 1988, doi:10.1145/50063.214386, algorithm
4.1). Its first solve also shows whether the factors are any good: if not, and other
pivots are to be had by a fresh analysis, these are taken.

Nothing here raises: a failure is a number that stands for one of `RESULTS`.
"""

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph

from .._results import NAMES
from ._cache import sparse_cache
from ._protocol import (
    CSC,
    Kind,
    NotDefiniteError,
    SingularMatrixError,
    SparseBackend,
    SparseFactors,
    Task,
)
from ._superlu import SuperLU

_log = logging.getLogger("lx_solvers")

_CODES = {name: number for number, name in enumerate(NAMES)}
_SUCCESSFUL = _CODES["successful"]
_ROUNDS = 2  # of Hager's iteration, at most
_SINGULAR = 4  # times eps
_GOAL = 4  # times eps: a backward error that needs no refinement
_STEPS = 3  # of refinement, at most
_FLAT = -10  # binary exponents of elements, from which on scales hardly matter
_WORTH_A_THREAD = 500  # unknowns of each system of a batch
_LOST = 0.01  # a residual as large as this share of b: the solution tells nothing


class _System(NamedTuple):
    """One matrix, by rows: its entries are in order of rows, then of columns."""

    task: Task
    pattern_key: bytes
    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray


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


class Factored(NamedTuple):
    """A factorised matrix, or why there are no factors."""

    code: int
    factors: SparseFactors | None = None
    scales: "_Scales | None" = None
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


class _Scales(NamedTuple):
    """F = diag(rows) A diag(columns): reciprocals of powers of two."""

    rows: np.ndarray
    columns: np.ndarray
    row_norm: float  # ‖F‖∞
    column_norm: float  # ‖F‖₁


# Calls from JAX


def factorise(
    rows: np.ndarray, columns: np.ndarray, values: np.ndarray, *, task: Task
) -> tuple[np.ndarray, ...]:
    """Factorise one matrix, or a batch of some: then `values`, and if they differ
    `rows` and `columns` too, have the batch first.

    Returns:
        For each: the digest of what was factorised (four uint32), the status, the
        reciprocal condition number, the inertia (-1 if not known), and a row and a
        column without a pivot (-1 if there is none).
    """

    def one(system: _System) -> tuple[np.ndarray, ...]:
        key = _digest(system.pattern_key, system.values)
        found = _factored(system, key)
        inertia = None if found.factors is None else found.factors.inertia
        if inertia is not None and task.negative:
            inertia = inertia[1], inertia[0], inertia[2]
        return (
            np.frombuffer(key, np.uint32),
            np.asarray(found.code, np.int32),
            np.asarray(found.reciprocal_condition, np.finfo(values.dtype).dtype),
            np.asarray((-1, -1, -1) if inertia is None else inertia, np.int32),
            np.asarray(found.unmatched, np.int32),
        )

    return _for_each(one, task, rows, columns, values)


def solve(
    digest: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    b: np.ndarray,
    *,
    task: Task,
    adjoint: bool,
) -> tuple[np.ndarray, ...]:
    """A⁻¹ b, or A⁻ᴴ b, for one matrix, or a batch of some.

    Args:
        digest: what `factorise` returned.
        rows, columns, values: as there; looked at where the factors were dropped, and
            for residuals.
        b: `[k, n]` of vectors in rows, with the batch of matrices first.
        task: what is known of the matrix.
        adjoint: whether to solve with Aᴴ.

    Returns:
        The solutions, of the shape of b; and for each the status, and the number of
        steps of refinement.
    """

    def one(system: _System, digest: np.ndarray, b: np.ndarray) -> tuple:
        found = _factored(system, digest.tobytes())
        if found.factors is None:
            nothing = np.full(len(b), found.code, np.int32)
            return np.zeros_like(b), nothing, np.zeros_like(nothing)
        solve_one = _Refined(found, system, adjoint)
        each = _map(solve_one, b, task.n)
        if not each:
            return b, np.zeros(0, np.int32), np.zeros(0, np.int32)
        x, code, steps = zip(*each)
        return np.stack(x), np.asarray(code, np.int32), np.asarray(steps, np.int32)

    return _for_each(one, task, rows, columns, values, digest, b)


def determinant(
    digest: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    *,
    task: Task,
) -> tuple[np.ndarray, ...]:
    """Sign and logarithm of the absolute value of the determinant; NaN where the
    factors are of no use."""
    dtype = values.dtype

    def one(system: _System, digest: np.ndarray) -> tuple:
        sign, log = _slogdet(_factored(system, digest.tobytes()), system)
        return np.asarray(sign, dtype), np.asarray(log, np.finfo(dtype).dtype)

    return _for_each(one, task, rows, columns, values, digest)


def inverse(
    digest: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    *,
    task: Task,
) -> tuple[np.ndarray, ...]:
    """(A⁻¹)[j, i] for each entry (i, j) of A; NaN where the factors are of no use."""

    def one(system: _System, digest: np.ndarray) -> tuple:
        return (_inverse_at_entries(_factored(system, digest.tobytes()), system),)

    return _for_each(one, task, rows, columns, values, digest)


def _for_each(
    one: Callable[..., tuple],
    task: Task,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    *others: np.ndarray,
) -> tuple[np.ndarray, ...]:
    if values.ndim == 1:
        return one(_system(task, rows, columns, values), *others)
    if rows.ndim == 1:
        first = _system(task, rows, columns, values[0])
        systems = [first._replace(values=v) for v in values]
    else:
        systems = [_system(task, *each) for each in zip(rows, columns, values)]
    each = _map(lambda each: one(*each), list(zip(systems, *others)), task.n)
    return tuple(np.stack(parts) for parts in zip(*each))


def _system(
    task: Task, rows: np.ndarray, columns: np.ndarray, values: np.ndarray
) -> _System:
    key = _digest(task, str(values.dtype), rows, columns)
    return _System(task, key, rows, columns, values)


def _map(fn: Callable[[Any], Any], items: Any, size: int) -> list[Any]:
    """`fn` of each, in threads where that is worth it."""
    if len(items) < 2 or size < _WORTH_A_THREAD or _local.inside:
        return [fn(item) for item in items]

    def inside(item: Any) -> Any:
        _local.inside = True
        return fn(item)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(inside, items))


class _Local(threading.local):
    inside = False  # a thread of ours, which starts no others


_local = _Local()


def _digest(*parts: Any) -> bytes:
    """128 bits of the content."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(f"{part.dtype}{part.shape}".encode())
            state.update(np.ascontiguousarray(part).view(np.uint8).data)
        else:
            state.update(part if isinstance(part, bytes) else repr(part).encode())
    return state.digest()


# Factorising


def _factored(system: _System, key: bytes) -> Factored:
    """From the cache, or made anew."""

    def make() -> Factored:
        try:
            with np.errstate(all="ignore"):
                return _factorise(system)
        except MemoryError:
            return Factored(_CODES["out_of_memory"])
        except Exception:
            _log.exception("a sparse factorisation failed unexpectedly")
            return Factored(_CODES["host_failure"])

    return sparse_cache.get(key, make)


def _factorise(system: _System) -> Factored:
    task, pattern_key, _, _, values = system
    if not np.isfinite(values).all():
        return Factored(_CODES["nonfinite_input"])
    if task.n == 0:
        return Factored(_SUCCESSFUL, reciprocal_condition=1.0)
    row_starts = _starts(system.rows, task.n)
    if _has_empty_line(system, row_starts):
        return Factored(_CODES["singular"], unmatched=_unmatched(system, row_starts))
    key = b"symbolic" + pattern_key
    made: list[_Symbolic] = []
    scales, F = _scaled(system, row_starts)
    if isinstance(scales, str):
        return Factored(_CODES[scales])

    def analysed(robust: bool = False) -> _Symbolic:
        made.append(_analyse(system, F, robust, task.backend, task.kind))
        return made[-1]

    def tries() -> Iterator[_Symbolic]:
        """What is known already, what these values suggest, what is safest."""
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
            unmatched = _unmatched(system, row_starts)
        return Factored(_CODES[best.status], unmatched=unmatched)
    rcond = _reciprocal_condition(best.factors, scales, best.first)
    code, unmatched = _SUCCESSFUL, (-1, -1)
    if not rcond > singular_below(F.dtype):
        code, unmatched = _CODES["singular"], _unmatched(system, row_starts)
    return Factored(code, best.factors, scales, row_starts, rcond, unmatched)


class _Attempt(NamedTuple):
    status: str
    factors: SparseFactors | None = None
    error: float = np.inf  # the backward error of `first`
    first: Any = None  # F⁻¹ e/n


def _attempt(n: int, symbolic: _Symbolic, F: np.ndarray, scales: _Scales) -> _Attempt:
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
    size = scales.row_norm * _largest(x) + 1 / n
    error = _largest(e - product @ x) / size
    return _Attempt("successful", factors, error if np.isfinite(error) else np.inf, x)


def _analyse(
    system: _System, F: np.ndarray, robust: bool, backend: SparseBackend, kind: Kind
) -> _Symbolic:
    task, _, rows, columns, _ = system
    order = np.argsort(columns, kind="stable").astype(np.int32)
    starts, rows = _starts(columns, task.n), rows[order]
    matrix = CSC(task.n, starts, rows, F[order])
    analysis = backend.analyse(matrix, kind, robust)
    return _Symbolic(starts, order, rows, analysis, backend, kind)


def _starts(lines: np.ndarray, n: int) -> np.ndarray:
    """Where each line starts, of entries sorted by lines."""
    starts = np.zeros(n + 1, np.int32)
    np.cumsum(np.bincount(lines, minlength=n), out=starts[1:])
    return starts


def _has_empty_line(system: _System, row_starts: np.ndarray) -> bool:
    n = system.task.n
    empty_row = (np.diff(row_starts) == 0).any()
    return empty_row or (np.bincount(system.columns, minlength=n) == 0).any()


def _unmatched(system: _System, row_starts: np.ndarray) -> tuple[int, int]:
    """A row and a column that no choice of nonzero pivots can serve."""
    task, _, _, columns, values = system
    graph: Any = sp.csr_matrix(
        ((values != 0).astype(np.int8), columns, row_starts),
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


def _scaled(
    system: _System, row_starts: np.ndarray
) -> tuple[_Scales | str, np.ndarray]:
    """Scales, and the values of F; in place of scales the status of a definite matrix
    that has an element on its diagonal that is not positive."""
    task, _, rows, columns, values = system
    sizes = np.abs(values)
    if task.kind == "general":
        r, c = _equilibrated(sizes, rows, columns, row_starts)
    elif task.kind == "definite":
        on_diagonal = rows == columns
        diagonal = np.zeros(task.n, sizes.dtype)
        diagonal[rows[on_diagonal]] = np.real(values[on_diagonal])
        diagonal = -diagonal if task.negative else diagonal
        if not (diagonal > 0).all():
            return "not_definite" if (diagonal < 0).any() else "singular", values
        r = c = _reciprocal_power(diagonal, root=True)
    else:
        largest = np.maximum.reduceat(sizes, row_starts[:-1])
        r = c = _reciprocal_power(largest, root=True)
    F = values * r[rows] * c[columns]
    F = -F if task.negative else F
    sizes = np.abs(F)
    row_norm = float(np.max(np.add.reduceat(sizes, row_starts[:-1])))
    column_norm = float(np.max(np.bincount(columns, sizes, task.n)))
    return _Scales(r, c, row_norm, column_norm), F


def _equilibrated(
    sizes: np.ndarray, rows: np.ndarray, columns: np.ndarray, row_starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Reciprocal scales of rows and of columns.

    Rows first, then columns; or columns, then rows: so that what multiplied the rows,
    or the columns, does no harm. Or both alike by the roots of their largest elements
    (Ruiz 2001), then rows, then columns, so that D A D is as good as A. The one of the
    three that brings most elements near one is taken.
    """
    n = row_starts.size - 1

    def of_rows(sizes: np.ndarray, root: bool) -> np.ndarray:
        return _reciprocal_power(np.maximum.reduceat(sizes, row_starts[:-1]), root)

    def of_columns(sizes: np.ndarray, root: bool) -> np.ndarray:
        most = np.zeros(n, sizes.dtype)
        np.maximum.at(most, columns, sizes)
        return _reciprocal_power(most, root)

    one = np.ones(n, sizes.dtype)
    found = []
    for first in ("rows", "columns", "both"):
        r, c, scaled = one, one, sizes
        for _ in range(2 if first == "both" else 0):
            r, c = r * of_rows(scaled, True), c * of_columns(scaled, True)
            scaled = sizes * r[rows] * c[columns]
        if first == "columns":
            c = of_columns(sizes, False)
            r = of_rows(sizes * c[columns], False)
        else:
            r = r * of_rows(scaled, False)
            c = c * of_columns(sizes * r[rows] * c[columns], False)
        scaled = sizes * r[rows] * c[columns]
        exponents = np.frexp(scaled[scaled > 0])[1]
        found.append((int(exponents.sum(dtype=np.int64)), r, c))
        if exponents.size and exponents.min() > _FLAT:
            break  # hardly graded
    _, r, c = max(found, key=lambda each: each[0])
    return r, c


def _reciprocal_power(x: np.ndarray, root: bool = False) -> np.ndarray:
    """The reciprocal of the largest power of two up to x, or to √x; 1 for zero."""
    info = np.finfo(x.dtype)
    _, exponents = np.frexp(x)
    exponents = exponents - 1
    if root:
        exponents = exponents // 2
    exponents = np.clip(exponents, info.minexp + 2, info.maxexp - 2)
    return np.where(x > 0, np.ldexp(x.dtype.type(1), -exponents), x.dtype.type(1))


def _largest(x: np.ndarray) -> float:
    return float(np.max(np.abs(x), initial=0))


def singular_below(dtype: Any) -> float:
    """The reciprocal condition number from which on a matrix is singular to working
    precision."""
    return _SINGULAR * float(np.finfo(dtype).eps)


def _reciprocal_condition(
    factors: SparseFactors, scales: _Scales, y: np.ndarray
) -> float:
    """1 / (‖F‖₁ ‖F⁻¹‖₁), from above. `y` is F⁻¹ e/n."""
    n = y.size

    def norm(x: np.ndarray) -> float:
        return float(np.sum(np.abs(x), dtype=np.float64))

    most = norm(y)
    for _ in range(_ROUNDS):
        sizes = np.abs(y)
        signs = np.where(sizes == 0, 1, y / np.where(sizes == 0, 1, sizes))
        z = factors.solve(signs.astype(y.dtype), True)
        unit = np.zeros_like(y)
        unit[np.argmax(np.abs(z))] = 1
        y = factors.solve(unit, False)
        grown = norm(y) > most
        most = max(most, norm(y))
        if not grown:
            break
    turns = 1 + np.arange(n) / max(n - 1, 1)
    turns[1::2] *= -1
    y = factors.solve(turns.astype(y.dtype), False)
    most = max(most, 2 * norm(y) / (3 * n))
    return 1 / (scales.column_norm * most) if 0 < most < np.inf else 0.0


# Solving


class _Refined:
    """Solves with one matrix, with refinement where that is needed (Skeel 1980: one
    step is mostly enough)."""

    def __init__(self, found: Factored, system: _System, adjoint: bool):
        assert found.factors is not None and found.scales is not None
        self.factors, self.adjoint = found.factors, adjoint
        self.negative = system.task.negative
        scales, n = found.scales, system.task.n
        self.before, self.after, self.norm = (
            scales.rows,
            scales.columns,
            scales.row_norm,
        )
        arrays = system.values, system.columns, found.row_starts
        self.A: Any = sp.csr_matrix(arrays, (n, n), copy=False)
        self.sizes: Any = abs(self.A) if system.task.each_row else None
        if adjoint:
            self.before, self.after = self.after, self.before
            self.norm = scales.column_norm

    def __call__(self, b: np.ndarray) -> tuple[np.ndarray, int, int]:
        try:
            with np.errstate(all="ignore"):
                return self._refined(b)
        except MemoryError:
            return np.full_like(b, np.nan), _CODES["out_of_memory"], 0
        except Exception:
            _log.exception("a sparse solve failed unexpectedly")
            return np.full_like(b, np.nan), _CODES["host_failure"], 0

    def _refined(self, b: np.ndarray) -> tuple[np.ndarray, int, int]:
        scaled = b * self.before
        size = _largest(scaled)
        if not np.isfinite(size):
            return np.full_like(b, np.nan), _CODES["nonfinite_input"], 0
        y = self._solve(scaled)
        goal = _GOAL * np.finfo(b.dtype).eps
        r, error = self._residual(b, y, size)
        steps = 0
        while error > goal and steps < _STEPS:
            better = y + self._solve(r)
            r, smaller = self._residual(b, better, size)
            if not smaller < error:
                break
            y, steps, slow = better, steps + 1, smaller > error / 2
            error = smaller
            if slow:
                break
        lost = _largest(r) > _LOST * size
        return y * self.after, _CODES["singular"] if lost else _SUCCESSFUL, steps

    def _solve(self, b: np.ndarray) -> np.ndarray:
        y = self.factors.solve(b, self.adjoint)
        return -y if self.negative else y

    def _residual(
        self, b: np.ndarray, y: np.ndarray, size: float
    ) -> tuple[np.ndarray, float]:
        """Scaled, and as a backward error."""
        x = y * self.after
        Ax = (self.A.T @ x.conj()).conj() if self.adjoint else self.A @ x
        r = b - Ax
        if self.sizes is not None:
            sizes = self.sizes.T if self.adjoint else self.sizes
            scale = sizes @ np.abs(x) + np.abs(b)
            return r * self.before, _largest(r / np.where(scale == 0, 1, scale))
        r = r * self.before
        scale = self.norm * _largest(y) + size
        return r, _largest(r) / scale if scale > 0 else 0.0


def _slogdet(found: Factored, system: _System) -> tuple[Any, float]:
    """The determinant of A, from that of F."""
    if found.code == _CODES["singular"]:
        return 0.0, -np.inf
    if found.code != _SUCCESSFUL:
        return np.nan, np.nan
    if system.task.n == 0:
        return 1.0, 0.0
    assert found.factors is not None and found.scales is not None
    told = found.factors.slogdet()
    if told is None:
        return _slogdet(*_by_superlu(system))
    sign, log = told
    if system.task.negative and system.task.n % 2:
        sign = -sign
    logs = [np.sum(np.log2(x, dtype=np.float64)) for x in found.scales[:2]]
    return sign, log - float(sum(logs)) * np.log(2)


def _inverse_at_entries(found: Factored, system: _System) -> np.ndarray:
    if found.code != _SUCCESSFUL:
        return np.full_like(system.values, np.nan)
    if system.task.n == 0:
        return system.values
    assert found.factors is not None and found.scales is not None
    z = found.factors.inverse_at(system.columns, system.rows)
    if z is None:
        return _inverse_at_entries(*_by_superlu(system))
    z = -z if system.task.negative else z
    scales = found.scales  # A⁻¹ = C F⁻¹ R
    return scales.columns[system.columns] * z * scales.rows[system.rows]


def _by_superlu(system: _System) -> tuple[Factored, _System]:
    """The same matrix by SuperLU, which tells what others do not."""
    kind: Any = "definite" if system.task.kind == "definite" else "general"
    task = system.task._replace(backend=SuperLU(), kind=kind)
    other = _system(task, *system[2:])
    return _factored(other, _digest(other.pattern_key, other.values)), other
