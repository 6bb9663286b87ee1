"""One matrix or a batch of them, as the host gets them, and the digests by which they
are found again."""

import functools
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from .._results import NAMES
from ._protocol import Task

CODES = {name: number for number, name in enumerate(NAMES)}
SUCCESSFUL = CODES["successful"]
_TOLERANCE = 8  # times eps
_WORTH_A_THREAD = 500  # unknowns of each system of a batch


def tolerance(longest: int, dtype: Any) -> float:
    """Up to which backward error a solution is one. A residual has rounding errors of
    its own, of about √k for rows of k entries.

    Args:
        longest: the number of entries of the longest row.
        dtype: of the matrix.
    """
    return _TOLERANCE * (longest + 1) ** 0.5 * float(np.finfo(dtype).eps)


class Pattern:
    """Where the entries of a matrix are, in order of rows, then of columns. What is
    derived from that is computed when it is first asked for: further vectors need
    neither."""

    def __init__(self, task: Task, dtype: np.dtype, rows: np.ndarray, columns: Any):
        self.task, self.dtype = task, dtype
        self.rows: np.ndarray = rows
        self.columns: np.ndarray = columns

    @functools.cached_property
    def row_starts(self) -> np.ndarray:
        return starts_of(self.rows, self.task.n)

    @functools.cached_property
    def key(self) -> bytes:
        return digest_of(self.task, str(self.dtype), self.row_starts, self.columns)


class System(NamedTuple):
    """One matrix."""

    task: Task
    pattern: Pattern
    values: np.ndarray

    @property
    def key(self) -> bytes:
        """The key by which its factors are found."""
        return digest_of(self.pattern.key, self.values)


def for_each(
    one: Callable[..., tuple],
    task: Task,
    rows: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    *others: np.ndarray,
) -> tuple[np.ndarray, ...]:
    if values.ndim == 1:
        return one(system_of(task, rows, columns, values), *others)
    if rows.ndim == 1:
        first = system_of(task, rows, columns, values[0])
        systems = [first._replace(values=v) for v in values]
    else:
        systems = [system_of(task, *each) for each in zip(rows, columns, values)]
    each = map_each(lambda each: one(*each), list(zip(systems, *others)), task.n)
    return tuple(np.stack(parts) for parts in zip(*each))


def system_of(
    task: Task, rows: np.ndarray, columns: np.ndarray, values: np.ndarray
) -> System:
    return System(task, Pattern(task, values.dtype, rows, columns), values)


def starts_of(lines: np.ndarray, n: int) -> np.ndarray:
    """Where each line starts, of entries sorted by lines."""
    starts = np.zeros(n + 1, np.int32)
    np.cumsum(np.bincount(lines, minlength=n), out=starts[1:])
    return starts


def map_each(fn: Callable[[Any], Any], items: Any, size: int) -> list[Any]:
    """`fn` of each, in threads where that is worth it."""
    if len(items) < 2 or size < _WORTH_A_THREAD or _local.inside:
        return [fn(item) for item in items]

    def inside(item: Any) -> Any:
        _local.inside = True
        return fn(item)

    with ThreadPoolExecutor(_cores()) as pool:
        return list(pool.map(inside, items))


def shares(columns: np.ndarray) -> list[np.ndarray]:
    """The columns of `[n, k]`, one part for each thread of `map_each`."""
    n, k = columns.shape
    count = min(k, 1 if n < _WORTH_A_THREAD or _local.inside else _cores())
    return np.array_split(columns, count, axis=1) if count else []


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Local(threading.local):
    inside = False  # a thread of ours, which starts no others


_local = _Local()


def digest_of(*parts: Any) -> bytes:
    """128 bits of the content."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            state.update(f"{part.dtype}{part.shape}".encode())
            state.update(np.ascontiguousarray(part).view(np.uint8).data)
        else:
            state.update(part if isinstance(part, bytes) else repr(part).encode())
    return state.digest()
