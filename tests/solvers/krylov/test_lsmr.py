"""LSMR, and what it shares with LSQR."""

import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
import scipy.linalg
from lx_solvers import RESULTS
from lx_solvers.krylov.lsmr import LSMR
from lx_solvers.krylov.lsqr import LSQR

from .conftest import N, tolerance

M = 25  # the longer side
SQUARE, TALL, WIDE = (N, N), (M, N), (N, M)

_LSMR = pytest.param(LSMR, marks=pytest.mark.xdist_group("LSMR itself"))
_LSQR = pytest.param(LSQR, marks=pytest.mark.xdist_group("LSQR itself"))
both = pytest.mark.parametrize("make", [_LSMR, _LSQR])
first = pytest.mark.parametrize("make", [_LSMR])  # for what is the loop's


@both
@pytest.mark.parametrize(
    "dtype, shape", [("float64", SQUARE), ("float64", TALL), ("complex64", WIDE)]
)
def test_pseudoinverse(spectral, draw, run, make, dtype, shape):
    """Any shape and rank, consistent or not: the least-squares solution of least
    norm."""
    pseudoinverse(spectral, draw, run, make, np.dtype(dtype), shape)


@first
@pytest.mark.parametrize(
    "dtype, shape", [("float64", WIDE), ("float32", TALL), ("complex128", TALL)]
)
def test_more_pseudoinverses(spectral, draw, run, make, dtype, shape):
    pseudoinverse(spectral, draw, run, make, np.dtype(dtype), shape)


def pseudoinverse(spectral, draw, run, make, dtype, shape):
    m, n = shape
    tol = tolerance(dtype)
    for rank in (N, 6):
        a = spectral(dtype, np.linspace(1, 4, rank), shape)
        for consistent in (True, False):
            b = a @ draw(dtype, n) if consistent else draw(dtype, m)
            x, result, _, stats = run(make(tol, 0.0), a, b.astype(dtype))
            assert result == "successful"
            exact = np.linalg.pinv(a, 1e-4) @ b
            np.testing.assert_allclose(x, exact, atol=20 * tol)
            assert stats["istop"] == (1 if consistent or rank == m else 2)


@both
def test_statistics(spectral, draw, run, make):
    a, b = spectral(np.float64, np.linspace(0.5, 4, N), TALL), draw(np.float64, M)
    x, _, steps, stats = run(make(1e-10, 0.0), a, b)
    r = b - a @ x
    assert float(stats["norm_r"]) == pytest.approx(np.linalg.norm(r))
    assert float(stats["norm_x"]) == pytest.approx(np.linalg.norm(x))
    assert float(stats["norm_Ar"]) == pytest.approx(np.linalg.norm(a.T @ r), abs=1e-11)
    assert 2 <= float(stats["norm_A"]) <= 4 * (1 + 1e-12)
    assert 2 <= float(stats["cond_A"]) <= 3 * 8
    assert steps <= 30
    assert stats["max_steps"] == 10 * N


@both
def test_minimises_over_the_krylov_space(spectral, draw, run, make):
    """LSQR minimises ‖r‖, and LSMR ‖Aᵀr‖, over the Krylov space of AᵀA and Aᵀb."""
    a, b = spectral(np.float64, np.linspace(1, 9, N), TALL), draw(np.float64, M)
    left = np.eye(M) if make is LSQR else a.T
    for steps in (1, 3, 6):
        powers = [a.T @ b]
        for _ in range(steps - 1):
            powers.append(a.T @ (a @ powers[-1]))
        q, _ = np.linalg.qr(np.stack(powers, 1))
        best = q @ np.linalg.lstsq(left @ a @ q, left @ b, rcond=None)[0]
        x = run(make(0.0, 0.0, max_steps=steps), a, b).x
        np.testing.assert_allclose(x, best, rtol=1e-7)


