"""Products, storage, batches and reports of all iterative solvers."""

import sys
import types

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS

from .conftest import PSD, N, each_loop, stable
from .counting import Counting, counting, products_run, traced_solve


@pytest.mark.parametrize("options", ["", "y0 preconditioner"])
def test_product_traced_once(name, method, suited, options):
    """The operator's product, and the preconditioner's, stand once in the program."""
    operator = counting(method, suited(name, np.float64))
    right = Counting(jnp.eye(N), (PSD, lo.symmetric_tag), [], [])
    given = {
        k: {"y0": jnp.ones(N), "preconditioner": right}[k] for k in options.split()
    }
    traced_solve(method.make(1e-6, 1e-6), operator, given)
    each = 2 if method.adjoint else 1
    assert len(operator.traced) == each
    assert len(right.traced) == (each if "preconditioner" in given else 0)


def test_products_run(name, method, suited, draw):
    a, b = suited(name, np.float64), draw(np.float64, N)
    more = products_run(name, method, a, b, {})
    # some of the checks of GMRES may fail
    assert 0 <= more <= 2 if "GMRES" in name else more == method.start


@each_loop
def test_products_run_with_first_guess(name, method, suited, draw):
    a, b = suited(name, np.float64), draw(np.float64, N)
    more = products_run(name, method, a, b, {"y0": jnp.ones(N)})
    assert 1 <= more <= 3 if "GMRES" in name else more == 1


STORED = {  # vectors, with the product (two products) that a step makes
    "CG": 5,
    "CG, at once": 6,
    "BiCGStab": 7,
    "GMRES": 20 + 4,
    "FGMRES": 40 + 5,
    "MINRES": 8,
    "LSMR": 11,
    "LSQR": 9,
    "IDR": 3 * 4 + 6,
    "COCG": 5,
    "SYMMLQ": 7,
}


def test_storage(name, method):
    """What the loop carries and closes over, and its products, as documented."""
    n = 10_000
    structure = jax.ShapeDtypeStruct((n,), jnp.float64)
    operator = lo.FunctionLinearOperator(lambda x: 3 * x, structure, method.tags)
    jaxpr = traced_solve(method.make(1e-6, 1e-6), operator)
    (loop,) = (e for e in jaxpr.jaxpr.eqns if e.primitive.name == "while")
    kept = {id(v): v.aval.size for v in loop.params["body_jaxpr"].jaxpr.invars}
    products = 2 if method.adjoint else 1
    assert sum(kept.values()) // n + products == STORED[name]


def test_default_step_limit(name, method):
    """Ten times the size, or as far as steps can be counted."""
    limits = []

    def solve(b):
        operator = lo.FunctionLinearOperator(lambda x: 3 * x, b, method.tags)
        solver = method.make(1e-6, 1e-6)
        limits.append(solver.compute(solver.init(operator, {}), b, {})[2]["max_steps"])
        return b

    for n in (7, 3 * 10**8):
        jax.eval_shape(solve, jax.ShapeDtypeStruct((n,), jnp.float32))
    assert limits == [70, 2**31 - 2]


@each_loop
def test_batched_vectors(name, method):
    """A `vmap` over vectors makes one product of matrices in the loop."""
    operator = lo.MatrixLinearOperator(jnp.eye(7), method.tags)
    solver = method.make(1e-6, 1e-6)
    state = solver.init(operator, {})
    solve = jax.vmap(lambda b: solver.compute(state, b, {})[0])
    jaxpr = jax.make_jaxpr(solve)(jnp.ones((5, 7)))
    (loop,) = (e for e in jaxpr.jaxpr.eqns if e.primitive.name == "while")
    body = loop.params["body_jaxpr"].jaxpr
    products = [
        e
        for e in body.eqns
        if e.primitive.name == "dot_general"
        and any(v.aval.shape == (7, 7) for v in e.invars)
    ]
    assert len(products) == (2 if method.adjoint else 1)
    for product in products:
        assert sorted(v.aval.shape for v in product.invars) == [(5, 7), (7, 7)]


@each_loop
def test_success_is_true(name, method, rng):
    """Matrices of condition 1 to 1e7 in float32, 1e15 in float64."""
    success_is_true(name, method, rng, np.dtype("float32"), 1e-4, 7)


@each_loop
def test_success_is_true_in_double_precision(name, method, rng):
    success_is_true(name, method, rng, np.dtype("float64"), 1e-7, 15)


