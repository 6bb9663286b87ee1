"""Conjugate gradients."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS
from lx_solvers.krylov.cg import CG

from .conftest import N, stable

PSD, NSD = lo.positive_semidefinite_tag, lo.negative_semidefinite_tag
pytestmark = pytest.mark.xdist_group("CG itself")


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


@pytest.mark.parametrize(
    "dtype, every", [("float64", 10), ("float64", None), ("complex128", 2)]
)
def test_textbook(spectral, draw, run, dtype, every):
    """The iterates are those of the textbook recurrence."""
    a, b = spectral(dtype, np.linspace(1, 50, N)), draw(np.dtype(dtype), N)
    for steps in (1, 3, 7, 12):
        solver = CG(0.0, 0.0, stabilise_every=every, max_steps=steps)
        x = run(solver, a, b, PSD).x
        np.testing.assert_allclose(x, textbook(a, b, steps), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("preconditioner_tag", [PSD, NSD])
def test_negative_definite(spectral, draw, run, preconditioner_tag):
    """With a preconditioner of either sign."""
    a, b = -spectral(np.float64, np.linspace(1, 5, N)), draw(np.float64, N)
    m = jnp.asarray(np.linalg.inv(a - 0.01 * np.eye(N)))
    m = m if preconditioner_tag is NSD else -m
    m = lo.MatrixLinearOperator(m, preconditioner_tag)
    x, result, steps, _ = run(CG(1e-8, 0.0), a, b, NSD, preconditioner=m)
    assert result == "successful"
    assert steps <= 6
    np.testing.assert_allclose(x, np.linalg.solve(a, b), atol=1e-6)


def test_large_and_well_conditioned(run):
    """A ≈ c I of a million unknowns in float32: the guard of the curvature must not
    grow with their number."""
    n = 10**6
    wave = jnp.arange(n, dtype=jnp.float32)
    b = np.asarray(jnp.sin(wave) + 2)
    for factor in (1.0, 10.0):
        d = jnp.float32(factor) * (1 + 1e-3 * jnp.cos(wave))
        operator = lo.TaggedLinearOperator(lo.DiagonalLinearOperator(d), PSD)
        x, result, steps, _ = run(CG(1e-4, 0.0), operator, b)
        assert result == "successful"
        assert steps <= 4
        np.testing.assert_allclose(x, b / np.asarray(d), rtol=2e-4)


def test_false_tag(spectral, draw, run):
    """An indefinite operator that claims to be definite: no success that is not one."""
    a = spectral(np.float64, np.linspace(-3, 4, N))
    for _ in range(5):
        b = draw(np.float64, N)
        x, result, _, _ = run(CG(1e-8, 0.0), a, b, PSD)
        if result == "successful":
            assert np.abs(a @ x - b).max() <= 1e-8 * np.abs(b).max()
    a = np.diag(np.resize([1.0, -1.0], N))
    assert run(CG(1e-8, 0.0), a, np.ones(N), PSD).result == "breakdown"
    # nor do two wrongs make a right
    m = lo.MatrixLinearOperator(-jnp.eye(N), PSD)
    negative = -spectral(np.float64, np.linspace(1, 4, N))
    out = run(CG(1e-8, 0.0), negative, np.ones(N), PSD, preconditioner=m)
    assert out.result == "breakdown"


def test_singular_consistent(spectral, draw, run):
    a = spectral(np.float64, np.r_[np.linspace(1, 3, N - 3), 0, 0, 0])
    b = a @ draw(np.float64, N)
    x, result, _, _ = run(CG(1e-9, 0.0), a, b, PSD)
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-10) @ b, atol=1e-7)


@pytest.mark.parametrize("every", [10, None])
def test_lying_recurrence(spectral, draw, run, every):
    """For an ill-conditioned system the recurred residual is wrong, but every claim of
    success is right."""
    a, b = spectral(np.float64, np.logspace(0, -9, N)), draw(np.float64, N)
    for rtol in (1e-3, 1e-5, 1e-7, 1e-9):
        solver = CG(rtol, 0.0, stabilise_every=every, max_steps=1000)
        x, result, _, _ = run(solver, a, b, PSD)
        if result == "successful":
            passed = np.abs(a @ x - b).max() <= rtol * np.abs(b).max()
            assert passed or stable(a, x, b)
        else:
            assert rtol < 1e-6


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


def _many(rng, count, values):
    u = np.linalg.qr(rng.normal(size=(count, values.size, values.size)))[0]
    a = u * values @ u.swapaxes(1, 2)
    return (a + a.swapaxes(1, 2)) / 2


def _solve_many(solver, a, b, m=None):
    def solve(a, b, m):
        options = {}
        if m is not None:
            options["preconditioner"] = lo.MatrixLinearOperator(m, PSD)
        operator = lo.MatrixLinearOperator(a, PSD)
        x, result, stats = solver.compute(solver.init(operator, options), b, options)
        return x, result == RESULTS.successful, stats

    arrays = jax.tree.map(jnp.asarray, (a, b, m))
    x, successful, stats = jax.jit(jax.vmap(solve))(*arrays)
    return np.asarray(x), np.asarray(successful), jax.tree.map(np.asarray, stats)


@pytest.mark.parametrize("tol", [1e-15, 1e-20, 1e-300])
def test_tolerance_below_rounding(rng, tol):
    """The solve ends at a backward stable solution, and does not go on until a
    recurrence from rounding noise has spoilt it."""
    a = _many(rng, 100, np.array([1, 0.3, 0.1, 0.01]))
    b = rng.normal(size=(100, 4))
    x, successful, stats = _solve_many(CG(tol, tol), a, b)
    assert successful.all()
    assert all(stable(*each, c=8) for each in zip(a, x, b, strict=True))
    assert stats["num_steps"].mean() < 30  # of 40


@pytest.mark.parametrize("tol", [3e-12, 1e-14])
def test_tolerance_near_rounding(rng, tol):
    """A tolerance that can be met is met, though residuals do not decrease in each
    step; one that cannot ends soon after, near the residuals of `numpy.linalg.solve`.
    """
    n = 60
    a, b = _many(rng, 20, np.geomspace(1, 1e-4, n)), rng.normal(size=(20, n))
    x, successful, stats = _solve_many(CG(tol, 0.0), a, b)
    assert successful.all()
    assert stats["num_steps"].mean() < 400  # of 600
    r, direct = (
        np.abs(b - np.einsum("kij,kj->ki", a, y)).max(1) / np.abs(b).max(1)
        for y in (x, np.linalg.solve(a, b[..., None])[..., 0])
    )
    assert direct.max() < 1e-12
    assert np.all(r <= 3e-12)


@pytest.mark.parametrize("every", [10, None])
def test_inverse_as_preconditioner(rng, every):
    """Condition 1e11: a residual that is rounding noise makes large updates."""
    a = _many(rng, 16, np.geomspace(1, 1e-11, N))
    b = rng.normal(size=(16, N))
    m = np.linalg.inv(a)
    m = (m + m.swapaxes(1, 2)) / 2
    solver = CG(1e-12, 1e-12, stabilise_every=every)
    x, successful, _ = _solve_many(solver, a, b, m)
    assert successful.all()
    assert all(stable(*each) for each in zip(a, x, b, strict=True))


@pytest.mark.parametrize("condition", [1e4, 1e8, 1e10])
def test_backward_error(rng, condition):
    """It is near that by the true norm of A, also where the first direction is far
    from the eigenvector of the largest eigenvalue."""
    a = _many(rng, 60, np.geomspace(1, 1 / condition, 6))
    b = rng.normal(size=(60, 6))
    x, successful, stats = _solve_many(CG(1e-10, 1e-10, max_steps=600), a, b)
    assert successful.all()
    r = b - np.einsum("kij,kj->ki", a, x)
    sizes = (np.linalg.norm(z, axis=1) for z in (r, x, b))
    residual, size, given = sizes
    error = residual / (size + given)  # ‖A‖ = 1
    noise = 2.0**-52
    assert np.all(stats["backward_error"] <= 3 * error + noise)
    assert np.all(stats["backward_error"] >= error / 3 - noise)


def test_singular_and_inconsistent_in_batches(rng):
    """No success unless the residual is within the tolerance, or stable and x not too
    large, by NumPy."""
    for values in ([1, 0.8, 0.6, 0.4, 0.2, 0], [1, 0.5, 0.3, 0, 0, 0], [1] + 5 * [0]):
        a = _many(rng, 60, np.array(values, float))
        b = rng.normal(size=(60, 6))
        for tol in (1e-10, 1e-20):
            x, successful, _ = _solve_many(CG(tol, tol), a, b)
            for each in zip(a[successful], x[successful], b[successful], strict=True):
                assert stable(*each)
            least = np.einsum("kij,kj->ki", np.linalg.pinv(a, 1e-12, True), b)
            gap = np.linalg.norm(b - np.einsum("kij,kj->ki", a, least), axis=1)
            assert not successful[gap > 1e-3].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rank", [1, 3, N - 1])
def test_null_vector_as_direction(run, dtype, rank):
    """Where the next direction is a null vector up to rounding, no step is made along
    it: the solve ends by name, and its solution is not drowned by that vector."""
    a, b = np.diag(np.arange(N) < rank).astype(dtype), np.ones(N, dtype)
    x, result, *_ = run(CG(1e-6 if dtype == np.float64 else 1e-4), a, b, PSD)
    assert result == "breakdown"
    assert np.abs(x).max() <= 1.01 * N / rank  # a step along b


@pytest.mark.parametrize("preconditioned", [False, True])
def test_error_in_the_energy_norm(spectral, draw, run, preconditioned):
    """The estimate is below the error so many steps before, and not far."""
    delay = 5
    a, b = -spectral(np.float64, np.geomspace(0.1, 1, N)), 1e3 * draw(np.float64, N)
    exact, options = np.linalg.solve(a, b), {}
    if preconditioned:
        diagonal = jnp.asarray(-np.diagonal(a))
        options = {"preconditioner": lo.DiagonalLinearOperator(diagonal)}
        options["preconditioner"] = lo.TaggedLinearOperator(
            options["preconditioner"], PSD
        )
    tag = lo.negative_semidefinite_tag

    def after(steps):
        solver = CG(0.0, 0.0, max_steps=steps, error_delay=delay)
        return run(solver, a, b, tag, **options)

    for steps in (6, 9):
        e = after(steps - delay).x - exact
        error, estimate = np.sqrt(-e @ a @ e), after(steps).stats["energy_error"]
        assert 0.8 * error <= estimate <= (1 + 1e-8) * error
    assert "energy_error" not in run(CG(1e-6, 0.0), a, b, tag).stats
    with pytest.raises(ValueError, match="error_delay"):
        CG(1e-6, error_delay=0)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_single_reduction(spectral, draw, run, dtype):
    """The iterates are those of the textbook, one step later; also with a
    preconditioner, and of a negative definite operator."""
    a, b = spectral(dtype, np.linspace(1, 50, N)), draw(np.dtype(dtype), N)
    for steps in (1, 3, 7, 12):
        solver = CG(0.0, 0.0, single_reduction=True, max_steps=steps)
        x = run(solver, a, b, PSD).x
        np.testing.assert_allclose(x, textbook(a, b, steps - 1), rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(run(solver, -a, b, NSD).x, -x, rtol=1e-12)
    near = jnp.asarray(np.linalg.inv(a + 0.01 * np.eye(N)))
    near = lo.MatrixLinearOperator(near, PSD)
    out = run(CG(1e-8, 0.0, single_reduction=True), a, b, PSD, preconditioner=near)
    assert out.result == "successful"
    assert out.steps <= 7
    np.testing.assert_allclose(out.x, np.linalg.solve(a, b), atol=1e-8)


def test_single_reduction_is_honest(spectral, draw, run):
    """For ill-conditioned, singular and indefinite systems."""
    once = CG(1e-8, 0.0, single_reduction=True, max_steps=2000)
    for condition in (1e4, 1e6, 1e12):
        a = spectral(np.float64, np.logspace(0, -np.log10(condition), N))
        b = draw(np.float64, N)
        x, result, steps, _ = run(once, a, b, PSD)
        if result == "successful":
            passed = np.abs(a @ x - b).max() <= 1e-8 * np.abs(b).max()
            assert passed or stable(a, x, b)
        if condition < 1e12:
            assert result == "successful"
            assert steps <= 1.2 * run(CG(1e-8, 0.0), a, b, PSD).steps
    a = spectral(np.float64, np.r_[np.linspace(1, 3, N - 3), 0, 0, 0])
    b = a @ draw(np.float64, N)
    x, result, _, _ = run(once, a, b, PSD)
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-10) @ b, atol=1e-6)
    assert run(once, a, np.ones(N), PSD).result != "successful"
    a = np.diag(np.resize([1.0, -1.0], N))
    assert run(once, a, np.ones(N), PSD).result == "breakdown"
    with pytest.raises(ValueError, match="single_reduction"):
        CG(1e-8, error_delay=3, single_reduction=True)
