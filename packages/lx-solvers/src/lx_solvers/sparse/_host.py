"""The work on the host, as JAX calls it: factorise, solve, determinants, inverses.

Nothing here raises: a failure is a number that stands for one of `RESULTS`.
"""

from typing import Any

import numpy as np

from ._factored import Factored, factored
from ._protocol import Task
from ._refined import Refined
from ._superlu import SuperLU
from ._systems import (
    CODES,
    SUCCESSFUL,
    System,
    for_each,
    map_each,
    shares,
    system_of,
)


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

    def one(system: System) -> tuple[np.ndarray, ...]:
        key = system.key
        found = factored(system, key)
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

    return for_each(one, task, rows, columns, values)


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

    def one(system: System, digest: np.ndarray, b: np.ndarray) -> tuple:
        found = factored(system, digest.tobytes())
        if found.factors is None:
            nothing = np.full(len(b), found.code, np.int32)
            return np.zeros_like(b), nothing, np.zeros_like(nothing)
        parts = map_each(Refined(found, system, adjoint), shares(b.T), task.n)
        if not parts:
            return b, np.zeros(0, np.int32), np.zeros(0, np.int32)
        x, code, steps = zip(*parts)
        return np.concatenate(x, 1).T, np.concatenate(code), np.concatenate(steps)

    return for_each(one, task, rows, columns, values, digest, b)


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

    def one(system: System, digest: np.ndarray) -> tuple:
        sign, log = _slogdet(factored(system, digest.tobytes()), system)
        return np.asarray(sign, dtype), np.asarray(log, np.finfo(dtype).dtype)

    return for_each(one, task, rows, columns, values, digest)


def inverse(
    digest: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    *,
    task: Task,
    diagonal: bool,
) -> tuple[np.ndarray, ...]:
    """(A⁻¹)[j, i] for each entry (i, j) of A, or the diagonal of A⁻¹; NaN where the
    factors are of no use."""

    def one(system: System, digest: np.ndarray) -> tuple:
        every = np.arange(task.n, dtype=rows.dtype)
        pattern = system.pattern
        at = (every, every) if diagonal else (pattern.columns, pattern.rows)
        return (_inverse_at(factored(system, digest.tobytes()), system, *at),)

    return for_each(one, task, rows, columns, values, digest)


def root(
    digest: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    z: np.ndarray,
    *,
    task: Task,
) -> tuple[np.ndarray, ...]:
    """W z, where WWᴴ is A, which is definite; NaN where the factors are of no use.

    Args:
        digest, rows, columns, values, task: as in `solve`.
        z: `[k, n]` of vectors in rows, with the batch of matrices first.
    """

    def one(system: System, digest: np.ndarray, z: np.ndarray) -> tuple:
        return (_root(factored(system, digest.tobytes()), system, z.T).T,)

    return for_each(one, task, rows, columns, values, digest, z)


def _slogdet(found: Factored, system: System) -> tuple[Any, float]:
    """The determinant of A, from that of F."""
    if found.code == CODES["singular"]:
        return 0.0, -np.inf
    if found.code != SUCCESSFUL:
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


def _inverse_at(
    found: Factored, system: System, i: np.ndarray, j: np.ndarray
) -> np.ndarray:
    if found.code != SUCCESSFUL:
        return np.full(i.shape, np.nan, system.values.dtype)
    if system.task.n == 0:
        return np.zeros(i.shape, system.values.dtype)
    assert found.factors is not None and found.scales is not None
    z = found.factors.inverse_at(i, j)
    if z is None:
        return _inverse_at(*_by_superlu(system), i, j)
    z = -z if system.task.negative else z
    scales = found.scales  # A⁻¹ = C F⁻¹ R
    return scales.columns[i] * z * scales.rows[j]


def _root(found: Factored, system: System, z: np.ndarray) -> np.ndarray:
    if found.code != SUCCESSFUL:
        return np.full_like(z, np.nan)
    if system.task.n == 0:
        return z
    assert found.factors is not None and found.scales is not None
    w = found.factors.root(z)
    if w is None:
        return _root(*_by_superlu(system), z)
    return w / found.scales.rows[:, None]  # A = R F R


def _by_superlu(system: System) -> tuple[Factored, System]:
    """The same matrix by SuperLU, which tells what others do not."""
    kind: Any = "definite" if system.task.kind == "definite" else "general"
    task = system.task._replace(backend=SuperLU(), kind=kind)
    pattern = system.pattern
    other = system_of(task, pattern.rows, pattern.columns, system.values)
    return factored(other, other.key), other
