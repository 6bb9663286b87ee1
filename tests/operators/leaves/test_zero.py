"""The zero operator."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
from lx_operators.testing import OperatorLaws


class TestRectangular(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        structure = {"a": jnp.zeros(2, dtype), "b": jnp.zeros((), dtype)}
        return lx.ZeroLinearOperator(jax.ShapeDtypeStruct((2,), dtype), structure)

    def matrix(self, operator):
        return np.zeros((3, 2))


class TestSquare(OperatorLaws):
    dtypes = ("complex64",)

    def make(self, dtype, key):
        return lx.ZeroLinearOperator(jnp.ones((2, 1), dtype))

    def matrix(self, operator):
        return np.zeros((2, 2))


def test_is_both_semidefinite():
    operator = lx.ZeroLinearOperator(jnp.ones(2))
    assert lx.is_positive_semidefinite(operator)
    assert lx.is_negative_semidefinite(operator)
    assert not lx.is_nonsingular(operator)
