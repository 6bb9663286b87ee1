"""Operators of some diagonals."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
import scipy.sparse as sp
from lx_operators.internal import bands, bandwidths
from lx_operators.testing import OperatorLaws


class TestWide(OperatorLaws):
    dtypes = ("float32", "complex128")
    offsets = (2, -3, 0)
    rows = 4

    def make(self, dtype, key):
        lines = jax.random.normal(key, (3, 5), dtype).at[1, 4].set(jnp.nan)
        return lx.SparseDiagonalsLinearOperator(lines, self.offsets, rows=self.rows)

    def matrix(self, operator):
        data = (np.asarray(operator.diagonals), self.offsets)
        return sp.dia_array(data, shape=(self.rows, 5)).toarray()


class TestSquare(TestWide):
    dtypes = ("float64",)
    offsets = (-1, 0, 1)
    rows = 5

    def make(self, dtype, key):
        lines = jax.random.normal(key, (3, 5), dtype)
        return lx.SparseDiagonalsLinearOperator(lines, self.offsets)


def test_from_scipy():
    matrix = sp.diags([np.arange(1.0, 5), np.ones(3)], [0, -2], (5, 4))
    operator = lx.SparseDiagonalsLinearOperator.from_scipy(matrix)
    np.testing.assert_array_equal(operator.as_matrix(), matrix.toarray())
    np.testing.assert_array_equal(operator.T.mv(np.ones(5)), matrix.T @ np.ones(5))


def test_bands():
    operator = lx.SparseDiagonalsLinearOperator(jnp.ones((2, 5)), (-2, 1))
    assert bandwidths(operator) == (2, 1)
    banded = lx.BandedLinearOperator(bands(operator), 2, 1)
    np.testing.assert_array_equal(banded.as_matrix(), operator.as_matrix())
    far = lx.SparseDiagonalsLinearOperator(jnp.ones((2, 90)), (-50, 0))
    assert bandwidths(far) is None and lx.is_lower_triangular(far)


@pytest.mark.parametrize(
    "offsets, match",
    [((0, 0), "different"), ((0.5, 1.0), "integers"), ((0,), "as many rows")],
)
def test_bad_input(offsets, match):
    with pytest.raises(ValueError, match=match):
        lx.SparseDiagonalsLinearOperator(jnp.ones((2, 5)), offsets)
