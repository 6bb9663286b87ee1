"""The laws of all iterative solvers, each on matrices such as it is made for."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS

from .conftest import PSD, N, compute, each_loop, outcome, stable, tolerance
from .counting import traced_solve


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


@pytest.mark.parametrize("exponent", [-300, 0, 300])
def test_constant_vector(name, method, suited, exponent):
    """XLA knows a vector that is a constant of the program, and may reorder products
    of its elements, of which squares are out of range."""
    a = suited(name, np.dtype("float64"))
    size = 10.0**exponent
    solver = method.make(1e-10, 0.0)

    @jax.jit
    def solve(a):
        vector = jnp.full(N, size)
        operator = lo.MatrixLinearOperator(a, method.tags)
        return solver.compute(solver.init(operator, {}), vector, {})[:2]

    x, result = solve(jnp.asarray(a))
    assert result == RESULTS.successful
    expected = np.linalg.solve(a, np.ones(N))
    np.testing.assert_allclose(x / size, expected, rtol=1e-6)


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


def test_members_of_a_batch(name, method, suited, spectral, draw):
    """Each ends as it does alone, however long the others take: b = 0, the identity, a
    matrix that is not finite, one of zeros, and two that take many more steps."""
    a, b = suited(name, np.float64), draw(np.float64, 6, N)
    slow = spectral(np.float64, np.geomspace(1e-4, 1, N))
    bad = np.where(np.arange(N) == 2, np.nan, a)
    matrices = np.stack([slow, np.eye(N), bad, np.zeros_like(a), a, slow])
    b[0] = 0
    solver = method.make(1e-8, 0.0)

    def solve(a, b):
        state = solver.init(lo.MatrixLinearOperator(a, method.tags), {})
        x, result, stats = solver.compute(state, b, {})
        return x, result._value, stats["num_steps"], stats["backward_error"]

    batch = jax.jit(jax.vmap(solve))(matrices, b)
    alone = jax.jit(solve)
    for k, (x, result, steps, error) in enumerate(zip(*batch, strict=True)):
        y, wanted, count, backward = alone(matrices[k], b[k])
        assert result == wanted
        assert abs(steps - count) <= 2
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6 / 1e-4)
        np.testing.assert_allclose(error, backward, rtol=0.5, atol=1e-9)


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
