"""Bad calls: for every argument a correct answer, or an error of ours that helps."""

import traceback
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.cases import repeatable

PACKAGES = str(Path(lx.__file__).parents[3])


def _ours(error: BaseException) -> bool:
    """Raised by a line of ours, as an error of use, in words."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    kinds = (ValueError, TypeError, NotImplementedError, eqx.EquinoxRuntimeError)
    return isinstance(error, kinds) and PACKAGES in last and len(str(error)) > 30


def _refused(call, *args, **kwargs):
    """The result of a call, or None if it was refused as it should be."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        assert _ours(error), "".join(traceback.format_exception(error))
        return None


M = np.array([[2.0, 1.0], [1.0, 3.0]])
JUNK = [None, "a", "ab", 1j, object(), [], {}, (), [1.0, "x"], {"a": None}, len, lx.LU]
ARRAYS = [
    jnp.ones(2), jnp.ones(3), jnp.ones((2, 1)), jnp.ones((1, 2)), jnp.ones((2, 2, 2)),
    jnp.ones(()), 1.0, 3, True, jnp.ones(0), jnp.ones((0, 2)), jnp.ones((2, 0)),
    np.ones(2, int), np.ones(2, bool), np.array(["a", "b"]), np.array([1, None]),
    np.ones(2, np.float16), np.ones(2, np.complex64), [1.0, 2.0], (1.0, 2.0),
    [jnp.ones(1), jnp.ones(1)], {"a": jnp.ones(2)}, jnp.array([np.nan, 1.0]),
    np.ma.array([1.0, 2.0]), jax.random.key(0), jax.ShapeDtypeStruct((2,), float),
]  # fmt: skip
ANY = JUNK + ARRAYS
OPERATORS = [
    lx.MatrixLinearOperator(jnp.array(M)),
    lx.MatrixLinearOperator(jnp.array(M), lx.positive_semidefinite_tag),
    lx.DiagonalLinearOperator(jnp.array([2.0, 3.0])),
    lx.FunctionLinearOperator(lambda x: 2 * x, jax.eval_shape(lambda: jnp.ones(2))),
    lx.MatrixLinearOperator(jnp.ones((3, 2)) + jnp.eye(3, 2)),
    lx.IdentityLinearOperator(jax.eval_shape(lambda: jnp.ones(2))),
]
SOLVERS = [
    lx.AutoLinearSolver(well_posed=True), lx.LU(), lx.QR(), lx.Cholesky(),
    lx.Diagonal(), lx.Triangular(), lx.Tridiagonal(), lx.CG(1e-9, 1e-9),
]  # fmt: skip

anything = st.sampled_from(ANY)
operators = st.sampled_from(OPERATORS)
solvers = st.sampled_from(SOLVERS)


def mostly(good, bad=anything):
    return st.booleans().flatmap(lambda often: good if often else bad | good)


CONSTRUCTORS = {
    "Matrix": lambda a, b: lx.MatrixLinearOperator(a),
    "Matrix, tags": lambda a, b: lx.MatrixLinearOperator(jnp.ones((2, 2)), a),
    "Matrix, dtype": lambda a, b: lx.MatrixLinearOperator(a, lx.symmetric_tag),
    "Diagonal": lambda a, b: lx.DiagonalLinearOperator(a),
    "Tridiagonal": lambda a, b: lx.TridiagonalLinearOperator(a, b, b),
    "PyTree": lambda a, b: lx.PyTreeLinearOperator(a, b),
    "Identity": lambda a, b: lx.IdentityLinearOperator(a),
    "Identity, two": lambda a, b: lx.IdentityLinearOperator(a, b),
    "Function": lambda a, b: lx.FunctionLinearOperator(a, b),
    "Function, structure": lambda a, b: lx.FunctionLinearOperator(lambda x: x, a),
    "Jacobian": lambda a, b: lx.JacobianLinearOperator(a, b),
    "Jacobian, x": lambda a, b: lx.JacobianLinearOperator(lambda x, _: x, a),
    "Jacobian, jac": lambda a, b: lx.JacobianLinearOperator(
        lambda x, _: x, jnp.ones(2), jac=a
    ),
    "Tagged": lambda a, b: lx.TaggedLinearOperator(a, b),
    "+": lambda a, b: OPERATORS[0] + a,
    "@": lambda a, b: OPERATORS[0] @ a,
    "*": lambda a, b: OPERATORS[0] * a,
    "/": lambda a, b: OPERATORS[0] / a,
    "mv": lambda a, b: OPERATORS[0].mv(a),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
@repeatable(30)
@given(a=anything, b=anything)
def test_operators(name, a, b):
    """What is accepted, is an operator (or a product)."""
    made = _refused(CONSTRUCTORS[name], a, b)
    if isinstance(made, lx.AbstractLinearOperator):
        made.in_structure(), made.out_structure()
        assert made.in_size() >= 0
        assert isinstance(repr(made), str)


@repeatable(250)
@given(
    operator=mostly(operators),
    vector=mostly(st.just(jnp.array([1.0, 2.0]))),
    solver=mostly(solvers),
    options=mostly(st.none()),
    axis=mostly(st.none(), st.sampled_from([0, 1, -1, 5])),
)
def test_linear_solve(operator, vector, solver, options, axis):
    """A solution of the system that was posed, or an error."""
    solution = _refused(
        lx.linear_solve, operator, vector, solver, options=options, rhs_axis=axis
    )
    if solution is None:
        return
    assert isinstance(operator, lx.AbstractLinearOperator)
    b, x = np.asarray(vector, complex), np.asarray(solution.value)
    A = np.asarray(operator.as_matrix())
    np.testing.assert_allclose(A.T @ A @ x, A.T @ b, rtol=1e-6)


ITERATIVE = [lx.CG, lx.GMRES, lx.BiCGStab, lx.LSMR, lx.LSQR, lx.MINRES, lx.FGMRES]
NUMBERS = st.sampled_from([*JUNK, -1.0, 0.0, 1e-6, np.nan, np.inf, 0, -1, 3, 2.5])


@repeatable(200)
@given(
    kind=st.sampled_from(ITERATIVE), rtol=NUMBERS, atol=NUMBERS, steps=mostly(NUMBERS)
)
def test_iterative_solvers(kind, rtol, atol, steps):
    solver = _refused(kind, rtol, atol, max_steps=steps)
    if solver is not None:
        assert rtol >= 0
        assert atol >= 0


TREES = [None, "a", jnp.ones(2), jnp.ones(3), np.ma.ones(2), *OPERATORS[2:5]]


@repeatable(24)
@given(
    solver=st.sampled_from([lx.CG(1e-9, 1e-9), lx.LU()]),
    name=st.sampled_from(["preconditioner", "y0", "preconditoner", 3]),
    value=st.sampled_from(TREES),
)
@pytest.mark.filterwarnings("ignore:.*ignores the option.*")
def test_options(solver, name, value):
    """Of a wrong kind they are refused; others leave the solution as it is."""
    b = jnp.array([1.0, 2.0])
    solution = _refused(
        lx.linear_solve, OPERATORS[1], b, solver, options={name: value}, throw=False
    )
    if solution is not None and solution.result == lx.RESULTS.successful:
        np.testing.assert_allclose(solution.value, np.linalg.solve(M, b), rtol=1e-6)


def test_misspelt_option():
    with pytest.warns(UserWarning, match="Did you mean 'preconditioner'"):
        options = {"preconditoner": OPERATORS[2]}
        lx.linear_solve(OPERATORS[1], jnp.ones(2), lx.CG(1e-9, 1e-9), options=options)
