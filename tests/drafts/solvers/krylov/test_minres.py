"""MINRES."""

import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers.krylov.minres import MINRES


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("steps", [1, 2, 5, 9])
def test_minimises_over_the_krylov_space(spectral, draw, run, dtype, steps):
    dtype = np.dtype(dtype)
    a = spectral(dtype, np.linspace(-3, 4, 14))
    b = draw(dtype, 14)
    powers = [b]
    for _ in range(steps - 1):
        powers.append(a @ powers[-1])
    q, _ = np.linalg.qr(np.stack(powers, 1))
    best = q @ np.linalg.lstsq(a @ q, b, rcond=None)[0]
    x, _, _ = run(MINRES(0.0, 0.0, max_steps=steps), a, b, lo.hermitian_tag)
    np.testing.assert_allclose(x, best, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_singular_consistent(spectral, draw, run, dtype):
    """The solution of least norm."""
    dtype = np.dtype(dtype)
    values = np.r_[np.linspace(-3, -1, 5), np.linspace(1, 2, 5), 0, 0, 0]
    a = spectral(dtype, values)
    b = (a @ draw(dtype, 13)).astype(dtype)
    tol = 1e-4 if dtype in (np.float32, np.complex64) else 1e-9
    x, result, _ = run(MINRES(tol, 0.0), a, b, lo.hermitian_tag)
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-4) @ b, atol=50 * tol)


def test_zero_operator(run):
    _, result, _ = run(
        MINRES(1e-6, 0.0), np.zeros((3, 3)), np.ones(3), lo.symmetric_tag
    )
    assert result == "singular"


def test_saddle_point(draw, run, residual):
    b = draw(np.float64, 4, 10)
    a = np.block([[np.diag(np.linspace(1, 2, 10)), b.T], [b, np.zeros((4, 4))]])
    f = draw(np.float64, 14)
    x, result, _ = run(MINRES(1e-9, 0.0), a, f, lo.symmetric_tag)
    assert result == "successful"
    assert residual(a, x, f) <= 1e-9


def test_demands():
    solver = MINRES(1e-6, 1e-6)
    with pytest.raises(ValueError, match="hermitian_tag"):
        solver.init(lo.MatrixLinearOperator(jnp.eye(2)), {})
    with pytest.raises(ValueError, match="hermitian_tag"):
        solver.init(lo.MatrixLinearOperator(jnp.eye(2) * 1j, lo.symmetric_tag), {})
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
    _, result, _ = run(
        MINRES(1e-8, 0.0),
        a,
        np.array([0.1, 1.0]),
        lo.symmetric_tag,
        preconditioner=false,
    )
    assert result != "successful"
