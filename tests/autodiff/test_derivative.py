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
    lxs.LSMR(**_TIGHT, damp=0.7): "tall",
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
    """Of a consistent singular system, whose solution by GMRES is not of least norm."""
    operator = lxo.MatrixLinearOperator(jnp.array([[1.0, 1.0], [0.0, 0.0]]))

    def first(b):
        solver = lxs.GMRES(1e-8, 0.0)
        return lxa.linear_solve(operator, b, solver, throw=False).value[0]

    value, gradient = jax.value_and_grad(first)(jnp.array([1.0, 0.0]))
    assert value == 1
    assert jnp.isnan(gradient).all()
