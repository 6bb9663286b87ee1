"""How far a factorised matrix is from a singular one: estimated from solves with its
factors (Hager 1984, doi:10.1137/0905023; Higham 1988, doi:10.1145/50063.214386,
algorithm 4.1)."""

from typing import Any

import numpy as np

from ._protocol import SparseFactors
from ._scales import Scales

_ROUNDS = 2  # of Hager's iteration, at most
_SINGULAR = 4  # times eps


def singular_below(dtype: Any) -> float:
    """The reciprocal condition number from which on a matrix is singular to working
    precision."""
    return _SINGULAR * float(np.finfo(dtype).eps)


def reciprocal_condition(
    factors: SparseFactors, scales: Scales, y: np.ndarray
) -> float:
    """1 / (‖F‖₁ ‖F⁻¹‖₁), from above. `y` is F⁻¹ e/n."""
    n = y.size

    def norm(x: np.ndarray) -> float:
        return float(np.sum(np.abs(x), dtype=np.float64))

    most, before = norm(y), None
    for _ in range(_ROUNDS):
        sizes = np.abs(y)
        signs = np.where(sizes == 0, 1, y / np.where(sizes == 0, 1, sizes))
        if before is not None and np.array_equal(signs, before):
            break  # the same column again, as of an inverse of one sign
        z = factors.solve(signs.astype(y.dtype), True)
        unit = np.zeros_like(y)
        unit[np.argmax(np.abs(z))] = 1
        y, before = factors.solve(unit, False), signs
        grown = norm(y) > most
        most = max(most, norm(y))
        if not grown:
            break
    turns = 1 + np.arange(n) / max(n - 1, 1)
    turns[1::2] *= -1
    y = factors.solve(turns.astype(y.dtype), False)
    most = max(most, 2 * norm(y) / (3 * n))
    return 1 / (scales.column_norm * most) if 0 < most < np.inf else 0.0
