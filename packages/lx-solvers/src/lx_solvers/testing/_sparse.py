"""Problems of sparse matrices."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Array
from lx_operators import (
    SparseLinearOperator,
    SparsityPattern,
    hermitian_tag,
    negative_semidefinite_tag,
    symmetric_tag,
)

from ._families import definite, graded, stored, with_zero_row
from ._problems import Draw, Matrix, ProblemClass, masked


def _entries(m: int, n: int) -> np.ndarray:
    """Positions of entries: three diagonals, and others scattered symmetrically."""
    i, j = np.arange(m)[:, None], np.arange(n)
    return (np.abs(i - j) <= 1) | ((i + j) % 4 == 0)


def _sparse(A: Array, tags: Any) -> SparseLinearOperator:
    pattern = SparsityPattern.from_dense(_entries(*A.shape))
    return SparseLinearOperator.from_dense(A, tags, pattern=pattern)


_general_sparse = stored(
    masked("sparse", lambda A: A * _entries(*A.shape), ()), _sparse
)


def _symmetrised(name: str, tag: Any, conjugate: bool) -> ProblemClass:
    """A + Aᵀ or A + Aᴴ."""

    def whole(A: Matrix) -> Matrix:
        return (A + (A.conj() if conjugate else A).T) / 2

    def matrix(draw: Draw, m: int, n: int) -> Matrix:
        return whole(_general_sparse.matrix(draw, m, n))

    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        tiny = matrix(draw, m, n)
        tiny[n // 2, n // 2] = 1e-20
        return {"tiny": tiny, "graded": graded(matrix(draw, m, n))}

    return _general_sparse._replace(
        name=name, matrix=matrix, harsh=harsh, singular=with_zero_row(matrix), tags=tag
    )


def _oblong(name: str, shape: tuple[int, int]) -> ProblemClass:
    """A square sparse matrix with small numbers below it or to its right."""

    def matrix(draw: Draw, m: int, n: int) -> Matrix:
        k, A = min(m, n), draw(m, n) * _entries(m, n)
        A /= max(2 * np.linalg.norm(A), 1)
        A[:k, :k] = _general_sparse.matrix(draw, k, k)
        return A

    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        weak, steep = matrix(draw, m, n), matrix(draw, m, n)
        line = np.index_exp[:, 0] if m > n else np.index_exp[0]
        weak[line] *= 1e-7
        steep *= np.geomspace(1, 1e-6, m)[:, None]
        return {"weak": weak, "graded": steep}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        gap = matrix(draw, m, n)
        gap[np.index_exp[:, 0] if m > n else np.index_exp[0]] = 0
        return {"zero": 0 * gap, "zero line": gap}

    return ProblemClass(
        name, shape, matrix, harsh, singular, operator=_sparse, pytrees=False
    )


def _negated(name: str, problem: ProblemClass, tag: Any) -> ProblemClass:
    def negated(family: Callable) -> Callable:
        return lambda *of: {k: -A for k, A in family(*of).items()}

    return problem._replace(
        name=name,
        matrix=lambda *of: -problem.matrix(*of),
        harsh=negated(problem.harsh),
        singular=negated(problem.singular),
        tags=tag,
    )


_definite_sparse = definite("sparse definite", _general_sparse)
SPARSE = (
    _general_sparse,
    _definite_sparse,
    _negated("sparse negative definite", _definite_sparse, negative_semidefinite_tag),
    _symmetrised("sparse indefinite", hermitian_tag, True),
    _symmetrised("sparse symmetric", symmetric_tag, False),
    _oblong("sparse tall", (8, 5)),
    _oblong("sparse wide", (5, 8)),
)
