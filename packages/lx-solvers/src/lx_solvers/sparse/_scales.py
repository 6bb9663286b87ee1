"""Scales of rows and columns, powers of two: exact, and undone exactly."""

from typing import NamedTuple

import numpy as np

from ._augmented import augmented_scales
from ._systems import System

_ROUNDS = 8
_FLAT = -10  # binary exponents of elements, from which on scales hardly matter


class Scales(NamedTuple):
    """F = diag(rows) A diag(columns): reciprocals of powers of two."""

    rows: np.ndarray
    columns: np.ndarray
    row_norm: float  # ‖F‖∞
    column_norm: float  # ‖F‖₁


def scaled(system: System) -> tuple[Scales | str, np.ndarray]:
    """Scales, and the values of F; in place of scales the status of a definite matrix
    that has an element on its diagonal that is not positive."""
    task, pattern, values = system
    rows, columns, row_starts = pattern.rows, pattern.columns, pattern.row_starts
    sizes = np.abs(values)
    if task.rows and (both := augmented_scales(system, sizes)) is not None:
        r = c = both
    elif task.kind == "general":
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
        r = c = _symmetrically_equilibrated(sizes, rows, columns, row_starts)
    F = values * r[rows] * c[columns]
    F = -F if task.negative else F
    sizes = np.abs(F)
    row_norm = float(np.max(np.add.reduceat(sizes, row_starts[:-1])))
    column_norm = float(np.max(np.bincount(columns, sizes, task.n)))
    return Scales(r, c, row_norm, column_norm), F


def _symmetrically_equilibrated(
    sizes: np.ndarray, rows: np.ndarray, columns: np.ndarray, row_starts: np.ndarray
) -> np.ndarray:
    """Reciprocal scales of rows and columns alike (Ruiz 2001): each round halves the
    exponents by which the largest elements of the rows differ from one."""
    r = np.ones(row_starts.size - 1, sizes.dtype)
    for _ in range(_ROUNDS):
        scaled = sizes * r[rows] * r[columns]
        step = _reciprocal_power(np.maximum.reduceat(scaled, row_starts[:-1]), True)
        if (step == 1).all():
            break
        r = r * step
    return r


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
