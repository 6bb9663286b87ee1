"""An operator with further tags."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators._tags import Tag
from lx_operators.testing import OperatorLaws

MINE = Tag("mine")


class TestSemidefinite(OperatorLaws):
    dtypes = ("float64", "complex128")
    differentiable = False  # the tangent is not Hermitian

    def make(self, dtype, key):
        a = jax.random.normal(key, (3, 3), dtype)
        inner = lx.MatrixLinearOperator(a) @ lx.MatrixLinearOperator(a.conj().T)
        return lx.TaggedLinearOperator(inner, lx.positive_semidefinite_tag)


class TestTriangular(OperatorLaws):
    dtypes = ("complex64",)

    def make(self, dtype, key):
        a = jnp.triu(jax.random.normal(key, (3, 3), dtype))
        inner = lx.FunctionLinearOperator(lambda x: a @ x, jnp.zeros(3, dtype))
        return lx.TaggedLinearOperator(inner, [lx.upper_triangular_tag])


class TestDiagonal(OperatorLaws):
    """A function between pytrees, tagged from outside."""

    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        d = jax.random.normal(key, (2, 2), dtype)
        inner = lx.FunctionLinearOperator(
            lambda x: [d * x[0]], [jnp.zeros((2, 2), dtype)]
        )
        return lx.TaggedLinearOperator(inner, lx.diagonal_tag)


class TestTridiagonal(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        main, off = jax.random.normal(key, (2, 4), dtype)
        t = lx.TridiagonalLinearOperator(main, off[1:], off[1:])
        d = lx.FunctionLinearOperator(lambda x: main * x, t.in_structure())
        return lx.TaggedLinearOperator(d @ t, lx.tridiagonal_tag)


def test_any_iterable_or_one():
    inner = lx.MatrixLinearOperator(jnp.eye(2))
    a, b = lx.symmetric_tag, lx.tridiagonal_tag
    for tags in ([a, b], {a, b}, (a, b), iter([a, b]), frozenset((a, b))):
        assert lx.TaggedLinearOperator(inner, tags).tags == {a, b}
    assert lx.TaggedLinearOperator(inner, a).tags == {a}
    assert lx.TaggedLinearOperator(inner, MINE).tags == {MINE}
    assert lx.TaggedLinearOperator(inner, ()).tags == frozenset()


def test_adds_to_what_is_known():
    inner = lx.MatrixLinearOperator(jnp.eye(2), lx.symmetric_tag)
    operator = lx.TaggedLinearOperator(inner, lx.nonsingular_tag)
    assert lx.is_symmetric(operator) and lx.is_nonsingular(operator)


@pytest.mark.parametrize(
    "tag", [lx.symmetric_tag, lx.diagonal_tag, lx.positive_semidefinite_tag]
)
def test_needs_equal_structures(tag):
    rectangular = lx.MatrixLinearOperator(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="needs equal input and output structure"):
        lx.TaggedLinearOperator(rectangular, tag)
    with pytest.raises(ValueError, match="`operator` must be a linear operator"):
        lx.TaggedLinearOperator(jnp.ones((2, 2)), tag)


def test_tags_are_transposed():
    inner = lx.MatrixLinearOperator(jnp.eye(2))
    operator = lx.TaggedLinearOperator(inner, [lx.lower_triangular_tag, MINE])
    assert operator.T.tags == {lx.upper_triangular_tag}
    assert operator.T.T.tags == {lx.lower_triangular_tag}
    symmetric = lx.TaggedLinearOperator(inner, [lx.symmetric_tag, MINE])
    assert symmetric.T is symmetric


def test_symmetric_spares_transposing():
    def halve(x):  # JAX cannot transpose a while loop
        init = (0, x)
        return jax.lax.while_loop(lambda s: s[0] < 1, lambda s: (1, s[1] / 2), init)[1]

    inner = lx.FunctionLinearOperator(halve, jnp.zeros(2, complex))
    operator = lx.TaggedLinearOperator(inner, lx.hermitian_tag)
    assert operator.T.mv(jnp.array([2j, 2])).tolist() == [1j, 1]


def test_materialise_uses_the_tag():
    inner = lx.FunctionLinearOperator(lambda x: 2 * x, jnp.zeros(3))
    stored = lx.materialise(lx.TaggedLinearOperator(inner, lx.diagonal_tag))
    assert isinstance(stored.operator, lx.DiagonalLinearOperator)
    np.testing.assert_array_equal(stored.as_matrix(), 2 * np.eye(3))
