"""SYMMLQ."""

import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers.krylov.minres import MINRES
from lx_solvers.krylov.symmlq import SYMMLQ

from .conftest import N, stable

pytestmark = pytest.mark.xdist_group("SYMMLQ")
TAG = lo.hermitian_tag


def test_minimises_the_error(spectral, draw, run):
    """‖x - A⁻¹ b‖ over A times the Krylov space, of which the first step has
    nothing."""
    a, b = spectral(np.complex128, np.linspace(-3, 4, N)), draw(np.complex128, N)
    exact, errors = np.linalg.solve(a, b), []
    for steps in (2, 3, 6):
        powers = [a @ b]
        for _ in range(steps - 2):
            powers.append(a @ powers[-1])
        q, _ = np.linalg.qr(np.stack(powers, 1))
        best = q @ (q.conj().T @ exact)
        x = run(SYMMLQ(0.0, 0.0, max_steps=steps), a, b, TAG).x
        np.testing.assert_allclose(x, best, atol=1e-12)
        errors.append(np.linalg.norm(x - exact))
    assert errors == sorted(errors, reverse=True)


def test_ill_conditioned(draw, run):
    """Two eigenvalues at 3e-11: MINRES, whose rounding errors grow as the square of the
    condition number, stagnates; SYMMLQ is backward stable."""
    values = np.r_[3e-11, -4e-11, np.linspace(0.5, 1, 48), -np.linspace(0.5, 1, 50)]
    q = np.linalg.qr(draw(np.float64, 100, 100))[0]
    a, b = (q * values) @ q.T, draw(np.float64, 100)
    a = (a + a.T) / 2
    x, result, steps, _ = run(SYMMLQ(1e-8, 0.0), a, b, TAG)
    assert result == "successful"
    assert stable(a, x, b) or np.abs(b - a @ x).max() <= 1e-8
    other = run(MINRES(1e-8, 0.0), a, b, TAG)
    assert other.result != "successful" or other.steps >= 2 * steps


def test_least_norm(spectral, draw, run):
    """The solution of a consistent singular system has least norm."""
    values = np.r_[np.linspace(-2, -1, 6), np.linspace(1, 2, N - 8), 0, 0]
    a = spectral(np.float64, values)
    b = a @ draw(np.float64, N)
    x, result, _, _ = run(SYMMLQ(1e-10, 0.0), a, b, TAG)
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-10) @ b, atol=1e-8)


def test_demands():
    solver = SYMMLQ(1e-6, 1e-6)
    with pytest.raises(ValueError, match="SYMMLQ.*symmetric_tag"):
        solver.init(lo.MatrixLinearOperator(jnp.eye(2)), {})
    hermitian = lo.MatrixLinearOperator(jnp.eye(2), TAG)
    with pytest.raises(ValueError, match="preconditioner.*semidefinite"):
        solver.init(hermitian, {"preconditioner": hermitian})
    assert not solver.assume_full_rank()
