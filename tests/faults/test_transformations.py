"""Bad numbers under every transformation: the closed form, or not a number, or the
error of a failed solve."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tests.faults.cases import repeatable


def raw(A, b):
    """A⁻¹b, whose derivatives are NaN where the solve fails."""
    return lx.linear_solve(lx.MatrixLinearOperator(A), b, throw=False).value


def value(A, b):
    """A⁻¹b; NaN where the solve says that it failed."""
    solution = lx.linear_solve(lx.MatrixLinearOperator(A), b, throw=False)
    return jnp.where(solution.result == lx.RESULTS.successful, solution.value, jnp.nan)


def _scanned(A, b):
    return jax.lax.scan(lambda c, y: (c, value(A, y)), None, b[None])[1][0]


def _looped(A, b):
    once = (jnp.int32(0), jnp.zeros_like(b))
    step = lambda c: (c[0] + 1, value(A, b))  # noqa: E731
    return jax.lax.while_loop(lambda c: c[0] < 1, step, once)[1]


# each gives A⁻¹b
SOLUTIONS = {
    "jit": value,
    "eager": None,
    "vmap, vectors": lambda A, b: jax.vmap(value, (None, 0))(A, b[None])[0],
    "vmap, operators": lambda A, b: jax.vmap(value, (0, None))(A[None], b)[0],
    "checkpoint": jax.checkpoint(value),
    "scan": _scanned,
    "while": _looped,
    "cond": lambda A, b: jax.lax.cond(b[0] > 0, value, value, A, b),
    "jvp": lambda A, b: jax.jvp(lambda y: raw(A, y), (b,), (b,))[1],
    "vjp": lambda A, b: jax.vjp(lambda y: raw(A.T, y), b)[1](b)[0],
    "linearize": lambda A, b: jax.linearize(lambda y: raw(A, y), b)[1](b),
    "transpose": lambda A, b: jax.linear_transpose(lambda y: raw(A.T, y), b)(b)[0],
    # x = (t A)⁻¹ b at t = 1
    "jvp, operator": lambda A, b: -jax.jvp(lambda M: raw(M, b), (A,), (A,))[1],
    "grad, operator": lambda A, b: -jax.jacrev(
        lambda t: raw(t * A, b)
    )(jnp.ones(())),
}  # fmt: skip
_COMPILED = {name: jax.jit(fn or value) for name, fn in SOLUTIONS.items()}
NUMBERS = st.floats(-4, 4, width=16) | st.sampled_from(
    [0.0, np.nan, np.inf, -np.inf, 1e200, -1e-200]
)


@pytest.mark.parametrize("name", SOLUTIONS)
@repeatable(30)
@given(numbers=st.lists(NUMBERS, min_size=6, max_size=6))
def test_transformations(name, numbers):
    A, b = np.array(numbers[:4]).reshape(2, 2), np.array(numbers[4:])
    solve = value if name == "eager" else _COMPILED[name]
    x = np.asarray(solve(jnp.array(A), jnp.array(b)))
    if not (np.isfinite(A).all() and np.isfinite(b).all()):
        assert not np.isfinite(x).all()
        return
    with np.errstate(all="ignore"):
        scaled = A / np.abs(A).max(1, keepdims=True)
    if np.isfinite(scaled).all() and np.linalg.cond(scaled) < 1e8:
        truth = np.linalg.solve(scaled, b / np.abs(A).max(1))
        if np.abs(truth).max() < 1e290:
            np.testing.assert_allclose(x, truth, 1e-6, 1e-6 * np.abs(truth).max())


@repeatable(60)
@given(numbers=st.lists(NUMBERS, min_size=6, max_size=6), jit=st.booleans())
def test_throw(numbers, jit):
    """A failure raises what a person can read, within `jit` as well."""
    A, b = jnp.array(numbers[:4]).reshape(2, 2), jnp.array(numbers[4:])
    solve = _throwing if jit else _throwing.__wrapped__
    try:
        x = solve(A, b)
    except eqx.EquinoxRuntimeError as error:
        assert "A linear solve failed" in str(error)
        assert "throw=False" in str(error)
    else:
        assert np.isfinite(x).all()


@eqx.filter_jit
def _throwing(A, b):
    return lx.linear_solve(lx.MatrixLinearOperator(A), b).value


TRACED = {
    "solver": lambda t, A, b: lx.linear_solve(A, b, lx.CG(t, t), throw=False),
    "steps": lambda t, A, b: lx.linear_solve(
        A, b, lx.GMRES(1e-6, 0.0, max_steps=t.astype(int)), throw=False
    ),
    "rcond": lambda t, A, b: lx.linear_solve(A, b, lx.SVD(rcond=t), throw=False),
    "damp": lambda t, A, b: lx.linear_solve(A, b, lx.QR(damp=t), throw=False),
    "scalar": lambda t, A, b: lx.linear_solve(t * A, b, throw=False),
}


@pytest.mark.parametrize("name", TRACED)
@repeatable(20)
@given(t=NUMBERS)
def test_traced_parameters(name, t):
    """No value of a traced parameter leads to a wrong answer called successful."""
    solution = _traced(name)(jnp.asarray(t))
    if solution.result == lx.RESULTS.successful:
        assert np.isfinite(solution.value).all()
    else:
        assert len(lx.RESULTS[solution.result]) > 30


def _traced(name):
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1.0], [1.0, 3.0]]), lx.positive_semidefinite_tag
    )
    b = jnp.array([1.0, 2.0])
    if name not in _JITTED:
        _JITTED[name] = eqx.filter_jit(lambda t: TRACED[name](t, operator, b))
    return _JITTED[name]


_JITTED = {}


def test_function_that_closes_over_numpy_arrays():
    """JAX 0.7.2 gives these a type of its own."""
    A, c = np.diag([2.0, 3.0]), np.array([1.0, 2.0])
    structure = jax.ShapeDtypeStruct((2,), jnp.float64)
    operator = lx.FunctionLinearOperator(
        lambda x: A @ x + c * x, structure, lx.positive_semidefinite_tag
    )
    for solver in (lx.LU(), lx.CG(1e-12, 1e-12)):
        gradient = jax.grad(
            lambda b: lx.linear_solve(operator, b, solver).value.sum()  # noqa: B023
        )(jnp.ones(2))
        np.testing.assert_allclose(gradient, [1 / 3, 1 / 5], rtol=1e-9)
