"""Problems of Kronecker products and sums."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from lx_operators import (
    KroneckerLinearOperator,
    KroneckerSumLinearOperator,
    MatrixLinearOperator,
    hermitian_tag,
    positive_semidefinite_tag,
)

from ._families import halves, split, stored
from ._problems import Draw, Matrix, ProblemClass, hermitian, spectral


def _kronecker(A: Array, tags: Any) -> KroneckerLinearOperator:
    """With its blocks as rows, B ⊗ C is a matrix of rank one: a column B times a row
    C."""
    blocks = split(A)
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
    blocks = split(A)
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
    q = min(halves(m), halves(n))
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
    return stored(plain, _kronecker)


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


_sum = stored(
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

KRONECKER = (
    _product("Kronecker", 6, 6),
    _product("tall Kronecker", 6, 4),
    _product("wide Kronecker", 4, 6),
    _product("deficient Kronecker", 6, 6, deficient=True),
    _product("definite Kronecker", 6, 6)._replace(
        matrix=_definite_product,
        harsh=lambda draw, m, n: {},
        singular=lambda draw, m, n: {"zero": np.zeros((m, n))},
        tags=positive_semidefinite_tag,
    ),
    _sum,
    _symmetric_sum,
    _symmetric_sum._replace(
        name="deficient Hermitian Kronecker sum",
        matrix=_hermitian_sum(0),
        deficient=True,
    ),
)
