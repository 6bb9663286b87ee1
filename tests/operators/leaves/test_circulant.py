"""Circulant operators."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
import scipy.linalg
from lx_operators.testing import OperatorLaws


class TestOneAxis(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        return lx.CirculantLinearOperator(jax.random.normal(key, (5,), dtype))

    def matrix(self, operator):
        return scipy.linalg.circulant(np.asarray(operator.column))


class TestTwoAxes(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        return lx.CirculantLinearOperator(jax.random.normal(key, (2, 3), dtype))

    def matrix(self, operator):
        top, bottom = (scipy.linalg.circulant(row) for row in np.array(operator.column))
        return np.block([[top, bottom], [bottom, top]])


def test_tags():
    column = jnp.array([2.0, -1.0, 0.0, -1.0])
    operator = lx.CirculantLinearOperator(column, lx.positive_semidefinite_tag)
    assert lx.is_positive_semidefinite(operator)
    assert operator.T is operator
    assert not lx.is_symmetric(lx.CirculantLinearOperator(column))


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("dtype", ["float16", "complex64"])
def test_sizes(n, dtype):
    operator = lx.CirculantLinearOperator(jnp.arange(1, n + 1, dtype=dtype))
    x = jnp.arange(n).astype(dtype)
    assert operator.mv(x).dtype == dtype
    wanted = scipy.linalg.circulant(np.arange(1, n + 1)) @ np.arange(n)
    np.testing.assert_allclose(operator.mv(x), wanted, rtol=1e-2)


def test_empty():
    operator = lx.CirculantLinearOperator(jnp.zeros(0))
    assert operator.mv(jnp.zeros(0)).shape == (0,)
    assert operator.as_matrix().shape == (0, 0)
    assert [band.shape for band in lx.tridiagonal(operator)] == [(0,), (0,), (0,)]


def test_scalar():
    with pytest.raises(ValueError, match="`column`.*scalar"):
        lx.CirculantLinearOperator(1.0)
