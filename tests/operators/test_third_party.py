"""Operators of third parties: the abstract methods are enough for everything."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators._tags import Tag
from lx_operators.testing import OperatorLaws

MINE = Tag("mine")


class Circulant(lx.AbstractLinearOperator):
    """Registers nothing."""

    column: jax.Array

    def mv(self, vector):
        product = jnp.fft.fft(self.column) * jnp.fft.fft(vector)
        product = jnp.fft.ifft(product)
        real = jnp.isrealobj(self.column) and jnp.isrealobj(vector)
        product = product.real if real else product
        return product.astype(jnp.result_type(self.column, vector))

    def as_matrix(self):
        n = self.column.size
        return self.column[(jnp.arange(n)[:, None] - jnp.arange(n)[None, :]) % n]

    def transpose(self):
        return Circulant(jnp.roll(self.column[::-1], 1))

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.column.shape, self.column.dtype)

    def out_structure(self):
        return self.in_structure()


class Scaled(lx.AbstractLinearOperator):
    """s I, with an `__init__` of its own; it registers one question."""

    factor: jax.Array
    size: int

    def __init__(self, factor, size):
        self.factor = jnp.asarray(factor)
        self.size = size

    def mv(self, vector):
        return self.factor * vector

    def as_matrix(self):
        return self.factor * jnp.eye(self.size, dtype=self.factor.dtype)

    def transpose(self):
        return self

    def in_structure(self):
        return jax.ShapeDtypeStruct((self.size,), self.factor.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct((self.size,), self.factor.dtype)


@lx.is_diagonal.register
def _(operator: Scaled):
    return True


class TestNothingRegistered(OperatorLaws):
    def make(self, dtype, key):
        return Circulant(jax.random.normal(key, (4,), dtype))

    def matrix(self, operator):
        column = np.asarray(operator.column)
        return np.stack([np.roll(column, k) for k in range(4)], axis=1)


class TestOneQuestionRegistered(OperatorLaws):
    dtypes = ("float64", "complex64")

    def make(self, dtype, key):
        return Scaled(jax.random.normal(key, (), dtype), 3)


QUESTIONS = [
    lx.has_unit_diagonal,
    lx.is_diagonal,
    lx.is_hermitian,
    lx.is_lower_triangular,
    lx.is_negative_semidefinite,
    lx.is_nonsingular,
    lx.is_positive_semidefinite,
    lx.is_symmetric,
    lx.is_tridiagonal,
    lx.is_upper_triangular,
]


def test_questions_are_answered_false():
    operator = Circulant(jnp.arange(3.0))
    assert not any(question(operator) for question in QUESTIONS)


def test_a_registered_answer_has_its_implications():
    operator = Scaled(2.0, 3)
    assert lx.is_symmetric(operator) and lx.is_upper_triangular(operator)
    assert lx.is_symmetric(operator @ lx.DiagonalLinearOperator(jnp.ones(3)))
    assert not lx.is_nonsingular(operator)


def test_linearise_returns_it():
    operator = Circulant(jnp.arange(3.0))
    assert lx.linearise(operator) is operator
    assert lx.conj(operator) is operator  # it is real


def test_materialise_uses_what_is_known():
    stored = lx.materialise(Scaled(2.0, 3))
    assert isinstance(stored, lx.DiagonalLinearOperator)
    assert isinstance(lx.materialise(Circulant(jnp.ones(3))), lx.PyTreeLinearOperator)


def test_an_answer_may_ask_another_question():
    """Even one that is not registered, and so comes back to what is."""

    class Curious(Scaled):
        pass

    lx.is_positive_semidefinite.register(Curious, lambda op: lx.is_hermitian(op))
    lx.is_hermitian.register(Curious, lambda op: lx.is_symmetric(op))
    operator = Curious(1.0, 2)  # diagonal, as Scaled is, hence symmetric
    assert lx.is_positive_semidefinite(operator) and lx.is_hermitian(operator)

    class Circular(Circulant):
        pass

    # is_diagonal is not registered, and comes back to what is: to is_symmetric
    lx.is_symmetric.register(Circular, lambda op: lx.is_diagonal(op))
    lx.is_nonsingular.register(Circular, lambda op: lx.is_symmetric(op))
    assert not lx.is_symmetric(Circular(jnp.ones(2)))
    assert not lx.is_nonsingular(Circular(jnp.ones(2)))


def test_own_arithmetic():
    """A type may say what its sums are."""
    from lx_operators._functions import add

    class Summing(Circulant):
        pass

    add.register(
        Summing, lambda a, b: "mine" if isinstance(b, Summing) else NotImplemented
    )
    assert Summing(jnp.ones(2)) + Summing(jnp.ones(2)) == "mine"


@pytest.mark.standard_promotion
def test_real_operator_gets_real_vectors_in_composites():
    """A third party's product that drops imaginary parts is not handed any."""

    class Dropping(Circulant):
        def mv(self, vector):
            return Circulant.mv(self, vector.real)

    a = Dropping(jnp.arange(3.0))
    x = jnp.array([1j, 2, 3 - 1j])
    expected = np.asarray(a.as_matrix()) @ np.asarray(x)
    for operator, factor in ((2 * a, 2), (a + a, 2), (-a, -1)):
        np.testing.assert_allclose(operator.mv(x), factor * expected, rtol=1e-14)
    tagged = lx.TaggedLinearOperator(a, MINE)
    np.testing.assert_allclose(tagged.mv(x), expected, rtol=1e-14)
    np.testing.assert_allclose((a @ a).mv(x), a.as_matrix() @ expected, rtol=1e-13)


@pytest.mark.parametrize("question", QUESTIONS)
def test_questions_to_something_else(question):
    with pytest.raises(
        ValueError, match=f"`{question.__name__}` takes a linear operator"
    ):
        question(jnp.ones((2, 2)))


@pytest.mark.parametrize(
    "function", [lx.linearise, lx.materialise, lx.diagonal, lx.tridiagonal, lx.conj]
)
def test_functions_of_something_else(function):
    with pytest.raises(ValueError, match=r"wrap the array as `MatrixLinearOperator"):
        function(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="pass an `AbstractLinearOperator`"):
        function([1.0])
