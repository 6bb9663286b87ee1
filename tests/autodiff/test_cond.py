"""`cond` against the condition number in the 1-norm that NumPy computes."""

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("n", "dtype"), [(5, "float32"), (5, "complex128"), (40, "complex128")]
)
def test_dense(n, dtype):
    """Exact for few unknowns, a lower bound within a factor of three for more; the same
    from the factors of an earlier solve."""
    A = rng.normal(size=(n, n)) * np.geomspace(1, 1e3, n)
    A = A + 1j * rng.normal(size=(n, n)) if dtype == "complex128" else A
    operator = lxo.MatrixLinearOperator(jnp.asarray(A, dtype))
    solver = lxs.LU()
    estimate = lxa.cond(operator, solver, state=solver.init(operator, {}))
    assert estimate.dtype == jnp.finfo(dtype).dtype
    truth = np.linalg.cond(A, 1)
    assert truth * (0.99 if n <= 8 else 1 / 3) < float(estimate) < 1.01 * truth


def test_without_a_matrix():
    """A function, by an iterative solver: -u'' + u on a chain, whose inverse is
    positive, so that the estimate is exact."""
    n = 30

    def fn(u):
        return 3 * u - jnp.pad(u[1:], (0, 1)) - jnp.pad(u[:-1], (1, 0))

    structure = jax.ShapeDtypeStruct((n,), jnp.float64)
    operator = lxo.FunctionLinearOperator(fn, structure, lxo.positive_semidefinite_tag)
    truth = np.linalg.cond(np.asarray(operator.as_matrix()), 1)
    estimate = lxa.cond(operator, lxs.CG(rtol=1e-10, atol=0.0))
    np.testing.assert_allclose(estimate, truth, rtol=1e-6)


def test_singular():
    for A in (jnp.ones((3, 3)), jnp.zeros((3, 3))):
        assert lxa.cond(lxo.MatrixLinearOperator(A), lxs.LU()) == jnp.inf


def test_under_jit():
    A = jnp.asarray(rng.normal(size=(4, 4)))

    def fn(A):
        return lxa.cond(lxo.MatrixLinearOperator(A), lxs.LU())

    np.testing.assert_allclose(jax.jit(fn)(A), np.linalg.cond(A, 1))
    assert jnp.all(jax.grad(fn)(A) == 0)  # an estimate has no derivative


def test_errors():
    with pytest.raises(ValueError, match="`error_bounds`"):
        lxa.cond(lxo.MatrixLinearOperator(jnp.ones((3, 2))))
    mixed = lxo.DiagonalLinearOperator((jnp.ones(2), jnp.ones(2, complex)))
    with pytest.raises(ValueError, match="all real or all complex"):
        lxa.cond(mixed)
    with pytest.raises(ValueError, match="MatrixLinearOperator"):
        lxa.cond(jnp.eye(2))  # pyright: ignore
