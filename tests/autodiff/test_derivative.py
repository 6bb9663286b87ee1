"""Every solver on every problem class it handles: derivatives against dense truth."""

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import mpmath
import numpy as np
import pytest
from lx_autodiff.testing import LAWS, PROBLEMS, ProblemClass, check_derivatives
from lx_autodiff.testing._laws import all_laws, compiled

_TIGHT = {"rtol": 1e-13, "atol": 1e-13}

# All laws: of a direct solver, an iterative one, and one made of others. As
# transformations know nothing of solvers, the rest is left the laws that make them up.
ALL = [
    (lxs.LU(), "square", "float64"),
    (lxs.LU(), "square", "complex128"),
    (lxs.CG(**_TIGHT), "definite", "complex128"),
    (lxs.Normal(lxs.Cholesky()), "tall", "complex128"),
]

# Where the formula has other terms, or another solver gives them.
FIRST_AND_SECOND = {
    lxs.QR(): ("tall", "wide"),
    lxs.Cholesky(): ("negative definite",),
    lxs.Diagonal(well_posed=True): ("diagonal",),
    lxs.Diagonal(): ("diagonal",),
    lxs.Triangular(): ("lower", "upper"),
    lxs.Tridiagonal(): ("tridiagonal",),
    lxs.SVD(): ("tall", "wide", "deficient", "deficient wide"),
    lxs.PivotedQR(): ("deficient tall", "semidefinite"),
    lxs.Eigh(): ("indefinite", "semidefinite"),
    lxs.AutoLinearSolver(well_posed=None): ("wide",),
    lxs.AutoLinearSolver(well_posed=False): ("deficient tall",),
    lxs.Refined(lxs.LU()): ("square",),
    lxs.Refined(lxs.QR()): ("tall",),
    # one solver, all kinds of operators
    lxs.LU(): ("function", "jacobian", "pytree", "algebra", "third-party"),
}

# Loops are dear to compile: one problem each, and fewer laws.
LOOPS = {
    lxs.BiCGStab(**_TIGHT): "square",
    lxs.GMRES(**_TIGHT): "third-party",
    lxs.FGMRES(**_TIGHT): "square",
    lxs.MINRES(**_TIGHT): "indefinite",
    lxs.LSMR(**_TIGHT): "deficient tall",
    lxs.LSQR(**_TIGHT): "wide",
    lxs.Normal(lxs.CG(**_TIGHT)): "tall",
}

_FEWER = ("value", "jvp", "vjp", "vjp of jvp", "jvp of vjp")


@pytest.mark.parametrize("solver, name, dtype", ALL, ids=repr)
def test_all_derivatives(solver, name, dtype):
    check_derivatives(solver, PROBLEMS[name], dtype)


@pytest.mark.parametrize(
    "solver, name",
    [(solver, name) for solver, names in FIRST_AND_SECOND.items() for name in names],
    ids=repr,
)
def test_first_and_second_order(solver, name):
    check_derivatives(solver, PROBLEMS[name], "complex128", laws=_FEWER)


@pytest.mark.parametrize("solver", LOOPS, ids=repr)
def test_loops(solver):
    laws = ("value", "jvp", "vjp", "vjp of jvp")
    check_derivatives(solver, PROBLEMS[LOOPS[solver]], "complex128", laws=laws)


@pytest.mark.parametrize("name", ["deficient", "wide"])
def test_real_and_batched(name):
    """Terms with adjoints, of real operators and under `vmap`."""
    laws = ("vjp of jvp", "vmap of vjp")
    check_derivatives(lxs.SVD(), PROBLEMS[name], "float64", laws=laws)


DAMPED = {
    lxs.QR(damp=0.7): "tall",
    lxs.SVD(damp=0.7): "deficient",
    lxs.PivotedQR(damp=0.7): "wide",
}


@pytest.mark.parametrize("solver", DAMPED, ids=repr)
def test_damped(solver):
    """x = (AᴴA + d²I)⁻¹ Aᴴ b is not a pseudoinverse solution, at any rank."""
    problem = PROBLEMS[DAMPED[solver]]

    def inverse(parameters):
        a = problem.matrix(parameters)
        normal = a.conj().T @ a + 0.7**2 * jnp.eye(a.shape[1], dtype=a.dtype)
        return jnp.linalg.solve(normal, a.conj().T)

    damped = problem._replace(pseudoinverse=inverse)
    check_derivatives(solver, damped, "complex128", laws=_FEWER)


