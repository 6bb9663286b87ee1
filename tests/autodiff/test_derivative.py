"""Every solver on every problem class it handles: derivatives against dense truth."""

import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import pytest
from lx_autodiff.testing import LAWS, PROBLEMS, ProblemClass, check_derivatives

_TIGHT = {"rtol": 1e-13, "atol": 1e-13}

_SQUARE = ("square", "definite", "negative definite", "indefinite", "function")
_ANY_RANK = ("deficient", "deficient tall", "deficient wide", "semidefinite")

CASES = {
    lxs.LU(): (*_SQUARE, "diagonal", "jacobian"),
    lxs.QR(): ("square", "tall", "wide"),
    lxs.Cholesky(): ("definite", "negative definite"),
    lxs.Diagonal(well_posed=True): ("diagonal",),
    lxs.Diagonal(): ("diagonal",),
    lxs.Triangular(): ("lower", "upper"),
    lxs.Tridiagonal(): ("tridiagonal",),
    lxs.SVD(): ("square", "tall", "wide", *_ANY_RANK),
    lxs.PivotedQR(): ("tall", *_ANY_RANK),
    lxs.Eigh(): ("definite", "indefinite", "semidefinite"),
    lxs.AutoLinearSolver(well_posed=True): ("lower", "definite", "jacobian"),
    lxs.AutoLinearSolver(well_posed=None): ("tall", "wide", "tridiagonal"),
    lxs.AutoLinearSolver(well_posed=False): ("deficient tall",),
    lxs.CG(**_TIGHT): ("definite", "negative definite"),
}

# Of the rest one problem each, and the laws that the others are made of.
FURTHER = {
    lxs.BiCGStab(**_TIGHT): "square",
    lxs.GMRES(**_TIGHT): "function",
    lxs.FGMRES(**_TIGHT): "square",
    lxs.MINRES(**_TIGHT): "indefinite",
    lxs.LSMR(**_TIGHT): "deficient tall",
    lxs.LSQR(**_TIGHT): "wide",
    lxs.Normal(lxs.CG(**_TIGHT)): "tall",
    lxs.Normal(lxs.Cholesky()): "wide",
    lxs.Refined(lxs.LU()): "square",
    lxs.Refined(lxs.QR()): "tall",
}


@pytest.mark.parametrize("solver", FURTHER, ids=repr)
def test_first_and_second_order(solver):
    laws = ("value", "jvp", "vjp", "vjp of jvp", "vmap of vjp")
    check_derivatives(solver, PROBLEMS[FURTHER[solver]], "complex128", laws=laws)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize(
    "solver, problem",
    [
        pytest.param(solver, PROBLEMS[name], id=f"{solver!r}-{name}")
        for solver, names in CASES.items()
        for name in names
    ],
)
def test_all_derivatives(solver, problem, dtype):
    check_derivatives(solver, problem, dtype)


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
    check_derivatives(lxs.SVD(), identity, "float64")


def test_laws_are_what_the_issue_asks_for():
    orders = ("jvp", "vjp", "jvp of jvp", "vjp of jvp")
    assert {*orders, *(f"vmap of {name}" for name in orders)} <= set(LAWS)
