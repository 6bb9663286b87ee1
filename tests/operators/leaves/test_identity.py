"""The identity, square and rectangular."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


def _struct(*shape, dtype="float64"):
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


class TestSquare(OperatorLaws):
    dtypes = ("float64", "complex64")

    def make(self, dtype, key):
        return lx.IdentityLinearOperator({"a": _struct(2, dtype=dtype)})

    def matrix(self, operator):
        return np.eye(2)


class TestPadding(OperatorLaws):
    dtypes = ("float64", "complex128")

    def make(self, dtype, key):
        out = [_struct(2, dtype=dtype), _struct(dtype=dtype), _struct(2, dtype=dtype)]
        return lx.IdentityLinearOperator(_struct(3, dtype=dtype), out)

    def matrix(self, operator):
        return np.eye(5, 3)


class TestTruncating(OperatorLaws):
    dtypes = ("float32",)

    def make(self, dtype, key):
        return lx.IdentityLinearOperator(
            _struct(2, 2, dtype=dtype), _struct(3, dtype=dtype)
        )


class TestReshaping(OperatorLaws):
    dtypes = ("complex64",)

    def make(self, dtype, key):
        return lx.IdentityLinearOperator(
            _struct(2, 2, dtype=dtype), _struct(4, dtype=dtype)
        )


@pytest.mark.standard_promotion
@pytest.mark.skipif(not jax.config.jax_enable_x64, reason="two widths of numbers")
class TestWidening(OperatorLaws):
    """float32 in, float64 out, and back."""

    dtypes = ("float64",)
    promotes = False

    def make(self, dtype, key):
        return lx.IdentityLinearOperator(_struct(3, dtype="float32"), _struct(3))


class TestToNothing(OperatorLaws):
    dtypes = ("float64", "complex128")

    def make(self, dtype, key):
        return lx.IdentityLinearOperator(_struct(2, dtype=dtype), ())


def test_narrowing_keeps_its_structure():
    operator = lx.IdentityLinearOperator(_struct(2), _struct(2, dtype="float32"))
    assert operator.mv(jnp.ones(2)).dtype == jnp.float32


def test_real_and_complex_do_not_meet():
    with pytest.raises(ValueError, match="no linear map drops an imaginary part"):
        lx.IdentityLinearOperator(_struct(2), _struct(2, dtype="complex128"))
    with pytest.raises(ValueError, match="both real or both complex"):
        lx.IdentityLinearOperator([_struct(1), _struct(1, dtype=complex)], _struct(2))


def test_real_and_complex_side_by_side():
    structure = [_struct(1), _struct(1, dtype=complex)]
    operator = lx.IdentityLinearOperator(structure, [*structure, _struct(1)])
    out = operator.mv([jnp.ones(1), jnp.array([1j])])
    assert [leaf.tolist() for leaf in out] == [[1.0], [1j], [0.0]]


def test_arrays_and_integers_as_structure():
    operator = lx.IdentityLinearOperator(np.arange(3))
    assert operator.in_structure() == _struct(3)


def test_what_is_known():
    square = lx.IdentityLinearOperator(_struct(2))
    assert lx.is_diagonal(square) and lx.has_unit_diagonal(square)
    assert lx.is_positive_semidefinite(square) and lx.is_nonsingular(square)
    assert square.T is square
    padding = lx.IdentityLinearOperator(_struct(2), _struct(3))
    assert lx.is_nonsingular(padding) and not lx.is_diagonal(padding)
    assert not lx.is_symmetric(lx.IdentityLinearOperator(_struct(4), _struct(2, 2)))
