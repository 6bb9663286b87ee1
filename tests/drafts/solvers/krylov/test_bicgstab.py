"""BiCGStab."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS
from lx_solvers.krylov.bicgstab import BiCGStab


def textbook(a, b, steps):
    """van der Vorst's algorithm, `steps` full steps."""
    x, r = np.zeros_like(b), b.copy()
    shadow, ρ, α, ω = r.copy(), 1, 1, 1
    p = v = np.zeros_like(b)
    for _ in range(steps):
        ρ, old = np.vdot(shadow, r), ρ
        p = r + (ρ / old) * (α / ω) * (p - ω * v)
        v = a @ p
        α = ρ / np.vdot(shadow, v)
        s = r - α * v
        t = a @ s
        ω = np.vdot(t, s) / np.vdot(t, t)
        x = x + α * p + ω * s
        r = s - ω * t
    return x


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_textbook(draw, run, dtype, steps):
    dtype = np.dtype(dtype)
    a, b = 4 * np.eye(15) + draw(dtype, 15, 15), draw(dtype, 15)
    x, _, _ = run(BiCGStab(0.0, 0.0, max_steps=2 * steps), a, b)
    np.testing.assert_allclose(x, textbook(a, b, steps), rtol=1e-8)


def test_easy_systems(rng):
    """Fifty easy 10×10 systems in float32: all are solved."""
    n, batch = 10, 50
    a = 3 * np.eye(n) + 0.5 * rng.normal(size=(batch, n, n))
    b = rng.normal(size=(batch, n))
    a, b = a.astype(np.float32), b.astype(np.float32)

    def solve(matrix, vector):
        solver = BiCGStab(1e-5, 1e-5)
        state = solver.init(lo.MatrixLinearOperator(matrix), {})
        x, result, _ = solver.compute(state, vector, {})
        return x, result == RESULTS.successful

    x, good = jax.jit(jax.vmap(solve))(jnp.asarray(a), jnp.asarray(b))
    assert good.all()
    exact = np.linalg.solve(a.astype(float), b.astype(float)[..., None])[..., 0]
    np.testing.assert_allclose(x, exact, atol=1e-3)


def test_half_a_step(run):
    """The iteration may end after an odd number of products."""
    a, b = np.diag([2.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])
    x, result, _ = run(BiCGStab(0.0, 0.0, max_steps=1), a, b)
    np.testing.assert_allclose(x, b / 2)
    x, result, stats = run(BiCGStab(1e-10, 0.0), a, b)
    assert result == "successful"
    np.testing.assert_allclose(x, b / 2)


def test_skew_is_a_breakdown(run, draw):
    """⟨x, A x⟩ = 0: nothing to divide by, and no false success."""
    a = draw(np.float64, 6, 6)
    _, result, _ = run(BiCGStab(1e-8, 0.0), a - a.T, draw(np.float64, 6))
    assert result in ("breakdown", "max_steps_reached")
    _, result, _ = run(BiCGStab(1e-8, 0.0), np.zeros((3, 3)), np.ones(3))
    assert result == "breakdown"


def test_not_square():
    with pytest.raises(ValueError, match="square"):
        BiCGStab(1e-6, 1e-6).init(lo.MatrixLinearOperator(jnp.ones((2, 3))), {})
    assert BiCGStab(1e-6, 1e-6).assume_full_rank()
