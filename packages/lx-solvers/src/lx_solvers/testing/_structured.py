"""Problems whose operators store a structure, taken from a dense matrix."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from lx_operators import (
    BandedLinearOperator,
    BlockDiagonalLinearOperator,
    BlockLinearOperator,
    BlockTridiagonalLinearOperator,
    CirculantLinearOperator,
    DiagonalLinearOperator,
    KroneckerLinearOperator,
    KroneckerSumLinearOperator,
    LowRankUpdateLinearOperator,
    MatrixLinearOperator,
    PermutationLinearOperator,
    SparseLinearOperator,
    SparsityPattern,
    StackedLinearOperator,
    ToeplitzLinearOperator,
    hermitian_tag,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
    symmetric_tag,
)

from ._problems import DENSE, Draw, Matrix, ProblemClass, hermitian, masked, spectral

_DEFINITE = positive_semidefinite_tag


def _stored(problem: ProblemClass, operator: Callable, **other: Any) -> ProblemClass:
    return problem._replace(operator=operator, pytrees=False, **other)


# Bands and blocks


def _banded(A: Array, tags: Any) -> BandedLinearOperator:
    lower, upper, n = 2, 1, len(A)
    i = np.arange(lower + upper + 1)[:, None] - upper + np.arange(n)
    inside = (i >= 0) & (i < n)
    bands = jnp.pad(A, ((0, 1), (0, 0)))[np.where(inside, i, n), np.arange(n)]
    return BandedLinearOperator(bands, lower, upper, tags)


def _side_by_side(A: Array, tags: Any) -> BlockDiagonalLinearOperator:
    k = len(A) // 3
    blocks = {"a": A[:k, :k], "b": A[k:, k:]}
    made = {name: MatrixLinearOperator(block, tags) for name, block in blocks.items()}
    return BlockDiagonalLinearOperator(made)


def _stacked(A: Array, tags: Any) -> StackedLinearOperator:
    blocks = _blocks(A)
    i = np.arange(len(blocks))
    build = eqx.filter_vmap(MatrixLinearOperator)
    return StackedLinearOperator(build(blocks[i, i]), len(blocks))


def _grid(A: Array, tags: Any) -> BlockLinearOperator:
    k = (len(A) + 1) // 2
    rows = (A[:k, :k], A[:k, k:]), (A[k:, :k], A[k:, k:])
    return BlockLinearOperator(
        [[*map(MatrixLinearOperator, row)] for row in rows], tags
    )


def _lower_grid(A: Array, tags: Any) -> BlockLinearOperator:
    (a, _), (c, d) = _grid(A, tags).blocks
    return BlockLinearOperator([[a, None], [c, d]])


def _block_tridiagonal(A: Array, tags: Any) -> BlockTridiagonalLinearOperator:
    blocks = _blocks(A, len(A) // _halves(len(A)))
    i = np.arange(len(blocks))
    below, above = blocks[i[1:], i[:-1]], blocks[i[:-1], i[1:]]
    return BlockTridiagonalLinearOperator(blocks[i, i], below, above, tags)


def _halves(n: int) -> int:
    """2 if a size can be halved, else 1."""
    return 2 if n and n % 2 == 0 else 1


def _blocks(A: Any, q: int | None = None) -> Any:
    """A as q by q blocks `[q, q, m / q, n / q]`, by default two by two or one."""
    q = min(map(_halves, A.shape)) if q is None else q
    m, n = (size // max(q, 1) for size in A.shape)
    return A.reshape(q, m, q, n).swapaxes(1, 2)


def _apart(distance: int, block: Callable[[int], Any]) -> Callable[[Matrix], Matrix]:
    """Only the elements in blocks within this distance of the diagonal; `block(n)`
    numbers the rows."""

    def mask(A: Matrix) -> Matrix:
        i = np.asarray(block(len(A)))
        return A * (np.abs(i[:, None] - i) <= distance)

    return mask


def _masked(name: str, mask: Callable[[Matrix], Matrix], operator: Any) -> ProblemClass:
    return _stored(masked(name, mask, ()), operator)


def _definite(name: str, problem: ProblemClass) -> ProblemClass:
    """The Hermitian parts of such matrices, the diagonal made positive."""

    def matrix(draw: Draw, m: int, n: int) -> Matrix:
        A = problem.matrix(draw, m, n)
        d = np.diagonal(A)
        return (A + A.conj().T) / 2 + np.diag(np.abs(d) - np.real(d))

    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        scale = np.geomspace(1, 1e-6, n)
        return {"graded": scale[:, None] * matrix(draw, m, n) * scale}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        gap = matrix(draw, m, n)
        gap[n // 2] = gap[:, n // 2] = 0
        return {"zero": 0 * gap, "zero row": gap}

    return problem._replace(
        name=name, matrix=matrix, harsh=harsh, singular=singular, tags=_DEFINITE
    )


def _third(n: int) -> Any:
    return 1 * (np.arange(n) >= n // 3)


def _half(n: int) -> Any:
    return np.arange(n) // max(n // _halves(n), 1)


def _deficient_blocks(draw: Draw, m: int, n: int) -> Matrix:
    k, A = n // 3, np.zeros((n, n), draw(0).dtype)
    for block in (A[:k, :k], A[k:, k:]):
        size = len(block)
        block[:] = spectral(draw, size, size, np.arange(size) < size // 2)
    return A


_block_diagonal = _masked("block diagonal", _apart(0, _third), _side_by_side)
_block_rows = _masked(
    "block tridiagonal",
    _apart(1, lambda n: np.arange(n) // _halves(n)),
    _block_tridiagonal,
)
_square_grid = _masked("blocks", lambda A: A, _grid)

_BLOCKS = (
    _masked("banded", lambda A: np.triu(np.tril(A, 1), -2), _banded),
    _block_diagonal,
    _block_diagonal._replace(
        name="deficient block diagonal", matrix=_deficient_blocks, deficient=True
    ),
    _masked("stacked", _apart(0, _half), _stacked),
    _square_grid,
    _definite("definite blocks", _square_grid),
    _masked(
        "block lower triangular",
        lambda A: A - np.triu(A, 1) * (np.arange(len(A)) >= (len(A) + 1) // 2),
        _lower_grid,
    ),
    _block_rows,
    _definite("definite block tridiagonal", _block_rows),
)


# Kronecker products and sums


def _kronecker(A: Array, tags: Any) -> KroneckerLinearOperator:
    """B ⊗ C is of rank one, once its blocks are rows: B is a column, C a row."""
    blocks = _blocks(A)
    q, p = blocks.shape[0], blocks.shape[2:]
    rows = blocks.reshape(q * q, p[0] * p[1])
    if not rows.size:
        B, C = jnp.ones((q, q), A.dtype), blocks[0, 0]
    else:
        k, l = jnp.unravel_index(jnp.argmax(jnp.abs(rows)), rows.shape)
        pivot = jnp.where(rows[k, l] == 0, 1, rows[k, l])
        B, C = (rows[:, l] / pivot).reshape(q, q), rows[k].reshape(p)
    return KroneckerLinearOperator(
        MatrixLinearOperator(B, tags), MatrixLinearOperator(C, tags)
    )


def _kronecker_sum(A: Array, tags: Any) -> KroneckerSumLinearOperator:
    """B ⊕ C, determined up to a multiple of I moved from one to the other."""
    blocks = _blocks(A)
    q, p = blocks.shape[0], blocks.shape[2]
    C = blocks[0, 0]
    if p == 0:
        B = jnp.zeros((q, q), A.dtype)
    else:
        B = blocks[:, :, 0, 0] - C[0, 0] * jnp.eye(q, dtype=A.dtype)
    return KroneckerSumLinearOperator(
        MatrixLinearOperator(B, tags), MatrixLinearOperator(C, tags)
    )


def _factors(m: int, n: int) -> tuple[int, int, int]:
    """Sizes: B is [q, q], C is [m / q, n / q]."""
    q = min(_halves(m), _halves(n))
    return q, m // q, n // q


def _product(name: str, m: int, n: int, deficient: bool = False) -> ProblemClass:
    def matrix(draw: Draw, m: int, n: int) -> Matrix:
        q, m, n = _factors(m, n)
        k = min(m, n)
        values = np.arange(k) < 1 if deficient else np.linspace(3, 1, k)
        B = spectral(draw, q, q, np.linspace(3, 1, q))
        return np.kron(B, spectral(draw, m, n, values))

    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        q, m, n = _factors(m, n)

        def of(condition: float) -> Matrix:
            values = np.geomspace(1, 1 / condition, min(m, n))
            return np.kron(draw(q, q), spectral(draw, m, n, values))

        return {f"condition {c:.0e}": of(c) for c in (1e4, 1e7, 1e14)}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        q, m, n = _factors(m, n)
        whole = np.kron(np.ones((q, q)), draw(m, n))
        return {"zero": 0 * whole, "ones, a factor": whole}

    plain = ProblemClass(name, (m, n), matrix, harsh, singular, deficient=deficient)
    return _stored(plain, _kronecker)


def _definite_product(draw: Draw, m: int, n: int) -> Matrix:
    q, p, _ = _factors(n, n)
    B = hermitian(draw, q, np.linspace(3, 1, q))
    return np.kron(B, hermitian(draw, p, np.linspace(3, 1, p)))


def _sum_of(B: Matrix, C: Matrix) -> Matrix:
    return np.kron(B, np.eye(len(C))) + np.kron(np.eye(len(B)), C)


def _upper_sum(draw: Draw, m: int, n: int, least: float = 2) -> Matrix:
    """A Kronecker sum of triangular matrices, whose eigenvalues are known."""
    q, p, _ = _factors(n, n)
    B = np.triu(draw(q, q), 1) / 4 + np.diag(np.linspace(1, 2, q))
    values = np.append(least - 1, np.linspace(1, 2, max(p - 1, 0)))[:p]
    return _sum_of(B, np.triu(draw(p, p), 1) / 4 + np.diag(values))


def _general_sum(draw: Draw, m: int, n: int) -> Matrix:
    q, p, _ = _factors(n, n)
    B, C = (draw(k, k) / 8 + np.diag(np.linspace(1, 2, k)) for k in (q, p))
    return _sum_of(B, C)


def _hermitian_sum(least: float) -> Callable[[Draw, int, int], Matrix]:
    def matrix(draw: Draw, m: int, n: int) -> Matrix:
        q, p, _ = _factors(n, n)
        values = np.append(least - 1, np.linspace(0.5, 1, max(p - 1, 0)))[:p]
        if n == 1:
            return np.full((1, 1), least)
        B = hermitian(draw, q, np.linspace(1, 2, q))
        return _sum_of(B, hermitian(draw, p, values))

    return matrix


_sum = _stored(
    ProblemClass(
        "Kronecker sum",
        (6, 6),
        _general_sum,
        lambda draw, m, n: {
            f"eigenvalue {x}": _upper_sum(draw, m, n, x) for x in (1e-7, 1e-14)
        },
        lambda draw, m, n: {
            "zero": np.zeros((m, n)),
            "eigenvalue 0": _upper_sum(draw, m, n, 0),
        },
    ),
    _kronecker_sum,
)
_symmetric_sum = _sum._replace(
    name="Hermitian Kronecker sum",
    matrix=_hermitian_sum(-3),
    harsh=lambda draw, m, n: {
        f"eigenvalue {x}": _hermitian_sum(x)(draw, m, n) for x in (1e-7, 1e-14)
    },
    singular=lambda draw, m, n: {"zero": np.zeros((m, n))},
    tags=hermitian_tag,
)

_KRONECKER = (
    _product("Kronecker", 6, 6),
    _product("tall Kronecker", 6, 4),
    _product("wide Kronecker", 4, 6),
    _product("deficient Kronecker", 6, 6, deficient=True),
    _product("definite Kronecker", 6, 6)._replace(
        matrix=_definite_product,
        harsh=lambda draw, m, n: {},
        singular=lambda draw, m, n: {"zero": np.zeros((m, n))},
        tags=_DEFINITE,
    ),
    _sum,
    _symmetric_sum,
    _symmetric_sum._replace(
        name="deficient Hermitian Kronecker sum",
        matrix=_hermitian_sum(0),
        deficient=True,
    ),
)


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


_of_circulant = _stored(
    ProblemClass("circulant", (6, 6), _circulant, _nearly_constant, _constant),
    lambda A, tags: CirculantLinearOperator(A[:, :1].ravel(), tags),
)
_of_toeplitz = _stored(
    ProblemClass("Toeplitz", (6, 6), _toeplitz, _nearly_constant, _shift),
    lambda A, tags: ToeplitzLinearOperator(A[:, 0], A[0], tags),
    empty=False,
)

_CONSTANT = (
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
        tags=_DEFINITE,
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


_REST = (
    _masked("low-rank update", _arrow, _update),
    _stored(
        ProblemClass(
            "permutation",
            (6, 6),
            lambda draw, m, n: np.eye(n)[np.argsort(draw(n).real)],
            lambda draw, m, n: {},
            lambda draw, m, n: {},
        ),
        _permutation,
    ),
)


# Sparse matrices


def _entries(m: int, n: int) -> np.ndarray:
    """Positions of entries: three diagonals, and others scattered symmetrically."""
    i, j = np.arange(m)[:, None], np.arange(n)
    return (np.abs(i - j) <= 1) | ((i + j) % 4 == 0)


def _sparse(A: Array, tags: Any) -> SparseLinearOperator:
    pattern = SparsityPattern.from_dense(_entries(*A.shape))
    return SparseLinearOperator.from_dense(A, tags, pattern=pattern)


_general_sparse = _stored(
    masked("sparse", lambda A: A * _entries(*A.shape), ()), _sparse
)


def _symmetrised(name: str, tag: Any, conjugate: bool) -> ProblemClass:
    """A + Aᵀ or A + Aᴴ."""

    def whole(A: Matrix) -> Matrix:
        return (A + (A.conj() if conjugate else A).T) / 2

    def matrix(draw: Draw, m: int, n: int) -> Matrix:
        return whole(_general_sparse.matrix(draw, m, n))

    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        tiny, scale = matrix(draw, m, n), np.geomspace(1, 1e-6, n)
        tiny[n // 2, n // 2] = 1e-20
        return {"tiny": tiny, "graded": scale[:, None] * matrix(draw, m, n) * scale}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        gap = matrix(draw, m, n)
        gap[n // 2] = gap[:, n // 2] = 0
        return {"zero": 0 * gap, "zero row": gap}

    return _general_sparse._replace(
        name=name, matrix=matrix, harsh=harsh, singular=singular, tags=tag
    )


def _oblong(name: str, shape: tuple[int, int]) -> ProblemClass:
    """A square sparse matrix with small numbers below it or to its right."""

    def matrix(draw: Draw, m: int, n: int) -> Matrix:
        k, A = min(m, n), draw(m, n) * _entries(m, n)
        A /= max(2 * np.linalg.norm(A), 1)
        A[:k, :k] = _general_sparse.matrix(draw, k, k)
        return A

    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        weak, graded = matrix(draw, m, n), matrix(draw, m, n)
        line = np.index_exp[:, 0] if m > n else np.index_exp[0]
        weak[line] *= 1e-7
        graded *= np.geomspace(1, 1e-6, m)[:, None]
        return {"weak": weak, "graded": graded}

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


_definite_sparse = _definite("sparse definite", _general_sparse)
_SPARSE = (
    _general_sparse,
    _definite_sparse,
    _negated("sparse negative definite", _definite_sparse, negative_semidefinite_tag),
    _symmetrised("sparse indefinite", hermitian_tag, True),
    _symmetrised("sparse symmetric", symmetric_tag, False),
    _oblong("sparse tall", (8, 5)),
    _oblong("sparse wide", (5, 8)),
)

PROBLEMS: dict[str, ProblemClass] = {
    problem.name: problem
    for problem in DENSE + _BLOCKS + _KRONECKER + _CONSTANT + _REST + _SPARSE
}
"""The classes of problems, by name."""