@pytest.mark.parametrize("damp", [0.0, 1e-9, 0.5, 1e9])
def test_damping_of_any_size(damp):
    """As an array, it may be zero, and is no reason to lose digits when it is small."""
    rng = np.random.default_rng(1)
    a, da = rng.standard_normal((2, 5, 3))
    b = rng.standard_normal(5)

    @jax.jit
    def tangent(damp):
        def solve(a):
            solver = lxs.SVD(damp=damp)
            return lxa.linear_solve(lxo.MatrixLinearOperator(a), b, solver).value

        return jax.jvp(solve, (a,), (da,))[1]

    x = np.linalg.solve(a.T @ a + damp**2 * np.eye(3), a.T @ b)
    rhs = da.T @ (b - a @ x) - a.T @ (da @ x)
    truth = np.linalg.solve(a.T @ a + damp**2 * np.eye(3), rhs)
    np.testing.assert_allclose(tangent(damp), truth, rtol=1e-10)


@pytest.mark.parametrize("solver", [lxs.QR(), lxs.SVD(), lxs.PivotedQR()], ids=repr)
def test_residual_from_the_factors_is_no_less_accurate(solver):
    """An ill-conditioned tall system, against mpmath in 50 digits."""
    rng = np.random.default_rng(2)
    a = rng.standard_normal((6, 3)) * [1, 1e-3, 1e-6]
    da, b = rng.standard_normal((6, 3)), rng.standard_normal(6)

    def solve(a):
        return lxa.linear_solve(lxo.MatrixLinearOperator(a), b, solver).value

    _, ours = jax.jvp(solve, (a,), (da,))
    with mpmath.workdps(50):
        A, dA, B = mpmath.matrix(a), mpmath.matrix(da), mpmath.matrix(b)
        x = mpmath.lu_solve(A.T * A, A.T * B)
        rhs = dA.T * (B - A * x) - A.T * (dA * x)
        truth = np.array(mpmath.lu_solve(A.T * A, rhs), float).ravel()
    # cond(A)² eps would be 1e-4
    assert np.linalg.norm(ours - truth) <= 1e-8 * np.linalg.norm(truth)


DAMPED_BY = {
    "QR": lambda d: lxs.QR(damp=d),
    "SVD": lambda d: lxs.SVD(damp=d),
    "PivotedQR": lambda d: lxs.PivotedQR(damp=d),
    "LSMR": lambda d: lxs.LSMR(**_TIGHT, damp=d),
    "LSQR": lambda d: lxs.LSQR(**_TIGHT, damp=d),
    "Normal(CG)": lambda d: lxs.Normal(lxs.CG(1e-13, 0.0), damp=d),
    "Normal(Cholesky)": lambda d: lxs.Normal(lxs.Cholesky(), damp=d),
}


