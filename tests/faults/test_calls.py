"""Bad calls: for every argument a correct answer, or an error of ours that helps."""

import re
import traceback
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from hypothesis import given, strategies as st
from jax.experimental.sparse import BCOO
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

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
        assert rtol is None or rtol >= 0
        assert atol is None or atol >= 0


TREES = [None, "a", jnp.ones(2), jnp.ones(3), np.ma.ones(2), *OPERATORS[2:5]]


@repeatable(24)
@given(
    solver=st.sampled_from([lx.CG(1e-9, 1e-9), lx.LU()]),
    name=st.sampled_from(["preconditioner", "y0", "preconditoner", 3]),
    value=st.sampled_from(TREES),
)
@pytest.mark.filterwarnings("ignore:.*ignores the option.*")
def test_options(solver, name, value):
    """Options of a wrong kind are refused; others leave the solution unchanged."""
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


# What the text of an error says to do next.

MATRIX, DEFINITE, _, FUNCTION, _, _ = OPERATORS
b = jnp.array([1.0, 2.0])
BATCH = jax.vmap(lx.MatrixLinearOperator)(jnp.stack([M, M, M]))
SQUARES = lx.FunctionLinearOperator(lambda x: x**2 + 1, jnp.zeros(2))
ARRAY = {"preconditioner": jnp.array(M)}

NEXT_STEP = {
    "columns": (
        lambda: lx.linear_solve(MATRIX, jnp.ones((2, 5))),
        "many right-hand sides.*`rhs_axis=1`",
    ),
    "rows": (
        lambda: lx.linear_solve(MATRIX, jnp.ones((5, 2))),
        "many right-hand sides.*`rhs_axis=0`",
    ),
    "columns or rows": (
        lambda: lx.linear_solve(MATRIX, jnp.ones((2, 2))),
        "`rhs_axis=1` or `rhs_axis=0`",
    ),
    "inside jit": (
        lambda: jax.jit(lambda B: lx.linear_solve(MATRIX, B).value)(jnp.ones((2, 5))),
        "`rhs_axis=1`",
    ),
    "batch": (lambda: lx.linear_solve(BATCH, b), "equinox.filter_vmap"),
    "batch, vectors": (
        lambda: lx.linear_solve(BATCH, jnp.ones((3, 2))),
        "equinox.filter_vmap",
    ),
    "batch, inverse": (lambda: lx.invert(BATCH), "equinox.filter_vmap"),
    "batch, determinant": (lambda: lx.slogdet(BATCH), "equinox.filter_vmap"),
    "batch, scaled": (lambda: lx.linear_solve(2 * BATCH, b), "equinox.filter_vmap"),
    "array": (lambda: lx.linear_solve(jnp.array(M), b), "MatrixLinearOperator.array"),
    "list": (lambda: lx.linear_solve(M.tolist(), b), "MatrixLinearOperator.jnp.array"),
    "SciPy": (lambda: lx.linear_solve(sparse.csr_array(M), b), "from_scipy"),
    "BCOO": (lambda: lx.linear_solve(BCOO.fromdense(M), b), "from_bcoo"),
    "matvec": (lambda: lx.linear_solve(aslinearoperator(M), b), "FunctionLinearOp"),
    "function": (lambda: lx.linear_solve(lambda x: x, b), "FunctionLinearOperator"),
    "invert": (lambda: lx.invert(sparse.csr_array(M)), "from_scipy"),
    "preconditioner": (
        lambda: lx.linear_solve(DEFINITE, b, lx.CG(1e-9, 1e-9), options=ARRAY),
        "MatrixLinearOperator.array",
    ),
    "preconditioner inside jit": (
        lambda: jax.jit(
            lambda o: lx.linear_solve(DEFINITE, b, lx.CG(1e-9, 1e-9), options=o).value
        )(ARRAY),
        "MatrixLinearOperator.array",
    ),
    "not linear": (
        lambda: lx.linear_solve(SQUARES, b, lx.GMRES(1e-9, 1e-9)),
        "is a function: `verify",
    ),
    "not linear, scaled": (
        lambda: lx.linear_solve(2 * SQUARES, b, lx.GMRES(1e-9, 1e-9)),
        "is a function: `verify",
    ),
    "figures of a direct solver": (
        lambda: lx.linear_solve(lx.MatrixLinearOperator(jnp.ones((2, 2))), b, lx.LU()),
        r"Reached: .*reciprocal_condition = 0\b",
    ),
    "figures": (
        lambda: lx.linear_solve(FUNCTION, jnp.array([1.0, jnp.nan]), lx.GMRES(1e-9, 0)),
        "num_steps = ",
    ),
}


@pytest.mark.parametrize("name", NEXT_STEP)
def test_next_step(name):
    call, text = NEXT_STEP[name]
    with pytest.raises((ValueError, eqx.EquinoxRuntimeError)) as caught:
        call()
    assert re.search(text, str(caught.value), re.DOTALL), str(caught.value)


def test_what_the_next_steps_say_works():
    """Each piece of advice, followed, gives the solution."""
    x = np.linalg.solve(M, b)
    many = lx.linear_solve(MATRIX, jnp.stack([b, b, b], 1), rhs_axis=1).value
    np.testing.assert_allclose(many, np.stack([x, x, x], 1), rtol=1e-12)
    mapped = eqx.filter_vmap(lx.linear_solve, in_axes=(0, None))(BATCH, b).value
    np.testing.assert_allclose(mapped, [x, x, x], rtol=1e-12)
    for wrapped in (
        lx.SparseLinearOperator.from_scipy(sparse.csr_array(M)),
        lx.SparseLinearOperator.from_bcoo(BCOO.fromdense(jnp.array(M))),
    ):
        value = lx.linear_solve(wrapped, b, lx.GMRES(1e-13, 1e-13)).value
        np.testing.assert_allclose(value, x, rtol=1e-10)
    bcoo = BCOO.fromdense(jnp.array(M))
    products = lx.FunctionLinearOperator(lambda v: bcoo @ v, b)
    solution = lx.linear_solve(products, b, lx.GMRES(1e-12, 0.0))
    np.testing.assert_allclose(solution.value, x, rtol=1e-10)


def test_not_a_function():
    """No advice that does not apply."""
    with pytest.raises(eqx.EquinoxRuntimeError) as caught:
        lx.linear_solve(MATRIX, b, lx.GMRES(1e-9, 0.0, max_steps=1))
    assert "verify(" not in str(caught.value)


@pytest.mark.parametrize("jit", [jax.jit, eqx.filter_jit])
def test_failure_inside_jit(jit):
    """Whatever JAX puts around it, the text is ours."""

    def solve(A):
        return lx.linear_solve(lx.MatrixLinearOperator(A), b, lx.LU()).value

    with pytest.raises(Exception) as caught:
        jax.block_until_ready(jit(solve)(jnp.zeros((2, 2))))
    text = str(caught.value) + repr(caught.value.__cause__)
    assert "A linear solve failed: singular." in text
    assert "Solver: LU()" in text and "throw=False" in text


def test_a_batch_in_its_place():
    """An operator made of a batch is no batch of operators."""
    stacked = lx.StackedLinearOperator(BATCH)
    vector = jnp.tile(b, (3, 1))
    solution = lx.linear_solve(stacked, vector)
    np.testing.assert_allclose(
        solution.value, np.tile(np.linalg.solve(M, b), (3, 1)), rtol=1e-12
    )
