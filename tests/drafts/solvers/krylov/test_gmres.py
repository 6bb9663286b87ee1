"""GMRES."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS
from lx_solvers.krylov.gmres import GMRES


def krylov_minimum(a, b, steps):
    """min ‖b - A x‖ over the Krylov space, by an orthonormal basis of it."""
    basis = []
    v = b
    for _ in range(steps):
        for u in basis * 2:
            v = v - np.vdot(u, v) * u
        basis.append(v / np.linalg.norm(v))
        v = a @ basis[-1]
    q = np.stack(basis, 1)
    return q @ np.linalg.lstsq(a @ q, b, rcond=None)[0]


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("steps", [1, 2, 5, 11])
def test_minimises_over_the_krylov_space(draw, run, dtype, steps):
    a = draw(np.dtype(dtype), 14, 14)
    b = draw(np.dtype(dtype), 14)
    x, _, _ = run(GMRES(0.0, 0.0, max_steps=steps), a, b)
    np.testing.assert_allclose(x, krylov_minimum(a, b, steps), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("restart", [1, 3, 30])
def test_restart(draw, run, residual, restart):
    n = 25
    a = 3 * np.eye(n) + 0.3 * draw(np.float64, n, n)
    b = draw(np.float64, n)
    x, result, stats = run(GMRES(1e-8, 0.0, restart=restart), a, b)
    assert result == "successful"
    assert residual(a, x, b) <= 1e-8


def test_restarted_iterates(draw, run):
    """Two cycles of three steps are two minimisations."""
    a, b = 3 * np.eye(9) + draw(np.float64, 9, 9), draw(np.float64, 9)
    x = krylov_minimum(a, b, 3)
    x = x + krylov_minimum(a, b - a @ x, 3)
    y, _, stats = run(GMRES(0.0, 0.0, max_steps=6, restart=3), a, b)
    assert stats["num_steps"] == 6
    np.testing.assert_allclose(y, x, rtol=1e-9)


@pytest.mark.parametrize("bits", [32, 64])
def test_orthogonality(rng, bits):
    """Condition 1e3, n = 40, restart 20: solved every time."""
    n, batch, dtype = 40, 30, np.dtype(f"float{bits}")
    u, _ = np.linalg.qr(rng.normal(size=(batch, n, n)))
    values = 10.0 ** np.linspace(-1.5, 1.5, n)
    v = u @ np.linalg.qr(np.eye(n) + 0.05 * rng.normal(size=(batch, n, n)))[0]
    a = ((u * values) @ v.swapaxes(1, 2)).astype(dtype)
    b = rng.normal(size=(batch, n)).astype(dtype)
    rtol = 1e-3 if bits == 32 else 1e-6

    def solve(matrix, vector):
        solver = GMRES(rtol, 0.0, max_steps=40 * n)
        state = solver.init(lo.MatrixLinearOperator(matrix), {})
        x, result, _ = solver.compute(state, vector, {})
        return x, result == RESULTS.successful

    x, good = jax.jit(jax.vmap(solve))(jnp.asarray(a), jnp.asarray(b))
    assert good.all()
    wide = [np.asarray(z, np.float64) for z in (a, x, b)]
    left = np.abs(np.einsum("kij,kj->ki", *wide[:2]) - wide[2]).max(1)
    assert (left <= rtol * np.abs(b).max(1)).all()


def test_cyclic_shift(run):
    """No progress until the last step; restarted, never."""
    n = 8
    a, b = np.roll(np.eye(n), 1, axis=0), np.eye(n)[0]
    x, result, stats = run(GMRES(1e-8, 0.0), a, b)
    assert (result, int(stats["num_steps"])) == ("successful", n)
    np.testing.assert_allclose(x, np.linalg.solve(a, b), atol=1e-12)
    solver = GMRES(1e-8, 0.0, restart=2, stagnation_iters=3, max_steps=1000)
    _, result, stats = run(solver, a, b)
    assert (result, int(stats["num_steps"])) == ("stagnation", 6)


def test_skew(run, draw):
    a = draw(np.float64, 10, 10)
    a, b = a - a.T, draw(np.float64, 10)
    x, result, _ = run(GMRES(1e-8, 0.0), a, b)
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=1e-5)


def test_singular(run):
    """Where the Krylov space shows it: `singular`. A consistent system may have a
    solution there; that has no residual, and is not of least norm."""
    nilpotent = np.array([[0.0, 1.0], [0.0, 0.0]])
    _, result, _ = run(GMRES(1e-8, 0.0), nilpotent, np.array([0.0, 1.0]))
    assert result == "singular"
    _, result, _ = run(GMRES(1e-8, 0.0), np.zeros((3, 3)), np.ones(3))
    assert result == "singular"
    a, b = np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([1.0, 0.0])
    x, result, _ = run(GMRES(1e-8, 0.0), a, b)
    assert result == "successful"
    np.testing.assert_allclose(a @ x, b, atol=1e-12)


def test_rectangular_structures(run, draw):
    """Input and output of one size but of two structures."""
    a, b = 3 * np.eye(6) + draw(np.float64, 6, 6), draw(np.float64, 6)
    operator = lo.FunctionLinearOperator(
        lambda v: jnp.asarray(a) @ jnp.ravel(v), jnp.zeros((2, 3))
    )
    x, result, _ = run(GMRES(1e-9, 0.0), operator, b)
    assert result == "successful"
    assert x.shape == (2, 3)
    np.testing.assert_allclose(x.ravel(), np.linalg.solve(a, b), atol=1e-6)


def test_arguments():
    for name in ("restart", "stagnation_iters"):
        with pytest.raises(ValueError, match=name):
            GMRES(1e-6, 1e-6, **{name: 0})
    with pytest.raises(ValueError, match="square"):
        GMRES(1e-6, 1e-6).init(lo.MatrixLinearOperator(jnp.ones((2, 3))), {})
    assert GMRES(1e-6, 1e-6).assume_full_rank()
