"""Derivatives at entries that a solver does not read, as tags tell it what they are.

The convention: the tangent of an operator acts as it is, entry by entry. With x = A⁻¹b,
dx = -A⁻¹ dA x whatever dA is, so the gradient of cᵀx is -A⁻ᵀc xᵀ at every entry.
"""

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

N = 4
draw = np.random.default_rng(0).normal
general = draw(size=(N, N)) + 3 * np.eye(N)
definite = general @ general.T
band = np.triu(np.tril(definite, 1), -1)
iterative = {"rtol": 1e-12, "atol": 1e-12}

DEFINITE = lxo.positive_semidefinite_tag
LOWER, UPPER = lxo.lower_triangular_tag, lxo.upper_triangular_tag
CASES = {
    "Cholesky": (lxs.Cholesky(), definite, DEFINITE),
    "refined Cholesky": (lxs.Refined(lxs.Cholesky()), definite, DEFINITE),
    "CG": (lxs.CG(**iterative), definite, DEFINITE),
    "Eigh": (lxs.Eigh(), definite, lxo.symmetric_tag),
    "MINRES": (lxs.MINRES(**iterative), definite, lxo.symmetric_tag),
    "symmetric LU": (lxs.LU(), definite, lxo.symmetric_tag),
    "symmetric SVD": (lxs.SVD(), definite, lxo.symmetric_tag),
    "symmetric PivotedQR": (lxs.PivotedQR(), definite, lxo.symmetric_tag),
    "symmetric Normal": (lxs.Normal(lxs.Cholesky()), definite, lxo.symmetric_tag),
    "lower Triangular": (lxs.Triangular(), np.tril(general), LOWER),
    "upper Triangular": (lxs.Triangular(), np.triu(general), UPPER),
    "lower LU": (lxs.LU(), np.tril(general), LOWER),
    "unit diagonal": (
        lxs.Triangular(),
        np.tril(general, -1) + np.eye(N),
        (LOWER, lxo.unit_diagonal_tag),
    ),
    "Tridiagonal": (lxs.Tridiagonal(), band, lxo.tridiagonal_tag),
    "Banded": (lxs.Banded(), band, lxo.tridiagonal_tag),
    "tridiagonal LU": (lxs.LU(), band, lxo.tridiagonal_tag),
}


def weighted(solver, tags):
    def value(A):
        operator = lxo.MatrixLinearOperator(A, tags)
        b = jnp.arange(1.0, N + 1)
        x = lxa.linear_solve(operator, b, solver, throw=False).value
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


@pytest.mark.parametrize("solver", [lxs.Diagonal(), lxs.Diagonal(well_posed=True)])
def test_diagonal(solver):
    """An operator tagged diagonal is its diagonal alone, also in products: there is no
    derivative elsewhere."""
    A = np.diag(np.arange(1.0, N + 1))
    value = weighted(solver, lxo.diagonal_tag)
    expected = np.diag(np.diag(entrywise(A)))
    for derivative in (jax.grad(value), jax.jacfwd(value)):
        np.testing.assert_allclose(derivative(jnp.asarray(A)), expected, atol=1e-12)


def test_determinant_of_a_triangular_operator():
    """Only the diagonal counts, in either mode."""
    A = jnp.asarray(np.tril(general))

    def log(A):
        return lxa.slogdet(lxo.MatrixLinearOperator(A, LOWER), lxs.Triangular())[1]

    expected = np.diag(1 / np.diag(A))
    for derivative in (jax.grad(log), jax.jacfwd(log)):
        np.testing.assert_allclose(derivative(A), expected, atol=1e-12)
