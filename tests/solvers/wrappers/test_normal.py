"""The normal equations."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS
from lx_solvers.direct.cholesky import Cholesky
from lx_solvers.krylov.cg import CG
from lx_solvers.wrappers.normal import Normal, NormalCG

SHAPES = [(12, 12), (20, 12), (12, 20)]


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def system(rng):
    def system(dtype, shape, condition=4.0, consistent=False):
        def draw(*shape):
            x = rng.normal(size=shape)
            if np.dtype(dtype).kind == "c":
                x = x + 1j * rng.normal(size=shape)
            return x

        m, n = shape
        k = min(shape)
        u, v = np.linalg.qr(draw(m, k))[0], np.linalg.qr(draw(n, k))[0]
        a = (u * np.logspace(0, np.log10(condition), k)) @ v.conj().T
        b = a @ draw(n) if consistent else draw(m)
        return a.astype(dtype), b.astype(dtype)

    return system


@eqx.filter_jit
def compute(solver, operator, vector, options):
    state = solver.init(operator, options)
    return solver.compute(state, vector, options)


def run(solver, a, b, **options):
    operator = lo.MatrixLinearOperator(jnp.asarray(a))
    x, result, stats = compute(solver, operator, jnp.asarray(b), options)
    return np.asarray(x), RESULTS[result], stats


@pytest.mark.parametrize(
    "dtype, inner",
    [
        ("float32", "CG"),
        ("complex128", "CG"),
        ("float64", "Cholesky"),
        ("complex64", "Cholesky"),
    ],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_pseudoinverse(system, dtype, shape, inner):
    tol = 1e-4 if np.finfo(dtype).bits == 32 else 1e-10
    solver = Normal(CG(tol, 0.0) if inner == "CG" else Cholesky())
    for consistent in (True, False):
        a, b = system(dtype, shape, consistent=consistent)
        x, text, stats = run(solver, a, b)
        assert text == ""
        np.testing.assert_allclose(x, np.linalg.pinv(a) @ b, atol=20 * tol)
        assert x.dtype == dtype
        assert ("num_steps" in stats) == (inner == "CG")


def test_honest(system):
    """The normal equations' residual is small long before that of the system."""
    for shape in ((12, 12), (20, 12)):
        a, b = system("float64", shape, condition=1e4, consistent=True)
        x, text, _ = run(Normal(CG(1e-5, 0.0, max_steps=2000)), a, b)
        left = np.linalg.norm(a @ x - b) / np.linalg.norm(b)
        assert text == ""
        assert left <= 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_preconditioner_and_guess(system, shape):
    """M ≈ A⁻¹ is passed on as M Mᴴ or Mᴴ M, of the inner operator's structure."""
    a, b = system("complex128", shape, condition=30)
    pinv = np.linalg.pinv(a)
    m = lo.MatrixLinearOperator(jnp.asarray(pinv * 1.01))
    solver = Normal(CG(1e-9, 0.0))
    _, _, plain = run(solver, a, b)
    x, text, stats = run(solver, a, b, preconditioner=m)
    assert text == ""
    assert int(stats["num_steps"]) < int(plain["num_steps"]) / 3
    np.testing.assert_allclose(x, pinv @ b, atol=1e-7)
    for options in ({"y0": pinv @ b}, {"y0": pinv @ b, "preconditioner": m}):
        options = jax.tree.map(jnp.asarray, options)
        x, text, stats = run(solver, a, b, **options)
        assert text == ""
        np.testing.assert_allclose(x, pinv @ b, atol=1e-7)
    assert stats["num_steps"] <= 6


@pytest.mark.parametrize("shape", SHAPES)
def test_transpose_and_conj(system, shape):
    a, _ = system("complex128", shape)
    pinv = np.linalg.pinv(a)
    solver = Normal(CG(1e-10, 0.0))
    options = {"preconditioner": lo.MatrixLinearOperator(jnp.asarray(pinv * 1.01))}
    state = solver.init(lo.MatrixLinearOperator(jnp.asarray(a)), options)
    transposed, conjugated = (
        solver.transpose(state, options),
        solver.conj(state, options),
    )
    for (st, opts), matrix in (
        (transposed, a.T),
        (conjugated, a.conj()),
        (solver.conj(*transposed), a.conj().T),
        (solver.transpose(*transposed), a),
    ):
        b = np.linspace(1, 2, matrix.shape[0]) + 1j
        x, result, _ = solver.compute(st, jnp.asarray(b), opts)
        assert RESULTS[result] == ""
        np.testing.assert_allclose(x, np.linalg.pinv(matrix) @ b, atol=1e-7)