@both
@pytest.mark.parametrize("shape", [TALL, WIDE])
def test_damping(spectral, draw, run, make, shape):
    """Exact for [A; λ], for any λ and first guess."""
    m, n = shape
    b = draw(np.float64, m)
    for rank, λ in [(N, 1e-300), (6, 1e-3), (N, 1.0), (N, 1e3), (6, 1e100), (N, 1e150)]:
        a = spectral(np.float64, np.linspace(1, 4, rank), shape)
        u, s, v = np.linalg.svd(a, full_matrices=False)
        size = np.hypot(s, λ)
        filtered = np.where(s > 1e-8, s / size / size, 0)
        exact = v.T @ (filtered * (u.T @ b))
        guesses = [np.zeros(n), exact * (1 + 1e-3), np.full(n, 1e-30)]
        guesses += [np.ones(n) / λ, np.ones(n)] if λ > 1e-9 else []
        for guess in guesses if λ > 1e-9 or shape is TALL else guesses[:2]:
            solver = make(1e-11, 0.0, damp=λ)
            x, result, _, stats = run(solver, a, b, y0=jnp.asarray(guess))
            assert result == "successful", (λ, guess)
            close = 1e-6 * np.abs(exact).max()
            np.testing.assert_allclose(x, exact, rtol=0, atol=close)
            assert float(stats["norm_r"]) == pytest.approx(np.linalg.norm(a @ x - b))


@first
def test_damping_in_single_precision(spectral, draw, run, make):
    b = draw(np.float32, M)
    a = spectral(np.float32, np.linspace(1, 4, N), TALL)
    u, s, v = np.linalg.svd(a.astype(float), full_matrices=False)
    for λ in (0, 1e-30, 1e-3, 1.0, 1e3, 1e15):
        exact = v.T @ (s / (s**2 + λ**2) * (u.T @ b))
        # an array, also if it is zero
        solver = make(1e-4, 0.0, damp=jnp.float32(λ))
        for guess in (np.zeros(N), exact, np.ones(N)):
            x, result, _, _ = run(solver, a, b, y0=jnp.asarray(guess, jnp.float32))
            assert result == "successful", (λ, guess)
            close = 2e-3 * np.abs(exact).max()
            np.testing.assert_allclose(x, exact, rtol=0, atol=close)


@first
def test_first_guess(spectral, draw, run, make):
    """For a wide operator the solution has least norm with an initial guess too."""
    a, b = spectral(np.float64, np.linspace(1, 4, N), WIDE), draw(np.float64, N)
    x, result, _, _ = run(make(1e-10, 0.0), a, b, y0=jnp.ones(M))
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.pinv(a) @ b, atol=1e-8)
    a, b = spectral(np.float64, np.linspace(1, 4, N), TALL), draw(np.float64, M)
    exact = np.linalg.pinv(a) @ b
    cold = run(make(1e-8, 0.0), a, b, y0=jnp.zeros(N)).steps
    near = jnp.asarray(exact * (1 + 1e-6))
    x, result, warm, _ = run(make(1e-8, 0.0), a, b, y0=near)
    assert result == "successful"
    assert warm < cold
    np.testing.assert_allclose(x, exact, atol=1e-6)


@first
@pytest.mark.parametrize("shape", [SQUARE, TALL])
def test_first_guess_of_deficient_rank(spectral, draw, run, make, shape):
    """What A annihilates of the first guess stays: of all least-squares solutions it
    is the one nearest to the guess; of least norm where the guess is in the range of
    Aᴴ."""
    values = np.r_[np.linspace(1, 4, N - 4), 0, 0, 0, 0]
    a = spectral(np.float64, values, shape)
    inverse = np.linalg.pinv(a, 1e-10)
    for b in (draw(np.float64, shape[0]), a @ draw(np.float64, N)):
        guess = draw(np.float64, N)
        inside = inverse @ (a @ guess)
        for y0, stays in ((guess, guess - inside), (inside, 0)):
            x, result, *_ = run(make(1e-10, 0.0), a, b, y0=jnp.asarray(y0))
            assert result == "successful"
            np.testing.assert_allclose(x, inverse @ b + stays, atol=1e-7)


