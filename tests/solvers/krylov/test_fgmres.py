"""FGMRES: GMRES with a preconditioner that may change."""

import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers.krylov.fgmres import FGMRES

from .conftest import N, krylov_minimum

pytestmark = pytest.mark.xdist_group("FGMRES itself")


def test_fixed_preconditioner(draw, run):
    """The residual is minimised over the Krylov space of A M and b."""
    a, b = 3 * np.eye(N) + draw(np.float64, N, N), draw(np.float64, N)
    m = 1 / np.diag(a)
    M = lo.DiagonalLinearOperator(jnp.asarray(m))
    for steps in (1, 4, 9):
        x = run(FGMRES(0.0, 0.0, max_steps=steps), a, b, preconditioner=M).x
        wanted = m * krylov_minimum(a * m, b, steps)
        np.testing.assert_allclose(x, wanted, rtol=1e-8, atol=1e-10)


def test_changing_preconditioner(draw, run, residual):
    """An inner iteration that depends on the vector and on the step."""
    a = np.diag(np.linspace(1, 100, N)) + 0.1 * draw(np.float64, N, N)
    b = draw(np.float64, N)
    diagonal = jnp.asarray(np.diag(a))

    def inner(v, step):
        weight = jnp.where(step % 2 == 0, 1.0, 0.9) + 1e-3 * jnp.tanh(v)
        return weight * v / diagonal

    x, result, steps, _ = run(FGMRES(1e-9, 0.0), a, b, preconditioner=inner)
    assert result == "successful"
    assert residual(a, x, b) <= 1e-9
    none = lo.DiagonalLinearOperator(jnp.ones(N))
    assert steps < run(FGMRES(1e-9, 0.0), a, b, preconditioner=none).steps


def test_function_is_not_transposed():
    """Only operators have a transpose: the derivatives' solves go without."""
    solver = FGMRES(1e-6, 1e-6)
    options = {"preconditioner": lambda v, step: v}
    state = solver.init(lo.MatrixLinearOperator(jnp.eye(2)), options)
    assert solver.transpose(state, options)[1] == {}
    assert solver.conj(state, options)[1] == {}
    assert solver.assume_full_rank()
