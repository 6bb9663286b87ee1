"""The error of a solution, computed by NumPy."""

from typing import Any

import numpy as np


def backward_error(matrix: Any, x: Any, b: Any) -> float:
    """The normwise relative backward error of x: the least relative change of A and b
    that makes x a solution of A x = b, or a least-squares solution, whichever is
    smaller.

    With r = b - A x, in 2-norms: ‖r‖ / (‖A‖‖x‖ + ‖b‖) (Rigal and Gaches 1967,
    doi:10.1145/321406.321416); and with ν = ‖r‖ / ‖x‖ the estimate
    ‖(AᴴA + ν²I)^(-1/2) Aᴴr‖ / (‖A‖‖x‖) of Karlson and Waldén (1997,
    doi:10.1007/BF02510356). Computed by NumPy, the residual in extended precision, and
    at any scale.

    Args:
        matrix: A, of any shape.
        x, b: vectors.

    Returns:
        The error; infinite if x is not finite.

    ```python
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]])
    b = np.array([5.0, 6.0])
    lx_solvers.testing.backward_error(matrix, np.linalg.solve(matrix, b), b)
    ```
    """
    A, x, b = (np.asarray(z).astype(np.clongdouble) for z in (matrix, x, b))
    if not (np.isfinite(x).all() and np.isfinite(A).all()):
        return float("inf")
    if 0 in A.shape:
        return 0.0
    size = np.max(np.abs(A)) or np.longdouble(1)
    A, b = A / size, b / size  # from here on all numbers are of order one
    unit = max(np.max(np.abs(x)), np.max(np.abs(b))) or np.longdouble(1)
    x, b = x / unit, b / unit
    r = b - A @ x
    U, σ, _ = np.linalg.svd(A.astype(np.complex128), full_matrices=False)
    of_x, of_r = _norm(x), _norm(r)
    as_system = _ratio(of_r, σ[0] * of_x + _norm(b))
    # σ / √(σ² + ν²), with ν = ‖r‖ / ‖x‖ multiplied out
    weights = [_ratio(s * of_x, np.hypot(s * of_x, of_r)) for s in σ]
    within = weights * np.abs(U.conj().T @ (r / (of_r or 1)).astype(np.complex128))
    return min(as_system, _ratio(of_r * _norm(within), σ[0] * of_x))


def _norm(x: np.ndarray) -> Any:
    size = np.max(np.abs(x), initial=0)
    return size * np.sqrt(np.sum(np.abs(x / size) ** 2)) if size > 0 else size


def _ratio(a: Any, b: Any) -> float:
    return float(a / b) if a > 0 and b > 0 else float(a > 0)


def pseudoinverse(A: np.ndarray) -> np.ndarray:
    """A† of a matrix whose nonzero singular values differ by at most a factor of a
    thousand."""
    wide = np.complex128 if np.iscomplexobj(A) else np.float64
    if 0 in A.shape:
        return A.T.astype(wide)
    return np.linalg.pinv(A.astype(wide), rcond=1e-4)
