"""Toeplitz operators."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
import scipy.linalg
from lx_operators.testing import OperatorLaws


class TestRectangular(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        row = jax.random.normal(key, (3,), dtype)
        return lx.ToeplitzLinearOperator(jax.random.normal(key, (5,), dtype), row)

    def matrix(self, operator):
        return scipy.linalg.toeplitz(*map(np.asarray, (operator.column, operator.row)))


class TestSymmetric(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        return lx.ToeplitzLinearOperator(jax.random.normal(key, (4,), dtype))

    def matrix(self, operator):
        return scipy.linalg.toeplitz(np.asarray(operator.column))


def test_complex_default_row():
    """The conjugate of the column, as SciPy's; Hermitian is for a tag to say."""
    c = np.array([2.0, 1j, 0.5 - 1j])
    operator = lx.ToeplitzLinearOperator(c)
    assert not lx.is_hermitian(operator)
    np.testing.assert_array_equal(operator.as_matrix(), scipy.linalg.toeplitz(c))
    np.testing.assert_allclose(operator.T.as_matrix(), scipy.linalg.toeplitz(c).T)
    np.testing.assert_allclose(
        lx.conj(operator).mv(c), scipy.linalg.toeplitz(c.conj()) @ c
    )
    tagged = lx.ToeplitzLinearOperator(c, tags=lx.hermitian_tag)
    assert lx.is_hermitian(tagged.T)


def test_one_element():
    operator = lx.ToeplitzLinearOperator(np.array([3.0]), np.array([7.0, 1.0]))
    np.testing.assert_array_equal(operator.as_matrix(), [[3, 1]])
    np.testing.assert_allclose(operator.mv(jnp.array([1.0, 2.0])), [5])
    assert lx.ToeplitzLinearOperator(np.array([3.0])).mv(jnp.ones(1)) == 3


@pytest.mark.parametrize("column, row", [(1.0, None), ([], [1.0]), ([1.0], [[1.0]])])
def test_bad_shapes(column, row):
    with pytest.raises(ValueError, match="`column` and `row` must be one-dim"):
        lx.ToeplitzLinearOperator(jnp.asarray(column), row)


def test_tag_needs_a_square():
    with pytest.raises(ValueError, match="symmetric"):
        lx.ToeplitzLinearOperator(jnp.ones(3), jnp.ones(2), lx.symmetric_tag)


def test_large_product():
    """Linear memory: the matrix would take 80 GB."""
    n = 100_000
    operator = lx.ToeplitzLinearOperator(jnp.ones(n), jnp.zeros(n))
    np.testing.assert_allclose(operator.mv(jnp.ones(n)), 1 + np.arange(n), rtol=1e-9)
