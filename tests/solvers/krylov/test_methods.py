"""The laws of all iterative solvers, each on matrices such as it is made for."""

import sys
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_operators.internal import max_norm
from lx_solvers import RESULTS
from lx_solvers.krylov._spaces import spaces
from lx_solvers.krylov._tolerances import Tolerances

from .conftest import PSD, N, compute, each_loop, outcome, stable, tolerance


def laplacian(dtype):
    a = 2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)
    return a.astype(dtype)


def identity(dtype=np.float64):
    """A preconditioner that does nothing."""
    return lo.MatrixLinearOperator(jnp.eye(N, dtype=dtype), PSD)


# Every dtype


def test_solves(name, dtype, method, suited, draw, run, residual):
    a, b = suited(name, dtype), draw(dtype, N)
    tol = tolerance(dtype)
    x, result, _, _ = run(method.make(tol, 0.0), a, b, method.tags)
    assert result == "successful"
    assert residual(a, x, b) <= tol
    assert x.dtype == dtype
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=0, atol=50 * tol)


def test_scale_invariance(name, dtype, method, suited, draw, run):
    """Scaling A and b by powers of two changes nothing but the scale of x."""
    a, b = suited(name, dtype), draw(dtype, N)
    solver = method.make(tolerance(dtype), 0.0)
    x, result, steps, _ = run(solver, a, b, method.tags)
    assert result == "successful"
    single = np.finfo(dtype).bits == 32
    for of_a, of_b in [(-100, -100), (66, 33), (-66, 33), (0, -99), (0, 66), (100, 66)]:
        scaled = a * dtype.type(2.0**of_a), b * dtype.type(2.0**of_b)
        y, result, again, _ = run(solver, *scaled, method.tags)
        assert result == "successful", (of_a, of_b)
        y = y * dtype.type(2.0 ** (of_a - of_b))
        close = 1e-5 if single else 1e-5 * 2**-29
        np.testing.assert_allclose(y, x, rtol=0, atol=close)
        assert abs(again - steps) <= 1


def test_trivial(name, dtype, method, suited, draw, run):
    """b = 0, and multiples of the identity."""
    a, b = suited(name, dtype), draw(dtype, N)
    solver = method.make(10 * tolerance(dtype), 0.0)
    x, result, steps, _ = run(solver, a, np.zeros_like(b), method.tags)
    assert (result, steps) == ("successful", 0)
    assert not x.any()
    for c in (3, 1e-3):
        multiple = (c * np.eye(N)).astype(dtype)
        x, result, steps, _ = run(solver, multiple, b, method.tags)
        assert result == "successful"
        assert steps <= 2 + (name == "CG, at once")  # whose first moves nothing
        np.testing.assert_allclose(x, b / c, rtol=20 * np.finfo(dtype).eps)


def test_beyond_the_largest_number(name, dtype, method, run):
    """A solution that overflows is no success, though its residual was small."""
    tiny = np.finfo(dtype).tiny
    a, b = (8 * tiny * np.eye(N)).astype(dtype), np.full(N, 100, dtype)
    _, result, _, _ = run(method.make(tolerance(dtype), 0.0), a, b, method.tags)
    assert result != "successful"


def test_fixed_number_of_steps(name, dtype, method, suited, draw, run):
    """Both tolerances zero: exactly so many steps, also long after convergence."""
    a, b = suited(name, dtype), draw(dtype, N)
    for steps in (1, 4, 60):
        solver = method.make(0.0, 0.0, max_steps=steps)
        x, *end, _ = run(solver, a, b, method.tags)
        assert end == ["successful", steps]
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=0, atol=500 * eps)


def test_zeros_in_vector(name, dtype, method, run, residual):
    """The 1-d Laplacian with b = e₁ and no absolute tolerance."""
    a, b = laplacian(dtype), np.eye(N, dtype=dtype)[0]
    for rtol in (1e-3, 1e-5):
        x, result, _, _ = run(method.make(rtol, 0.0), a, b, method.tags)
        assert result == "successful"
        assert residual(a, x, b) <= rtol


def test_not_finite(name, dtype, method, suited, draw, run):
    a, b = suited(name, dtype), draw(dtype, N)
    solver = method.make(1e-3, 1e-3)
    for bad in (np.nan, np.inf):
        broken = b.copy()
        broken[2] = bad
        x, *end, _ = run(solver, a, broken, method.tags)
        assert end == ["nonfinite_input", 0]
        assert not np.isfinite(x).any()
        broken = a.copy()
        broken[2, 2] = bad
        x, result, steps, _ = run(solver, broken, b, method.tags)
        assert result == "nonfinite_input"
        assert not np.isfinite(x).any()
        assert steps <= 1
        _, result, _, _ = run(solver, broken, np.zeros_like(b), method.tags)
        assert result == "nonfinite_input"