@first
def test_scale_in_single_precision(spectral, draw, run, make):
    """|b| from 1e-30 to 1e30: solved, and not only claimed to be."""
    a = spectral(np.float32, np.linspace(1, 4, N), TALL)
    b = draw(np.float32, M)
    exact = np.linalg.pinv(a.astype(float)) @ b
    for power in (-30, -20, -10, 10, 20, 30, 35):
        scale = np.float32(10.0**power)
        x, result, _, _ = run(make(1e-4, 0.0), a, b * scale)
        assert result == "successful", power
        np.testing.assert_allclose(x / scale, exact, atol=2e-3)


@first
def test_column_norms_as_preconditioner(spectral, draw, run, make):
    a = spectral(np.float64, np.linspace(1, 2, N), TALL) * np.logspace(0, 4, N)
    b = draw(np.float64, M)
    m = lo.DiagonalLinearOperator(jnp.asarray(1 / np.linalg.norm(a, axis=0)))
    x, result, steps, _ = run(make(1e-10, 0.0), a, b, preconditioner=m)
    assert result == "successful"
    assert steps <= 25
    wanted = np.linalg.lstsq(a, b, rcond=None)[0]
    np.testing.assert_allclose(x, wanted, rtol=1e-6, atol=1e-8)


@both
def test_conlim(spectral, draw, run, make):
    a, b = spectral(np.float64, np.logspace(0, -6, N)), draw(np.float64, N)
    _, result, _, stats = run(make(1e-12, 0.0, conlim=100.0), a, b)
    assert result == "conlim"
    assert stats["istop"] == 3
    assert float(stats["cond_A"]) > 100
    for off in (0.0, np.inf):
        assert run(make(1e-6, 0.0, conlim=off), a, b).result != "conlim"


@both
def test_no_success_before_its_time(make, run):
    """Hilbert matrices: ‖Aᵀr‖ is small long before r is."""
    for n in (4, 8, 12):
        a = scipy.linalg.block_diag(scipy.linalg.hilbert(n), np.eye(N - n))
        b = a @ np.ones(N)
        x, result, _, _ = run(make(1e-6, 0.0), a, b)
        if result == "successful":
            assert np.linalg.norm(a @ x - b) <= 1e-6 * np.linalg.norm(b)


@both
@pytest.mark.parametrize("shape", [SQUARE, WIDE])
def test_a_small_singular_value_is_not_zero(spectral, draw, run, make, shape):
    """One of 3e-11 relative to the others: a residual along its vector is not taken for
    what has no solution, though ‖Aᴴ r‖ is less than any tolerance."""
    for top in (1, 2, 10):
        a = spectral(np.float64, np.r_[np.linspace(1, top, N - 1), 3e-11], shape)
        b = draw(np.float64, N)
        for rtol in (1e-6, 1e-8):
            x, result, _, stats = run(make(rtol, 0.0, conlim=0), a, b)
            assert not stats["least_squares"]
            if result == "successful":
                size = np.linalg.norm(a, 2) * np.linalg.norm(x) + np.linalg.norm(b)
                assert np.linalg.norm(b - a @ x) <= 1e-14 * size


@both
def test_the_step_that_reduces_all_there_is(spectral, draw, run, make):
    """Clustered singular values and two zeros: the bidiagonalisation ends in one step,
    whose update is large. It is the last, as further ones would be along noise."""
    for _ in range(40):
        a = spectral(np.float64, np.r_[np.linspace(1, 2, N - 2), 0, 0], SQUARE)
        b = draw(np.float64, N)
        x, result, steps, stats = run(make(1e-8, 0.0), a, b)
        assert (result, stats["istop"]) == ("successful", 2)
        assert steps <= N - 1
        np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-10) @ b, atol=1e-10)


@both
@pytest.mark.parametrize("shape", [SQUARE, TALL])
def test_cut_short(spectral, draw, run, make, shape):
    """One large singular value: ‖Aᴴ r‖ is down to rounding errors after one step, long
    before r is."""
    a = spectral(np.float64, np.r_[1, np.full(N - 1, 1e-12)], shape)
    b = a @ draw(np.float64, N)
    for rtol in (1e-12, 1e-14):
        for steps in (1, 2, 10 * N):
            x, result, *_ = run(make(rtol, 0.0, max_steps=steps, conlim=0), a, b)
            left = np.linalg.norm(b - a @ x) / np.linalg.norm(b)
            assert result != "successful" or left <= max(rtol, 1e-14)
            assert result == "successful" or steps < 10 * N


