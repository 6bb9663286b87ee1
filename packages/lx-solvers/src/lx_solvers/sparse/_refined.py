"""Solves with the factors of one matrix, refined where that is needed (Skeel 1980,
doi:10.1090/S0025-5718-1980-0572859-4: one step is mostly enough)."""

from typing import Any

import numpy as np
import scipy.sparse as sp

from ._factored import Factored, log
from ._systems import CODES, SUCCESSFUL, System, tolerance

_GOAL = 4  # times eps: a backward error that needs no refinement
_STEPS = 3  # of refinement, at most
_STEPS_OF_ROWS = 8  # where each row counts
_GRADED = 2.0**10  # a ratio of scales from which on a matrix is graded
_LOST = 0.01  # a residual as large as this share of b: the solution tells nothing

_Solved = tuple[np.ndarray, np.ndarray, np.ndarray]


class Refined:
    """Solves with one matrix, or its adjoint.

    Called with vectors in the columns of `[n, k]`, it returns the solutions, and for
    each the status and the number of steps of refinement.
    """

    def __init__(self, found: Factored, system: System, adjoint: bool):
        assert found.factors is not None and found.scales is not None
        self.factors, self.adjoint = found.factors, adjoint
        self.negative = system.task.negative
        scales, n = found.scales, system.task.n
        before, after, self.norm = scales.rows, scales.columns, scales.row_norm
        if adjoint:
            before, after, self.norm = after, before, scales.column_norm
        self.before, self.after = before[:, None], after[:, None]
        arrays = system.values, system.pattern.columns, found.row_starts
        self.A: Any = sp.csr_matrix(arrays, (n, n), copy=False)
        self.of_rows = system.task.rows > 0
        # what is small beside a large row or column need not be small beside others
        graded = any(_spread(x) > _GRADED for x in (before, after))
        self.sizes: Any = abs(self.A) if self.of_rows or graded else None
        if self.of_rows:
            longest = int(np.diff(self.A.indptr).max())
            self.limit = tolerance(longest, system.values.dtype)

    def __call__(self, b: np.ndarray) -> _Solved:
        try:
            with np.errstate(all="ignore"):
                return self._refined(b)
        except MemoryError:
            return _nothing(b, "out_of_memory")
        except Exception:
            log.exception("a sparse solve failed unexpectedly")
            return _nothing(b, "host_failure")

    def _refined(self, b: np.ndarray) -> _Solved:
        scaled = b * self.before
        sizes = _largest(scaled)
        finite = np.isfinite(sizes)
        if not finite.all():
            b, scaled = np.where(finite, b, 0), np.where(finite, scaled, 0)
            sizes = np.where(finite, sizes, 0)
        y = self._solve(scaled)
        r, errors = self._residual(b, y, sizes)
        steps = np.zeros(b.shape[1], np.int32)
        goal, going = _GOAL * np.finfo(b.dtype).eps, finite.copy()
        for _ in range(_STEPS_OF_ROWS if self.of_rows else _STEPS):
            (these,) = np.nonzero(going & (errors > goal))
            if not these.size:
                break
            better = y[:, these] + self._solve(r[:, these])
            rest, smaller = self._residual(b[:, these], better, sizes[these])
            fast = smaller <= errors[these] / 2
            taken = smaller < errors[these]
            if self.of_rows:
                # the terms of a row may shrink with its residual
                fast[:], taken = True, taken | (errors[these] > self.limit)
            own = these[taken]
            y[:, own], r[:, own] = better[:, taken], rest[:, taken]
            errors[own] = smaller[taken]
            steps[own] += 1
            going[these[~fast]] = False  # as good as it gets
        codes = np.full(b.shape[1], SUCCESSFUL)
        if self.of_rows:
            codes[~(errors <= self.limit)] = CODES["unstable"]
        codes[_largest(r) > _LOST * sizes] = CODES["singular"]
        codes[~finite] = CODES["nonfinite_input"]
        x = y * self.after
        return (x if finite.all() else np.where(finite, x, np.nan)), codes, steps

    def _solve(self, b: np.ndarray) -> np.ndarray:
        y = self.factors.solve_many(b, self.adjoint)
        return -y if self.negative else y

    def _residual(
        self, b: np.ndarray, y: np.ndarray, sizes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scaled, and as backward errors."""
        x = y * self.after
        Ax = (self.A.T @ x.conj()).conj() if self.adjoint else self.A @ x
        plain = b - Ax
        r = plain * self.before
        scale = self.norm * _largest(y) + sizes
        if self.sizes is None:
            return r, _ratio(_largest(r), scale)
        A = self.sizes.T if self.adjoint else self.sizes
        each = A @ np.abs(x) + np.abs(b)
        if not self.of_rows:  # as the solution is judged in the end
            normwise = _ratio(_largest(plain), _largest(each))
            own = np.minimum(normwise, _largest(_ratio(plain, each)))
            return r, np.maximum(_ratio(_largest(r), scale), own)
        each = each * self.before
        # Terms of a row may all be rounding errors, as the residuals of a consistent
        # system are. An error of this size changes y by less than √eps, as the
        # condition is below 1/eps.
        each = np.maximum(each, np.finfo(b.dtype).eps ** 0.5 * scale)
        return r, _largest(_ratio(r, each))


def _ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x / np.where(y > 0, y, 1)


def _spread(scales: np.ndarray) -> float:
    return float(np.max(scales) / np.min(scales))


def _largest(x: np.ndarray) -> np.ndarray:
    """The largest magnitude in each column."""
    return np.max(np.abs(x), axis=0)


def _nothing(b: np.ndarray, status: str) -> _Solved:
    k = b.shape[1]
    codes = np.full(k, CODES[status], np.int32)
    return np.full_like(b, np.nan), codes, np.zeros(k, np.int32)
