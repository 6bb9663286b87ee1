"""An operator between spaces of wider dtypes, on which the other packages build."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import pytest
from lx_operators.internal import promoted
from lx_operators.testing import OperatorLaws


@pytest.mark.standard_promotion
@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="two widths of numbers")
class TestWider(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        matrix = jnp.arange(6, dtype="float32").reshape(2, 3)
        return promoted(lx.MatrixLinearOperator(matrix), jnp.float64)


@pytest.mark.standard_promotion
class TestComplex(OperatorLaws):
    dtypes = ("complex64",)

    def make(self, dtype, key):
        narrow = lx.DiagonalLinearOperator([jnp.ones(2, "float32"), jnp.zeros(())])
        return promoted(narrow, jnp.complex64)


def test_wide_enough_is_itself():
    operator = lx.MatrixLinearOperator(jnp.ones((2, 2)))
    assert promoted(operator, jnp.float32) is operator
