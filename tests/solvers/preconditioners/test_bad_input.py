"""Operators that are small, complex, or not what a preconditioner needs."""

from importlib.util import find_spec

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest

PSD = lo.positive_semidefinite_tag
needs_pyamg = pytest.mark.skipif(find_spec("pyamg") is None, reason="needs pyamg")

SIZED = {
    "Jacobi": lambda n: lxs.Jacobi(),
    "BlockJacobi": lambda n: lxs.BlockJacobi(3),
    "Chebyshev": lambda n: lxs.Chebyshev(2),
    "Chebyshev, scaled": lambda n: lxs.Chebyshev(2, scaled=True),
    "Nystrom": lambda n: lxs.Nystrom(2),
    "Nystrom, adaptive": lambda n: lxs.Nystrom(shift=0.1),
    "PivotedCholesky": lambda n: lxs.PivotedCholesky(2),
    "Deflation": lambda n: lxs.Deflation(np.ones((n, 1))),
    "Deflation of blocks": lambda n: lxs.Deflation(blocks=np.zeros(n, int)),
    "TwoLevel": lambda n: lxs.TwoLevel(np.ones((n, 1)), lxs.Jacobi(0.5)),
    "Additive": lambda n: lxs.Additive(lxs.Jacobi(), lxs.BlockJacobi(2)),
    "Multiplicative": lambda n: lxs.Multiplicative(lxs.Jacobi(), lxs.Jacobi(0.5)),
    "Multigrid": lambda n: lxs.Multigrid([]),
    "SSOR": lambda n: lxs.SSOR(),
    "GaussSeidel": lambda n: lxs.GaussSeidel(),
    "IncompleteLU": lambda n: lxs.IncompleteLU(),
    "IncompleteCholesky": lambda n: lxs.IncompleteCholesky(),
    "AMG": lambda n: lxs.AMG(),
    "auto": lambda n: "auto",
    "a solver": lambda n: lxs.Cholesky(),
}


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=needs_pyamg) if x == "AMG" else x for x in SIZED],
)
def test_smallest(name, n):
    """One unknown, or none at all."""
    pattern = lo.SparsityPattern.from_dense(np.ones((n, n), bool))
    operator = lo.SparseLinearOperator(jnp.full(n, 2.5), pattern, PSD)
    solver = lxs.GMRES(1e-10, 0.0, preconditioner=SIZED[name](n)).setup(operator)

    @eqx.filter_jit
    def solved(solver, operator, b):
        return solver.compute(solver.init(operator, {}), b, {})

    x, result, _ = solved(solver, operator, jnp.ones(n))
    assert result == lxs.RESULTS.successful
    np.testing.assert_allclose(x, np.full(n, 0.4), rtol=1e-10)


@needs_pyamg
def test_classical_amg_is_for_real_operators():
    """pyamg's is; smoothed aggregation takes complex operators."""
    A = 4.0 * np.eye(9) + 1j * np.eye(9, k=1) - 1j * np.eye(9, k=-1)
    operator = lo.SparseLinearOperator.from_dense(jnp.asarray(A), PSD)
    with pytest.raises(ValueError, match=r"`AMG\(\)`, smoothed aggregation"):
        lxs.AMG("ruge_stuben", max_coarse=3).setup(operator)
    M = lxs.AMG(max_coarse=3).as_operator(operator).as_matrix()
    eigenvalues = np.linalg.eigvals(M @ A)
    assert np.abs(1 - eigenvalues).max() < 0.5


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_overflow_of_products_is_named(dtype):
    """A diagonal so small that M r overflows, although M and A are finite: a failure
    whose message says so."""
    d = jnp.asarray([3.0, 1e-30, 3.0, 3.0], dtype)
    A = jnp.diag(d) + jnp.eye(4, k=1, dtype=dtype) + jnp.eye(4, k=-1, dtype=dtype)
    operator = lo.MatrixLinearOperator(A, PSD)
    recipe = lxs.Multiplicative(lxs.Jacobi(), lxs.Jacobi(), symmetric=True)
    solver = lxs.CG(1e-5, 0.0, preconditioner=recipe)

    @jax.jit
    def solved(b):
        return solver.compute(solver.init(operator, {}), b, {})[1]

    result = solved(jnp.ones(4, dtype))
    assert result == lxs.RESULTS.nonfinite_input
    assert "preconditioner overflowed" in lxs.RESULTS[result]
