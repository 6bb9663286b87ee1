"""Circulant: solved by Fourier transforms."""

import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
import scipy.linalg
from lx_solvers.internal import slogdet_of


def difference(dtype, n=5):
    """Second differences of a periodic sequence: constants are null vectors."""
    column = np.zeros(n)
    column[:2], column[-1] = (-2, 1), 1
    return lxo.CirculantLinearOperator(jnp.asarray(column, dtype))


@pytest.mark.parametrize(
    "dtype, shape, solver",
    [
        ("float32", (5,), lxs.Circulant()),
        ("complex128", (2, 3), lxs.Circulant(well_posed=True)),
    ],
)
def test_laws(obeys_laws, draw, dtype, shape, solver):
    column = draw(np.dtype(dtype), *shape).at[(0,) * len(shape)].add(4)
    obeys_laws(solver, lxo.CirculantLinearOperator(column))


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_pseudoinverse(obeys_laws, dtype):
    obeys_laws(lxs.AutoLinearSolver(well_posed=False), difference(dtype))


def test_against_scipy(solve, draw):
    c, b = np.asarray(draw("float64", 64)), np.asarray(draw("float64", 64, seed=1))
    operator = lxo.CirculantLinearOperator(c)
    solver = lxs.AutoLinearSolver(well_posed=True)
    assert solver.select_solver(operator) == lxs.Circulant(well_posed=True)
    x, result, _ = solve(solver, operator, jnp.asarray(b))
    assert result == lxs.RESULTS.successful
    np.testing.assert_allclose(x, scipy.linalg.solve_circulant(c, b), rtol=1e-10)


def test_verdicts(outcome):
    assert outcome(lxs.Circulant(well_posed=True), difference(float))[1] == "singular"
    x, result = outcome(lxs.Circulant(), difference(float))
    assert result == "successful" and abs(x).max() < 1e-15
    nan = lxo.CirculantLinearOperator(jnp.array([1.0, jnp.nan]))
    assert outcome(lxs.Circulant(), nan)[1] == "nonfinite_input"


def test_rank_and_rcond(solve):
    operator = lxo.CirculantLinearOperator(jnp.array([2.0, 1e-5 - 2, 0.0]))
    for rcond, rank in ((None, 3), (1e-4, 2)):
        solver = lxs.Circulant(rcond=rcond)
        stats = solve(solver, operator, jnp.ones(3))[2]
        assert stats["rank"] == rank


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_slogdet(draw, dtype):
    operator = lxo.CirculantLinearOperator(draw(np.dtype(dtype), 6))
    sign, log = slogdet_of(lxs.Circulant().init(operator, {}))
    wanted = np.linalg.slogdet(np.asarray(operator.as_matrix()))
    np.testing.assert_allclose(sign, wanted[0], rtol=1e-12)
    np.testing.assert_allclose(log, wanted[1], rtol=1e-12)


def test_wrong_operator():
    with pytest.raises(ValueError, match="CirculantLinearOperator"):
        lxs.Circulant().init(lxo.MatrixLinearOperator(jnp.eye(2)), {})
