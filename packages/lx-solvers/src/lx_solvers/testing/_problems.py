"""Problems that solvers may claim to solve, as dense matrices."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array
from lx_operators import (
    AbstractLinearOperator,
    MatrixLinearOperator,
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
    symmetric_tag,
    tridiagonal_tag,
    upper_triangular_tag,
)

Matrix = np.ndarray
Draw = Callable[..., np.ndarray]


class ProblemClass(NamedTuple):
    """A family of systems A x = b that a solver may claim to solve.

    `matrix(draw, m, n)` is a member of any size; `draw(*shape)` gives normal variates,
    and the condition number, not counting zero singular values, should be at most 10.
    Two further functions give matrices of the same structure, at the edge of the class
    and beyond, square or of the given shape: `harsh(draw, m, n)`, badly conditioned
    ones, and `singular(draw, m, n)`, rank-deficient in any precision. A solver may
    solve them or report a failure, but must not call them solved when they are not.

    Laws use matrices, and solvers use operators: `operator(matrix, tags)` makes an
    operator from a matrix, inside `jax.jit`. An operator that stores its structure
    reads it off the matrix, such as `lambda matrix, tags:
    CirculantLinearOperator(matrix[:, 0])`. It may map between any pytrees whose leaves,
    raveled, are the matrix's columns and rows.
    """

    name: str
    shape: tuple[int, int]
    """[m, n]; a square class is only asked for square matrices."""
    matrix: Callable[[Draw, int, int], Matrix]
    harsh: Callable[[Draw, int, int], dict[str, Matrix]]
    singular: Callable[[Draw, int, int], dict[str, Matrix]]
    tags: Any = ()
    deficient: bool = False
    """Members are not of full rank."""
    consistent: bool = False
    """Only vectors b in the range of A are tested."""
    operator: Callable[[Array, Any], AbstractLinearOperator] = MatrixLinearOperator
    pytrees: bool = True
    """Members are also asked for as a `PyTreeLinearOperator` with these tags, which has
    to be all that the solver needs to know."""
    empty: bool = True
    """There is a member without unknowns."""
    multiples: bool = True
    """Multiples of members are members. Those of a permutation are not."""


# Families


def spectral(draw: Draw, m: int, n: int, values: Any) -> Matrix:
    """U diag(values) Vᴴ."""
    k = min(m, n)
    U, V = np.linalg.qr(draw(m, k))[0], np.linalg.qr(draw(n, k))[0]
    return (U * np.asarray(values)) @ V.conj().T


def hermitian(draw: Draw, n: int, values: Any) -> Matrix:
    """W diag(values) Wᴴ."""
    W = np.linalg.qr(draw(n, n))[0]
    A = (W * np.asarray(values)) @ W.conj().T
    return (A + A.conj().T) / 2


def values_of(k: int, deficient: bool) -> np.ndarray:
    values = np.linspace(3, 1, k)
    values[k - (k + 1) // 2 if deficient else k :] = 0
    return values


def alternating(k: int) -> np.ndarray:
    return np.where(np.arange(k) % 2 == 0, 1, -1)


def _spectra(k: int) -> dict[str, np.ndarray]:
    """Singular values of badly conditioned matrices."""
    return {
        "condition 1e4": np.geomspace(1, 1e-4, k),
        "condition 1e7": np.geomspace(1, 1e-7, k),
        "condition 1e14": np.geomspace(1, 1e-14, k),
        "rank 1, rounded": np.arange(k) == 0,
    }


def _general(name: str, m: int, n: int, deficient: bool = False) -> ProblemClass:
    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        spectra = _spectra(min(m, n)).items()
        made = {name: spectral(draw, m, n, values) for name, values in spectra}
        return made | {"graded": np.geomspace(1, 1e-12, m)[:, None] * draw(m, n)}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        outer = np.outer(np.arange(m) + 1, np.arange(n) - 2.0)
        return {"zero": 0 * outer, "outer product": outer}

    return ProblemClass(
        name,
        (m, n),
        lambda draw, m, n: spectral(draw, m, n, values_of(min(m, n), deficient)),
        harsh,
        singular,
        deficient=deficient,
    )


def _of_hermitian(
    name: str,
    signs: Callable[[int], Any],
    tags: Any,
    deficient: bool = False,
    consistent: bool = False,
) -> ProblemClass:
    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        spectra = _spectra(n).items()
        made = {k: hermitian(draw, n, signs(n) * v) for k, v in spectra}
        scale = np.geomspace(1, 1e-6, n)
        graded = scale[:, None] * hermitian(draw, n, signs(n) * values_of(n, False))
        return made | {"graded": graded * scale}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        row = np.arange(n) - 2.0
        return {
            "zero": np.zeros((n, n)),
            "outer product": np.outer(row, signs(1) * row),
        }

    return ProblemClass(
        name,
        (6, 6),
        lambda draw, m, n: hermitian(draw, n, signs(n) * values_of(n, deficient)),
        harsh,
        singular,
        tags,
        deficient,
        consistent,
    )


def _complex_symmetric() -> ProblemClass:
    """W diag(values) Wᵀ, with a real orthogonal W, and values in a quarter of the
    plane."""

    def made(draw: Draw, n: int, sizes: Any) -> Matrix:
        turned = np.exp(0.5j * np.pi * np.linspace(0, 1, n))
        W = np.linalg.qr(np.real(draw(n, n)))[0]
        A = (W * (sizes * (turned if np.iscomplexobj(draw(1)) else 1))) @ W.T
        return (A + A.T) / 2

    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        return {k: made(draw, n, v) for k, v in _spectra(n).items()}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        row = np.arange(n) - 2.0
        return {"zero": np.zeros((n, n)), "outer product": np.outer(row, row)}

    return ProblemClass(
        "complex symmetric",
        (6, 6),
        lambda draw, m, n: made(draw, n, values_of(n, False)),
        harsh,
        singular,
        symmetric_tag,
    )


def masked(name: str, mask: Callable[[Matrix], Matrix], tags: Any) -> ProblemClass:
    """A matrix with at most half of its elements off the diagonal."""

    def matrix(draw: Draw, m: int, n: int) -> Matrix:
        A = mask(draw(n, n))
        apart = A - np.diag(np.diagonal(A))
        apart /= max(2 * np.linalg.norm(apart), 1)
        return apart + np.diag(np.linspace(1, 2, n) * alternating(n))

    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        tiny = matrix(draw, m, n)
        tiny[n // 2, n // 2] = 1e-20
        graded = np.geomspace(1, 1e-12, n)[:, None] * matrix(draw, m, n)
        return {"tiny": tiny, "graded": graded}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        gap = matrix(draw, m, n)
        gap[n // 2] = 0
        return {"zero": 0 * gap, "zero row": gap}

    return ProblemClass(name, (6, 6), matrix, harsh, singular, tags)


def _deficient_diagonal(draw: Draw, m: int, n: int) -> Matrix:
    return np.diag(alternating(n) * values_of(n, True))


def _ones(n: int) -> int:
    return 1


def _minus(n: int) -> int:
    return -1


_tridiagonal = masked(
    "tridiagonal", lambda A: np.triu(np.tril(A, 1), -1), tridiagonal_tag
)
_diagonal = masked("diagonal", lambda A: np.diag(np.diagonal(A)), diagonal_tag)

DENSE: tuple[ProblemClass, ...] = (
    _general("square", 6, 6),
    _general("tall", 7, 4),
    _general("wide", 4, 7),
    _general("deficient", 6, 6, deficient=True),
    _general("deficient tall", 7, 4, deficient=True),
    _general("deficient wide", 4, 7, deficient=True),
    _of_hermitian("definite", _ones, positive_semidefinite_tag),
    _of_hermitian("negative definite", _minus, negative_semidefinite_tag),
    _of_hermitian("indefinite", alternating, hermitian_tag),
    _of_hermitian("semidefinite", _ones, positive_semidefinite_tag, True),
    _of_hermitian(
        "semidefinite, consistent", _ones, positive_semidefinite_tag, True, True
    ),
    _of_hermitian("deficient indefinite", alternating, hermitian_tag, True),
    _of_hermitian(
        "deficient indefinite, consistent", alternating, hermitian_tag, True, True
    ),
    _complex_symmetric(),
    _diagonal,
    _diagonal._replace(
        name="deficient diagonal", matrix=_deficient_diagonal, deficient=True
    ),
    _tridiagonal,
    masked("lower", np.tril, lower_triangular_tag),
    masked("upper", np.triu, upper_triangular_tag),
)
