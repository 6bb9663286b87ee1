"""`AutoLinearSolver`: which solver for which operator, and why."""

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers._auto import table

SQUARE = jnp.array([[4.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 2.0]])


def matrix(*tags):
    return lxo.MatrixLinearOperator(SQUARE, tags)


DIAGONAL = lxo.DiagonalLinearOperator(jnp.ones(3))
BANDS = lxo.TridiagonalLinearOperator(jnp.ones(3), jnp.ones(2), jnp.ones(2))
TALL = lxo.MatrixLinearOperator(jnp.ones((3, 2)))

SQUARE_CASES = [
    (BANDS, lxs.Tridiagonal()),
    (matrix(lxo.tridiagonal_tag, lxo.positive_semidefinite_tag), lxs.Tridiagonal()),
    (matrix(lxo.lower_triangular_tag), lxs.Triangular()),
    (matrix(lxo.upper_triangular_tag), lxs.Triangular()),
    (matrix(lxo.positive_semidefinite_tag), lxs.Cholesky()),
    (matrix(lxo.negative_semidefinite_tag), lxs.Cholesky()),
    (TALL.T @ TALL, lxs.Cholesky()),
    (matrix(lxo.symmetric_tag), lxs.LU()),
    (matrix(), lxs.LU()),
]
CASES = [
    *((True, operator, solver) for operator, solver in SQUARE_CASES),
    *((None, operator, solver) for operator, solver in SQUARE_CASES),
    (True, DIAGONAL, lxs.Diagonal(well_posed=True)),
    (None, DIAGONAL, lxs.Diagonal(well_posed=False)),
    (False, DIAGONAL, lxs.Diagonal(well_posed=False)),
    (None, TALL, lxs.QR()),
    (None, TALL.T, lxs.QR()),
    (False, TALL, lxs.PivotedQR()),
    (False, matrix(), lxs.PivotedQR()),
    (False, BANDS, lxs.PivotedQR()),
]


@pytest.mark.parametrize("well_posed, operator, solver", CASES)
def test_choice(well_posed, operator, solver):
    auto = lxs.AutoLinearSolver(well_posed=well_posed)
    assert auto.select_solver(operator) == solver
    assert f"-> {solver!r}" in auto.explain(operator)


def test_explanation_names_what_was_asked_before():
    text = lxs.AutoLinearSolver(well_posed=True).explain(matrix())
    rows = [line for line in text.splitlines() if "?" in line]
    assert len(rows) == len(table()[True]) and rows[-1].startswith("->")
    assert all("not known" in row for row in rows[:-1])


def test_not_square():
    with pytest.raises(ValueError, match="3 by 2.*well_posed=None"):
        lxs.AutoLinearSolver(well_posed=True).select_solver(TALL)


def test_wrong_argument():
    with pytest.raises(ValueError, match="well_posed"):
        lxs.AutoLinearSolver(well_posed="yes")


@pytest.mark.parametrize("well_posed", [True, False, None])
def test_solves_and_turns_its_state(well_posed):
    """The value, and the laws of transposed and conjugated states, by NumPy."""
    dense = np.asarray(SQUARE) + 1j * np.eye(3)
    operator, b = lxo.MatrixLinearOperator(jnp.asarray(dense)), jnp.arange(3) + 1j
    solver = lxs.AutoLinearSolver(well_posed=well_posed)
    state = jax.jit(solver.init)(operator, {})
    for turn, truth in (
        (lambda s: s, dense),
        (lambda s: solver.transpose(s, {})[0], dense.T),
        (lambda s: solver.conj(s, {})[0], dense.conj()),
    ):
        value, result, _ = solver.compute(turn(state), b, {})
        assert result == lxs.RESULTS.successful
        np.testing.assert_allclose(value, np.linalg.solve(truth, b), rtol=1e-12)


def test_foreign_state():
    with pytest.raises(ValueError, match="AutoLinearSolver.init"):
        state = lxs.LU().init(matrix(), {})
        lxs.AutoLinearSolver(well_posed=True).compute(state, jnp.ones(3), {})