def normal_equations(a, b, d):
    normal = a.conj().T @ a + (d * d).astype(a.dtype) * jnp.eye(
        a.shape[1], dtype=a.dtype
    )
    return jnp.linalg.solve(normal, a.conj().T @ b)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("QR", (5, 3)),
        ("QR", (3, 5)),
        ("SVD", (4, 4)),
        ("PivotedQR", (5, 3)),
        ("LSMR", (3, 5)),
        ("Normal(Cholesky)", (3, 5)),
    ],
)
def test_damping_has_a_derivative(name, shape):
    """With respect to operator, vector and `damp`: both modes, two orders, `vmap`."""
    rng = np.random.default_rng(3)
    a, da = (jnp.asarray(rng.standard_normal((*shape, 2)) @ [1, 1j]) for _ in range(2))
    b, db = (
        jnp.asarray(rng.standard_normal((shape[0], 2)) @ [1, 1j]) for _ in range(2)
    )
    y = jnp.asarray(rng.standard_normal((shape[1], 2)) @ [1, 1j])
    x, dx = (a, b, jnp.asarray(0.6)), (da, db, jnp.asarray(0.3))

    def solve(a, b, d):
        operator = lxo.MatrixLinearOperator(a)
        return lxa.linear_solve(operator, b, DAMPED_BY[name](d)).value

    # arguments, not constants: XLA of JAX 0.7.2 folds complex constants wrongly here
    def both(fn, x, dx, y):
        gradient = jax.grad(lambda d: jnp.sum(jnp.abs(fn(*x[:2], d)) ** 2))
        many = jax.vmap(gradient)(jnp.array([0.2, 0.6]))
        return all_laws(_FEWER, fn, (x, dx, y)), many

    ours, truth = (
        compiled(both, static_argnums=0)(f, x, dx, y) for f in (solve, normal_equations)
    )
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", DAMPED_BY)
def test_gradient_in_the_penalty_of_a_ridge_regression(name):
    """Against finite differences of NumPy's normal equations, for many penalties."""
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((8, 3)), rng.standard_normal(8)
    held_out, target = rng.standard_normal((5, 3)), rng.standard_normal(5)

    def loss(penalty):
        solver = DAMPED_BY[name](jnp.sqrt(penalty))
        x = lxa.linear_solve(lxo.MatrixLinearOperator(a), b, solver).value
        return jnp.sum((held_out @ x - target) ** 2)

    def truth(penalty):
        x = np.linalg.solve(a.T @ a + penalty * np.eye(3), a.T @ b)
        return np.sum((held_out @ x - target) ** 2)

    penalties = np.array([1e-3, 0.1, 1.0, 10.0])
    ours = compiled(jax.vmap(jax.grad(loss)))(penalties)
    step = 1e-5 * penalties
    wanted = [(truth(p + h) - truth(p - h)) / (2 * h) for p, h in zip(penalties, step)]
    np.testing.assert_allclose(ours, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("QR", (5, 3)),
        ("QR", (3, 5)),
        ("SVD", (5, 3)),
        ("SVD", (3, 5)),
        ("LSMR", (3, 5)),  # a loop is dear to compile: one shape
    ],
)
def test_no_derivative_in_damping_at_zero(name, shape):
    """Exactly 0 there; that in the operator is the undamped one; and the second
    derivative is that of x − d² (AᴴA)†x + …."""
    rng = np.random.default_rng(5)
    a, da = rng.standard_normal((2, *shape))
    b = rng.standard_normal(shape[0])

    def solve(a, d):
        operator = lxo.MatrixLinearOperator(a)
        return lxa.linear_solve(operator, b, DAMPED_BY[name](d)).value

    @compiled
    def derivatives(zero):
        def slope(d):
            return jax.jvp(lambda d: solve(a, d), (d,), (jnp.asarray(1.0),))[1]

        first, second = jax.jvp(slope, (zero,), (jnp.asarray(1.0),))
        x, pull = jax.vjp(lambda d: solve(a, d), zero)
        in_a = jax.jvp(lambda a: solve(a, zero), (a,), (da,))[1]
        return first, second, pull(1 + x), in_a

    slope, bend, gradient, ours = derivatives(jnp.asarray(0.0))
    assert (slope == 0).all()
    assert gradient == (0,)
    inverse = np.linalg.pinv(a)
    wanted = -2 * inverse @ inverse.T @ inverse @ b
    np.testing.assert_allclose(bend, wanted, rtol=1e-7, atol=1e-8)
    step = 1e-6
    by_hand = [np.linalg.pinv(a + sign * step * da) @ b for sign in (1, -1)]
    wanted = (by_hand[0] - by_hand[1]) / (2 * step)
    np.testing.assert_allclose(ours, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)], ids=["tall", "wide"])
@pytest.mark.parametrize("name", ["QR", "SVD"])
def test_small_damping_in_single_precision(name, shape):
    """Against mpmath: what is divided by d² must not be rounded before."""
    rng = np.random.default_rng(6)
    a, da = rng.standard_normal((2, *shape)).astype(np.float32)
    b = rng.standard_normal(shape[0]).astype(np.float32)

    def solve(a, d):
        operator = lxo.MatrixLinearOperator(a)
        return lxa.linear_solve(operator, b, DAMPED_BY[name](d)).value

    @compiled
    def tangents(d):
        in_a = jax.jvp(lambda a: solve(a, d), (a,), (da,))[1]
        return in_a, jax.jvp(lambda d: solve(a, d), (d,), (jnp.ones_like(d),))[1]

    for d in np.float32(1e-2), np.float32(1e-4):
        with mpmath.workdps(50):
            A, dA, B = (mpmath.matrix(x.astype(float).tolist()) for x in (a, da, b))
            M = A.T * A + mpmath.mpf(float(d)) ** 2 * mpmath.eye(shape[1])
            x = mpmath.lu_solve(M, A.T * B)
            of_a = mpmath.lu_solve(M, dA.T * (B - A * x) - A.T * (dA * x))
            of_d = -2 * mpmath.mpf(float(d)) * mpmath.lu_solve(M, x)
            truths = (np.array(x.tolist(), float).ravel() for x in (of_a, of_d))
        for ours, truth in zip(tangents(d), truths):
            far = np.linalg.norm(np.asarray(ours, float) - truth)
            assert far <= 1e-4 * np.linalg.norm(truth)


