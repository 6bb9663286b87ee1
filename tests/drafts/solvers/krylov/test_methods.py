"""The laws of all iterative solvers, each on matrices such as it is made for."""

import sys
import types
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_operators.internal import max_norm
from lx_solvers import RESULTS
from lx_solvers._vectors import spaces

from .conftest import METHODS, RESULT_NAMES, compute


def tolerance(dtype):
    return 1e-4 if np.finfo(dtype).bits == 32 else 1e-9


@pytest.mark.parametrize("n", [1, 2, 17])
def test_solves(name, method, dtype, n, suited, draw, run, residual):
    a, b = suited(name, dtype, n), draw(dtype, n)
    solver = method.make(tolerance(dtype), 0.0)
    x, result, stats = run(solver, a, b, method.tags)
    assert result == "successful"
    assert residual(a, x, b) <= tolerance(dtype)
    assert x.dtype == dtype
    np.testing.assert_allclose(
        x, np.linalg.solve(a, b), rtol=0, atol=50 * tolerance(dtype)
    )
    assert stats["max_steps"] == 10 * n


@pytest.mark.parametrize("bits", [32, 64])
def test_scale_invariance(name, method, bits, suited, draw, run):
    """Scaling A and b by powers of two changes nothing but the scale of x."""
    dtype = np.dtype(f"float{bits}")
    a, b = suited(name, dtype, 17), draw(dtype, 17)
    solver = method.make(tolerance(dtype), 0.0)
    x, result, stats = run(solver, a, b, method.tags)
    assert result == "successful"
    for of_a, of_b in [(-100, -100), (66, 33), (-66, 33), (0, -99), (0, 66), (100, 66)]:
        scaled = np.ldexp(a, of_a), np.ldexp(b, of_b)
        y, result, again = run(solver, *scaled, method.tags)
        assert result == "successful", (of_a, of_b)
        np.testing.assert_allclose(
            np.ldexp(y, of_a - of_b),
            x,
            rtol=0,
            atol=1e-5 * 2**-29 if bits == 64 else 1e-5,
        )
        assert abs(int(again["num_steps"]) - int(stats["num_steps"])) <= 1


def test_trivial(name, method, dtype, suited, draw, run):
    """b = 0, the solution as first guess, and a multiple of the identity."""
    n = 9
    a, b, y = suited(name, dtype, n), draw(dtype, n), draw(dtype, n)
    solver = method.make(10 * tolerance(dtype), 0.0)
    for guess in ({}, {"y0": jnp.asarray(y)}):
        x, result, stats = run(solver, a, np.zeros(n, dtype), method.tags, **guess)
        assert result == "successful"
        assert not x.any()
        assert stats["num_steps"] == 0
    exact = np.linalg.solve(a, b)
    x, result, stats = run(solver, a, b, method.tags, y0=jnp.asarray(exact))
    assert result == "successful"
    assert stats["num_steps"] == 0
    np.testing.assert_allclose(x, exact)
    for c in (3, 1e-3):
        multiple = (c * np.eye(n)).astype(dtype)
        x, result, stats = run(solver, multiple, b, method.tags)
        assert result == "successful"
        assert stats["num_steps"] <= 2
        np.testing.assert_allclose(x, b / c, rtol=20 * np.finfo(dtype).eps)


def test_empty(method, run):
    x, result, stats = run(
        method.make(1e-6, 1e-6), np.zeros((0, 0)), np.zeros(0), method.tags
    )
    assert result == "successful"
    assert x.shape == (0,)
    assert stats["num_steps"] == 0


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("rtol", [1e-3, 1e-5])
def test_zeros_in_vector(method, run, residual, bits, rtol):
    """The 1-d Laplacian with b = e₁ and no absolute tolerance."""
    n, dtype = 30, np.dtype(f"float{bits}")
    a = (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)).astype(dtype)
    b = np.eye(n, dtype=dtype)[0]
    x, result, _ = run(method.make(rtol, 0.0), a, b, method.tags)
    assert result == "successful"
    assert residual(a, x, b) <= rtol