@each_loop
def test_not_finite_among_many(name, method, suited, draw):
    """In a batch of so many elements that XLA's maximum drops NaNs; b is zero in half
    of the systems."""
    solver, k = method.make(1e-3, 0.0), 1000
    a, b = np.tile(suited(name, np.float32), (k, 1, 1)), draw(np.float32, k, N)
    b[::2] = 0
    bad = np.arange(k) % 5 == 0
    a[bad, 2, 2] = np.nan

    @jax.jit
    @jax.vmap
    def ends(a, b):
        state = solver.init(lo.MatrixLinearOperator(a, method.tags), {})
        return solver.compute(state, b, {})[1]

    results = ends(a, b)
    np.testing.assert_array_equal(results == RESULTS.successful, ~bad)
    np.testing.assert_array_equal(results == RESULTS.nonfinite_input, bad)


# Tolerances and limits


def test_elementwise(name, method, run):
    """Elements of b that differ in size are each solved to the tolerance."""
    b = np.logspace(0, -2, N)
    a = np.diag(np.linspace(1, 2, N)) + 0.01 * (np.eye(N, k=1) + np.eye(N, k=-1))
    x, result, _, _ = run(method.make(1e-6, 0.0), a, b, method.tags)
    assert result == "successful"
    assert (np.abs(a @ x - b) <= 1e-6 * b).all()


def test_absolute_tolerance(name, method, suited, draw, run):
    a, b = suited(name, np.float64), draw(np.float64, N)
    for scale in (1.0, 1e-12, 1e12):
        solver = method.make(0.0, 1e-3 * scale)
        x, result, loose, _ = run(solver, a, b * scale, method.tags)
        assert result == "successful"
        assert np.abs(a @ x - b * scale).max() <= 1e-3 * scale
    assert loose < run(method.make(0.0, 1e-9), a, b, method.tags).steps