@pytest.mark.parametrize(
    "shape, consistent",
    [((6, 4), True), ((6, 4), False), ((4, 6), True), ((4, 4), True), ((4, 4), False)],
)
@pytest.mark.parametrize("atol", [0.0, 1e-9])
def test_normal_equations_of_deficient_rank(shape, consistent, atol):
    """Along matrices of rank 2, against differences of NumPy's pseudoinverse: right in
    forward mode where a residual vanishes; else, and in reverse mode, right or NaN."""
    (m, n), rng = shape, np.random.default_rng(9)
    x, dx = rng.standard_normal((2, m, 2))
    y, dy = rng.standard_normal((2, 2, n))
    b, c = rng.standard_normal(m), rng.standard_normal(n)

    def system(t):
        a = (x + t * dx) @ (y + t * dy)
        return a, a @ c if consistent else b

    def solve(t):
        a, vector = system(t)
        operator = lxo.MatrixLinearOperator(a)
        solver = lxs.Normal(lxs.CG(1e-9, atol, criterion="two_norm"))
        return lxa.linear_solve(operator, jnp.asarray(vector), solver, throw=False)

    @compiled
    def derivatives(t):
        def fn(t):
            solution = solve(t)
            return solution.value, solution.successful

        value, tangent, successful = jax.jvp(fn, (t,), (1.0,), has_aux=True)
        gradient = jax.jacrev(lambda t: solve(t).value)(t)
        return value, successful, tangent, gradient

    def truth(t):
        a, vector = system(t)
        return np.linalg.pinv(a, rcond=1e-10) @ vector

    slope = (truth(1e-6) - truth(-1e-6)) / 2e-6
    value, successful, tangent, gradient = derivatives(0.0)
    assert successful
    np.testing.assert_allclose(value, truth(0.0), atol=1e-12)
    if consistent:
        np.testing.assert_allclose(tangent, slope, atol=1e-7)
    for ours in (tangent, gradient):
        assert np.isnan(ours).all() or np.allclose(ours, slope, atol=1e-7)


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (5, 3)])
@pytest.mark.parametrize("damped", [lxs.QR, lxs.LSMR], ids=["QR", "LSMR"])
def test_damping_of_an_identity(damped, sizes):
    """x = Aᴴ b / (1 + d²), also where the identity pads or truncates."""
    rows, columns = (jax.ShapeDtypeStruct((n,), jnp.float64) for n in sizes)
    operator = lxo.IdentityLinearOperator(columns, rows)
    b = jnp.arange(1.0, sizes[0] + 1)

    def solve(d):
        return lxa.linear_solve(operator, b, damped(damp=d)).value

    back = np.eye(*sizes).T @ np.asarray(b)
    np.testing.assert_allclose(solve(0.5), back / 1.25, rtol=1e-15)
    _, slope = jax.jvp(solve, (0.5,), (1.0,))
    np.testing.assert_allclose(slope, -back / 1.25**2, rtol=1e-12)


@pytest.mark.parametrize(
    "solver", [lxs.Refined, lxs.Normal, lxs.Kronecker, lxs.BlockDiagonal]
)
def test_no_damping_inside_another_solver(solver):
    with pytest.raises(ValueError, match="without damping"):
        solver(lxs.QR(damp=0.1))
    with pytest.raises(ValueError, match="without damping"):
        jax.jit(lambda d: solver(lxs.QR(damp=d)) and d)(0.1)
    solver(lxs.QR(damp=0.0))


def test_damping_of_the_adjoint_solver():
    """The damping is the problem's: second derivatives through an `adjoint_solver`."""
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((5, 3)), rng.standard_normal(5)

    def slope(adjoint_solver):
        def solve(a, d):
            operator, solver = lxo.MatrixLinearOperator(a), lxs.QR(damp=d)
            x = lxa.linear_solve(operator, b, solver, adjoint_solver=adjoint_solver)
            return x.value[0]

        second = jax.grad(lambda d: jnp.sum(jax.grad(solve)(a, d)))
        return compiled(second)(0.5)

    truth = slope(None)
    np.testing.assert_allclose(slope(lxs.LSMR(**_TIGHT, damp=0.5)), truth, rtol=1e-9)
    with pytest.raises(ValueError, match="adjoint_solver"):
        slope(lxs.LU())


