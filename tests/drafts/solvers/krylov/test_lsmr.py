"""LSMR, and what it shares with LSQR."""

import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
import scipy.linalg
from lx_solvers.krylov.lsmr import LSMR
from lx_solvers.krylov.lsqr import LSQR

SHAPES = [(15, 15, 15), (25, 12, 12), (12, 25, 12), (20, 12, 6), (12, 20, 6)]
both = pytest.mark.parametrize("make", [LSMR, LSQR])


def tolerance(dtype):
    return 1e-4 if np.finfo(dtype).bits == 32 else 1e-9


@both
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("consistent", [True, False])
def test_pseudoinverse(spectral, draw, run, make, shape, consistent, dtype):
    """Any shape and rank: the least-squares solution of least norm."""
    m, n, rank = shape
    a = spectral(dtype, np.linspace(1, 4, rank), (m, n))
    b = (a @ draw(dtype, n) if consistent else draw(dtype, m)).astype(dtype)
    x, result, stats = run(make(tolerance(dtype), 0.0), a, b)
    exact = np.linalg.pinv(a, 1e-4) @ b
    assert result == "successful"
    np.testing.assert_allclose(x, exact, atol=20 * tolerance(dtype))
    assert stats["istop"] == (1 if consistent or rank == m else 2)


@both
def test_statistics(spectral, draw, run, make):
    a, b = spectral(np.float64, np.linspace(0.5, 4, 12), (25, 12)), draw(np.float64, 25)
    x, _, stats = run(make(1e-10, 0.0), a, b)
    r = b - a @ x
    assert float(stats["norm_r"]) == pytest.approx(np.linalg.norm(r))
    assert float(stats["norm_x"]) == pytest.approx(np.linalg.norm(x))
    assert float(stats["norm_Ar"]) == pytest.approx(np.linalg.norm(a.T @ r), abs=1e-11)
    assert 2 <= float(stats["norm_A"]) <= 4 * (1 + 1e-12)
    assert 2 <= float(stats["cond_A"]) <= 3 * 8
    assert stats["num_steps"] <= 30
    assert stats["max_steps"] == 120


@both
@pytest.mark.parametrize("steps", [1, 3, 6])
def test_minimises_over_the_krylov_space(spectral, draw, run, make, steps):
    """LSQR minimises ‖r‖, and LSMR ‖Aᵀr‖, over the Krylov space of AᵀA and Aᵀb."""
    a, b = spectral(np.float64, np.linspace(1, 9, 10), (16, 10)), draw(np.float64, 16)
    powers = [a.T @ b]
    for _ in range(steps - 1):
        powers.append(a.T @ (a @ powers[-1]))
    q, _ = np.linalg.qr(np.stack(powers, 1))
    left = np.eye(16) if make is LSQR else a.T
    best = q @ np.linalg.lstsq(left @ a @ q, left @ b, rcond=None)[0]
    x, _, _ = run(make(0.0, 0.0, max_steps=steps), a, b)
    np.testing.assert_allclose(x, best, rtol=1e-8)


@both
@pytest.mark.parametrize("damp", [1e-3, 1.0, 1e3, 1e100])
@pytest.mark.parametrize("shape", SHAPES[:4])
def test_damping(spectral, draw, run, make, damp, shape):
    """Exact for [A; λ]."""
    m, n, rank = shape
    a, b = spectral(np.float64, np.linspace(1, 4, rank), (m, n)), draw(np.float64, m)
    u, s, v = np.linalg.svd(a, full_matrices=False)
    exact = v.T @ ((s / np.hypot(s, damp) / np.hypot(s, damp)) * (u.T @ b))
    for guess in ({}, {"y0": jnp.ones(n) / damp}):
        x, result, stats = run(make(1e-11, 0.0, damp=damp), a, b, **guess)
        assert result == "successful"
        np.testing.assert_allclose(x, exact, rtol=0, atol=1e-6 * np.abs(exact).max())
        assert float(stats["norm_r"]) == pytest.approx(np.linalg.norm(a @ x - b))


