"""Derivatives at entries that a solver does not read, as tags tell it what they are.

The convention: the tangent of an operator acts as it is, entry by entry. With x = A⁻¹b,
dx = -A⁻¹ dA x whatever dA is, so the gradient of cᵀx is -A⁻ᵀc xᵀ at every entry.
"""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

N = 4
draw = np.random.default_rng(0).normal
general = draw(size=(N, N)) + 3 * np.eye(N)
definite = general @ general.T
band = np.triu(np.tril(definite, 1), -1)
iterative = {"rtol": 1e-12, "atol": 1e-12}

DEFINITE = lx.positive_semidefinite_tag
LOWER, UPPER = lx.lower_triangular_tag, lx.upper_triangular_tag
CASES = {
    "Cholesky": (lx.Cholesky(), definite, DEFINITE),
    "refined Cholesky": (lx.Refined(lx.Cholesky()), definite, DEFINITE),
    "CG": (lx.CG(**iterative), definite, DEFINITE),
    "Eigh": (lx.Eigh(), definite, lx.symmetric_tag),
    "MINRES": (lx.MINRES(**iterative), definite, lx.symmetric_tag),
    "symmetric LU": (lx.LU(), definite, lx.symmetric_tag),
    "symmetric SVD": (lx.SVD(), definite, lx.symmetric_tag),
    "symmetric PivotedQR": (lx.PivotedQR(), definite, lx.symmetric_tag),
    "symmetric Normal": (lx.Normal(lx.Cholesky()), definite, lx.symmetric_tag),
    "lower Triangular": (lx.Triangular(), np.tril(general), LOWER),
    "upper Triangular": (lx.Triangular(), np.triu(general), UPPER),
    "lower LU": (lx.LU(), np.tril(general), LOWER),
    "unit diagonal": (
        lx.Triangular(),
        np.tril(general, -1) + np.eye(N),
        (LOWER, lx.unit_diagonal_tag),
    ),
    "Tridiagonal": (lx.Tridiagonal(), band, lx.tridiagonal_tag),
    "Banded": (lx.Banded(), band, lx.tridiagonal_tag),
    "tridiagonal LU": (lx.LU(), band, lx.tridiagonal_tag),
}


def weighted(solver, tags):
    def value(A):
        operator = lx.MatrixLinearOperator(A, tags)
        b = jnp.arange(1.0, N + 1)
        x = lx.linear_solve(operator, b, solver, throw=False).value
        return jnp.dot(jnp.cos(b), x)

    return value


def entrywise(A):
    b = np.arange(1.0, N + 1)
    return -np.outer(np.linalg.solve(A.T, np.cos(b)), np.linalg.solve(A, b))


@pytest.mark.parametrize("name", CASES)
def test_entry_by_entry(name):
    """In both modes, at entries that are read and at those that are not."""
    solver, A, tags = CASES[name]
    value, expected = weighted(solver, tags), entrywise(A)
    scale = np.max(np.abs(expected))
    for derivative in (jax.grad(value), jax.jacfwd(value)):
        gradient = derivative(jnp.asarray(A))
        np.testing.assert_allclose(gradient, expected, atol=1e-8 * scale)


@pytest.mark.parametrize("solver", [lx.Diagonal(), lx.Diagonal(well_posed=True)])
def test_diagonal(solver):
    """An operator tagged diagonal is its diagonal alone, also in products: there is no
    derivative elsewhere."""
    A = np.diag(np.arange(1.0, N + 1))
    value = weighted(solver, lx.diagonal_tag)
    expected = np.diag(np.diag(entrywise(A)))
    for derivative in (jax.grad(value), jax.jacfwd(value)):
        np.testing.assert_allclose(derivative(jnp.asarray(A)), expected, atol=1e-12)


def test_determinant_of_a_triangular_operator():
    """Of which only the diagonal counts, in either mode."""
    A = jnp.asarray(np.tril(general))

    def log(A):
        return lx.slogdet(lx.MatrixLinearOperator(A, LOWER), lx.Triangular())[1]

    expected = np.diag(1 / np.diag(A))
    for derivative in (jax.grad(log), jax.jacfwd(log)):
        np.testing.assert_allclose(derivative(A), expected, atol=1e-12)
