"""The sum of two operators."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


class TestRectangular(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        k1, k2 = jax.random.split(key)
        a = lx.MatrixLinearOperator(jax.random.normal(k1, (2, 3), dtype))
        b = jax.random.normal(k2, (2, 3), dtype)
        fn = lx.FunctionLinearOperator(lambda x: b @ x, a.in_structure())
        return a + fn


class TestHermitianPart(OperatorLaws):
    """A + Aᴴ, which knows that it is Hermitian."""

    dtypes = ("float64", "complex128")

    def make(self, dtype, key):
        a = lx.MatrixLinearOperator(jax.random.normal(key, (3, 3), dtype))
        assert lx.is_hermitian(a + a.H) and lx.is_symmetric(a + a.T)
        return a + a.H


class TestBands(OperatorLaws):
    dtypes = ("complex128",)

    def make(self, dtype, key):
        a = lx.MatrixLinearOperator(jax.random.normal(key, (3, 3), dtype))
        d = lx.DiagonalLinearOperator(jnp.arange(3).astype(dtype))
        t = lx.TridiagonalLinearOperator(d.diagonal, d.diagonal[1:], d.diagonal[:-1])
        return d + (t + a)

    def matrix(self, operator):
        a = np.asarray(operator.operator2.operator2.matrix)
        d = np.arange(3)
        return a + np.diag(2 * d) + np.diag(d[1:], -1) + np.diag(d[:-1], 1)


@pytest.mark.standard_promotion
class TestRealAndComplex(OperatorLaws):
    """Operators of different dtypes promote."""

    dtypes = ("float32",)

    def make(self, dtype, key):
        a = lx.MatrixLinearOperator(jax.random.normal(key, (2, 2), dtype))
        return a + lx.DiagonalLinearOperator(jnp.array([1j, 2.0], "complex64"))


def test_structures_must_be_equal():
    a, b = (lx.MatrixLinearOperator(jnp.ones(shape)) for shape in ((2, 3), (2, 2)))
    with pytest.raises(
        ValueError, match=r"in a sum, the input .* f64\[3\] and f64\[2\]"
    ):
        a + b
    with pytest.raises(ValueError, match="in a sum, the output structures"):
        a + lx.MatrixLinearOperator(jnp.ones((3, 3)))


@pytest.mark.parametrize("other", [1, 1.0, np.ones((2, 2)), jnp.ones((2, 2)), None])
def test_operators_only(other):
    a = lx.MatrixLinearOperator(jnp.ones((2, 2)))
    for combine in (
        lambda: a + other,
        lambda: other + a,
        lambda: a - other,
        lambda: other - a,
        lambda: lx.AddLinearOperator(a, other),
    ):
        with pytest.raises(ValueError, match=f"`{type(other).__name__}`"):
            combine()


def test_arrays_are_told_to_be_wrapped():
    with pytest.raises(ValueError, match=r"MatrixLinearOperator\(array\)"):
        lx.MatrixLinearOperator(jnp.ones((2, 2))) + jnp.ones((2, 2))


def test_no_matrix_for_a_diagonal():
    """Adding a diagonal to a matrix makes no second n×n array."""
    n = 7
    total = lx.MatrixLinearOperator(jnp.ones((n, n))) + lx.DiagonalLinearOperator(
        jnp.ones(n)
    )
    jaxpr = jax.make_jaxpr(lambda op: op.as_matrix())(total)
    large = [
        equation
        for equation in jaxpr.eqns
        if any(out.aval.size >= n * n for out in equation.outvars)
    ]
    assert len(large) == 1, jaxpr


def test_sum_with_itself():
    a = lx.MatrixLinearOperator(jnp.arange(4.0).reshape(2, 2))
    np.testing.assert_array_equal((a + a).T.as_matrix(), 2 * a.matrix.T)
    identity = lx.IdentityLinearOperator(jnp.zeros(2))
    np.testing.assert_array_equal((identity + identity).T.as_matrix(), 2 * np.eye(2))