def test_elementwise(method, run):
    """Elements of b that differ in size are each solved to the tolerance."""
    n = 12
    b = np.logspace(0, -2, n)
    a = np.diag(np.linspace(1, 2, n)) + 0.01 * (np.eye(n, k=1) + np.eye(n, k=-1))
    x, result, _ = run(method.make(1e-6, 0.0), a, b, method.tags)
    assert result == "successful"
    assert (np.abs(a @ x - b) <= 1e-6 * b).all()


def test_absolute_tolerance(name, method, suited, draw, run):
    a, b = suited(name, np.float64, 17), draw(np.float64, 17)
    for scale in (1.0, 1e-12, 1e12):
        x, result, loose = run(
            method.make(0.0, 1e-3 * scale), a, b * scale, method.tags
        )
        assert result == "successful"
        assert np.abs(a @ x - b * scale).max() <= 1e-3 * scale
    _, _, tight = run(method.make(0.0, 1e-9), a, b, method.tags)
    assert loose["num_steps"] < tight["num_steps"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(name, method, suited, draw, run, bad):
    n = 6
    a, b = suited(name, np.float64, n), draw(np.float64, n)
    solver = method.make(1e-6, 1e-6)
    broken = b.copy()
    broken[2] = bad
    x, result, stats = run(solver, a, broken, method.tags)
    assert result == "nonfinite_input"
    assert not np.isfinite(x).any()
    assert stats["num_steps"] == 0
    broken = a.copy()
    broken[2, 2] = bad
    for guess in ({}, {"y0": jnp.ones(n)}):
        x, result, stats = run(solver, broken, b, method.tags, **guess)
        assert result == "nonfinite_input"
        assert not np.isfinite(x).any()
        assert stats["num_steps"] <= 1


def test_step_limit(name, method, suited, draw, run):
    """Success on the last step is success; one step less is `max_steps_reached`."""
    a, b = suited(name, np.float64, 17), draw(np.float64, 17)
    make = partial(method.make, 1e-6, 0.0)
    x, result, stats = run(make(), a, b, method.tags)
    steps = int(stats["num_steps"])
    assert result == "successful"
    y, result, stats = run(make(max_steps=steps), a, b, method.tags)
    assert (result, int(stats["num_steps"])) == ("successful", steps)
    np.testing.assert_allclose(x, y)
    _, result, stats = run(make(max_steps=steps - 2), a, b, method.tags)
    assert (result, int(stats["num_steps"])) == ("max_steps_reached", steps - 2)
    _, result, stats = run(make(max_steps=0), a, b, method.tags)
    assert (result, int(stats["num_steps"])) == ("max_steps_reached", 0)


def test_default_step_limit(method, run):
    """An unreachable tolerance ends honestly, and not as `singular`."""
    n = 8
    a = np.diag(np.logspace(0, -13, n))
    _, result, stats = run(method.make(1e-15, 0.0), a, np.ones(n), method.tags)
    assert result in ("max_steps_reached", "stagnation", "conlim", "successful")
    assert stats["num_steps"] <= 10 * n


@pytest.mark.parametrize("steps", [1, 4, 60])
def test_fixed_number_of_steps(name, method, dtype, suited, draw, run, steps):
    """Both tolerances zero: exactly so many steps, also long after convergence."""
    a, b = suited(name, dtype, 11), draw(dtype, 11)
    solver = method.make(0.0, 0.0, max_steps=steps)
    x, result, stats = run(solver, a, b, method.tags)
    assert result == "successful"
    assert stats["num_steps"] == steps
    if steps == 60:
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=0, atol=500 * eps)


def test_first_guess(name, method, suited, draw, run):
    a, b = suited(name, np.float64, 17), draw(np.float64, 17)
    exact = np.linalg.solve(a, b)
    solver = method.make(1e-8, 0.0)
    _, _, cold = run(solver, a, b, method.tags)
    near = jnp.asarray(exact + 1e-5 * draw(np.float64, 17))
    x, result, warm = run(solver, a, b, method.tags, y0=near)
    assert result == "successful"
    assert warm["num_steps"] < cold["num_steps"]
    np.testing.assert_allclose(x, exact, atol=1e-6)


# Structures


