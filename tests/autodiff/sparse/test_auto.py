"""What `AutoLinearSolver` takes for sparse operators."""

import importlib.util

import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
import pytest
import scipy.sparse as sp
from lx_autodiff import linear_solve

RSLAB = importlib.util.find_spec("rslab") is not None
N = 1200
RANDOM = sp.random_array((N, N), density=2e-3, rng=np.random.default_rng(0))
A = sp.csr_array(RANDOM + 4 * sp.eye_array(N))


def sparse(matrix, tags=()):
    return lxo.SparseLinearOperator.from_scipy(matrix, tags)


def kinetics(u, args):
    """Unknowns that act on others far away."""
    return u + u**3 + 0.1 * jnp.roll(u, 7) * jnp.roll(u, -130)


JACOBIAN = lxo.JacobianLinearOperator(
    kinetics, jnp.linspace(0.0, 1.0, 500), sparsity="detect"
)


def test_of_unknown_rank():
    """No sparse factorisation finds the rank: the error names what does."""
    auto = lx.AutoLinearSolver(well_posed=False)
    assert isinstance(auto.select_solver(sparse(A)), lx.PivotedQR)
    large = sparse(sp.csr_array(sp.kron(A, sp.eye_array(40))))
    with pytest.raises(ValueError, match="LSMR"):
        linear_solve(large, jnp.ones(40 * N), auto)


@pytest.mark.parametrize(
    "operator, solver",
    [
        (sparse(A), lx.SparseLU()),
        (2.0 * sparse(A), lx.SparseLU()),
        (sparse(A + A.T, lxo.positive_semidefinite_tag), lx.SparseCholesky()),
        (
            sparse(A + A.T, lxo.symmetric_tag),
            lx.SparseLDL() if RSLAB else lx.SparseLU(),
        ),
        (sparse(A[:300, :300]), lx.LU()),
        (JACOBIAN, lx.SparseLU()),
        (
            sparse(sp.diags_array([np.ones(N - 3), 3 * np.ones(N)], offsets=[-3, 0])),
            lx.Banded(),
        ),
    ],
    ids=["general", "scaled", "definite", "symmetric", "small", "jacobian", "banded"],
)
def test_square(operator, solver):
    auto = lx.AutoLinearSolver(well_posed=True)
    assert repr(auto.select_solver(operator)) == repr(solver)
    b = jnp.arange(1.0, operator.out_size() + 1)
    x = linear_solve(operator, b, auto).value
    np.testing.assert_allclose(operator.mv(x), b, rtol=1e-10)


def test_not_square():
    tall = sp.csr_array(sp.vstack([A, RANDOM]))
    operator, auto = sparse(tall), lx.AutoLinearSolver(well_posed=None)
    assert isinstance(auto.select_solver(operator), lx.SparseLeastSquares)
    assert "sparse, large and not square? yes" in auto.explain(operator)
    b = np.random.default_rng(1).standard_normal(2 * N)
    x = linear_solve(operator, jnp.asarray(b), auto).value
    wanted = np.linalg.lstsq(tall.toarray(), b, rcond=None)[0]
    np.testing.assert_allclose(x, wanted, rtol=1e-6, atol=1e-8)