@both
def test_first_guess(spectral, draw, run, make):
    """Of a wide operator the solution is of least norm also with a first guess."""
    a, b = spectral(np.float64, np.linspace(1, 4, 8), (8, 14)), draw(np.float64, 8)
    x, result, _ = run(make(1e-10, 0.0), a, b, y0=jnp.ones(14))
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.pinv(a) @ b, atol=1e-8)
    a, b = spectral(np.float64, np.linspace(1, 4, 40), (60, 40)), draw(np.float64, 60)
    exact = np.linalg.pinv(a) @ b
    _, _, cold = run(make(1e-8, 0.0), a, b)
    x, result, warm = run(make(1e-8, 0.0), a, b, y0=jnp.asarray(exact * (1 + 1e-6)))
    assert result == "successful"
    assert warm["num_steps"] < cold["num_steps"]
    np.testing.assert_allclose(x, exact, atol=1e-6)


@both
@pytest.mark.parametrize("power", [-20, -10, 0, 10, 20, 30])
def test_scale_in_single_precision(spectral, draw, run, make, power):
    """|b| from 1e-20 to 1e30: solved, and not only claimed to be."""
    a = spectral(np.float32, np.linspace(1, 4, 8), (14, 8))
    b = draw(np.float32, 14)
    scale = np.float32(10.0**power)
    x, result, _ = run(make(1e-4, 0.0), a, b * scale)
    assert result == "successful"
    exact = np.linalg.pinv(a.astype(float)) @ b
    np.testing.assert_allclose(x / scale, exact, atol=2e-3)


@both
def test_column_norms_as_preconditioner(spectral, draw, run, make):
    a = spectral(np.float64, np.linspace(1, 2, 12), (20, 12)) * np.logspace(0, 4, 12)
    b = draw(np.float64, 20)
    m = lo.DiagonalLinearOperator(jnp.asarray(1 / np.linalg.norm(a, axis=0)))
    x, result, stats = run(make(1e-10, 0.0), a, b, preconditioner=m)
    assert result == "successful"
    assert stats["num_steps"] <= 20
    np.testing.assert_allclose(
        x, np.linalg.lstsq(a, b, rcond=None)[0], rtol=1e-6, atol=1e-8
    )


@both
def test_conlim(spectral, draw, run, make):
    a, b = spectral(np.float64, np.logspace(0, -6, 12)), draw(np.float64, 12)
    _, result, stats = run(make(1e-12, 0.0, conlim=100.0), a, b)
    assert result == "conlim"
    assert stats["istop"] == 3
    assert float(stats["cond_A"]) > 100
    for off in (0, np.inf):
        _, result, _ = run(make(1e-6, 0.0, conlim=off), a, b)
        assert result != "conlim"


@both
def test_no_success_before_its_time(make, run):
    """Hilbert matrices: ‖Aᵀr‖ is small long before r is."""
    for n in (4, 8, 12):
        a = scipy.linalg.hilbert(n)
        b = a @ np.ones(n)
        x, result, _ = run(make(1e-6, 0.0), a, b)
        if result == "successful":
            assert np.linalg.norm(a @ x - b) <= 1e-6 * np.linalg.norm(b)


@both
def test_nothing_to_do(run, make):
    """b orthogonal to the range, and the zero operator: x = 0."""
    for a in (np.array([[1.0], [0.0]]), np.zeros((2, 3))):
        x, result, stats = run(make(1e-6, 0.0), a, np.array([0.0, 1.0]))
        assert result == "successful"
        assert not x.any()
        assert stats["num_steps"] == 0


@both
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty(run, make, shape):
    x, result, _ = run(make(1e-6, 1e-6), np.zeros(shape), np.ones(shape[0]))
    assert result == "successful"
    np.testing.assert_array_equal(x, np.zeros(shape[1]))


@both
def test_demands(make):
    for arguments in ({"damp": -1.0}, {"conlim": -1.0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            make(1e-6, 1e-6, **arguments)
    identity = lo.IdentityLinearOperator(jnp.ones(3))
    with pytest.raises(ValueError, match="damping"):
        make(1e-6, 1e-6, damp=1.0).init(identity, {"preconditioner": identity})
    assert not make(1e-6, 1e-6).assume_full_rank()
