"""Helpers for classes of problems whose operators store a structure."""

from collections.abc import Callable
from typing import Any

import numpy as np
from lx_operators import positive_semidefinite_tag

from ._problems import Draw, Matrix, ProblemClass, masked


def stored(problem: ProblemClass, operator: Callable, **other: Any) -> ProblemClass:
    """The same problems, with operators that store no matrix."""
    return problem._replace(operator=operator, pytrees=False, **other)


def structured(
    name: str, mask: Callable[[Matrix], Matrix], operator: Callable
) -> ProblemClass:
    """Operators made from the elements of a matrix that a mask keeps."""
    return stored(masked(name, mask, ()), operator)


def definite(name: str, problem: ProblemClass) -> ProblemClass:
    """The Hermitian parts of such matrices, the diagonal made positive."""

    def matrix(draw: Draw, m: int, n: int) -> Matrix:
        A = problem.matrix(draw, m, n)
        d = np.diagonal(A)
        return (A + A.conj().T) / 2 + np.diag(np.abs(d) - np.real(d))

    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        return {"graded": graded(matrix(draw, m, n))}

    return problem._replace(
        name=name,
        matrix=matrix,
        harsh=harsh,
        singular=with_zero_row(matrix),
        tags=positive_semidefinite_tag,
    )


def graded(A: Matrix) -> Matrix:
    """D A D, with elements of D from 1 to 1e-6."""
    scale = np.geomspace(1, 1e-6, len(A))
    return scale[:, None] * A * scale


def with_zero_row(
    matrix: Callable[[Draw, int, int], Matrix],
) -> Callable[[Draw, int, int], dict[str, Matrix]]:
    """Singular members: zero, and one with a row and its column of zeros."""

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        gap = matrix(draw, m, n)
        gap[n // 2] = gap[:, n // 2] = 0
        return {"zero": 0 * gap, "zero row": gap}

    return singular


def halves(n: int) -> int:
    """2 if a size can be halved, else 1."""
    return 2 if n and n % 2 == 0 else 1


def split(A: Any, q: int | None = None) -> Any:
    """A as q by q blocks `[q, q, m / q, n / q]`, by default two by two or one."""
    q = min(map(halves, A.shape)) if q is None else q
    m, n = (size // max(q, 1) for size in A.shape)
    return A.reshape(q, m, q, n).swapaxes(1, 2)
