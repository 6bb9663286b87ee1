"""The normal equations."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
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


@eqx.filter_jit
def again(solver, state, vector, options):
    return solver.compute(state, vector, options)


def traced(solver, size):
    """The numbers of a solver as arrays, so that one compilation serves them all; but
    no damping stays none."""
    inner, damp = solver.inner_solver, solver.damp
    if isinstance(inner, CG) and not inner.history:
        limit = 10 * size if inner.max_steps is None else inner.max_steps
        numbers = inner.rtol, inner.atol, limit
        rtol, atol, limit = map(jnp.asarray, numbers)
        inner = CG(rtol, atol, max_steps=limit)
    damp = jnp.asarray(damp) if not isinstance(damp, float) or damp else 0.0
    return Normal(inner, damp=damp)


def run(solver, a, b, **options):
    operator = lo.MatrixLinearOperator(jnp.asarray(a))
    solver = traced(solver, min(a.shape))
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
def test_first_guess_far_off(system, shape):
    """A first guess whose rounding errors exceed b is no guess: as from zero. One that
    is not a number is told."""
    a, b = system("float64", shape)
    solver = Normal(CG(1e-9, 0.0))
    m = lo.MatrixLinearOperator(jnp.asarray(np.linalg.pinv(a)))
    wide = {"preconditioner": m} if shape[0] < shape[1] else {}
    cold, _, plain = run(solver, a, b, y0=jnp.zeros(shape[1]), **wide)
    for size in (1e20, 1e100, 1e200, 1e308):
        y0 = jnp.full(shape[1], size)
        x, text, stats = run(solver, a, b, y0=y0, **wide)
        assert text == "" and stats["num_steps"] == plain["num_steps"]
        np.testing.assert_allclose(x, cold, rtol=1e-13)
    _, text, _ = run(solver, a, b, y0=y0.at[1].set(jnp.nan), **wide)
    assert "NaN" in text


@pytest.mark.parametrize("shape", SHAPES)
def test_transpose_and_conj(system, shape):
    a, _ = system("complex128", shape)
    pinv = np.linalg.pinv(a)
    solver = traced(Normal(CG(1e-10, 0.0)), min(shape))
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
        x, result, _ = again(solver, st, jnp.asarray(b), opts)
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


def least_squares(a, b, rank, damp=0.0):
    """The pseudoinverse solution, in double precision and at the scale of one."""
    u, s, vh = np.linalg.svd(a, full_matrices=False)
    u, s, vh = u[:, :rank], s[:rank], vh[:rank]
    return vh.conj().T @ (s / (s**2 + damp**2) * (u.conj().T @ b))


EXTREMES = [("float32", 1e30), ("complex64", 1e-30), ("float64", 1e-200)]


@pytest.mark.parametrize("dtype, scale", EXTREMES)
@pytest.mark.parametrize("shape", [(6, 6), (9, 5), (5, 9), (1, 1)], ids=str)
@pytest.mark.parametrize("inner", ["CG", "Cholesky"])
def test_every_size_and_rank(rng, dtype, scale, shape, inner):
    """Where the squares of A's elements are out of range. Success is claimed of no
    wrong solution; of all that are consistent or tall by CG, and of all of full rank
    by Cholesky."""
    tol = 1e-4 if np.finfo(dtype).bits == 32 else 1e-9
    solver = Normal(CG(tol, 0.0) if inner == "CG" else Cholesky())
    (m, n), full = shape, min(shape)
    for rank in {full, full // 2, 0}:
        for consistent in (True, False):
            a = rng.normal(size=(m, rank)) @ rng.normal(size=(rank, n))
            if np.dtype(dtype).kind == "c":
                a = a * (1 + 0.5j)
            b = a @ rng.normal(size=n) if consistent else rng.normal(size=m)
            for size_a, size_b in ((scale, 1.0), (1.0, scale), (scale, scale)):
                x, text, _ = run(
                    solver, (a * size_a).astype(dtype), (b * size_b).astype(dtype)
                )
                exact = least_squares(a, b, rank)
                with np.errstate(all="ignore"):
                    x = x.astype(complex) * size_a / size_b
                right = np.abs(x - exact).max() <= 1e3 * tol * np.abs(exact).max()
                assert right or text != ""
                if rank == full or inner == "CG" and (consistent or m >= n):
                    assert text == ""


@pytest.mark.parametrize("shape", [(6, 6), (9, 5)], ids=str)
def test_rank_deficiency_is_told(rng, shape):
    """Also for a square operator, whose residual vanishes if it is nonsingular."""
    m, n = shape
    a = rng.normal(size=(m, 3)) @ rng.normal(size=(3, n))
    solver = Normal(CG(1e-9, 0.0))
    for vector, deficient in ((rng.normal(size=m), True), (a @ np.ones(n), False)):
        x, text, stats = run(solver, a, vector)
        assert text == ""
        np.testing.assert_allclose(x, least_squares(a, vector, 3), atol=1e-8)
        assert stats["backward_error"] <= 1e-9
        if m == n:
            assert bool(stats["rank_deficient"]) == deficient
        else:
            assert "rank_deficient" not in stats


@pytest.mark.parametrize("inner", [Cholesky(), CG(1e-10, 1e-12)], ids=["direct", "CG"])
def test_gauss_newton(inner):
    """As it converges, b tends to be orthogonal to the range of A, and rounding limits
    what can be asked of Aᴴr."""
    t, solver = np.linspace(0, 3, 30), Normal(inner)
    noise = 0.1 * np.random.default_rng(0).normal(size=30)
    y, p = 1.1 * np.exp(-0.9 * t) + 0.3 + noise, np.array([1.0, 1.0, 0.0])
    for _ in range(14):
        e = np.exp(-p[1] * t)
        a, b = np.stack([e, -p[0] * t * e, np.ones_like(t)], 1), y - p[0] * e - p[2]
        x, text, stats = run(solver, a, b)
        assert text == ""
        assert stats["backward_error"] <= 32 * np.finfo(float).eps
        angle = np.linalg.norm(a.T @ b) / np.linalg.norm(b)
        exact = np.linalg.lstsq(a, b)[0]
        error = np.linalg.norm(x - exact)
        assert error <= 1e3 * np.finfo(float).eps / angle * np.linalg.norm(exact)
        p = p + exact
    assert angle < 1e-13


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_residuals(rng, dtype):
    """‖A‖‖x‖ is much larger than ‖r‖: Aᴴr is no smaller than the rounding errors of
    the former."""
    a, x = rng.normal(size=(30, 6)), rng.normal(size=6)
    for noise in (1e-2, 1e-4, 1e-6):
        b = a @ x + noise * rng.normal(size=30)
        for inner in (CG(1e-5, 0.0), Cholesky()):
            got, text, _ = run(Normal(inner), a.astype(dtype), b.astype(dtype))
            assert text == ""
            np.testing.assert_allclose(got, np.linalg.lstsq(a, b)[0], atol=1e-4)


def test_tolerance_below_rounding(rng):
    """Condition 1e11: success is claimed only of what is backward stable."""
    solved = 0
    for n in (2, 6):
        for s in 2 * (np.geomspace(1, 1e-11, n), np.r_[np.ones(n - 1), 1e-11]):
            for shape in ((n, n), (n + 3, n), (n, n + 3)):
                u, v = (np.linalg.qr(rng.normal(size=(k, n)))[0] for k in shape)
                a = (u * s) @ v.T
                b = a @ rng.normal(size=shape[1])
                x, text, stats = run(Normal(CG(1e-12, 1e-12)), a, b)
                left = np.linalg.norm(b - a @ x)
                size = np.linalg.norm(x) + np.linalg.norm(b)
                allowed = 1e-12 * np.linalg.norm(b) + 1e-12 * shape[0] ** 0.5
                assert text != "" or left <= max(allowed, 1e-14 * size) * 1.1
                solved += text == ""
    assert solved >= 16


def test_direct_solvers_are_not_told_of_tolerances(rng):
    u, v = np.linalg.qr(rng.normal(size=(9, 5)))[0], np.linalg.qr(np.eye(5) + 1)[0]
    for condition in (1e6, 1e8, 1e10):
        a = (u * np.geomspace(1, 1 / condition, 5)) @ v.T
        _, text, _ = run(Normal(Cholesky()), a, a @ np.ones(5) + 0.1 * u[:, 0])
        assert "rtol" not in text and "restart" not in text
    _, text, _ = run(Normal(Cholesky()), np.ones((9, 5)), np.arange(9.0))
    assert "singular" in text and "GMRES" not in text


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inner", [CG(1e-11, 0.0), Cholesky()], ids=["CG", "direct"])
def test_damping(system, shape, inner):
    for scale, dtype in ((1.0, "complex128"), (1e150, "float64"), (1e-160, "float64")):
        a, b = system(dtype, shape, condition=30)
        for damp in (1e-3, 0.5, 1e3, 1e12):
            solver = Normal(inner, damp=jnp.asarray(damp * scale))  # compiled once
            x, text, _ = run(solver, a * scale, b * scale)
            assert text == ""
            exact = least_squares(a, b, min(shape), damp)
            np.testing.assert_allclose(x, exact, rtol=0, atol=1e-9 * abs(exact).max())
    # of deficient rank as well, by factors too
    low = a[:, :3] @ a[:3]
    x, text, _ = run(Normal(inner, damp=0.5), low, b)
    assert text == ""
    np.testing.assert_allclose(x, least_squares(low, b, 3, 0.5), atol=1e-8)


def test_damping_is_an_array_like_any(system):
    a, b = system("float64", (20, 12), condition=30)
    operator = lo.MatrixLinearOperator(jnp.asarray(a))

    def solve(damp, vector):
        solver = Normal(CG(1e-11, 0.0), damp=damp)
        return solver.compute(solver.init(operator, {}), vector, {})

    damps = jnp.array([0.0, 0.1, 2.0])
    x, _, _ = jax.jit(jax.vmap(solve, (0, None)))(damps, jnp.asarray(b))
    wanted = [least_squares(a, b, 12, float(damp)) for damp in damps]
    np.testing.assert_allclose(x, wanted, atol=1e-9)
    # the transpose, and the conjugate
    solver = Normal(Cholesky(), damp=0.7)
    state, options = solver.transpose(solver.init(operator, {}), {})
    x, _, _ = solver.compute(state, jnp.ones(12), options)
    np.testing.assert_allclose(x, least_squares(a.T, np.ones(12), 12, 0.7), atol=1e-12)
    with pytest.raises(ValueError, match="damp"):
        Normal(CG(), damp=-1.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("damp", [0.0, 0.5])
def test_zero_gives_exactly_zero(system, shape, damp):
    a, _ = system("float64", shape)
    for inner in (CG(1e-9, 0.0), CG(0.0, 0.0, max_steps=3), Cholesky()):
        x, text, _ = run(Normal(inner, damp=damp), a, np.zeros(shape[0]))
        assert text == ""
        np.testing.assert_array_equal(x, np.zeros(shape[1]))


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
    assert stats["residuals"].shape == (10,)
    for scale in (1.0, 1e10):
        _, _, stats = run(Normal(CG(1e-6, 0.0, history=10, max_steps=2)), a * scale, b)
        wanted = np.linalg.norm(a.T @ b) * scale
        assert float(stats["residuals"][0]) == pytest.approx(wanted)


def test_demands(system):
    operator = lo.MatrixLinearOperator(jnp.ones((4, 3)))
    solver = Normal(CG(1e-6, 1e-6))
    with pytest.raises(ValueError, match="preconditioner.*f64\\[3\\].*f64\\[4\\]"):
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
    # CG solves singular normal equations as well, unless they are damped
    assert not Normal(CG()).assume_full_rank()
    assert Normal(Cholesky()).assume_full_rank()
    assert Normal(CG(), damp=0.1).assume_full_rank()


def test_former_name():
    with pytest.warns(DeprecationWarning, match="Normal\\(CG") as caught:
        solver = NormalCG(1e-3, atol=1e-4, max_steps=7)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert solver == Normal(CG(1e-3, 1e-4, max_steps=7))


def test_setup():
    """What the inner solver's preconditioner needs to know of the normal equations, it
    learns outside of `jit`: here, how large a rank they need."""
    rng = np.random.default_rng(0)
    u, v = (np.linalg.qr(rng.normal(size=(m, 20)))[0] for m in (40, 20))
    a = (u * np.r_[np.geomspace(100, 1, 4), np.full(16, 0.01)]) @ v.T
    operator = lo.MatrixLinearOperator(jnp.asarray(a))
    recipe = lxs.Nystrom(shift=1e-6)
    solver = lxs.Normal(lxs.CG(1e-9, 0.0, preconditioner=recipe))
    ready = solver.setup(operator)
    assert ready.inner_solver.preconditioner.rank == 8
    plain = lxs.Normal(lxs.CG(1e-9, 0.0))
    assert plain.setup(operator) is plain
    given = lxs.Normal(lxs.CG(1e-9, 0.0, preconditioner=lxs.Jacobi()))
    assert given.setup(operator) is given

    @jax.jit
    def solve(b):
        state = ready.init(operator, {})
        return ready.compute(state, b, {})

    b = rng.normal(size=40)
    x, result, _ = solve(jnp.asarray(b))
    assert result == lxs.RESULTS.successful
    np.testing.assert_allclose(x, np.linalg.pinv(a) @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("damp", [0.0, 0.5])
@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_constant_vector(system, damp, size):
    """The same as for Krylov methods."""
    a, _ = system("float64", (4, 4))
    solver = Normal(CG(1e-10, 0.0), damp=damp)

    @jax.jit
    def solve(a):
        state = solver.init(lo.MatrixLinearOperator(a), {})
        return solver.compute(state, jnp.full(4, size), {})[:2]

    x, result = solve(jnp.asarray(a))
    assert result == RESULTS.successful
    square = a.T @ a + damp**2 * np.eye(4)
    expected = np.linalg.solve(square, a.T @ np.ones(4))
    np.testing.assert_allclose(x / size, expected, rtol=1e-7)


class Counted(lxs.AbstractLinearSolver):
    """Cholesky, which says when it is applied."""

    heard: list = eqx.field(static=True)

    def init(self, operator, options):
        return Cholesky().init(operator, options)

    def compute(self, state, vector, options):
        jax.debug.callback(lambda _: self.heard.append(1), jax.tree.leaves(vector)[0])
        return Cholesky().compute(state, vector, options)

    def transpose(self, state, options):
        return Cholesky().transpose(state, options)

    def conj(self, state, options):
        return Cholesky().conj(state, options)

    def assume_full_rank(self):
        return True


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("consistent", [True, False])
def test_one_inner_solve(system, shape, consistent):
    """An answer that is right at once takes no more."""
    a, b = system("float64", shape, consistent=consistent)
    heard = []
    solver, operator = Normal(Counted(heard)), lo.MatrixLinearOperator(jnp.asarray(a))
    _, result, _ = solver.compute(solver.init(operator, {}), jnp.asarray(b), {})
    jax.effects_barrier()
    assert result == RESULTS.successful
    assert len(heard) == 1
