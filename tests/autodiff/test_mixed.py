"""Operators between structures with real and complex leaves."""

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

RNG = np.random.default_rng(5)
REAL = RNG.standard_normal((4, 2))
COMPLEX = RNG.standard_normal((4, 2, 2)) @ [1, 1j]
STRUCTURE = (
    jax.ShapeDtypeStruct((2,), jnp.float64),
    jax.ShapeDtypeStruct((2,), jnp.complex128),
)
X = (np.array([1.0, -2.0]), np.array([0.5 + 1j, 2.0 - 1j]))
TIGHT = {"rtol": 1e-12, "atol": 1e-12}
SOLVERS = [
    lxs.LU(),
    lxs.QR(),
    lxs.SVD(),
    lxs.GMRES(**TIGHT),
    lxs.Normal(lxs.CG(**TIGHT)),
]


def operator(real=REAL):
    def fn(x):
        return first @ x[0].astype(complex) + second @ x[1]

    first, second = jnp.asarray(real).astype(complex), jnp.asarray(COMPLEX)

    return lxo.FunctionLinearOperator(fn, STRUCTURE)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_the_value_has_the_input_structure(solver):
    A = operator()
    b = jnp.asarray(REAL @ X[0] + COMPLEX @ X[1])
    solution = lxa.linear_solve(A, b, solver)
    assert [x.dtype for x in solution.value] == [jnp.float64, jnp.complex128]
    for ours, truth in zip(solution.value, X):
        np.testing.assert_allclose(ours, truth, rtol=1e-9)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
def test_an_imaginary_part_is_no_success(solver):
    A = operator()
    b = jnp.asarray(REAL @ (X[0] + np.array([0, 1e-3j])) + COMPLEX @ X[1])
    solution = lxa.linear_solve(A, b, solver, throw=False)
    assert solution.result == lxs.RESULTS.not_real
    with pytest.raises(Exception, match="not_real"):
        lxa.linear_solve(A, b, solver)
    with pytest.raises(Exception, match="not_real"):
        jax.block_until_ready(
            jax.jit(lambda b: lxa.linear_solve(A, b, solver).value)(b)
        )


def test_diagonals_and_many_right_hand_sides():
    d = (jnp.array([2.0, 3.0]), jnp.array([1 + 1j, 2.0]))
    A = lxo.DiagonalLinearOperator(d)
    b = tuple(jnp.asarray(np.stack([x, 2 * x])) for x in X)
    solution = lxa.linear_solve(A, b, rhs_axis=0)
    assert [x.dtype for x in solution.value] == [jnp.float64, jnp.complex128]
    for ours, diagonal, vector in zip(solution.value, d, b):
        truth = np.asarray(vector) / np.asarray(diagonal)
        np.testing.assert_allclose(ours, truth, rtol=1e-15)


@pytest.mark.standard_promotion
def test_a_vector_that_is_complex_where_the_output_is_real():
    """Then the solution is complex as well: as for real operators."""
    A = lxo.DiagonalLinearOperator((jnp.array([2.0]), jnp.array([1 + 1j])))
    b = (jnp.array([1.0 + 1j]), jnp.array([1.0 + 0j]))
    value = lxa.linear_solve(A, b).value
    np.testing.assert_allclose(value[0], [0.5 + 0.5j])
    np.testing.assert_allclose(value[1], [0.5 - 0.5j])


@pytest.mark.parametrize("solver", [lxs.LU(), lxs.GMRES(**TIGHT)], ids=repr)
def test_derivatives(solver):
    """In real directions in which the solution stays real: differences of NumPy's."""
    direction = RNG.standard_normal((4, 2))

    def value(t):
        real = jnp.asarray(REAL) + t * jnp.asarray(direction)
        t_complex = jnp.asarray(t).astype(complex)
        u, v = (jnp.asarray(x + 0j) + c * t_complex for x, c in zip(X, (1, 1j)))
        b = real.astype(complex) @ u + jnp.asarray(COMPLEX) @ v
        return lxa.linear_solve(operator(real), b, solver).value

    tangent = jax.jvp(value, (0.0,), (1.0,))[1]
    np.testing.assert_allclose(tangent[0], [1, 1], rtol=1e-8)
    np.testing.assert_allclose(tangent[1], [1j, 1j], rtol=1e-8)

    def size(t):
        u, v = value(t)
        return jnp.sum(u**2) + jnp.sum(jnp.abs(v) ** 2)

    wanted = 2 * np.sum(X[0]) + 2 * np.sum(np.imag(X[1]))
    np.testing.assert_allclose(jax.grad(size)(0.0), wanted, rtol=1e-8)
