"""The Kronecker product."""

import functools

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


def _normal(key, dtype, *shape):
    return jax.random.normal(key, shape, dtype)


class Laws(OperatorLaws):
    def matrix(self, operator):
        parts = [np.asarray(part.as_matrix()) for part in operator.operators]
        return functools.reduce(np.kron, parts)


class TestRectangular(Laws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        return lx.KroneckerLinearOperator(
            lx.MatrixLinearOperator(_normal(key, dtype, 2, 3)),
            lx.MatrixLinearOperator(_normal(key, dtype, 3, 1)),
        )


@pytest.mark.standard_promotion
class TestThree(Laws):
    """Factors of several axes, of other dtypes, and of one element."""

    dtypes = ("float64",)

    def make(self, dtype, key):
        structure = jax.ShapeDtypeStruct((2, 1), dtype)
        return lx.KroneckerLinearOperator(
            lx.PyTreeLinearOperator(_normal(key, dtype, 2, 1, 2, 1), structure),
            lx.DiagonalLinearOperator(jnp.array([2.0], "float32")),
            lx.TridiagonalLinearOperator(
                *(_normal(key, dtype, n) for n in (3, 2, 2)),
            ),
        )


class TestDefinite(Laws):
    dtypes = ("complex64",)

    def make(self, dtype, key):
        x = lx.MatrixLinearOperator(_normal(key, dtype, 3, 2), lx.nonsingular_tag)
        d = lx.DiagonalLinearOperator(jnp.array([1.0, 2.0], dtype))
        return lx.KroneckerLinearOperator(
            -(x.H @ x), lx.TaggedLinearOperator(d, lx.positive_semidefinite_tag)
        )


@pytest.mark.standard_promotion
def test_tridiagonal():
    """A diagonal of tridiagonal blocks, with factors of one element anywhere."""
    parts = (
        lx.DiagonalLinearOperator(jnp.array([1.0, 2.0])),
        lx.TridiagonalLinearOperator(*(1.0 + jnp.arange(n) for n in (3, 2, 2))),
        lx.DiagonalLinearOperator(jnp.array([3.0])),
    )
    operator = lx.KroneckerLinearOperator(*parts)
    assert lx.is_tridiagonal(operator)
    assert not lx.is_tridiagonal(lx.KroneckerLinearOperator(*parts[::-1]))
    dense = functools.reduce(np.kron, (part.as_matrix() for part in parts))
    for band, offset in zip(lx.tridiagonal(operator), (0, -1, 1)):
        np.testing.assert_allclose(band, np.diagonal(dense, offset))


def test_empty():
    a = lx.MatrixLinearOperator(jnp.zeros((0, 2)))
    b = lx.MatrixLinearOperator(jnp.ones((3, 2)))
    operator = lx.KroneckerLinearOperator(a, b)
    assert operator.mv(jnp.ones((2, 2))).shape == (0, 3)
    np.testing.assert_array_equal(operator.T.mv(jnp.ones((0, 3))), np.zeros((2, 2)))
    assert operator.as_matrix().shape == (0, 4)


_A = jnp.array([[2.0, 1.0], [1.0, 3.0]])
_TAGS = {
    lx.symmetric_tag: lx.is_symmetric,
    lx.hermitian_tag: lx.is_hermitian,
    lx.diagonal_tag: lx.is_diagonal,
    lx.lower_triangular_tag: lx.is_lower_triangular,
    lx.upper_triangular_tag: lx.is_upper_triangular,
    lx.unit_diagonal_tag: lx.has_unit_diagonal,
    lx.nonsingular_tag: lx.is_nonsingular,
    lx.positive_semidefinite_tag: lx.is_positive_semidefinite,
}


@pytest.mark.parametrize("tag", _TAGS, ids=repr)
def test_what_all_factors_have(tag):
    """`A ⊗ B` has it if both have, and not if one of them does not."""
    plain = lx.MatrixLinearOperator(_A)
    tagged = lx.MatrixLinearOperator(_A, tag)
    assert _TAGS[tag](lx.KroneckerLinearOperator(tagged, tagged))
    assert not _TAGS[tag](lx.KroneckerLinearOperator(tagged, plain))
    assert not _TAGS[tag](lx.KroneckerLinearOperator(plain, tagged))


def test_signs_multiply():
    p = lx.MatrixLinearOperator(_A, lx.positive_semidefinite_tag)
    for parts, positive in (((p, -p), False), ((-p, -p), True), ((-p, -p, -p), False)):
        product = lx.KroneckerLinearOperator(*parts)
        assert lx.is_positive_semidefinite(product) is positive
        assert lx.is_negative_semidefinite(product) is not positive


def test_tall_times_wide_is_not_of_full_rank():
    tall = lx.MatrixLinearOperator(jnp.ones((3, 1)), lx.nonsingular_tag)
    wide = tall.T
    assert lx.is_nonsingular(lx.KroneckerLinearOperator(tall, tall))
    assert lx.is_nonsingular(lx.KroneckerLinearOperator(wide, wide))
    assert not lx.is_nonsingular(lx.KroneckerLinearOperator(tall, wide))


def test_flat_vectors():
    """By an identity that reshapes."""
    parts = lx.MatrixLinearOperator(_A), lx.MatrixLinearOperator(_A + 1)
    product = lx.KroneckerLinearOperator(*parts)
    flat = jax.ShapeDtypeStruct((4,), float)
    reshape = lx.IdentityLinearOperator(flat, product.in_structure())
    operator = lx.IdentityLinearOperator(product.out_structure(), flat) @ (
        product @ reshape
    )
    x = jnp.arange(4.0)
    np.testing.assert_allclose(operator.mv(x), np.kron(_A, _A + 1) @ x)


def test_no_dense_matrix():
    """Products, their derivatives and the diagonal, of what would not fit in memory."""
    a = lx.MatrixLinearOperator(jnp.eye(300) * 2)
    b = lx.DiagonalLinearOperator(jnp.ones(400))
    x = jnp.ones((300, 400))

    def total(a):
        operator = lx.KroneckerLinearOperator(a, b)
        return operator.mv(x).sum() + lx.diagonal(operator).sum()

    assert total(a) == 2 * 2 * 300 * 400
    gradient = jax.grad(lambda matrix: total(lx.MatrixLinearOperator(matrix)))(a.matrix)
    np.testing.assert_allclose(gradient, 400 * (np.ones((300, 300)) + np.eye(300)))


def test_bad_factors():
    good = lx.MatrixLinearOperator(_A)
    with pytest.raises(ValueError, match="at least one"):
        lx.KroneckerLinearOperator()
    with pytest.raises(ValueError, match=r"`operators\[1\]`.*MatrixLinearOperator"):
        lx.KroneckerLinearOperator(good, _A)
    pytree = lx.DiagonalLinearOperator({"a": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"`operators\[2\]`.*pytree"):
        lx.KroneckerLinearOperator(good, good, pytree)
    with pytest.raises(ValueError, match=r"must have structure .*f64\[2, 3\]"):
        lx.KroneckerLinearOperator(good, lx.DiagonalLinearOperator(jnp.ones(3))).mv(
            jnp.ones(6)
        )


def test_prints():
    a, b = lx.MatrixLinearOperator(_A), lx.DiagonalLinearOperator(jnp.ones(3))
    text = repr(lx.KroneckerLinearOperator(a + a, b))
    assert text == f"({a!r} + {a!r}) ⊗ {b!r}"
