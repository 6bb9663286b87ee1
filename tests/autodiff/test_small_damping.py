"""How accurate damped solutions and their derivatives are when damping is small."""

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest


@pytest.mark.parametrize("solver", [lxs.SVD, lxs.QR, lxs.PivotedQR])
@pytest.mark.parametrize("size", [1e-1, 3e-2, 1e-2])
def test_damping_of_a_rank_deficient_matrix(solver, size):
    """The solution and its derivative are as good as their conditions allow: rounding A
    moves the one by eps (|A|/d)² of its size, and the other by eps (|A|/d)⁴."""
    rng = np.random.default_rng(4)
    a = rng.integers(-4, 5, (6, 2)) @ rng.integers(-4, 5, (2, 4))  # exact in float32
    b = rng.integers(-9, 10, 6)
    u, s, vh = np.linalg.svd(a.astype(float))
    u, s, vh = u[:, :2], s[:2], vh[:2]
    damp = float(np.float32(size * s[0]))
    matrix = lxo.MatrixLinearOperator(jnp.asarray(a, jnp.float32))

    def solve(d):
        return lxa.linear_solve(matrix, jnp.asarray(b, jnp.float32), solver(damp=d))

    given = (jnp.float32(damp),)
    values = jax.jvp(lambda d: solve(d).value, given, (jnp.float32(1.0),))
    x, dx = (np.asarray(v, np.float64) for v in values)
    weights = s / (s**2 + damp**2)
    truth = vh.T @ (weights * (u.T @ b))
    slope = vh.T @ (-2 * damp * weights / (s**2 + damp**2) * (u.T @ b))
    eps = np.finfo(np.float32).eps
    assert np.linalg.norm(x - truth) <= 4 * eps * size**-2 * np.linalg.norm(truth)
    assert np.linalg.norm(dx - slope) <= 4 * eps * size**-4 * np.linalg.norm(slope)


@pytest.mark.parametrize("solver", [lxs.SVD, lxs.QR, lxs.PivotedQR])
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6])
def test_damping_of_a_matrix_of_full_rank(solver, size):
    """The derivative keeps some digits down to d = 1e-6 |A| in single precision."""
    rng = np.random.default_rng(4)
    a = rng.standard_normal((6, 4)).astype(np.float32)
    b = rng.standard_normal(6).astype(np.float32)
    damp = float(np.float32(size * np.linalg.norm(a, 2)))
    matrix = lxo.MatrixLinearOperator(jnp.asarray(a))

    def solve(d):
        return lxa.linear_solve(matrix, jnp.asarray(b), solver(damp=d)).value

    dx = jax.jvp(solve, (jnp.float32(damp),), (jnp.float32(1.0),))[1]
    u, s, vh = np.linalg.svd(a.astype(float), full_matrices=False)
    slope = vh.T @ (-2 * damp * s / (s**2 + damp**2) ** 2 * (u.T @ b))
    error = np.linalg.norm(np.asarray(dx, np.float64) - slope)
    assert error <= 0.05 * np.linalg.norm(slope)
