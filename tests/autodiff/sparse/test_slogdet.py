"""Determinants of sparse operators, and their gradients, against dense ones."""

import importlib.util

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
import pytest
from lx_autodiff import linear_solve, slogdet

BACKENDS = ["superlu"] + ["rslab"] * (importlib.util.find_spec("rslab") is not None)
DEFINITE = lxo.positive_semidefinite_tag


def random_sparse(n, dtype, seed, symmetric):
    random = np.random.default_rng(seed)
    mask = (random.random((n, n)) < 0.08) | np.eye(n, dtype=bool)
    if symmetric:
        mask |= mask.T
    A = random.standard_normal((n, n)) + 1j * random.standard_normal((n, n))
    A = (A if np.dtype(dtype).kind == "c" else A.real) * mask
    # rows of very different scale, and an odd permutation
    return (A * np.geomspace(1e-3, 1e3, n)[:, None])[np.roll(np.arange(n), 1)]


def close_shares(gradient, wanted, values):
    """Whose products with the values have row sums of one, whatever the scales are."""
    np.testing.assert_allclose(gradient * values, wanted * values, rtol=0, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_general(dtype, symmetric):
    for seed, backend in enumerate(2 * BACKENDS):
        A = random_sparse(25, dtype, seed, symmetric)
        operator = lxo.SparseLinearOperator.from_dense(A)
        pattern = operator.pattern
        for _ in range(2):  # with an ordering that is found, and one that is known
            got = slogdet(operator, lx.SparseLU(backend))
            sign, log = np.linalg.slogdet(A)
            np.testing.assert_allclose(got.sign, sign, rtol=1e-9)
            np.testing.assert_allclose(got.logabsdet, log, rtol=1e-10)

            def log_of(values, pattern=pattern, backend=backend):
                A = lxo.SparseLinearOperator(values, pattern)
                return slogdet(A, lx.SparseLU(backend)).logabsdet

            gradient = jax.jit(jax.grad(log_of))(operator.values)
            wanted = np.linalg.inv(A)[pattern.columns, pattern.rows]
            close_shares(gradient, wanted, operator.values)
            A = 1.5 * A
            operator = lxo.SparseLinearOperator(1.5 * operator.values, pattern)


def test_definite_and_negative():
    for n, tag in ((24, DEFINITE), (25, lxo.negative_semidefinite_tag)):
        X = random_sparse(n, "complex128", 0, True) * np.geomspace(1e3, 1e-3, n)
        A = np.where(abs(X) + abs(X.T) > 0, X + X.conj().T, 0)
        A += np.diag(np.abs(A).sum(1) + 1)
        A = A if tag is DEFINITE else -A
        operator = lxo.SparseLinearOperator.from_dense(A, tag)
        solution = linear_solve(operator, jnp.ones(n, complex), lx.SparseCholesky())
        misses = lx.sparse_cache.info().misses
        sign, log = slogdet(operator, lx.SparseCholesky(), state=solution.state)
        np.testing.assert_allclose(sign, np.linalg.slogdet(A)[0], rtol=1e-9)
        np.testing.assert_allclose(log, np.linalg.slogdet(A)[1], rtol=1e-10)
        if "rslab" not in BACKENDS:  # the factors of the solve
            assert lx.sparse_cache.info().misses == misses


def test_singular():
    A = np.diag([1.0, 0.0, 2.0])
    pattern = lxo.SparsityPattern.from_dense(np.eye(3))
    operator = lxo.SparseLinearOperator.from_dense(A, pattern=pattern)
    sign, log = slogdet(operator, lx.SparseLU())
    assert sign == 0 and log == -np.inf


def test_batch():
    A = np.stack([random_sparse(20, "float64", 3, True) * s for s in (1.0, 2.0, 3.0)])
    pattern = lxo.SparsityPattern.from_dense(A[0])
    values = jnp.asarray(A[:, pattern.rows, pattern.columns])

    def log_of(values):
        return slogdet(lxo.SparseLinearOperator(values, pattern), lx.SparseLU())[1]

    got, gradient = jax.vmap(jax.value_and_grad(log_of))(values)
    np.testing.assert_allclose(got, np.linalg.slogdet(A)[1], rtol=1e-10)
    wanted = np.linalg.inv(A)[:, pattern.columns, pattern.rows]
    close_shares(gradient, wanted, values)
