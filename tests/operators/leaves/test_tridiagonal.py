"""A tridiagonal operator."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


class TestFour(OperatorLaws):
    dtypes = ("float32", "complex128")
    size = 4

    def make(self, dtype, key):
        k1, k2, k3 = jax.random.split(key, 3)
        n = self.size
        return lx.TridiagonalLinearOperator(
            jax.random.normal(k1, (n,), dtype),
            jax.random.normal(k2, (n - 1,), dtype),
            jax.random.normal(k3, (n - 1,), dtype),
        )

    def matrix(self, operator):
        main, lower, upper = map(
            np.asarray,
            (operator.diagonal, operator.lower_diagonal, operator.upper_diagonal),
        )
        return np.diag(main) + np.diag(lower, -1) + np.diag(upper, 1)


class TestOne(TestFour):
    dtypes = ("float64",)
    size = 1


class TestTwo(TestFour):
    dtypes = ("complex64",)
    size = 2


class TestNone(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        return lx.TridiagonalLinearOperator(*(jnp.zeros(0, dtype) for _ in range(3)))


@pytest.mark.standard_promotion
def test_bands_promote():
    """A complex diagonal keeps its imaginary part next to real ones."""
    operator = lx.TridiagonalLinearOperator(
        jnp.ones(2), jnp.array([1j]), np.zeros(1, int)
    )
    assert operator.as_matrix().tolist() == [[1, 0], [1j, 1]]
    assert operator.mv(jnp.ones(2)).tolist() == [1, 1 + 1j]


@pytest.mark.parametrize(
    "shapes",
    [((3,), (3,), (2,)), ((3,), (2,), (1,)), ((2, 2), (3,), (3,)), ((), (), ())],
)
def test_sizes(shapes):
    with pytest.raises(ValueError, match="sizes n, n - 1 and n - 1, but got shapes"):
        lx.TridiagonalLinearOperator(*map(jnp.ones, shapes))