def success_is_true(name, method, rng, dtype, rtol, worst):
    """A batch of systems, each of which ends by itself: what is called a success has a
    residual within the tolerance, by NumPy. One vector is zero, and one holds a NaN."""
    n, batch = 12, 24
    u, _ = np.linalg.qr(rng.normal(size=(batch, n, n)))
    v, _ = np.linalg.qr(rng.normal(size=(batch, n, n)))
    v = u if method.tags or name == "BiCGStab" else v
    values = np.stack([np.logspace(0, -k, n) for k in np.linspace(0, worst, batch)])
    if name == "MINRES":
        values[:, ::2] *= -1
    a = ((u * values[:, None]) @ v.swapaxes(1, 2)).astype(dtype)
    a = (a + a.swapaxes(1, 2)) / 2 if method.tags else a
    b = rng.normal(size=(batch, n)).astype(dtype)
    b[0], b[1, 2] = 0, np.nan

    @jax.jit
    @jax.vmap
    def solve(matrix, vector):
        solver = method.make(rtol, 0.0)
        state = solver.init(lo.MatrixLinearOperator(matrix, method.tags), {})
        x, result, stats = solver.compute(state, vector, {})
        return x, result == RESULTS.successful, stats["num_steps"]

    x, good, steps = map(np.asarray, solve(jnp.asarray(a), jnp.asarray(b)))
    assert (good[0], good[1], steps[0], steps[1]) == (True, False, 0, 0)
    wide = [z[good].astype(float) for z in (a, x, b)]
    left = np.abs(np.einsum("kij,kj->ki", *wide[:2]) - wide[2]).max(1)
    passed = left <= rtol * np.abs(wide[2]).max(1)
    for a, x, b in zip(*(z[~passed] for z in wide), strict=True):
        assert stable(a, x, b, np.finfo(dtype).eps)
    assert good[2 : batch // 6].all()


@each_loop
def test_history(name, method, suited, draw, run, monkeypatch):
    """The 2-norms of the residuals, after each number of steps, as NumPy has them; and
    a progress bar, made anew for each run."""
    bars = []

    class Bar:
        def __init__(self, desc, total, unit):
            self.n, self.total, self.closed = 0, total, False
            assert desc == name
            bars.append(self)

        def set_postfix_str(self, text, refresh):
            assert "residual" in text

        def update(self, steps):
            self.n += steps

        def close(self):
            self.closed = True

    module = types.ModuleType("tqdm.auto")
    module.tqdm = Bar
    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", module)

    a, b = suited(name, np.float64), 1e5 * draw(np.float64, N)
    solver = method.make(1e-7, 0.0, history=True, progress=True)
    ends = []
    for _ in range(2):
        ends.append(run(solver, a, b, method.tags))
        jax.effects_barrier()
    x, _, steps, stats = ends[0]
    assert [(bar.n, bar.total, bar.closed) for bar in bars] == 2 * [
        (steps, 10 * N, True)
    ]

    history = stats["residuals"]
    assert history.shape == (10 * N + 1,)
    assert np.isnan(history[steps + 1 :]).all()
    np.testing.assert_allclose(history[0], np.linalg.norm(b))
    np.testing.assert_allclose(
        history[steps], np.linalg.norm(b - a @ x), rtol=1e-3, atol=1e-10
    )
    for k in (1, 2, 4):
        solver = method.make(0.0, 0.0, max_steps=k)
        y, _, _, stats = run(solver, a, b, method.tags)
        np.testing.assert_allclose(history[k], np.linalg.norm(b - a @ y), rtol=1e-6)
        assert "residuals" not in stats


@each_loop
def test_length_of_history(name, method):
    """As long as was asked for."""
    operator = lo.MatrixLinearOperator(jnp.eye(7), method.tags)

    def residuals(solver):
        state = solver.init(operator, {})
        return solver.compute(state, jnp.ones(7), {})[2]["residuals"]

    for history, length in ((3, 3), (True, 71)):
        solver = method.make(1e-7, 0.0, history=history)
        assert jax.eval_shape(residuals, solver).shape == (length,)
    limited = method.make(1e-7, 0.0, history=True, max_steps=4)
    with pytest.raises(ValueError, match="history"):
        jax.eval_shape(residuals, limited)


@each_loop
def test_progress_needs_tqdm(name, method, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    operator = lo.MatrixLinearOperator(jnp.eye(2), method.tags)
    with pytest.raises(ImportError, match="pip install tqdm"):
        traced_solve(method.make(1e-7, 0.0, progress=True), operator)


@each_loop
def test_silent(name, method):
    """Nothing of a report is traced unless asked for."""
    operator = lo.MatrixLinearOperator(jnp.eye(5), method.tags)
    assert "callback" not in str(traced_solve(method.make(1e-6, 1e-6), operator))
