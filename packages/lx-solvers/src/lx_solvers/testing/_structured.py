"""Problems whose operators read their structure off a dense matrix."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from lx_operators import (
    CirculantLinearOperator,
    DiagonalLinearOperator,
    LowRankUpdateLinearOperator,
    PermutationLinearOperator,
    ToeplitzLinearOperator,
    positive_semidefinite_tag,
)

from ._blocks import BLOCKS
from ._families import stored, structured
from ._kronecker import KRONECKER
from ._problems import DENSE, Draw, Matrix, ProblemClass
from ._sparse import SPARSE

# Constant along diagonals


def _small(draw: Draw, n: int) -> np.ndarray:
    """A vector whose absolute sum is at most 1."""
    x = draw(n)
    return x / max(np.sum(np.abs(x)), 1)


def _circulant_of(column: np.ndarray) -> Matrix:
    i = np.arange(len(column))
    return column[(i[:, None] - i) % max(len(column), 1)]


def _toeplitz_of(column: np.ndarray, row: np.ndarray) -> Matrix:
    i = np.arange(len(column))
    offset = i[:, None] - i
    return np.where(offset >= 0, column[abs(offset)], row[abs(offset)])


def _circulant(draw: Draw, m: int, n: int) -> Matrix:
    return _circulant_of(_small(draw, n)) + 1.5 * np.eye(n)


def _deficient_circulant(draw: Draw, m: int, n: int) -> Matrix:
    return _circulant(draw, m, n) @ (np.eye(n) - 1 / max(n, 1))


def _toeplitz(draw: Draw, m: int, n: int) -> Matrix:
    return _toeplitz_of(_small(draw, n), _small(draw, n)) + 2.5 * np.eye(n)


def _definite_toeplitz(draw: Draw, m: int, n: int) -> Matrix:
    column = _small(draw, n)
    A = _toeplitz_of(column, column.conj())
    return (A + A.conj().T) / 2 + 2.5 * np.eye(n)


def _nearly_constant(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
    near = {f"ones, but for {x}": np.ones((n, n)) + x * np.eye(n) for x in (1e-5, 1e-7)}
    return near | {"identity": np.eye(n)}


def _constant(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
    return {"zero": np.zeros((n, n)), "ones": np.ones((n, n))}


def _shift(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
    return _constant(draw, m, n) | {"shift": np.eye(n, k=1)}


_of_circulant = stored(
    ProblemClass("circulant", (6, 6), _circulant, _nearly_constant, _constant),
    lambda A, tags: CirculantLinearOperator(A[:, :1].ravel(), tags),
)
_of_toeplitz = stored(
    ProblemClass("Toeplitz", (6, 6), _toeplitz, _nearly_constant, _shift),
    lambda A, tags: ToeplitzLinearOperator(A[:, 0], A[0], tags),
    empty=False,
)

CONSTANT = (
    _of_circulant,
    _of_circulant._replace(
        name="deficient circulant", matrix=_deficient_circulant, deficient=True
    ),
    _of_toeplitz,
    _of_toeplitz._replace(
        name="definite Toeplitz",
        matrix=_definite_toeplitz,
        singular=_constant,
        operator=lambda A, tags: ToeplitzLinearOperator(A[:, 0], tags=tags),
        tags=positive_semidefinite_tag,
    ),
)


# The rest


def _update(A: Array, tags: Any) -> LowRankUpdateLinearOperator:
    """A diagonal plus c eᴴ + e rᴴ, with the first unit vector e."""
    n = len(A)
    e, swap = jnp.eye(n, 1, dtype=A.dtype), jnp.eye(2, dtype=A.dtype)[::-1]
    off = A - jnp.diag(jnp.diagonal(A))
    c, r = (off[:, :1], off[:1].conj().T) if n else (e, e)
    U, V = jnp.concatenate((e, c), axis=1), jnp.concatenate((e, r), axis=1)
    return LowRankUpdateLinearOperator(
        DiagonalLinearOperator(jnp.diagonal(A)), U, swap, V
    )


def _arrow(A: Matrix) -> Matrix:
    i = np.arange(len(A))
    return A * ((i == 0) | (i[:, None] == 0) | (i == i[:, None]))


def _permutation(A: Array, tags: Any) -> PermutationLinearOperator:
    order = jnp.argmax(A == 1, axis=1) if A.size else jnp.zeros(0, int)
    return PermutationLinearOperator(order, _leaves(len(A), A.dtype))


def _leaves(n: int, dtype: Any) -> Any:
    sizes = {"a": min(n, 1), "b": 0, "c": max(n - 1, 0)}
    return {name: jax.ShapeDtypeStruct((size,), dtype) for name, size in sizes.items()}


REST = (
    structured("low-rank update", _arrow, _update),
    stored(
        ProblemClass(
            "permutation",
            (6, 6),
            lambda draw, m, n: np.eye(n)[np.argsort(draw(n).real)],
            lambda draw, m, n: {},
            lambda draw, m, n: {},
            multiples=False,
        ),
        _permutation,
    ),
)


PROBLEMS: dict[str, ProblemClass] = {
    problem.name: problem
    for problem in DENSE + BLOCKS + KRONECKER + CONSTANT + REST + SPARSE
}
"""The classes of problems, by name."""
