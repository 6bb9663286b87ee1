"""Scalings of operators."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.internal import known, signed
from lx_operators.testing import OperatorLaws


class Laws(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        matrix = jax.random.normal(key, (2, 3), dtype)
        return self.scale(lx.MatrixLinearOperator(matrix))

    def matrix(self, operator):
        return self.scale(np.asarray(operator.operator.matrix))


class TestNumber(Laws):
    scale = staticmethod(lambda a: 2 * a)


class TestArray(Laws):
    def scale(self, a):
        return a * jnp.asarray(-0.5, a.in_structure().dtype)

    def matrix(self, operator):
        return -0.5 * np.asarray(operator.operator.matrix)


class TestQuotient(Laws):
    scale = staticmethod(lambda a: a / 2.5)


class TestNegative(Laws):
    scale = staticmethod(lambda a: -a)


@pytest.mark.standard_promotion
class TestImaginary(Laws):
    """A real operator times an imaginary number is complex on both sides."""

    dtypes = ("float64", "complex64")
    scale = staticmethod(lambda a: 1j * a)


@pytest.fixture
def definite():
    tags = lx.positive_semidefinite_tag, lx.nonsingular_tag
    return lx.MatrixLinearOperator(jnp.eye(2), tags)


def _signs(operator):
    return lx.is_positive_semidefinite(operator), lx.is_negative_semidefinite(operator)


def test_signs_of_numbers_are_known(definite):
    assert _signs(2 * definite) == _signs(definite / 3) == (True, False)
    assert _signs(-2 * definite) == _signs(definite / -3) == (False, True)
    assert _signs(0 * definite) == (True, True)
    assert _signs(-definite) == (False, True)
    assert _signs(-(-1 * definite)) == (True, False)
    assert _signs(True * definite) == (True, False)


def test_signs_of_arrays_are_not_known(definite):
    for scalar in (jnp.asarray(2.0), np.float64(2.0), np.array(2.0), jnp.array(2)):
        assert _signs(scalar * definite) == _signs(definite * scalar) == (False, False)
        assert not lx.is_nonsingular(scalar * definite)
        assert lx.is_hermitian(definite / scalar)


@pytest.mark.standard_promotion
def test_complex_numbers_have_no_sign(definite):
    for scalar in (2 + 0j, 1j):
        assert _signs(scalar * definite) == (False, False)
        assert lx.is_symmetric(scalar * definite)
        assert not lx.is_hermitian(scalar * definite)
        assert lx.is_nonsingular(scalar * definite)


@pytest.mark.parametrize("scalar", [0, 0.0, float("nan"), float("inf")])
def test_what_makes_singular(definite, scalar):
    assert not lx.is_nonsingular(definite * scalar)


def test_unit_diagonal_survives_one_only():
    unit = lx.MatrixLinearOperator(jnp.eye(2), lx.unit_diagonal_tag)
    assert lx.has_unit_diagonal(1 * unit) and lx.has_unit_diagonal(unit / 1.0)
    assert not lx.has_unit_diagonal(2 * unit) and not lx.has_unit_diagonal(-unit)


@pytest.mark.standard_promotion
@pytest.mark.parametrize(
    "scalar", [2.5, -2.5, 0, 1, True, -1, 2j, 1 + 0j, 0j, float("inf"), float("nan")]
)
def test_signed_numbers_say_and_do_what_numbers_do(definite, scalar):
    """`Signed` scalars, which a solve uses in place of numbers to avoid compiling for
    each."""
    unit = lx.TaggedLinearOperator(definite, lx.unit_diagonal_tag)
    operators = [scalar * unit, -(unit @ (scalar * definite)).H]
    operators += [unit / scalar + 1j * unit] if scalar else []
    for operator, image in zip(operators, signed(operators)):
        assert known(image) == known(operator) and known(image.H) == known(operator.H)
        assert image.out_structure() == operator.out_structure()
        for one, other in ((image, operator), (image.H, operator.H)):
            np.testing.assert_array_equal(one.as_matrix(), other.as_matrix())


def test_equal_signs_are_equal_structures(definite):
    trees = [jax.tree.structure(signed(s * definite)) for s in (2.5, 7, -1.0)]
    assert trees[0] == trees[1] != trees[2]
    assert signed(definite) is definite


@pytest.mark.parametrize("scalar", ["a", None, jnp.ones(1), np.ones((2, 2)), [2.0]])
def test_scalars_only(definite, scalar):
    for scale in (lambda: definite * scalar, lambda: definite / scalar):
        with pytest.raises(ValueError, match="takes a scalar, but got .* use `@`"):
            scale()


def test_operators_are_no_scalars(definite):
    with pytest.raises(ValueError, match="takes a scalar"):
        definite * definite
    with pytest.raises(TypeError):
        2 / definite


@pytest.mark.parametrize("build", [lx.MulLinearOperator, lx.DivLinearOperator])
def test_constructors_check(definite, build):
    with pytest.raises(ValueError, match="`operator` must be a linear operator"):
        build(jnp.ones((2, 2)), 2.0)
    with pytest.raises(ValueError, match="takes a scalar"):
        build(definite, jnp.ones(2))
    with pytest.raises(ValueError, match="`operator` must be a linear operator"):
        lx.NegLinearOperator(2.0)


@pytest.mark.standard_promotion
def test_numbers_do_not_widen():
    narrow = lx.MatrixLinearOperator(jnp.ones((2, 2), "float32"))
    assert (2.0 * narrow).as_matrix().dtype == jnp.float32
    assert (2j * narrow).as_matrix().dtype == jnp.complex64
    assert (jnp.asarray(2.0, "float64") * narrow).out_structure().dtype == jnp.float64
    assert (jnp.array(2) * narrow).out_structure().dtype == jnp.float32
    # a Python number that crosses `jit` is a weakly typed array, and widens no more
    crossed = jax.jit(lambda op: op)(2.0 * narrow)
    assert crossed.mv(jnp.ones(2, "float32")).dtype == jnp.float32
    assert crossed.in_structure().dtype == jnp.float32


@pytest.mark.standard_promotion
def test_real_operator_is_applied_once_to_a_real_vector():
    """A complex factor does not double the work on a real vector."""
    scaled = 1j * lx.MatrixLinearOperator(jnp.ones((2, 2)))
    jaxpr = str(jax.make_jaxpr(scaled.mv)(jnp.ones(2)))
    assert jaxpr.count("dot_general") == 1 and "f64[2,2]" in jaxpr