def blocks(name, a, dtypes):
    """A matrix of blocks as an operator on a dictionary of two leaves."""
    split = 4
    sizes = {"a": (2, 2), "b": (a.shape[0] - split,)}
    part = {"a": slice(0, split), "b": slice(split, None)}
    pytree = {
        i: {
            j: jnp.asarray(
                a[part[i], part[j]].astype(np.result_type(dtypes[i], dtypes[j]))
            ).reshape(sizes[i] + sizes[j])
            for j in "ab"
        }
        for i in "ab"
    }
    structure = {k: jax.ShapeDtypeStruct(sizes[k], dtypes[k]) for k in "ab"}
    return lo.PyTreeLinearOperator(pytree, structure, METHODS[name].tags)


def test_pytrees(name, method, suited, draw, run):
    n = 11
    a, b = suited(name, np.float64, n), draw(np.float64, n)
    operator = blocks(name, a, {"a": np.float64, "b": np.float64})
    vector = {"a": b[:4].reshape(2, 2), "b": b[4:]}
    x, result, _ = run(method.make(1e-9, 0.0), operator, vector)
    assert result == "successful"
    assert x["a"].shape == (2, 2)
    exact = np.linalg.solve(a, b)
    np.testing.assert_allclose(np.r_[x["a"].ravel(), x["b"]], exact, atol=1e-7)


@pytest.mark.parametrize("second", ["float64", "complex64"])
def test_mixed_dtypes(name, method, suited, draw, run, second):
    """Leaves of two precisions, or one real and one complex."""
    dtypes = {"a": np.dtype("float32"), "b": np.dtype(second)}
    a = {k: suited(name, dtypes[k], 5) for k in "ab"}
    b = {k: draw(dtypes[k], 5) for k in "ab"}
    operator = lo.FunctionLinearOperator(
        lambda v: {k: jnp.asarray(a[k]) @ v[k] for k in "ab"},
        jax.tree.map(jnp.asarray, b),
        method.tags,
    )
    x, result, _ = run(method.make(1e-4, 0.0), operator, b)
    assert result == "successful"
    for k in "ab":
        assert x[k].dtype == dtypes[k]
        np.testing.assert_allclose(x[k], np.linalg.solve(a[k], b[k]), atol=5e-3)


def test_empty_leaves(name, method, suited, draw, run):
    a, b = suited(name, np.float64, 5), draw(np.float64, 5)
    vector = (jnp.zeros((0, 3)), jnp.asarray(b))
    operator = lo.FunctionLinearOperator(
        lambda v: (v[0], jnp.asarray(a) @ v[1]), vector, method.tags
    )
    x, result, _ = run(method.make(1e-9, 0.0), operator, vector)
    assert result == "successful"
    assert x[0].shape == (0, 3)
    np.testing.assert_allclose(x[1], np.linalg.solve(a, b), atol=1e-7)


@pytest.mark.parametrize("half", [jnp.float16, jnp.bfloat16])
def test_half_precision(name, method, suited, draw, half):
    """Computed in float32."""
    a = suited(name, np.float64, 8)
    b = draw(np.float64, 8)
    operator = lo.MatrixLinearOperator(jnp.asarray(a, half), method.tags)
    x, result, _ = compute(method.make(1e-3, 1e-3), operator, jnp.asarray(b, half), {})
    assert RESULT_NAMES[RESULTS[result]] == "successful"
    assert x.dtype == half
    rounded = [np.asarray(jnp.asarray(z, half), np.float64) for z in (a, b)]
    np.testing.assert_allclose(
        np.asarray(x, np.float64), np.linalg.solve(*rounded), atol=0.05
    )


def test_strict_promotion(name, method, suited, draw, run):
    a, b = suited(name, np.float32, 6), draw(np.float32, 6)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        x, result, _ = run(
            method.make(1e-4, 0.0), a, b, method.tags, y0=jnp.ones(6, jnp.float32)
        )
    assert result == "successful"
    np.testing.assert_allclose(x, np.linalg.solve(a, b), atol=5e-3)


# Transposes


