"""Operators that preconditioners are tested on."""

import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest

from .problems import PSD, N, poisson


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture(scope="module")
def laplacian():
    return lo.SparseLinearOperator.from_scipy(poisson(32), PSD)


@pytest.fixture
def sparse(rng):
    """A sparse matrix in the order in which it is eliminated, and back."""
    mask = rng.random((N, N)) < 0.25
    mask = mask | mask.T | np.eye(N, dtype=bool)
    A = np.where(mask, 0.2 * rng.standard_normal((N, N)), 0) + 3 * np.eye(N)
    pattern = lo.SparsityPattern.from_dense(mask)
    operator = lo.SparseLinearOperator.from_dense(jnp.asarray(A), pattern=pattern)
    order = np.asarray(lxs.SSOR().setup(operator).order.order)
    back = np.argsort(order)
    both = np.ix_(order, order)
    return operator, A[both], mask[both], lambda M: M[np.ix_(back, back)]
