"""`shape` and `dtype` of leaf operators are those of their matrix."""

import jax
import jax.numpy as jnp
import lx_operators as lxo
import numpy as np
import pytest

ones = jnp.ones
wide = jax.ShapeDtypeStruct((2, 3), jnp.float32)
OPERATORS = [
    lxo.MatrixLinearOperator(ones((3, 2), complex)),
    lxo.PyTreeLinearOperator(
        {"a": ones((2, 3), jnp.float32)}, jax.ShapeDtypeStruct((2,), jnp.float32)
    ),
    lxo.DiagonalLinearOperator((ones(2, jnp.float32), ones(3))),
    lxo.TridiagonalLinearOperator(ones(3), ones(2), ones(2)),
    lxo.BandedLinearOperator(ones((3, 4), jnp.float32), 1, 1, rows=6),
    lxo.IdentityLinearOperator(wide, jax.ShapeDtypeStruct((4,), jnp.float32)),
    lxo.ZeroLinearOperator(wide),
    lxo.PermutationLinearOperator([1, 0, 2]),
    lxo.CirculantLinearOperator(ones(3, complex)),
    lxo.ToeplitzLinearOperator(ones(3), ones(4)),
    lxo.BlockTridiagonalLinearOperator(
        ones((3, 2, 2)), ones((2, 2, 2)), ones((2, 2, 2))
    ),
    lxo.FunctionLinearOperator(lambda x: x.sum(0), wide),
    lxo.JacobianLinearOperator(lambda x, _: jnp.sum(x, keepdims=True), ones(3)),
    lxo.SparseLinearOperator.from_dense(ones((2, 4), jnp.float32)),
]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda op: type(op).__name__)
def test_of_matrix(operator):
    matrix = np.asarray(operator.as_matrix())
    assert (operator.shape, operator.dtype) == (matrix.shape, matrix.dtype)


def test_not_of_the_abstract_class():
    """A third party's operator may have fields of these names."""
    assert not hasattr(lxo.AbstractLinearOperator, "shape")
    assert not hasattr(lxo.AbstractLinearOperator, "dtype")


def test_errors_name_the_operator():
    with pytest.raises(ValueError, match=r"got MatrixLinearOperator.*use `@`"):
        OPERATORS[0] * OPERATORS[0]
