"""COCG."""

import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers.krylov.cg import CG
from lx_solvers.krylov.cocg import COCG
from lx_solvers.krylov.gmres import GMRES

from .conftest import PSD, N

pytestmark = pytest.mark.xdist_group("COCG")


def test_is_cg_for_real_definite(spectral, draw, run):
    a, b = spectral(np.float64, np.linspace(1, 5, N)), draw(np.float64, N)
    for steps in (1, 3, 6):
        limits = dict(rtol=0.0, atol=0.0, max_steps=steps)
        x = run(COCG(**limits), a, b, lo.symmetric_tag).x
        np.testing.assert_allclose(x, run(CG(**limits), a, b, PSD).x, rtol=1e-9)


def test_residuals_are_conjugate_orthogonal(draw, run):
    """r ⟂ conj(r) of all steps before, which with short recurrences defines it."""
    b, a = draw(np.complex128, N), draw(np.complex128, N, N) / N**0.5
    a = a + a.T + 4 * np.eye(N)
    r = [b]
    for steps in range(1, 5):
        solver = COCG(0.0, 0.0, max_steps=steps)
        r.append(b - a @ run(solver, a, b, lo.symmetric_tag).x)
    products = np.abs(np.array([[u @ v for u in r] for v in r]))
    assert (products - np.diag(np.diagonal(products))).max() <= 1e-12 * products.max()


def test_damped_waves(rng, run, residual):
    """A Helmholtz equation with absorption: half the products of restarted GMRES, and
    five vectors."""
    m = 12
    one = 2 * np.eye(m) - np.eye(m, k=1) - np.eye(m, k=-1)
    a = np.kron(one, np.eye(m)) + np.kron(np.eye(m), one) - (0.5 - 0.05j) * np.eye(m**2)
    b = rng.normal(size=m * m) + 0j
    x, result, steps, _ = run(COCG(1e-8, 0.0), a, b, lo.symmetric_tag)
    assert result == "successful"
    assert residual(a, x, b) <= 1e-8
    assert 2 * steps <= run(GMRES(1e-8, 0.0), a, b).steps


def test_breakdown(run):
    """r ⟂ conj(r)."""
    a, b = np.diag([1.0 + 0j, 1.0]), np.array([1.0, 1j])
    end = run(COCG(1e-8, 0.0), a, b, lo.symmetric_tag)
    assert end.result == "breakdown"
    assert np.isfinite(end.x).all()


def test_demands():
    solver = COCG(1e-6, 1e-6)
    hermitian = lo.MatrixLinearOperator(jnp.eye(2, dtype=complex), lo.hermitian_tag)
    with pytest.raises(ValueError, match="COCG.*symmetric_tag"):
        solver.init(hermitian, {})
    symmetric = lo.MatrixLinearOperator(jnp.eye(2, dtype=complex), lo.symmetric_tag)
    with pytest.raises(ValueError, match="preconditioner.*symmetric_tag"):
        solver.init(symmetric, {"preconditioner": hermitian})
