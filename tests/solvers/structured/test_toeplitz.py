"""Toeplitz: Levinson's recursion, and the circulant preconditioner."""

import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
import scipy.linalg
from lx_solvers.internal import slogdet_of

PSD = lxo.positive_semidefinite_tag


def decaying(draw, dtype, n):
    """Diagonally dominant."""
    weights = jnp.asarray(0.4 ** np.arange(n), dtype)
    column, row = (draw(np.dtype(dtype), n, seed=s) * weights for s in (1, 2))
    return lxo.ToeplitzLinearOperator(column.at[0].set(3), row)


def ar1(n, rho=0.9):
    """The covariance of a stationary process, definite."""
    return lxo.ToeplitzLinearOperator(rho ** jnp.arange(n, dtype=float), tags=PSD)


@pytest.mark.parametrize("n", [1, 2, 200])
def test_against_scipy(solve, draw, n):
    """With the matrix given whole, and by its default row."""
    for operator in (decaying(draw, "float64", n), ar1(n)):
        b = draw("float64", n)
        solver = lxs.Toeplitz()
        x, result, _ = solve(solver, operator, b)
        assert result == lxs.RESULTS.successful
        c, r = operator.column, operator.row
        r = c if r is None else r
        wanted = scipy.linalg.solve_toeplitz((np.array(c), np.array(r)), np.array(b))
        np.testing.assert_allclose(x, wanted, rtol=1e-9, atol=1e-9)


def test_slogdet(draw):
    for dtype in ("float64", "complex128"):
        operator = decaying(draw, dtype, 7)
        sign, log = slogdet_of(lxs.Toeplitz().init(operator, {}))
        wanted = np.linalg.slogdet(np.asarray(operator.as_matrix()))
        np.testing.assert_allclose(sign, wanted[0], rtol=1e-12)
        np.testing.assert_allclose(log, wanted[1], rtol=1e-12)


def test_a_singular_leading_submatrix_is_told(outcome):
    """Nonsingular, with zeros on its diagonal: no failure goes unsaid."""
    operator = lxo.ToeplitzLinearOperator(
        np.array([0.0, 1.0, 0.5]), np.array([0.0, 2.0, 0.3])
    )
    assert outcome(lxs.Toeplitz(), operator)[1] == "unstable"
    assert outcome(lxs.AutoLinearSolver(well_posed=True), operator)[1] == "successful"


def test_nearly_singular_leading_submatrices(solve, draw):
    """What is called successful has a small residual."""
    successes = 0
    for small in 10.0 ** -np.arange(2, 17):
        column, row = draw("float64", 12), draw("float64", 12, seed=3)
        operator = lxo.ToeplitzLinearOperator(column.at[0].set(small), row)
        solver, b = lxs.Toeplitz(), jnp.ones(12)
        x, result, _ = solve(solver, operator, b)
        A = np.asarray(operator.as_matrix())
        error = abs(A @ x - b).max() / (abs(A).max() * abs(x).sum() + 1)
        if result == lxs.RESULTS.successful:
            successes += 1
            assert error < 2e-8
    assert successes >= 5


def test_verdicts(outcome):
    ones = lxo.ToeplitzLinearOperator(jnp.ones(4))
    assert outcome(lxs.Toeplitz(), ones)[1] in ("singular", "unstable")
    near = lxo.ToeplitzLinearOperator(jnp.array([1.0, 1 - 1e-16, 1 - 1e-16]))
    assert outcome(lxs.Toeplitz(), near)[1] != "successful"
    nan = lxo.ToeplitzLinearOperator(jnp.array([1.0, jnp.nan]))
    assert outcome(lxs.Toeplitz(), nan)[1] == "nonfinite_input"


def test_scale_does_not_matter(outcome):
    for scale in (1e-300, 1e300):
        operator = lxo.ToeplitzLinearOperator(scale * jnp.array([2.0, 1.0, 0.5]))
        vector = scale * jnp.ones(3)
        x, result = outcome(lxs.Toeplitz(), operator, vector)
        assert result == "successful"
        wanted = scipy.linalg.solve_toeplitz([2, 1, 0.5], np.ones(3))
        np.testing.assert_allclose(x, wanted, rtol=1e-12)


def test_choice(draw):
    solver = lxs.AutoLinearSolver(well_posed=True)
    assert solver.select_solver(ar1(5)) == lxs.Toeplitz()
    assert solver.select_solver(-ar1(5)) != lxs.PivotedQR()
    assert solver.select_solver(decaying(draw, "float64", 5)) == lxs.LU()
    unsure = lxs.AutoLinearSolver(well_posed=False)
    assert unsure.select_solver(ar1(5)) == lxs.PivotedQR()


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_chan_is_nearest(draw, dtype):
    """The circulant matrix nearest to T has the means of T along its diagonals."""
    operator = decaying(draw, dtype, 5)
    T = np.asarray(operator.as_matrix())
    i = np.arange(5)
    shift = (i[:, None] - i[None, :]) % 5
    column = [T[shift == k].mean() for k in range(5)]
    got = lxs.circulant_preconditioner(operator)
    wanted = np.linalg.inv(scipy.linalg.circulant(column))
    np.testing.assert_allclose(got.as_matrix(), wanted, rtol=1e-12, atol=1e-14)


def test_preconditioned_steps():
    """Chan's preconditioner saves most of the steps of CG."""
    n = 512
    operator = lxo.ToeplitzLinearOperator(
        1 / (1 + jnp.arange(n, dtype=float)) ** 1.1, tags=PSD
    )
    M = lxs.circulant_preconditioner(operator)
    assert lxo.is_positive_semidefinite(M)
    solver, steps = lxs.CG(rtol=1e-10, atol=1e-10), []
    for options in ({}, {"preconditioner": M}):
        state = solver.init(operator, options)
        x, result, stats = solver.compute(state, jnp.ones(n), options)
        assert result == lxs.RESULTS.successful
        steps.append(int(stats["num_steps"]))
    assert steps[1] < steps[0] / 2
    wanted = scipy.linalg.solve_toeplitz(np.asarray(operator.column), np.ones(n))
    np.testing.assert_allclose(x, wanted, rtol=1e-7, atol=1e-8)


def test_wrong_operators():
    plain = lxo.MatrixLinearOperator(jnp.eye(2))
    tall = lxo.ToeplitzLinearOperator(jnp.ones(3), jnp.ones(2))
    for reject in (lxs.circulant_preconditioner, lambda a: lxs.Toeplitz().init(a, {})):
        with pytest.raises(ValueError, match="ToeplitzLinearOperator"):
            reject(plain)
        with pytest.raises(ValueError, match="square"):
            reject(tall)