def test_tolerances_do_not_move():
    def solve(t):
        solver = lxs.LSMR(rtol=t, atol=1e-9, damp=t)
        operator = lxo.MatrixLinearOperator(jnp.eye(3))
        return lxa.linear_solve(operator, jnp.ones(3), solver).value

    with pytest.raises(ValueError, match="`rtol`") as error:
        jax.jacfwd(solve)(1e-3)
    assert "damp" not in str(error.value)


SCALED = {
    lxs.LU(): ("square",),
    lxs.QR(): ("tall", "wide"),
    lxs.SVD(): ("tall", "wide"),
    lxs.PivotedQR(): ("tall", "wide"),
    lxs.LSMR(1e-13, 0.0): ("tall",),
    lxs.LSQR(1e-13, 0.0): ("wide",),
    lxs.AutoLinearSolver(well_posed=None): ("tall", "wide"),
}


@pytest.mark.parametrize(
    "solver, name", [(s, n) for s, names in SCALED.items() for n in names], ids=repr
)
def test_scale(solver, name):
    """1e±200, where squares are out of range."""
    laws = ("jvp", "vjp", "jvp of jvp", "vjp of jvp", "jvp of vjp")
    scales = 2.0**664, 2.0**-664
    problem = PROBLEMS[name]
    check_derivatives(solver, problem, "complex128", laws=laws, scale=scales)


@pytest.mark.parametrize("name", ["tall", "wide"])
@pytest.mark.parametrize("solver", [lxs.QR(), lxs.PivotedQR()], ids=repr)
def test_scale_in_single_precision(solver, name):
    """1e±30 and 1e±20."""
    laws = ("jvp", "vjp", "vjp of jvp")
    scales = 2.0**100, 2.0**-100, 2.0**66, 2.0**-66
    problem = PROBLEMS[name]
    check_derivatives(solver, problem, "float32", laws=laws, scale=scales, rtol=1e-4)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)], ids=["tall", "wide"])
@pytest.mark.parametrize("name", ["QR", "SVD", "Normal(CG)"])
def test_scale_with_damping(name, shape):
    """Also with d = 0, where the value is traced."""
    rng = np.random.default_rng(8)
    a, b, c = (rng.standard_normal(s) for s in (shape, shape[0], shape[1]))

    def solve(a, b, d):
        operator = lxo.MatrixLinearOperator(a)
        return lxa.linear_solve(operator, b, DAMPED_BY[name](d)).value

    @compiled
    def derivatives(x, s):
        x = jax.tree.map(lambda x: s * x, x)

        def tangent(*at):
            return jax.jvp(solve, at, x)[1]

        dx, pull = jax.vjp(tangent, *x)
        return dx, [s * g for g in pull(c)], [s * g for g in jax.vjp(solve, *x)[1](c)]

    for d in (0.6, 0.0):
        truth = derivatives((a, b, d), 1.0)
        for scale in (2.0**664, 2.0**-664):
            ours = derivatives((a, b, d), scale)
            for one, other in zip(*map(jax.tree.leaves, (ours, truth)), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)


LINEAR = {
    "LU": (lxs.LU(), 4),
    "QR": (lxs.QR(), 6),
    "QR, damped": (lxs.QR(damp=0.5), 6),
    "SVD": (lxs.SVD(), 3),
    "CG, steps": (lxs.CG(rtol=0.0, atol=0.0, max_steps=3), 4),
    "LSMR": (lxs.LSMR(rtol=1e-8, atol=0.0), 6),
    "LSMR, damped": (lxs.LSMR(rtol=1e-8, atol=0.0, damp=0.5), 6),
    "LSQR, damped": (lxs.LSQR(rtol=1e-8, atol=0.0, damp=0.5), 3),
}


@pytest.mark.parametrize("name", LINEAR)
def test_zero_gives_exactly_zero(name):
    """For a zero tangent, and for a zero cotangent."""
    solver, m = LINEAR[name]
    a = np.random.default_rng(9).standard_normal((m, 4))
    a = a @ a.T + np.eye(4) if m == 4 else a
    b = np.arange(1.0, m + 1)
    tag = lxo.positive_semidefinite_tag if m == 4 else ()

    def solve(a, b):
        operator = lxo.MatrixLinearOperator(a, tag)
        return lxa.linear_solve(operator, b, solver, throw=False).value

    @compiled
    def derivatives(a, b, zero):
        none = jax.tree.map(lambda x: zero * x, (a, b))
        tangent = jax.jvp(solve, (a, b), none)[1]
        x, pull = jax.vjp(solve, a, b)
        return tangent, pull(zero * x)

    for x in jax.tree.leaves(derivatives(a, b, 0.0)):
        assert (x == 0).all()


