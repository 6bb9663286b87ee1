"""A diagonal operator."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


class TestVector(OperatorLaws):
    dtypes = ("float64", "complex64")

    def make(self, dtype, key):
        return lx.DiagonalLinearOperator(jax.random.normal(key, (4,), dtype))

    def matrix(self, operator):
        return np.diag(operator.diagonal)


class TestTree(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        k1, k2 = jax.random.split(key)
        leaves = jax.random.normal(k1, (2, 2), dtype), jax.random.normal(k2, (), dtype)
        return lx.DiagonalLinearOperator(dict(zip("ab", leaves)))


@pytest.mark.standard_promotion
class TestMixed(OperatorLaws):
    dtypes = ("complex128",)
    promotes = False  # leaves promote one by one

    def make(self, dtype, key):
        return lx.DiagonalLinearOperator(
            [jnp.ones(2, "float32"), 1j * jnp.ones(2, complex)]
        )


@pytest.mark.parametrize("diagonal", [jnp.zeros(0), (), None], ids=str)
def test_nothing(diagonal):
    class Laws(OperatorLaws):
        dtypes = ("float64",)

        def make(self, dtype, key):
            return lx.DiagonalLinearOperator(diagonal)

    Laws().check()


def test_numbers():
    operator = lx.DiagonalLinearOperator([1, 2.0, 3j])
    assert operator.as_matrix().tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 3j]]
    assert [leaf.dtype for leaf in operator.diagonal] == ["float64"] * 2 + [
        "complex128"
    ]


def test_transpose_and_real_conj_are_itself():
    real, complex_ = (
        lx.DiagonalLinearOperator(jnp.ones(2, d)) for d in (float, complex)
    )
    assert real.T is real and real.H is real and lx.conj(real) is real
    assert complex_.T is complex_ and complex_.H is not complex_


@pytest.mark.standard_promotion
def test_leaves_promote_one_by_one():
    operator = lx.DiagonalLinearOperator([jnp.ones(2, "float32")] * 2)
    out = operator.mv([jnp.ones(2, "float32"), jnp.ones(2, "complex128")])
    assert [leaf.dtype for leaf in out] == ["float32", "complex128"]


def test_no_broadcasting():
    operator = lx.DiagonalLinearOperator(jnp.ones(2))
    for vector in (1.0, jnp.ones((2, 2)), jnp.ones(1), [jnp.ones(2)]):
        with pytest.raises(ValueError, match=r"must have structure f64\[2\]"):
            operator.mv(vector)
