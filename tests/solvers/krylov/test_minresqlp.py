"""MINRES-QLP: least-squares solutions of least norm."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS
from lx_solvers.krylov.lsmr import LSMR
from lx_solvers.krylov.minres import MINRES
from lx_solvers.krylov.minresqlp import MINRESQLP

from .conftest import N, stable
from .counting import counting, products_run, traced_solve

pytestmark = pytest.mark.xdist_group("MINRESQLP")
SINGULAR = np.r_[np.linspace(-3, -1, 5), np.linspace(1, 2, N - 8), 0, 0, 0]


def least_squares_residual(a, x, b):
    """‖A r‖ / (‖A‖ ‖r‖), by NumPy."""
    r = b - a @ x
    return np.linalg.norm(a @ r) / (np.linalg.norm(a, 2) * np.linalg.norm(r))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_inconsistent(spectral, draw, run, dtype):
    """To the default tolerance, of a b of which a part is not in the range; where
    MINRES ends without."""
    a, b = spectral(dtype, SINGULAR), draw(dtype, N)
    tol = 1e-5 if np.finfo(dtype).bits == 32 else 1e-8
    x, result, steps, stats = run(MINRESQLP(tol, 0.0), a, b, lo.hermitian_tag)
    assert result == "successful"
    assert stats["least_squares"]
    wide = [z.astype(np.complex128) for z in (a, x, b)]
    assert least_squares_residual(*wide) <= tol
    exact = np.linalg.pinv(wide[0], 1e-4) @ wide[2]
    np.testing.assert_allclose(x, exact, atol=10 * tol * np.linalg.norm(exact))
    assert steps <= 3 * N
    np.testing.assert_allclose(stats["norm_A"], 3, rtol=0.2)
    np.testing.assert_allclose(stats["cond_A"], 3, rtol=0.5)
    assert run(MINRES(tol, 0.0), a, b, lo.hermitian_tag).result != "successful"


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_minimises_over_the_krylov_space(spectral, draw, run, dtype):
    """‖b - A x‖ over the space of A b, A² b, …; the first step multiplies b."""
    dtype = np.dtype(dtype)
    a, b = spectral(dtype, np.linspace(-3, 4, N)), draw(dtype, N)
    for steps in (1, 2, 5, 8):
        powers = [a @ b]
        for _ in range(steps - 1):
            powers.append(a @ powers[-1])
        q, _ = np.linalg.qr(np.stack(powers, 1).astype(np.complex128))
        best = q @ np.linalg.lstsq(a @ q, b, rcond=None)[0]
        solver = MINRESQLP(0.0, 0.0, max_steps=steps + 1)
        x = run(solver, a, b, lo.hermitian_tag).x
        tol = 1e-6 if dtype == np.float64 else 2e-3
        np.testing.assert_allclose(x, best, rtol=0, atol=tol * np.abs(best).max())


@pytest.mark.parametrize("b", ["consistent", "null", "any"])
def test_zero_and_null(spectral, draw, run, b):
    """A consistent system; a b that A annihilates, whose solution is zero; and A = 0,
    of which every b is one."""
    a = spectral(np.float64, SINGULAR)
    null = np.linalg.eigh(a)[1][:, np.argsort(np.abs(np.linalg.eigvalsh(a)))[0]]
    b = {"consistent": a @ draw(np.float64, N), "null": null, "any": draw(float, N)}[b]
    for matrix in (a, 0 * a):
        x, result, _, stats = run(MINRESQLP(1e-9, 0.0), matrix, b, lo.hermitian_tag)
        assert result == "successful"
        exact = np.linalg.pinv(matrix, 1e-10) @ b
        np.testing.assert_allclose(x, exact, atol=1e-7)
        consistent = np.linalg.norm(b - matrix @ exact) < 1e-10
        assert stats["least_squares"] == (not consistent)


def test_nearest_to_the_first_guess(spectral, draw, run):
    """What A annihilates stays as it was in the first guess."""
    a, b, y0 = spectral(np.float64, SINGULAR), draw(np.float64, N), draw(np.float64, N)
    end = run(MINRESQLP(1e-10, 0.0), a, b, lo.hermitian_tag, y0=jnp.asarray(y0))
    assert end.result == "successful"
    nearest = y0 + np.linalg.pinv(a, 1e-10) @ (b - a @ y0)
    np.testing.assert_allclose(end.x, nearest, atol=1e-8)


def test_no_false_least_squares_solution(spectral, draw, run):
    """An ill-conditioned system of full rank: while the residual does not pass, what is
    left of it is not taken for what has no solution."""
    a, b = spectral(np.float64, np.logspace(0, -7, N)), draw(np.float64, N)
    for rtol in (1e-1, 1e-3, 1e-6):
        x, result, _, stats = run(MINRESQLP(rtol, 0.0), a, b, lo.hermitian_tag)
        assert not stats["least_squares"]
        if result == "successful":
            assert np.abs(b - a @ x).max() <= rtol * np.abs(b).max()


def test_a_small_eigenvalue_is_not_zero(spectral, draw, run):
    """One of 3e-11 relative to the others: a residual along its vector is not taken for
    what has no solution, though ‖A r‖ is less than any tolerance."""
    a, b = spectral(float, np.r_[np.linspace(1, 2, N - 1), 3e-11]), draw(float, N)
    for rtol in (1e-3, 1e-8):
        x, result, _, stats = run(MINRESQLP(rtol, 0.0), a, b, lo.hermitian_tag)
        assert not stats["least_squares"]
        if result == "successful":
            size = np.linalg.norm(a, 2) * np.linalg.norm(x) + np.linalg.norm(b)
            assert np.linalg.norm(b - a @ x) <= 1e-14 * size


def family(rng, dtype, spectrum, cond, singular, count=40):
    """Random indefinite matrices of condition `cond`, of which `singular` eigenvalues
    are replaced by zero; and orthonormal bases of their ranges."""
    values = {
        "one": lambda: np.r_[rng.uniform(0.5, 2, N - 1), 1 / cond],
        "graded": lambda: np.geomspace(1, 1 / cond, N),
        "scattered": lambda: cond ** rng.uniform(-1, 0, N),
        "two": lambda: np.where(np.arange(N) < N // 2, 1, 1 / cond),
    }[spectrum]
    matrices, ranges = [], []
    for _ in range(count):
        q = np.linalg.qr(rng.normal(size=(N, N)))[0]
        λ = values() * rng.choice([-1, 1], N) * (np.arange(N) >= singular)
        a = (q * λ) @ q.T
        matrices.append((a + a.T) / 2)
        ranges.append(q[:, singular:])
    return np.asarray(matrices, dtype), np.asarray(ranges)


@pytest.fixture(scope="module")
def solve_all():
    @jax.jit
    @jax.vmap
    def solve(a, b, rtol):
        solver = MINRESQLP(rtol, 0.0)
        operator = lo.MatrixLinearOperator(a, lo.symmetric_tag)
        x, result, stats = solver.compute(solver.init(operator, {}), b, {})
        return x, result == RESULTS.successful, stats["least_squares"]

    return solve


@pytest.mark.parametrize("spectrum", ["one", "graded", "scattered", "two"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_claims(rng, solve_all, dtype, spectrum):
    """No system with a solution is called one without, at conditions that the precision
    can tell from ∞, and what is successful is so. Nearly all systems without a
    solution are solved, and the part of r in the range is backward stable."""
    eps = np.finfo(dtype).eps
    conds = (1e2, 1e4, 1e7, 1e10) if dtype == "float64" else (1e2, 1e3, 1e4)
    solved = []
    for cond in conds:
        for rtol in (1e-8, 1e-13) if dtype == "float64" else (1e-5,):
            for singular in (0, 2):
                a, ranges = family(rng, dtype, spectrum, cond, singular)
                b = rng.normal(size=a.shape[:2]).astype(dtype)
                tols = np.full(len(a), rtol, dtype)
                ends = map(np.asarray, solve_all(a, b, tols))
                wide = [np.asarray(z, float) for z in (a, b)]
                for A, b_, Q, x, good, least_squares in zip(*wide, ranges, *ends):
                    r = b_ - A @ x
                    if not singular:
                        assert not least_squares
                        passed = np.abs(r).max() <= 1.01 * rtol * np.abs(b_).max()
                        assert not good or passed or stable(A, x, b_, eps, 64)
                    elif good:
                        assert least_squares
                        reached = np.linalg.norm(Q.T @ r) / np.linalg.norm(r)
                        errors = np.linalg.norm(x) / np.linalg.norm(r)
                        assert reached <= 100 * eps * (1 + errors + cond)
                    if singular and cond < 1e4:
                        solved.append(good)
    assert np.mean(solved) > 0.95


def test_neumann(rng, run):
    """The Laplacian with Neumann boundaries, and a source that does not balance: half
    the products of LSMR, which has one and one with the adjoint a step."""
    m = 12
    one = 2 * np.eye(m) - np.eye(m, k=1) - np.eye(m, k=-1)
    one[0, 0] = one[-1, -1] = 1
    a = np.kron(one, np.eye(m)) + np.kron(np.eye(m), one)
    b = rng.normal(size=m * m) + 1
    x, result, steps, stats = run(MINRESQLP(1e-8, 0.0), a, b, lo.hermitian_tag)
    assert result == "successful"
    assert stats["least_squares"]
    exact = np.linalg.pinv(a, 1e-10) @ b
    np.testing.assert_allclose(x, exact, atol=1e-6 * np.abs(exact).max())
    other = run(LSMR(1e-8, 0.0), a, b)
    assert steps + 3 <= 0.5 * 2 * other.steps


def test_products_and_storage(spectral, draw):
    """A product a step; one more a check, of which there are two here at most."""
    a, b = spectral(np.float64, np.linspace(1, 3, N)), draw(np.float64, N)
    method = _Method()
    assert products_run("MINRESQLP", method, a, b, {}) == 0
    operator = counting(method, a)
    traced_solve(method.make(1e-6, 1e-6), operator)
    assert len(operator.traced) == 1
    n = 10_000
    structure = jax.ShapeDtypeStruct((n,), jnp.float64)
    operator = lo.FunctionLinearOperator(lambda x: 3 * x, structure, lo.hermitian_tag)
    jaxpr = traced_solve(MINRESQLP(1e-6, 1e-6), operator)
    (loop,) = (e for e in jaxpr.jaxpr.eqns if e.primitive.name == "while")
    kept = {id(v): v.aval.size for v in loop.params["body_jaxpr"].jaxpr.invars}
    assert sum(kept.values()) // n + 1 == 10


class _Method:
    tags, adjoint, start = lo.hermitian_tag, False, 0

    def make(self, *args):
        return MINRESQLP(*args)


def test_demands():
    with pytest.raises(ValueError, match="MINRESQLP.*symmetric_tag"):
        MINRESQLP(1e-6, 1e-6).init(lo.MatrixLinearOperator(jnp.eye(2)), {})
    with pytest.raises(ValueError, match="MINRESQLP"):
        MINRESQLP(-1.0)
    identity = lo.IdentityLinearOperator(jnp.ones(2))
    with pytest.warns(UserWarning, match="MINRESQLP.*preconditioner"):
        MINRESQLP(1e-6).init(identity, {"preconditioner": identity})
    assert not MINRESQLP(1e-6).assume_full_rank()


def test_not_finite(spectral, draw, run):
    """A step from NaN is not one at the least residual."""
    a, b = spectral(np.float64, SINGULAR), draw(np.float64, N)
    a[2, 2] = np.nan
    x, result, *_ = run(MINRESQLP(1e-6, 0.0), a, b, lo.hermitian_tag)
    assert result == "nonfinite_input"
    assert np.isnan(x).all()
