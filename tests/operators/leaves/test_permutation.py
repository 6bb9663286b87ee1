"""Permutations."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws

ORDER = np.array([2, 0, 1, 3])


class TestFlat(OperatorLaws):
    dtypes = ("float32",)

    def make(self, dtype, key):
        structure = jax.ShapeDtypeStruct((4,), dtype)
        return lx.PermutationLinearOperator(ORDER, structure)

    def matrix(self, operator):
        return np.eye(4)[ORDER]


class TestPyTree(TestFlat):
    dtypes = ("complex128",)

    def make(self, dtype, key):
        structure = {"a": jnp.zeros((), dtype), "b": jnp.zeros((3, 1), dtype)}
        return lx.PermutationLinearOperator(ORDER, structure)


def test_default_structure():
    operator = lx.PermutationLinearOperator(jnp.array(ORDER))
    assert operator.in_structure() == jax.ShapeDtypeStruct((4,), float)
    assert lx.is_nonsingular(operator)
    np.testing.assert_array_equal(operator.mv(jnp.arange(4.0)), ORDER)


def test_traced():
    x = jnp.arange(4.0)
    out = jax.jit(lambda p: lx.PermutationLinearOperator(p).T.mv(x))(jnp.array(ORDER))
    np.testing.assert_array_equal(out, np.argsort(ORDER))


def test_bad_arguments():
    with pytest.raises(ValueError, match="0 to 2 once"):
        lx.PermutationLinearOperator([0, 2, 2])
    with pytest.raises(ValueError, match="0 to 1 once"):
        lx.PermutationLinearOperator([1, -2])
    with pytest.raises(ValueError, match="integers"):
        lx.PermutationLinearOperator([0.0, 1.0])
    with pytest.raises(ValueError, match="as many scalars"):
        lx.PermutationLinearOperator([0, 1], jax.ShapeDtypeStruct((3,), float))
    mixed = (jnp.zeros(1, "f4"), jnp.zeros(1))
    with pytest.raises(ValueError, match="one dtype"):
        lx.PermutationLinearOperator([0, 1], mixed)
