"""Structured operators with sparse parts, through solvers that keep the structure."""

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
import scipy.sparse as sp
from lx_autodiff import linear_solve

N = 450  # from 400 on, sparse factors are taken
RNG = np.random.default_rng(0)
A = sp.csr_array(sp.random_array((N, N), density=3e-3, rng=0) + 3 * sp.eye_array(N))
U, V = (sp.random_array((N, 3), density=0.02, rng=k).tocsr() for k in (1, 2))
B = RNG.standard_normal(N)


def sparse(matrix, tags=()):
    return lxo.SparseLinearOperator.from_scipy(matrix, tags)


def test_woodbury():
    """A + U C Vᴴ, all of them sparse: A alone is factorised, and derivatives have a
    number for each entry of A and of U."""
    a, u, v = sparse(A, lxo.nonsingular_tag), sparse(U), sparse(V)
    C = jnp.asarray(RNG.standard_normal((3, 3)))
    operator = lxo.LowRankUpdateLinearOperator(a, u, C, v)
    auto = lx.AutoLinearSolver(well_posed=True)
    chosen = auto.select_solver(operator)
    assert isinstance(chosen, lx.Woodbury)

    def solve(values, of_u):
        moved = lxo.SparseLinearOperator(values, a.pattern, a.tags)
        turned = lxo.SparseLinearOperator(of_u, u.pattern)
        update = lxo.LowRankUpdateLinearOperator(moved, turned, C, v)
        return linear_solve(update, jnp.asarray(B), lx.Woodbury(lx.SparseLU())).value

    dense = A.toarray() + U.toarray() @ np.asarray(C) @ V.toarray().T
    x = np.linalg.solve(dense, B)
    for got in (
        linear_solve(operator, jnp.asarray(B), auto).value,
        solve(a.values, u.values),
    ):
        np.testing.assert_allclose(got, x, rtol=1e-9, atol=1e-12)

    of_A, of_U = jax.grad(lambda *given: jnp.sum(solve(*given) ** 2), (0, 1))(
        a.values, u.values
    )
    adjoint = np.linalg.solve(dense.T, 2 * x)
    rows, columns = np.asarray(a.pattern.rows), np.asarray(a.pattern.columns)
    np.testing.assert_allclose(of_A, -adjoint[rows] * x[columns], rtol=1e-8, atol=1e-11)
    inner = np.asarray(C) @ (V.toarray().T @ x)
    rows, columns = np.asarray(u.pattern.rows), np.asarray(u.pattern.columns)
    np.testing.assert_allclose(of_U, -adjoint[rows] * inner[columns], rtol=1e-8)


def test_kronecker():
    """Each factor by sparse factors of its own."""
    small = sp.csr_array(sp.random_array((20, 20), density=0.1, rng=3))
    small = small + sp.eye_array(20)
    operator = lxo.KroneckerLinearOperator(sparse(small), sparse(A))
    b = RNG.standard_normal(20 * N)
    solver = lx.Kronecker(lx.SparseLU())
    x = linear_solve(operator, jnp.asarray(b.reshape(20, N)), solver).value
    found = sp.kron(small, A) @ np.asarray(x).ravel()
    np.testing.assert_allclose(found, b, atol=1e-9)
