"""The same by NumPy and SciPy, where they do the same job."""

from collections.abc import Iterator
from typing import Any

import measure
import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg as ssl
from measure import Case, calling

TOL = 1e-8
sl: Any = scipy.linalg  # whose stubs know less than it does
ss: Any = scipy.sparse


def qr(a, b):
    q, r = sl.qr(a, mode="economic")
    return sl.solve_triangular(r, q.T @ b)


DENSE = {
    "LU": sl.solve,
    "QR": qr,
    "SVD": lambda a, b: sl.lstsq(a, b, lapack_driver="gelsd")[0],
    "Cholesky": lambda a, b: sl.cho_solve(sl.cho_factor(a), b),
}
KRYLOV = {
    "CG": lambda a, b: ssl.cg(a, b, rtol=TOL)[0],
    "BiCGStab": lambda a, b: ssl.bicgstab(a, b, rtol=TOL)[0],
    "GMRES": lambda a, b: ssl.gmres(a, b, rtol=TOL)[0],
    "LSMR": lambda a, b: ssl.lsmr(a, b, atol=TOL, btol=TOL)[0],
}


def poisson() -> float:
    """SciPy's `cg` on the sparse matrix, per step."""
    n = measure.GRID
    line = ss.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    one = ss.eye_array(n)
    matrix = (ss.kron(line, one) + ss.kron(one, line)).tocsr()
    b = measure.load().ravel()

    def solve():
        return ssl.cg(matrix, b, rtol=1e-300, maxiter=measure.STEPS)[0]

    return calling(solve, seconds=2) / measure.STEPS


def cases() -> Iterator[Case]:
    for name, solve in {**DENSE, **KRYLOV}.items():
        for n in measure.SIZES:
            yield (
                f"run {name} value n={n}",
                lambda fn=solve, n=n: calling(fn, *measure.definite(n)),
            )
    for name in ("LU", "QR", "Cholesky"):
        yield (
            f"many {name} n=500, 500 right-hand sides",
            lambda fn=DENSE[name]: calling(fn, *measure.right_hand_sides()),
        )
    yield (
        "deficient n=500",
        lambda: calling(
            lambda a, b: sl.lstsq(a, b, lapack_driver="gelsy")[0],
            *measure.deficient(500),
        ),
    )
    for n, count in measure.BATCHED:
        yield (
            f"batch LU value {count} x n={n}",
            lambda n=n, k=count: batch(n, k),
        )
    yield "eager LU n=4", lambda: calling(np.linalg.solve, *measure.definite(4))
    # SciPy's always tests
    yield f"poisson CG {measure.GRID**2} unknowns, a step", poisson
    yield f"poisson CG {measure.GRID**2} unknowns, a step and its test", poisson


def batch(n: int, count: int) -> float:
    matrix, vector = measure.definite(n, count)
    return calling(np.linalg.solve, matrix, vector[..., None])


if __name__ == "__main__":
    measure.main(lambda: {"scipy": cases()})