def test_transpose_and_conj(name, method, suited, draw):
    """States and options, the preconditioner's included, of Aᵀ and Ā."""
    n = 9
    a, b = suited(name, np.complex128, n), draw(np.complex128, n)
    p = np.eye(n) + np.diag(np.linspace(0, 1, n))
    if name not in ("CG", "MINRES"):
        p = p + 0.1j * np.eye(n, k=1)
    operator = lo.MatrixLinearOperator(jnp.asarray(a), method.tags)
    solver = method.make(1e-9, 0.0)
    options = {
        "preconditioner": lo.MatrixLinearOperator(
            jnp.asarray(p),
            lo.positive_semidefinite_tag if name in ("CG", "MINRES") else (),
        ),
        "y0": jnp.ones(n, complex),
    }
    state = solver.init(operator, options)
    both = solver.conj(*solver.transpose(state, options))
    for (st, opts), matrix, m in (
        (solver.transpose(state, options), a.T, p.T),
        (solver.conj(state, options), a.conj(), p.conj()),
        (both, a.conj().T, p.conj().T),
    ):
        assert "y0" not in opts
        np.testing.assert_allclose(opts["preconditioner"].as_matrix(), m)
        x, result, _ = solver.compute(st, jnp.asarray(b), opts)
        assert RESULT_NAMES[RESULTS[result]] == "successful"
        np.testing.assert_allclose(x, np.linalg.solve(matrix, b), atol=1e-6)


# Preconditioners


def good_preconditioner(name, a):
    if name in ("LSMR", "LSQR"):
        return np.linalg.inv(np.linalg.qr(a)[1] + 1e-2 * np.eye(a.shape[0]))
    if name == "MINRES":
        values, vectors = np.linalg.eigh(a)
        return (vectors / (np.abs(values) + 0.01)) @ vectors.conj().T
    return np.linalg.inv(a + 0.01 * np.eye(a.shape[0]))


@pytest.mark.parametrize("factor", [1.0, 1e-6, 1e6])
def test_preconditioner(name, method, dtype, suited, draw, run, residual, factor):
    """It saves steps, whatever its scale, and the test stays that of A x = b."""
    a, b = suited(name, dtype, 17), draw(dtype, 17)
    p = jnp.asarray((factor * good_preconditioner(name, a)).astype(dtype))
    p = (p + p.conj().T) / 2 if name in ("CG", "MINRES") else p
    tags = lo.positive_semidefinite_tag if name in ("CG", "MINRES") else ()
    solver = method.make(tolerance(dtype), 0.0)
    _, _, plain = run(solver, a, b, method.tags)
    x, result, stats = run(
        solver, a, b, method.tags, preconditioner=lo.MatrixLinearOperator(p, tags)
    )
    assert result == "successful"
    assert residual(a, x, b) <= tolerance(dtype)
    assert stats["num_steps"] < plain["num_steps"]


def test_bad_options(method, name):
    operator = lo.MatrixLinearOperator(jnp.eye(3), method.tags)
    solver, b = method.make(1e-6, 1e-6), jnp.ones(3)
    with pytest.raises(ValueError, match="y0.*f64\\[4\\].*f64\\[3\\]"):
        compute(solver, operator, b, {"y0": jnp.ones(4)})
    with pytest.raises(ValueError, match="linear operator"):
        solver.init(operator, {"preconditioner": jnp.eye(3)})
    with pytest.raises(ValueError, match="input structure"):
        large = lo.IdentityLinearOperator(jnp.ones(4))
        solver.init(operator, {"preconditioner": large})
    with pytest.warns(
        UserWarning, match=f"{name}.*'preconditionner'.*'preconditioner'"
    ):
        solver.init(operator, {"preconditionner": None})
    with pytest.raises(ValueError, match=f"{name}.init"):
        solver.compute(object(), b, {})


