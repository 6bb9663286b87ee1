"""The figures that direct solvers judge by, and rows and columns of any scale."""

import equinox as eqx
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

N = 10


def orthogonal(seed):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(N, N)))[0]


@eqx.filter_jit
def solve(solver, operator, b):
    return solver.compute(solver.init(operator, {}), b, {})


@pytest.mark.parametrize("solver", [lxs.LU(), lxs.QR(), lxs.Cholesky()])
@pytest.mark.parametrize("condition", [1e1, 1e4, 1e8])
def test_reciprocal_condition(solver, condition):
    """That of the matrix, to an order of magnitude where it is not scaled badly."""
    left = orthogonal(0)
    right = left if isinstance(solver, lxs.Cholesky) else orthogonal(1)
    A = left @ np.diag(np.geomspace(1, 1 / condition, N)) @ right.T
    operator = lxo.MatrixLinearOperator(jnp.asarray(A), lxo.positive_semidefinite_tag)
    _, result, stats = solve(solver, operator, jnp.ones(N))
    assert result == lxs.RESULTS.successful
    assert 1 / 30 <= stats["reciprocal_condition"] * condition <= 300


@pytest.mark.parametrize("n", [5, 8, 9, 20])
def test_growth(n):
    """Wilkinson's matrix, in which elements double at each step: exactly 2ⁿ⁻¹."""
    A = np.eye(n) - np.tril(np.ones((n, n)), -1)
    A[:, -1] = 1
    operator = lxo.MatrixLinearOperator(jnp.asarray(A))
    _, _, stats = solve(lxs.LU(), operator, jnp.ones(n))
    assert stats["growth"] == 2.0 ** (n - 1)


@pytest.mark.parametrize("solver", [lxs.LU(), lxs.QR()])
@pytest.mark.parametrize("precision, decades", [(np.float32, 24), (np.float64, 200)])
def test_rows_and_columns_of_any_scale(solver, precision, decades):
    """No false success and no false failure: of well-conditioned matrices, each row and
    column has its own scale; the right-hand side is that of a known solution."""
    draw = np.random.default_rng(3)
    eps = np.finfo(precision).eps
    for _ in range(20):
        A = orthogonal(draw.integers(1000)) + np.eye(N) / 4
        rows = np.exp2(np.round(draw.uniform(-1, 1, N) * decades / 2 * 3.32))
        columns = np.exp2(np.round(draw.uniform(-1, 1, N) * decades / 2 * 3.32))
        A, y = A.astype(precision), draw.normal(size=N)
        b = (A.astype(np.float64) @ y).astype(precision) * rows.astype(precision)
        scaled = A * rows.astype(precision)[:, None] * columns.astype(precision)
        operator = lxo.MatrixLinearOperator(jnp.asarray(scaled))
        x, result, _ = solve(solver, operator, jnp.asarray(b))
        assert result == lxs.RESULTS.successful
        error = np.max(np.abs(np.asarray(x, np.float64) * columns - y))
        assert error <= 1e3 * eps * np.linalg.cond(A.astype(np.float64))


@pytest.mark.parametrize("precision, decades", [(np.float32, 24), (np.float64, 200)])
def test_tridiagonal_rows_of_any_scale(precision, decades):
    """LAPACK's pivots would be chosen by the scale of the rows."""
    draw = np.random.default_rng(4)
    for _ in range(20):
        parts = [draw.normal(size=N), draw.normal(size=N - 1), draw.normal(size=N - 1)]
        parts[0] += 3
        main, lower, upper = (part.astype(precision) for part in parts)
        A = np.diag(main) + np.diag(lower, -1) + np.diag(upper, 1)
        y = draw.normal(size=N)
        rows = np.exp2(np.round(draw.uniform(-1, 1, N) * decades * 3.32))
        rows = rows.astype(precision)
        b = (A.astype(np.float64) @ y).astype(precision) * rows
        bands = main * rows, lower * rows[1:], upper * rows[:-1]
        operator = lxo.TridiagonalLinearOperator(*map(jnp.asarray, bands))
        x, result, stats = solve(lxs.Tridiagonal(), operator, jnp.asarray(b))
        assert result == lxs.RESULTS.successful
        error = np.max(np.abs(np.asarray(x, np.float64) - y))
        condition = np.linalg.cond(A.astype(np.float64))
        assert error <= 1e3 * np.finfo(precision).eps * condition
        assert stats["backward_error"] <= 1e2 * np.finfo(precision).eps