def test_step_limit(name, method, suited, draw, run):
    """Success on the last step is success; one step less is `max_steps_reached`."""
    a, b = suited(name, np.float64), draw(np.float64, N)

    def limited(max_steps=None):
        solver = method.make(1e-6, 0.0, max_steps=max_steps)
        return run(solver, a, b, method.tags)

    x, result, steps, _ = limited()
    assert result == "successful"
    y, *end, _ = limited(steps)
    assert end == ["successful", steps]
    np.testing.assert_allclose(x, y)
    for fewer in (steps // 2, 0):
        _, *end, stats = limited(fewer)
        assert end == ["max_steps_reached", fewer]
        assert stats["max_steps"] == fewer


def test_unreachable_tolerance(name, method, run):
    """It ends honestly, and not as `singular`."""
    a, b, eps = np.diag(np.logspace(0, -13, N)), np.ones(N), 2.0**-52
    x, result, steps, _ = run(method.make(1e-15, 0.0), a, b, method.tags)
    assert result != "breakdown"
    if result == "singular":
        assert eps * np.linalg.norm(x) > 0.01
    assert steps <= 10 * N
    if result == "successful":
        assert stable(a, x, b)
    # a step limit that is the default one, and used up
    _, *end, _ = run(method.make(1e-9, 0.0, max_steps=2), a, b, method.tags)
    assert end == ["max_steps_reached", 2]


def test_inconsistent(name, method, spectral, draw, run):
    """A singular system that has no solution is no success, unless it is solved in the
    least-squares sense."""
    values = np.r_[np.linspace(1, 2, N - 2), 0, 0]
    a, b = spectral(np.float64, values), draw(np.float64, N)
    x, result, _, _ = run(method.make(1e-6, 0.0), a, b, method.tags)
    if method.adjoint:
        assert result == "successful"
        np.testing.assert_allclose(x, np.linalg.pinv(a, 1e-10) @ b, atol=1e-5)
    else:
        assert result != "successful"


# Options


def test_first_guess(name, method, suited, draw, run):
    a, b = suited(name, np.float64), draw(np.float64, N)
    exact = np.linalg.solve(a, b)

    def guessed(y0, a=a, b=b):
        options = {"y0": jnp.asarray(y0), "preconditioner": identity()}
        return run(method.make(1e-8, 0.0), a, b, method.tags, **options)

    cold = guessed(np.zeros(N))
    x, result, warm, _ = guessed(exact + 1e-5 * draw(np.float64, N))
    assert result == "successful"
    # its error falls at the end of the space, from whatever guess
    assert warm < cold.steps or (name == "SYMMLQ" and warm == cold.steps)
    np.testing.assert_allclose(x, exact, atol=1e-6)
    # at the solution already
    x, *end, _ = guessed(exact)
    assert end == ["successful", 0]
    np.testing.assert_allclose(x, exact)
    # of a system whose solution is zero
    x, *end, _ = guessed(exact, b=np.zeros(N))
    assert end == ["successful", 0]
    assert not x.any()
    # of a system that is not one
    broken = np.where(np.arange(N) == 2, np.nan, a)
    x, result, steps, _ = guessed(np.ones(N), a=broken)
    assert result == "nonfinite_input"
    assert not np.isfinite(x).any()
    assert steps <= 1


def definite(name):
    """The tags of a preconditioner."""
    if name == "COCG":
        return lo.symmetric_tag
    return PSD if name in ("CG", "CG, at once", "MINRES", "SYMMLQ") else ()


def good_preconditioner(name, a):
    if name in ("LSMR", "LSQR"):
        return np.linalg.inv(np.linalg.qr(a)[1] + 1e-2 * np.eye(N))
    if name in ("MINRES", "SYMMLQ"):
        values, vectors = np.linalg.eigh(a)
        return (vectors / (np.abs(values) + 0.01)) @ vectors.conj().T
    p = np.linalg.inv(a + 0.01 * np.eye(N))
    return (p + p.T) / 2 if name in ("CG", "CG, at once", "COCG") else p


def test_preconditioner(name, method, suited, draw, run, residual):
    """It saves steps, whatever its scale, and the test stays that of A x = b."""
    a, b = suited(name, np.float64), draw(np.float64, N)
    good, tol = good_preconditioner(name, a), 1e-9

    def preconditioned(p):
        options = {
            "preconditioner": lo.MatrixLinearOperator(jnp.asarray(p), definite(name)),
            "y0": jnp.zeros(N),
        }
        return run(method.make(tol, 0.0), a, b, method.tags, **options)

    plain = preconditioned(np.eye(N))
    for factor in (1.0, 1e-6, 1e6):
        x, result, steps, _ = preconditioned(factor * good)
        assert result == "successful"
        assert residual(a, x, b) <= tol
        assert steps < plain.steps


@each_loop
def test_transpose_and_conj(name, method, suited, draw):
    """States and options, the preconditioner's included, of Aᵀ and Ā; of a complex
    operator with a real preconditioner."""
    a, b = suited(name, np.complex128), jnp.asarray(draw(np.complex128, N))
    p = np.eye(N) + np.diag(np.linspace(0, 1, N))
    if not definite(name):
        p = p + 0.1 * np.eye(N, k=1)
    operator = lo.MatrixLinearOperator(jnp.asarray(a), method.tags)
    solver = method.make(1e-9, 0.0)
    options = {
        "preconditioner": lo.MatrixLinearOperator(jnp.asarray(p), definite(name)),
        "y0": jnp.ones(N, complex),
    }
    state = solver.init(operator, options)
    both = solver.conj(*solver.transpose(state, options))
    for (st, opts), matrix, m in (
        (solver.transpose(state, options), a.T, p.T),
        (solver.conj(state, options), a.conj(), p),
        (both, a.conj().T, p.T),
    ):
        assert "y0" not in opts
        M = opts.get("preconditioner") or st.left  # of a transposed problem
        np.testing.assert_allclose(M.as_matrix(), m)
        with jax.numpy_dtype_promotion("standard"):
            x, result, _, _ = outcome(*compute(solver, st, b, opts))
        assert result == "successful"
        np.testing.assert_allclose(x, np.linalg.solve(matrix, b), atol=1e-6)


@each_loop
def test_double_precision_disabled(name, method):
    """Nothing is promoted, and nothing fails, where there is no float64."""
    jax.config.update("jax_enable_x64", False)
    try:
        operator = lo.MatrixLinearOperator(jnp.eye(5), method.tags)
        program = str(traced_solve(method.make(1e-4, 0.0), operator))
    finally:
        jax.config.update("jax_enable_x64", True)
    assert "f32[5]" in program
    assert "64[" not in program


def test_bad_options(name, method):
    operator = lo.MatrixLinearOperator(jnp.eye(3), method.tags)
    solver, b = method.make(1e-6, 1e-6), jnp.ones(3)
    state = solver.init(operator, {})
    with pytest.raises(ValueError, match="y0.*f64\\[4\\].*f64\\[3\\]"):
        solver.compute(state, b, {"y0": jnp.ones(4)})
    with pytest.raises(ValueError, match="linear operator"):
        solver.init(operator, {"preconditioner": jnp.eye(3)})
    with pytest.raises(ValueError, match="input structure"):
        large = lo.IdentityLinearOperator(jnp.ones(4))
        solver.init(operator, {"preconditioner": large})
    said = name.split(",")[0]
    with pytest.warns(UserWarning, match=f"{said}.*'preconditionner'.*'precondit.+er'"):
        solver.init(operator, {"preconditionner": None})
    with pytest.raises(ValueError, match=f"{said}.init"):
        solver.compute(object(), b, {})
    with pytest.raises(ValueError, match="f64\\[4\\].*state.*f64\\[3\\]"):
        solver.compute(state, jnp.ones(4), {})


def test_bad_arguments(name, method):
    for arguments in ((-1.0, 0.1), (0.1, -1.0), (0.0, 0.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match=name.split(",")[0]):
            method.make(*arguments)
    with pytest.raises(ValueError, match="max_steps"):
        method.make(1e-6, 1e-6, max_steps=-1)
    method.make(0.0, 0.0, max_steps=3)


# Structures


@each_loop
def test_elements_are_tested_near_the_end(name, method, suited, draw, run, monkeypatch):
    """A pass of the loop over all elements, which not every step makes."""
    tests = []

    def counted(goal, relative):
        jax.debug.callback(tests.append, goal.rtol)
        return norm(goal, relative)

    norm = Tolerances._norm
    monkeypatch.setattr(Tolerances, "_norm", counted)
    dtype = np.dtype(np.float64)
    a, b = suited(name, dtype, 23), draw(dtype, 23)  # which is compiled nowhere else
    _, result, steps, _ = run(method.make(1e-9, 0.0), a, b, method.tags)
    jax.effects_barrier()
    assert result == "successful"
    assert 1 <= len(tests) <= 3 + steps / 2, (len(tests), steps)


@each_loop
def test_norm_of_another_dtype(name, method, suited, draw, run, residual):
    def norm(tree):
        leaves = [jnp.sum(x.astype(np.float64) ** 2) for x in jax.tree.leaves(tree)]
        return jnp.sqrt(sum(leaves))

    dtype = np.dtype(np.float32)
    a, b = suited(name, dtype), draw(dtype, N)
    x, result, _, _ = run(method.make(1e-4, 0.0, norm=norm), a, b, method.tags)
    assert result == "successful"
    assert x.dtype == dtype
    assert residual(a, x, b) <= 1e-4


@each_loop
def test_squares_that_overflow(name, method, suited, draw, run):
    """A residual far above b that passes by `atol` alone is seen to do so, and one that
    does not is no success."""
    dtype = np.dtype(np.float32)
    a, b = suited(name, dtype), 1e-25 * draw(dtype, N)
    for size in (1.0, 1e3):
        y0 = jnp.asarray(size * draw(dtype, N))
        solver = method.make(1e-5, 1e-3)
        x, result, _, _ = run(solver, a, b, method.tags, y0=y0)
        if result == "successful":
            assert np.abs(a @ x - b).max() <= 2e-3
        else:
            assert name not in ("MINRES", "LSMR"), result


@each_loop
def test_one_unknown(name, method, run):
    a, b = np.array([[2.0]]), np.array([3.0])
    x, result, steps, _ = run(method.make(1e-9, 0.0), a, b, method.tags)
    assert result == "successful"
    assert steps <= 2
    np.testing.assert_allclose(x, b / 2)


@each_loop
def test_empty(name, method, run):
    a, b = np.zeros((0, 0)), np.zeros(0)
    x, *end, _ = run(method.make(1e-6, 1e-6), a, b, method.tags)
    assert end == ["successful", 0]
    assert x.shape == (0,)


@each_loop
def test_pytrees(name, method, suited, draw, run):
    """Leaves of two shapes and of two precisions."""
    a, b = suited(name, np.float64), draw(np.float64, N)
    sizes, dtypes = {"a": (2, 2), "b": (N - 4,)}, {"a": np.float32, "b": np.float64}
    part = {"a": slice(0, 4), "b": slice(4, None)}
    blocks = {
        i: {
            j: jnp.asarray(a[part[i], part[j]].reshape(sizes[i] + sizes[j]), dtypes[j])
            for j in "ab"
        }
        for i in "ab"
    }
    structure = {k: jax.ShapeDtypeStruct(sizes[k], dtypes[k]) for k in "ab"}
    operator = lo.PyTreeLinearOperator(blocks, structure, method.tags)
    vector = {k: b[part[k]].reshape(sizes[k]).astype(dtypes[k]) for k in "ab"}
    x, result, _, _ = run(method.make(1e-5, 0.0), operator, vector)
    assert result == "successful"
    exact = np.linalg.solve(a, b)
    for k in "ab":
        assert x[k].dtype == dtypes[k]
        wanted = exact[part[k]].reshape(sizes[k])
        np.testing.assert_allclose(x[k], wanted, atol=1e-4)


@each_loop
def test_mixed_dtypes(name, method, suited, draw, run):
    """A real leaf beside a complex and an empty one."""
    dtypes = {"a": np.dtype("float64"), "b": np.dtype("complex64")}
    a = {k: suited(name, dtypes[k], 5) for k in "ab"}
    b = {k: draw(dtypes[k], 5) for k in "ab"} | {"c": np.zeros((0, 3))}

    def fn(v):
        return {k: jnp.asarray(a[k]) @ v[k] for k in "ab"} | {"c": v["c"]}

    operator = lo.FunctionLinearOperator(fn, jax.tree.map(jnp.asarray, b), method.tags)
    x, result, _, _ = run(method.make(1e-4, 0.0), operator, b)
    assert result == "successful"
    assert x["c"].shape == (0, 3)
    for k in "ab":
        assert x[k].dtype == dtypes[k]
        np.testing.assert_allclose(x[k], np.linalg.solve(a[k], b[k]), atol=5e-3)


@each_loop
def test_half_precision(name, method, suited, draw, run):
    """Computed in float32; of two axes, which are kept."""
    half = jnp.bfloat16 if method.adjoint else jnp.float16
    a, b = (jnp.asarray(z, half) for z in (suited(name, float), draw(float, N)))
    structure = jax.ShapeDtypeStruct((4, 4), half)
    a = a.reshape(4, 4, 4, 4)
    operator = lo.PyTreeLinearOperator(a, structure, method.tags)
    with jax.numpy_dtype_promotion("standard"):  # else products are in half precision
        x, result, _, _ = run(method.make(1e-3, 1e-3), operator, b.reshape(4, 4))
    assert result == "successful"
    assert x.dtype == half
    assert x.shape == (4, 4)
    a, b, x = (np.asarray(z, np.float64) for z in (a, b, x))
    exact = np.linalg.solve(a.reshape(N, N), b.reshape(N))
    np.testing.assert_allclose(x.reshape(N), exact, atol=0.05)


def test_arrays_of_several_axes(name, method):
    """They are not reshaped: that would move a sharded one."""
    structure = jax.ShapeDtypeStruct((4, 5), jnp.float64)
    operator = lo.FunctionLinearOperator(lambda x: 2 * x, structure, method.tags)
    assert spaces(operator)[0].shape == (4, 5)
    solver = method.make(1e-9, 0.0, norm=max_norm)
    assert "reshape" not in str(traced_solve(solver, operator))


def traced_solve(solver, operator, options=None):
    """The program of a solve, without running it."""
    options = {} if options is None else options
    state = solver.init(operator, options)

    def solve(b):
        return solver.compute(state, b, options)[0]

    return jax.make_jaxpr(solve)(operator.out_structure())


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
    return bool({lo.hermitian_tag, PSD} & set(operator.tags))


@lo.is_symmetric.register(Counting)
def _(operator):
    return lo.symmetric_tag in operator.tags


@lo.is_positive_semidefinite.register(Counting)
def _(operator):
    return PSD in operator.tags


def counting(method, a):
    tags = method.tags if isinstance(method.tags, tuple) else (method.tags,)
    return Counting(jnp.asarray(a), tags, [], [])


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


def products_run(name, method, a, b, options):
    """One product a step (and one with the adjoint), one to check; what is counted and
    limited are steps. Returns how many there are beyond that."""
    operator = counting(method, a)
    solver = method.make(1e-8, 0.0)
    state = solver.init(operator, options)
    _, result, steps, _ = outcome(*compute(solver, state, jnp.asarray(b), options))
    jax.effects_barrier()
    assert result == "successful"
    replaced = (steps - 1) // 10 if name.startswith("CG") else 0  # stabilise_every
    each = 2 if method.adjoint else 1
    return len(operator.ran) / each - steps - replaced - 1


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


# Reports


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
