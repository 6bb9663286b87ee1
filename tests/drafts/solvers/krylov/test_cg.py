"""Conjugate gradients."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS
from lx_solvers.krylov.cg import CG

PSD, NSD = lo.positive_semidefinite_tag, lo.negative_semidefinite_tag


def textbook(a, b, steps):
    x, r = np.zeros_like(b), b.copy()
    p, ρ = r.copy(), np.vdot(r, r).real
    for _ in range(steps):
        q = a @ p
        α = ρ / np.vdot(p, q).real
        x, r = x + α * p, r - α * q
        ρ, old = np.vdot(r, r).real, ρ
        p = r + ρ / old * p
    return x


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("steps", [1, 3, 7, 12])
def test_textbook(spectral, draw, run, dtype, steps):
    """The iterates are those of the textbook recurrence."""
    a, b = spectral(dtype, np.linspace(1, 50, 30)), draw(np.dtype(dtype), 30)
    for every in (10, 2, None):
        solver = CG(0.0, 0.0, stabilise_every=every, max_steps=steps)
        x, _, _ = run(solver, a, b, PSD)
        np.testing.assert_allclose(x, textbook(a, b, steps), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("preconditioner_tag", [PSD, NSD])
def test_negative_definite(spectral, draw, run, preconditioner_tag):
    """With a preconditioner of either sign."""
    a, b = -spectral(np.float64, np.linspace(1, 5, 15)), draw(np.float64, 15)
    m = jnp.asarray(np.linalg.inv(a - 0.01 * np.eye(15)))
    m = m if preconditioner_tag is NSD else -m
    m = lo.MatrixLinearOperator(m, preconditioner_tag)
    x, result, stats = run(CG(1e-8, 0.0), a, b, NSD, preconditioner=m)
    assert result == "successful"
    assert stats["num_steps"] <= 6
    np.testing.assert_allclose(x, np.linalg.solve(a, b), atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_large_and_well_conditioned(factor):
    """A ≈ c I of a million unknowns in float32: the guard of the curvature must not
    grow with their number."""
    n = 10**6
    d = factor * (1 + 1e-3 * jnp.cos(jnp.arange(n, dtype=jnp.float32)))
    operator = lo.FunctionLinearOperator(
        lambda x: d * x, jax.ShapeDtypeStruct((n,), jnp.float32), PSD
    )
    solver = CG(1e-4, 0.0)
    b = jnp.sin(jnp.arange(n, dtype=jnp.float32)) + 2
    x, result, stats = solver.compute(solver.init(operator, {}), b, {})
    assert RESULTS[result] == ""
    assert stats["num_steps"] <= 4
    np.testing.assert_allclose(x, b / d, rtol=2e-4)


def test_false_tag(spectral, draw, run):
    """An indefinite operator that claims to be definite: no success that is not one."""
    a = spectral(np.float64, np.linspace(-3, 4, 20))
    for _ in range(5):
        b = draw(np.float64, 20)
        x, result, _ = run(CG(1e-8, 0.0), a, b, PSD)
        if result == "successful":
            assert np.abs(a @ x - b).max() <= 1e-8 * np.abs(b).max()
    _, result, _ = run(CG(1e-8, 0.0), np.diag([1.0, -1.0]), np.ones(2), PSD)
    assert result == "breakdown"


def test_singular_consistent(spectral, draw, run):
    a = spectral(np.float64, np.r_[np.linspace(1, 3, 9), 0, 0, 0])
    b = a @ draw(np.float64, 12)
    x, result, _ = run(CG(1e-9, 0.0), a, b, PSD)
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-10) @ b, atol=1e-7)


def test_stabilise_every(spectral, draw, run):
    """Without a replacement, an ill-conditioned system's recurred residual lies; what
    is claimed is true all the same."""
    a, b = spectral(np.float64, np.logspace(0, -9, 30)), draw(np.float64, 30)
    for every in (None, 1, 10):
        x, result, _ = run(CG(1e-5, 0.0, stabilise_every=every), a, b, PSD)
        if result == "successful":
            assert np.abs(a @ x - b).max() <= 1e-5 * np.abs(b).max()


def test_untagged():
    operator = lo.MatrixLinearOperator(jnp.eye(2), lo.symmetric_tag)
    with pytest.raises(ValueError, match="positive_semidefinite_tag"):
        CG(1e-6, 1e-6).init(operator, {})
    definite = lo.MatrixLinearOperator(jnp.eye(2), PSD)
    with pytest.raises(ValueError, match="preconditioner.*positive_semidefinite_tag"):
        CG(1e-6, 1e-6).init(definite, {"preconditioner": operator})
    with pytest.raises(ValueError, match="square"):
        CG(1e-6, 1e-6).init(lo.MatrixLinearOperator(jnp.ones((2, 3))), {})
    with pytest.raises(ValueError, match="stabilise_every"):
        CG(1e-6, 1e-6, stabilise_every=0)


def test_full_rank():
    assert CG(1e-6, 1e-6).assume_full_rank()