def test_the_chosen_solver_knows_the_rank():
    """`AutoLinearSolver(well_posed=None)` assumes full rank; derivatives of a diagonal
    with zeros are those of its pseudoinverse still."""
    solver = lxs.AutoLinearSolver(well_posed=None)
    assert solver.assume_full_rank()
    assert lxs.AutoLinearSolver(well_posed=True).assume_full_rank()
    assert not lxs.AutoLinearSolver(well_posed=False).assume_full_rank()
    d, b = jnp.array([2.0, 0.0, 4.0]), jnp.array([1.0, 1.0, 1.0])

    def solve(d):
        return lxa.linear_solve(lxo.DiagonalLinearOperator(d), b, solver).value

    tangent = jax.jvp(solve, (d,), (jnp.array([1.0, 0.0, 1.0]),))[1]
    np.testing.assert_allclose(tangent, [-1 / 4, 0, -1 / 16])


@pytest.mark.parametrize("b", [[1.0, 2.0, 4.0], [2.0, 2.0, 4.0]])
def test_no_wrong_derivative_of_singular_normal_equations(b):
    """Whether b is in the range of A or not."""
    u = jnp.array([1.0, 1.0, 2.0])
    a, da = jnp.outer(u, u), jnp.arange(9.0).reshape(3, 3)

    def solve(a):
        operator, solver = lxo.MatrixLinearOperator(a), lxs.Normal(lxs.CG(1e-8, 0.0))
        return lxa.linear_solve(operator, jnp.asarray(b), solver, throw=False).value

    value, tangent = jax.jvp(solve, (a,), (da,))
    assert jnp.isnan(tangent).all()
    assert jnp.isnan(jax.jacrev(solve)(a)).any()
    if jnp.isfinite(value).all():
        np.testing.assert_allclose(value, np.linalg.pinv(a) @ np.array(b), atol=1e-6)


def test_suite_catches_a_wrong_derivative():
    """The suite itself: a solver that claims a full rank it does not have."""

    class Wrong(lxs.SVD):
        def assume_full_rank(self):
            return True

    with pytest.raises(AssertionError, match="jvp"):
        check_derivatives(Wrong(), PROBLEMS["deficient"], "float64", laws=("jvp",))


def test_suite_catches_a_wrong_value():
    truth = PROBLEMS["square"]
    wrong = ProblemClass(*truth[:4], lambda a: 2 * truth.pseudoinverse(a))
    with pytest.raises(AssertionError, match="value"):
        check_derivatives(lxs.LU(), wrong, "float64", laws=("value",))


@pytest.mark.parametrize("name", ["tall", "wide"])
def test_nonsingular_tag_drops_terms_of_a_rank_revealing_solver(name):
    """Same derivatives, by fewer solves: see test_costs.py for the counts."""
    plain = PROBLEMS[name]
    tagged = plain._replace(
        operator=lambda a: lxo.MatrixLinearOperator(a, lxo.nonsingular_tag)
    )
    for problem in (plain, tagged):
        check_derivatives(lxs.SVD(), problem, "complex128", laws=("jvp", "vjp of jvp"))


def test_repeated_singular_values():
    """Where derivatives of an SVD itself are not defined, those of the solution are."""
    identity = PROBLEMS["square"]._replace(parameters=lambda rng, dtype: jnp.eye(4))
    check_derivatives(lxs.SVD(), identity, "float64", laws=_FEWER)


def test_laws_are_what_the_issue_asks_for():
    orders = ("jvp", "vjp", "jvp of jvp", "vjp of jvp", "jvp of vjp")
    assert {*orders, *(f"vmap of {name}" for name in orders)} <= set(LAWS)


def test_no_wrong_gradient_of_a_singular_system():
    """For a consistent singular system, whose solution by GMRES need not have least
    norm."""
    operator = lxo.MatrixLinearOperator(jnp.array([[1.0, 1.0], [0.0, 0.0]]))

    def first(b):
        solver = lxs.GMRES(1e-8, 0.0)
        return lxa.linear_solve(operator, b, solver, throw=False).value[0]

    value, gradient = jax.value_and_grad(first)(jnp.array([1.0, 0.0]))
    assert value == 1
    assert jnp.isnan(gradient).all()