@both
def test_nothing_to_do_but_rounding_errors(run, make):
    """b is orthogonal to the range to rounding, and A is singular: no tolerance makes x
    a multiple of the null vector."""
    a = np.eye(N)
    a[:3, :3] = [[1, 2, 4], [2, 4, 8], [1, 0, 1]]
    b = np.r_[2, -1, np.zeros(N - 2)] / 5**0.5
    for rtol in (1e-6, 1e-12, 1e-17):
        x, result, *_ = run(make(rtol, 0.0, conlim=0), a, b)
        assert result == "successful"
        assert np.linalg.norm(x) <= 1e-12


@both
def test_which_rule_it_passed(spectral, draw, run, make):
    """A least-squares solution is told from a solution of the system, at any shape."""
    few = np.r_[np.linspace(1, 30, 6), np.zeros(N - 6)]
    for shape in (SQUARE, TALL, WIDE):
        a = spectral(np.float64, few, shape)
        for b in (a @ draw(np.float64, shape[1]), draw(np.float64, shape[0])):
            x, result, _, stats = run(make(1e-8, 0.0), a, b)
            assert result == "successful"
            solved = np.linalg.norm(b - a @ x) <= 1e-8 * np.linalg.norm(b)
            assert stats["least_squares"] == (not solved)
            assert stats["istop"] == (1 if solved else 2)
            np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-10) @ b, atol=1e-6)


@both
@pytest.mark.parametrize("shape", [SQUARE, TALL])
def test_preconditioner_of_the_transposed(spectral, draw, make, shape):
    """The transposed problem has the preconditioner on its left: as few steps as the
    problem itself, the true residual, and twice transposed is the first again."""
    m, n = shape
    a = spectral(np.float64, np.linspace(1, 2, n), shape) * np.logspace(0, 5, n)
    norms = lo.DiagonalLinearOperator(jnp.asarray(1 / np.linalg.norm(a, axis=0)))
    solver = make(1e-10, 0.0, criterion="two_norm")
    state = solver.init(lo.MatrixLinearOperator(jnp.asarray(a)), {})
    options = {"preconditioner": norms}
    c = draw(np.float64, n)
    bare = solver.compute(*_with_vector(solver.transpose(state, {}), c))
    turned = solver.transpose(state, options)
    y, result, stats = solver.compute(*_with_vector(turned, c))
    assert result == RESULTS.successful
    assert stats["num_steps"] <= 20 < 40 < bare[2]["num_steps"]
    assert np.linalg.norm(c - a.T @ np.asarray(y)) <= 1e-10 * np.linalg.norm(c)
    np.testing.assert_allclose(y, np.linalg.pinv(a.T) @ c, rtol=1e-7, atol=1e-12)
    again = solver.transpose(*turned)
    b = a @ draw(np.float64, n)
    x, result, stats = solver.compute(*_with_vector(again, b))
    assert result == RESULTS.successful
    assert stats["num_steps"] <= 20
    np.testing.assert_allclose(a @ np.asarray(x), b, rtol=0, atol=1e-8 * abs(b).max())


def _with_vector(problem, vector):
    state, options = problem
    return state, jnp.asarray(vector), options


@both
def test_nothing_to_do(run, make):
    """b orthogonal to the range, and the zero operator: x = 0."""
    b = np.eye(N)[-1]
    for a in (np.diag(1 - b), np.zeros((N, N))):
        x, *end, _ = run(make(1e-6, 0.0), a, b)
        assert end == ["successful", 0]
        assert not x.any()


@first
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty(run, make, shape):
    x, result, _, _ = run(make(1e-6, 1e-6), np.zeros(shape), np.ones(shape[0]))
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