@pytest.mark.parametrize("shape", [(20, 12), (12, 20)])
def test_rank_deficient(rng, shape):
    """By factors: singular. By iteration: success only where the system's own
    residual, or its gradient, is small."""
    m, n = shape
    a, b = rng.normal(size=(m, 4)) @ rng.normal(size=(4, n)), rng.normal(size=m)
    for vector in (b, a @ rng.normal(size=n)):
        _, text, _ = run(Normal(Cholesky()), a, vector)
        assert text != ""
        x, text, _ = run(Normal(CG(1e-6, 0.0)), a, vector)
        r = vector - a @ x
        left = np.linalg.norm(r)
        slope = np.linalg.norm(a.T @ r) / np.linalg.norm(a, 2)
        solved = left <= 1e-5 * np.linalg.norm(vector)
        assert (text == "") == (solved or (m > n and slope <= 1e-5 * left))


def test_exits(system):
    a, b = system("float64", (20, 12), condition=100)
    solver = Normal(CG(1e-8, 0.0))
    x, text, stats = run(solver, a, np.zeros(20))
    assert (text, int(stats["num_steps"])) == ("", 0)
    assert not x.any()
    for bad_a, bad_b in ((a, np.where(b > b[3], b, np.nan)), (a * np.nan, b)):
        x, text, _ = run(solver, bad_a, bad_b)
        assert text == RESULTS[RESULTS.nonfinite_input]
        assert np.isnan(x).all()
    _, text, stats = run(Normal(CG(1e-8, 0.0, max_steps=3)), a, b)
    assert text == RESULTS[RESULTS.max_steps_reached]
    assert stats["num_steps"] == 3
    _, text, stats = run(Normal(CG(0.0, 0.0, max_steps=3)), a, b)
    assert (text, int(stats["num_steps"])) == ("", 3)


@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e20, 1e100])
def test_scales(system, scale):
    a, b = system("float64", (20, 12))
    exact = np.linalg.pinv(a) @ b
    x, text, _ = run(Normal(CG(1e-9, 0.0)), a * scale, b)
    assert text == ""
    np.testing.assert_allclose(x * scale, exact, atol=1e-7)
    x, text, _ = run(Normal(CG(1e-9, 0.0)), a, b * scale)
    assert text == ""
    np.testing.assert_allclose(x / scale, exact, atol=1e-7)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_empty(shape):
    x, text, _ = run(Normal(CG(1e-6, 1e-6)), np.zeros(shape), np.ones(shape[0]))
    assert text == ""
    np.testing.assert_array_equal(x, np.zeros(shape[1]))


def test_pytrees(system):
    a, b = system("float64", (20, 12))
    operator = lo.FunctionLinearOperator(
        lambda v: {"y": jnp.asarray(a) @ jnp.concatenate([v[0].ravel(), v[1]])},
        (jnp.zeros((2, 3)), jnp.zeros(6)),
    )
    solver = Normal(CG(1e-10, 0.0))
    x, result, _ = compute(solver, operator, {"y": jnp.asarray(b)}, {})
    assert RESULTS[result] == ""
    x = np.r_[np.ravel(x[0]), x[1]]
    np.testing.assert_allclose(x, np.linalg.pinv(a) @ b, atol=1e-8)


def test_batches(system):
    a, b = system("float64", (20, 12))
    solver = Normal(CG(1e-10, 0.0))
    state = solver.init(lo.MatrixLinearOperator(jnp.asarray(a)), {})
    bs = jnp.asarray(np.stack([b, 0 * b, b**2]))
    x = jax.vmap(lambda v: solver.compute(state, v, {})[0])(bs)
    np.testing.assert_allclose(x, bs @ np.linalg.pinv(a).T, atol=1e-8)


def test_history(system):
    """The inner solver's statistics are passed on."""
    a, b = system("float64", (20, 12))
    _, _, stats = run(Normal(CG(1e-6, 0.0, history=10)), a, b)
    history = np.asarray(stats["residuals"])
    assert history.shape == (10,)
    assert history[0] == pytest.approx(np.linalg.norm(a.T @ b))


def test_demands(system):
    operator = lo.MatrixLinearOperator(jnp.ones((4, 3)))
    solver = Normal(CG(1e-6, 1e-6))
    with pytest.raises(ValueError, match="preconditioner.*f64\\[4\\].*f64\\[3\\]"):
        solver.init(operator, {"preconditioner": operator})
    with pytest.raises(ValueError, match="linear operator"):
        solver.init(operator, {"preconditioner": jnp.ones(3)})
    with pytest.raises(ValueError, match="y0"):
        state = solver.init(operator, {})
        solver.compute(state, jnp.ones(4), {"y0": jnp.ones(4)})
    with pytest.raises(ValueError, match="Normal.init"):
        solver.compute(None, jnp.ones(4), {})
    with pytest.warns(UserWarning, match="'preconditionner'"):
        solver.init(operator, {"preconditionner": 1})
    assert solver.assume_full_rank()


def test_former_name():
    with pytest.warns(DeprecationWarning, match="Normal\\(CG") as caught:
        solver = NormalCG(1e-3, atol=1e-4, max_steps=7)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert solver == Normal(CG(1e-3, 1e-4, max_steps=7))