def test_bad_arguments(method, name):
    for arguments in ((-1.0, 0.1), (0.1, -1.0), (0.0, 0.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match=name):
            method.make(*arguments)
    with pytest.raises(ValueError, match="max_steps"):
        method.make(1e-6, 1e-6, max_steps=-1)
    method.make(0.0, 0.0, max_steps=3)


def test_traced_tolerance(name, method, suited, draw):
    a, b = jnp.asarray(suited(name, np.float64, 60)), jnp.asarray(draw(np.float64, 60))
    operator = lo.MatrixLinearOperator(a, method.tags)

    @jax.jit
    def solve(rtol):
        solver = method.make(rtol, 0.0)
        return solver.compute(solver.init(operator, {}), b, {})[0]

    error = [np.abs(solve(tol) - jnp.linalg.solve(a, b)).max() for tol in (1e-3, 1e-10)]
    assert error[1] < 1e-8 < 1e-2
    assert error[1] < error[0] < 1e-1


# Products, storage, batches


class Counting(lo.AbstractLinearOperator):
    """Counts its products: as they are traced, and as they are run."""

    matrix: jax.Array
    tags: object = eqx.field(static=True)
    traced: list = eqx.field(static=True)
    ran: list = eqx.field(static=True)

    def mv(self, vector):
        self.traced.append(1)
        jax.debug.callback(lambda: self.ran.append(1))
        return self.matrix @ vector

    def as_matrix(self):
        return self.matrix

    def transpose(self):
        return Counting(self.matrix.T, self.tags, self.traced, self.ran)

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.matrix.shape[1:], self.matrix.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct(self.matrix.shape[:1], self.matrix.dtype)


@lo.is_hermitian.register(Counting)
def _(operator):
    return (
        lo.hermitian_tag in operator.tags
        or lo.positive_semidefinite_tag in operator.tags
    )


@lo.is_positive_semidefinite.register(Counting)
def _(operator):
    return lo.positive_semidefinite_tag in operator.tags


def counting(method, a):
    tags = method.tags if isinstance(method.tags, tuple) else (method.tags,)
    return Counting(jnp.asarray(a), tags, [], [])


@pytest.mark.parametrize("options", ["", "y0", "preconditioner", "both"])
def test_product_traced_once(name, method, suited, options):
    """The operator's product, and the preconditioner's, stand once in the program."""
    operator = counting(method, suited(name, np.float64, 9))
    right = Counting(
        jnp.eye(9), (lo.positive_semidefinite_tag, lo.hermitian_tag), [], []
    )
    given = {}
    if options in ("y0", "both"):
        given["y0"] = jnp.ones(9)
    if options in ("preconditioner", "both"):
        given["preconditioner"] = right
    solver = method.make(1e-6, 1e-6)
    state = solver.init(operator, given)
    jax.make_jaxpr(lambda b: solver.compute(state, b, given)[0])(jnp.ones(9))
    each = 2 if method.adjoint else 1
    assert len(operator.traced) == each
    assert len(right.traced) == (each if "preconditioner" in given else 0)


@pytest.mark.parametrize("guess", [False, True])
def test_products_run(name, method, suited, draw, guess):
    """One product a step (and one with the adjoint), one to check, one for the first
    guess."""
    operator = counting(method, suited(name, np.float64, 17))
    b = jnp.asarray(draw(np.float64, 17))
    solver = method.make(1e-8, 0.0)
    options = {"y0": jnp.ones(17)} if guess else {}
    _, result, stats = compute(solver, operator, b, options)
    jax.effects_barrier()
    assert RESULT_NAMES[RESULTS[result]] == "successful"
    each = 2 if method.adjoint else 1
    steps = int(stats["num_steps"])
    start = 1 if guess else method.start
    checks = 1
    if name == "CG":  # stabilise_every
        checks += (steps - 1) // 10
    wanted = each * (start + steps + checks)
    if "GMRES" in name:  # some checks may fail
        assert wanted <= len(operator.ran) <= wanted + 2
    else:
        assert len(operator.ran) == wanted


STORED = {  # vectors, with the product (two products) that a step makes
    "CG": 5,
    "BiCGStab": 7,
    "GMRES": 20 + 4,
    "FGMRES": 40 + 5,
    "MINRES": 8,
    "LSMR": 11,
    "LSQR": 9,
}


def test_storage(name, method):
    """What the loop carries and closes over, and its products, as documented."""
    n = 10_000
    operator = lo.FunctionLinearOperator(
        lambda x: 3 * x, jax.ShapeDtypeStruct((n,), jnp.float64), method.tags
    )
    solver = method.make(1e-6, 1e-6)
    state = solver.init(operator, {})
    jaxpr = jax.make_jaxpr(lambda b: solver.compute(state, b, {})[0])(jnp.ones(n))
    (loop,) = (e for e in jaxpr.jaxpr.eqns if e.primitive.name == "while")
    kept = {id(v): v.aval.size for v in loop.params["body_jaxpr"].jaxpr.invars}
    products = 2 if method.adjoint else 1
    assert sum(kept.values()) // n + products == STORED[name]


def test_batches(name, method, suited, draw):
    """A `vmap` over vectors shares the operator; each element ends by itself."""
    a = suited(name, np.float64, 9)
    b = draw(np.float64, 5, 9)
    b[3] = 0
    b[4, 2] = np.nan
    operator = lo.MatrixLinearOperator(jnp.asarray(a), method.tags)
    solver = method.make(1e-9, 0.0)
    state = solver.init(operator, {})
    x, good, stats = jax.vmap(_arrays(solver, state))(jnp.asarray(b))
    assert list(good) == [True] * 4 + [False]
    np.testing.assert_allclose(x[:4], np.linalg.solve(a, b[:4].T).T, atol=1e-7)
    assert stats[3] == 0
    assert (np.asarray(stats[:3]) > 1).all()


def _arrays(solver, state):
    def solve(v):
        x, result, stats = solver.compute(state, v, {})
        return x, result == RESULTS.successful, stats["num_steps"]

    return solve


def test_batched_operators(name, method, suited, draw):
    a = np.stack([suited(name, np.float64, 9) * c for c in (1, 10, 1e-3)])
    b = draw(np.float64, 3, 9)

    def solve(matrix, v):
        solver = method.make(1e-9, 0.0)
        state = solver.init(lo.MatrixLinearOperator(matrix, method.tags), {})
        return solver.compute(state, v, {})[0]

    x = jax.jit(jax.vmap(solve))(jnp.asarray(a), jnp.asarray(b))
    exact = np.linalg.solve(a, b[..., None])[..., 0]
    size = np.abs(exact).max(1, keepdims=True)
    np.testing.assert_allclose(x / size, exact / size, atol=1e-7)


# Reports


def test_history(name, method, suited, draw, run):
    """The 2-norms of the residuals, after each number of steps, as NumPy has them."""
    a, b = suited(name, np.float64, 9), 1e5 * draw(np.float64, 9)
    x, _, stats = run(method.make(1e-7, 0.0, history=True), a, b, method.tags)
    history, steps = np.asarray(stats["residuals"]), int(stats["num_steps"])
    assert history.shape == (91,)
    assert np.isnan(history[steps + 1 :]).all()
    np.testing.assert_allclose(history[0], np.linalg.norm(b))
    np.testing.assert_allclose(
        history[steps], np.linalg.norm(b - a @ x), rtol=1e-3, atol=1e-10
    )
    for k in (1, 2, 4):
        y, _, _ = run(method.make(0.0, 0.0, max_steps=k), a, b, method.tags)
        np.testing.assert_allclose(history[k], np.linalg.norm(b - a @ y), rtol=1e-6)
    _, _, stats = run(method.make(1e-7, 0.0, history=3), a, b, method.tags)
    np.testing.assert_allclose(stats["residuals"], history[:3])
    _, _, stats = run(method.make(1e-7, 0.0), a, b, method.tags)
    assert "residuals" not in stats


def test_progress(method, name, suited, draw, monkeypatch):
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
    a, b = suited(name, np.float64, 9), jnp.asarray(draw(np.float64, 9))
    operator = lo.MatrixLinearOperator(jnp.asarray(a), method.tags)
    for _ in range(2):
        _, _, stats = compute(method.make(1e-7, 0.0, progress=True), operator, b, {})
        jax.effects_barrier()
    assert len(bars) == 2
    for bar in bars:
        assert (bar.n, bar.total, bar.closed) == (int(stats["num_steps"]), 90, True)


def test_progress_needs_tqdm(method, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    operator = lo.MatrixLinearOperator(jnp.eye(2), method.tags)
    with pytest.raises(ImportError, match="lx-solvers\\[progress\\]"):
        compute(method.make(1e-7, 0.0, progress=True), operator, jnp.ones(2), {})


def test_silent(name, method, suited):
    """Nothing of a report is traced unless asked for."""
    operator = lo.MatrixLinearOperator(
        jnp.asarray(suited(name, np.float64, 5)), method.tags
    )
    solver = method.make(1e-6, 1e-6)
    state = solver.init(operator, {})
    jaxpr = jax.make_jaxpr(lambda b: solver.compute(state, b, {})[0])(jnp.ones(5))
    assert "callback" not in str(jaxpr)


# Honesty


@pytest.mark.parametrize("bits", [32, 64])
def test_success_is_true(name, method, bits, rng):
    """Over matrices of condition 1 to 1e7 in float32, 1e15 in float64: what is called a
    success has a residual within the tolerance, by NumPy."""
    dtype, n, batch = np.dtype(f"float{bits}"), 12, 24
    rtol = 1e-4 if bits == 32 else 1e-7
    worst = 7 if bits == 32 else 15
    u, _ = np.linalg.qr(rng.normal(size=(batch, n, n)))
    v, _ = np.linalg.qr(rng.normal(size=(batch, n, n)))
    v = u if method.tags or name == "BiCGStab" else v
    values = np.stack([np.logspace(0, -k, n) for k in np.linspace(0, worst, batch)])
    if name == "MINRES":
        values[:, ::2] *= -1
    a = ((u * values[:, None]) @ v.swapaxes(1, 2)).astype(dtype)
    a = (a + a.swapaxes(1, 2)) / 2 if method.tags else a
    b = rng.normal(size=(batch, n)).astype(dtype)

    def solve(matrix, vector):
        solver = method.make(rtol, 0.0)
        state = solver.init(lo.MatrixLinearOperator(matrix, method.tags), {})
        return _arrays(solver, state)(vector)

    x, good, _ = jax.jit(jax.vmap(solve))(jnp.asarray(a), jnp.asarray(b))
    good = np.asarray(good)
    wide = [np.asarray(z, np.float64) for z in (a, x, b)]
    left = np.abs(np.einsum("kij,kj->ki", *wide[:2]) - wide[2]).max(1)
    assert (left[good] <= rtol * np.abs(wide[2]).max(1)[good]).all()
    assert good[: batch // 6].all()


def test_inconsistent(name, method, spectral, draw, run):
    """A singular system that has no solution is no success, unless it is solved in the
    least-squares sense."""
    n = 12
    values = np.r_[np.linspace(1, 2, n - 2), 0, 0]
    a, b = spectral(np.float64, values), draw(np.float64, n)
    x, result, _ = run(method.make(1e-6, 0.0), a, b, method.tags)
    if method.adjoint:
        assert result == "successful"
        np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-10) @ b, atol=1e-5)
    else:
        assert result != "successful"


def test_sizes_are_kept():
    """An array of several axes is not reshaped: that would move a sharded one."""
    structure = jax.ShapeDtypeStruct((4, 5), jnp.float32)
    operator = lo.FunctionLinearOperator(lambda x: 2 * x, structure)
    assert spaces(operator)[0].shape == (4, 5)


def test_arrays_of_several_axes(name, method, run):
    structure = jax.ShapeDtypeStruct((4, 5), jnp.float64)
    weight = jnp.arange(1.0, 21.0).reshape(4, 5)
    operator = lo.FunctionLinearOperator(lambda x: weight * x, structure, method.tags)
    solver = method.make(1e-9, 0.0, norm=max_norm)
    x, result, _ = run(solver, operator, np.ones((4, 5)))
    assert result == "successful"
    np.testing.assert_allclose(x, 1 / weight, atol=1e-8)
    state = solver.init(operator, {})
    jaxpr = jax.make_jaxpr(lambda b: solver.compute(state, b, {})[0])(jnp.ones((4, 5)))
    assert "reshape" not in str(jaxpr)
