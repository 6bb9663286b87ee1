"""MINRES."""

import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers.krylov.minres import MINRES

from .conftest import N, tolerance

pytestmark = pytest.mark.xdist_group("MINRES itself")


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_minimises_over_the_krylov_space(spectral, draw, run, dtype):
    dtype = np.dtype(dtype)
    a, b = spectral(dtype, np.linspace(-3, 4, N)), draw(dtype, N)
    for steps in (1, 2, 5, 9):
        powers = [b]
        for _ in range(steps - 1):
            powers.append(a @ powers[-1])
        q, _ = np.linalg.qr(np.stack(powers, 1))
        best = q @ np.linalg.lstsq(a @ q, b, rcond=None)[0]
        x = run(MINRES(0.0, 0.0, max_steps=steps), a, b, lo.hermitian_tag).x
        np.testing.assert_allclose(x, best, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_singular_consistent(spectral, draw, run, dtype):
    """The solution of least norm."""
    dtype = np.dtype(dtype)
    values = np.r_[np.linspace(-3, -1, 5), np.linspace(1, 2, N - 8), 0, 0, 0]
    a, tol = spectral(dtype, values), tolerance(dtype)
    b = (a @ draw(dtype, N)).astype(dtype)
    x, result, _, _ = run(MINRES(tol, 0.0), a, b, lo.hermitian_tag)
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-4) @ b, atol=50 * tol)


def test_zero_operator(run):
    zero = np.zeros((N, N))
    end = run(MINRES(1e-6, 0.0), zero, np.ones(N), lo.hermitian_tag)
    assert end.result == "singular"


def test_saddle_point(draw, run, residual):
    b = draw(np.float64, 4, N - 4)
    a = np.block([[np.diag(np.linspace(1, 2, N - 4)), b.T], [b, np.zeros((4, 4))]])
    f = draw(np.float64, N)
    x, result, _, _ = run(MINRES(1e-9, 0.0), a, f, lo.hermitian_tag)
    assert result == "successful"
    assert residual(a, x, f) <= 1e-9


def test_demands():
    solver = MINRES(1e-6, 1e-6)
    with pytest.raises(ValueError, match="symmetric_tag"):
        solver.init(lo.MatrixLinearOperator(jnp.eye(2)), {})
    with pytest.raises(ValueError, match="hermitian_tag"):
        solver.init(
            lo.MatrixLinearOperator(jnp.eye(2, dtype=complex) * 1j, lo.symmetric_tag),
            {},
        )
    symmetric = lo.MatrixLinearOperator(jnp.eye(2), lo.symmetric_tag)
    with pytest.raises(ValueError, match="preconditioner.*positive_semidefinite_tag"):
        solver.init(symmetric, {"preconditioner": symmetric})
    assert not solver.assume_full_rank()


def test_indefinite_preconditioner(run):
    """A preconditioner that is not as it says."""
    false = lo.MatrixLinearOperator(
        jnp.diag(jnp.array([1.0, -1.0])), lo.positive_semidefinite_tag
    )
    a = np.array([[2.0, 1.0], [1.0, -1.0]])
    solver, b = MINRES(1e-8, 0.0), np.array([0.1, 1.0])
    end = run(solver, a, b, lo.hermitian_tag, preconditioner=false)
    assert end.result != "successful"
