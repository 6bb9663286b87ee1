"""A matrix as an operator."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators._tags import Tag
from lx_operators.testing import OperatorLaws

MINE = Tag("mine")


class TestTall(OperatorLaws):
    def make(self, dtype, key):
        return lx.MatrixLinearOperator(jax.random.normal(key, (4, 3), dtype))

    def matrix(self, operator):
        return np.asarray(operator.matrix)


class TestHermitian(OperatorLaws):
    dtypes = ("float64", "complex128")
    differentiable = False  # the tangent is not Hermitian

    def make(self, dtype, key):
        a = jax.random.normal(key, (3, 3), dtype)
        tags = lx.positive_semidefinite_tag, lx.nonsingular_tag
        return lx.MatrixLinearOperator(a @ a.conj().T + jnp.eye(3, dtype=dtype), tags)


class TestTriangular(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        a = jnp.tril(jax.random.normal(key, (3, 3), dtype), -1)
        tags = lx.lower_triangular_tag, lx.unit_diagonal_tag
        return lx.MatrixLinearOperator(a + jnp.eye(3, dtype=dtype), tags)


class TestDiagonal(OperatorLaws):
    dtypes = ("complex128",)
    differentiable = False  # off the diagonal, the tangent leaves the tag's space

    def make(self, dtype, key):
        matrix = jnp.diag(jax.random.normal(key, (3,), dtype))
        return lx.MatrixLinearOperator(matrix, lx.diagonal_tag)


class TestOneByOne(OperatorLaws):
    dtypes = ("float64", "complex128")

    def make(self, dtype, key):
        return lx.MatrixLinearOperator(jax.random.normal(key, (1, 1), dtype))


class TestNoRows(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        return lx.MatrixLinearOperator(jnp.zeros((0, 3), dtype))


class TestNothing(OperatorLaws):
    dtypes = ("complex128",)

    def make(self, dtype, key):
        return lx.MatrixLinearOperator(jnp.zeros((0, 0), dtype), lx.diagonal_tag)


@pytest.mark.parametrize("shape", [(3,), (), (2, 2, 2)])
def test_two_dimensions_only(shape):
    with pytest.raises(ValueError, match=r"`matrix` must be a two-dimensional array"):
        lx.MatrixLinearOperator(jnp.ones(shape))


def test_integers_become_floating():
    operator = lx.MatrixLinearOperator(np.array([[1, 2], [3, 4]]))
    assert operator.matrix.dtype == jnp.float64
    assert operator.mv(jnp.array([1, 1])).tolist() == [3.0, 7.0]


def test_diagonal_tag_is_trusted():
    """Tagged diagonal, a matrix acts as its diagonal."""
    operator = lx.MatrixLinearOperator(
        jnp.arange(1.0, 5).reshape(2, 2), lx.diagonal_tag
    )
    assert operator.mv(jnp.ones(2)).tolist() == [1.0, 4.0]
    main, lower, upper = lx.tridiagonal(operator)
    assert (main.tolist(), lower.tolist(), upper.tolist()) == ([1.0, 4.0], [0.0], [0.0])
    stored = lx.materialise(operator)
    assert isinstance(stored, lx.DiagonalLinearOperator)
    assert stored.as_matrix().tolist() == [[1.0, 0.0], [0.0, 4.0]]


@pytest.mark.parametrize(
    "tag",
    [
        lx.symmetric_tag,
        lx.hermitian_tag,
        lx.diagonal_tag,
        lx.positive_semidefinite_tag,
        lx.negative_semidefinite_tag,
    ],
)
def test_claims_that_need_a_square(tag):
    with pytest.raises(ValueError, match=r"f64\[3\].* f64\[2\].*leave the tag out"):
        lx.MatrixLinearOperator(jnp.ones((2, 3)), tag)


def test_claims_that_need_no_square():
    tags = lx.lower_triangular_tag, lx.tridiagonal_tag, lx.unit_diagonal_tag
    for tag in tags:
        assert lx.MatrixLinearOperator(jnp.ones((2, 3)), tag).tags == {tag}


def test_symmetric_is_its_own_transpose():
    operator = lx.MatrixLinearOperator(jnp.eye(2), {lx.symmetric_tag, MINE})
    assert operator.T is operator
    other = lx.MatrixLinearOperator(jnp.eye(2), MINE)
    assert other.T.tags == frozenset()


@pytest.mark.parametrize("vector", [jnp.ones(3), jnp.ones((2, 1)), [jnp.ones(2)], 1.0])
def test_wrong_vector(vector):
    operator = lx.MatrixLinearOperator(jnp.ones((3, 2)))
    with pytest.raises(
        ValueError, match=r"the vector must have structure f64\[2\], but has"
    ):
        operator.mv(vector)


def test_vector_of_text():
    with pytest.raises(ValueError, match="the vector is not a pytree of arrays"):
        lx.MatrixLinearOperator(jnp.ones((3, 2))).mv("text")
