"""GMRES."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS
from lx_solvers.krylov.fgmres import FGMRES
from lx_solvers.krylov.gmres import GMRES

from .conftest import N, krylov_minimum

pytestmark = pytest.mark.xdist_group("GMRES itself")


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_minimises_over_the_krylov_space(draw, run, dtype):
    a, b = draw(np.dtype(dtype), N, N), draw(np.dtype(dtype), N)
    for steps in (1, 2, 5, 11):
        x = run(GMRES(0.0, 0.0, max_steps=steps), a, b).x
        wanted = krylov_minimum(a, b, steps)
        np.testing.assert_allclose(x, wanted, rtol=1e-8, atol=1e-10)


SHORT = {"restart": 3, "stagnation_iters": 3}


@pytest.mark.parametrize("cycle", [{"restart": 1}, SHORT])
def test_restart(draw, run, residual, cycle):
    a, b = 3 * np.eye(N) + 0.3 * draw(np.float64, N, N), draw(np.float64, N)
    x, result, _, _ = run(GMRES(1e-8, 0.0, **cycle), a, b)
    assert result == "successful"
    assert residual(a, x, b) <= 1e-8


def test_restarted_iterates(draw, run):
    """Two cycles of three steps are two minimisations."""
    a, b = 3 * np.eye(N) + draw(np.float64, N, N), draw(np.float64, N)
    x = krylov_minimum(a, b, 3)
    x = x + krylov_minimum(a, b - a @ x, 3)
    y, _, steps, _ = run(GMRES(0.0, 0.0, max_steps=6, **SHORT), a, b)
    assert steps == 6
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
    """No progress until the last step; restarted, never: which is no matter of singular
    operators."""
    a, b = np.roll(np.eye(N), 1, axis=0), np.eye(N)[0]
    x, *end, _ = run(GMRES(1e-8, 0.0), a, b)
    assert end == ["successful", N]
    np.testing.assert_allclose(x, np.linalg.solve(a, b), atol=1e-12)
    _, *end, _ = run(GMRES(1e-8, 0.0, max_steps=1000, **SHORT), a, b)
    assert end == ["stagnation", 9]
    # what is limited are products, not cycles
    _, *end, _ = run(GMRES(1e-8, 0.0, max_steps=5, **SHORT), a, b)
    assert end == ["max_steps_reached", 5]


def test_skew(run, draw):
    a, b = draw(np.float64, N, N), draw(np.float64, N)
    a = a - a.T
    x, result, _, _ = run(GMRES(1e-8, 0.0), a, b)
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=1e-4)


def test_singular(run):
    """Where the Krylov space shows it: `singular`. A consistent system may have a
    solution there; that has no residual, and is not of least norm."""
    solver, e = GMRES(1e-8, 0.0), np.eye(N)
    nilpotent = np.eye(N, k=1)
    assert run(solver, nilpotent, e[N - 1]).result == "singular"
    assert run(solver, np.zeros((N, N)), np.ones(N)).result == "singular"
    a = np.outer(e[0], np.ones(N))
    x, result, _, _ = run(solver, a, e[0])
    assert result == "successful"
    np.testing.assert_allclose(a @ x, e[0], atol=1e-12)


def test_singular_consistent(spectral, draw, run):
    """If the range of A and that of Aᴴ are one, the solution is of least norm."""
    a = spectral(np.float64, np.r_[np.linspace(-3, 3, N - 3), 0, 0, 0])
    b = a @ draw(np.float64, N)
    x, result, _, _ = run(GMRES(1e-9, 0.0), a, b)
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-10) @ b, atol=1e-7)


@pytest.mark.parametrize("make", [GMRES, FGMRES])
def test_what_products_cannot_show(run, make):
    """On the range of A, where all products are made, A is regular: a consistent system
    is a success, whose residual passes, not of least norm. A range that meets the null
    space shows: `singular`, consistent or not."""
    solver = make(1e-10, 0.0)
    a = np.array([[1.0, 2, 4], [2, 4, 8], [1, 0, 1]])
    assert np.linalg.matrix_rank(a) == 2
    for b in a @ [1.0, 2, 3], a @ [1.0, -1, 2], np.array([1.0, 2, 1]):
        x, result, steps, stats = run(solver, a, b)
        assert (result, steps) == ("successful", 2)
        assert np.linalg.norm(b - a @ x) <= 1e-10 * np.linalg.norm(b)
        assert np.linalg.norm(x) > 1.005 * np.linalg.norm(np.linalg.pinv(a) @ b)
    assert run(solver, a, np.array([1.0, 0, 0])).result == "singular"  # inconsistent
    e, pair = np.array([1.0, 0]), np.array([[[1.0, 1], [0, 0]], [[1.0, 1], [0, 1]]])
    for each in pair:
        x, result, *_ = run(solver, each, e)
        assert result == "successful"
        np.testing.assert_allclose(x, e)
    nilpotent = np.array([[0.0, 1], [0, 0]])
    x, result, *_ = run(solver, nilpotent, e)
    assert result == "singular"


def test_rectangular_structures(run, draw):
    """Input and output of one size but of two structures."""
    a, b = 3 * np.eye(6) + draw(np.float64, 6, 6), draw(np.float64, 6)
    operator = lo.FunctionLinearOperator(
        lambda v: jnp.asarray(a) @ jnp.ravel(v), jnp.zeros((2, 3))
    )
    x, result, _, _ = run(GMRES(1e-9, 0.0), operator, b)
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
