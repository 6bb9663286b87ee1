"""The Kronecker sum."""

import functools

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


def _normal(key, dtype, *shape):
    return jax.random.normal(key, shape, dtype)


def _plus(a, b):
    return np.kron(a, np.eye(len(b))) + np.kron(np.eye(len(a)), b)


class Laws(OperatorLaws):
    def matrix(self, operator):
        parts = [np.asarray(part.as_matrix()) for part in operator.operators]
        return functools.reduce(_plus, parts)


class TestTwo(Laws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        return lx.KroneckerSumLinearOperator(
            lx.MatrixLinearOperator(_normal(key, dtype, 2, 2)),
            lx.MatrixLinearOperator(_normal(key, dtype, 3, 3)),
        )


@pytest.mark.standard_promotion
class TestThree(Laws):
    """Factors of several axes, of other dtypes, and of one element."""

    dtypes = ("float64",)

    def make(self, dtype, key):
        structure = jax.ShapeDtypeStruct((2, 1), dtype)
        return lx.KroneckerSumLinearOperator(
            lx.PyTreeLinearOperator(_normal(key, dtype, 2, 1, 2, 1), structure),
            lx.TridiagonalLinearOperator(
                *(_normal(key, dtype, n) for n in (3, 2, 2)),
            ),
            lx.DiagonalLinearOperator(jnp.array([2.0], "float32")),
        )


class TestDefinite(Laws):
    dtypes = ("complex64",)

    def make(self, dtype, key):
        x = lx.MatrixLinearOperator(_normal(key, dtype, 3, 2), lx.nonsingular_tag)
        y = lx.MatrixLinearOperator(_normal(key, dtype, 1, 2))
        return lx.KroneckerSumLinearOperator(x.H @ x, y.H @ y)


@pytest.mark.standard_promotion
def test_tridiagonal():
    parts = (
        lx.DiagonalLinearOperator(jnp.array([1.0, 2.0])),
        lx.TridiagonalLinearOperator(*(1.0 + jnp.arange(n) for n in (3, 2, 2))),
        lx.DiagonalLinearOperator(jnp.array([3.0])),
    )
    operator = lx.KroneckerSumLinearOperator(*parts)
    assert lx.is_tridiagonal(operator)
    assert not lx.is_tridiagonal(lx.KroneckerSumLinearOperator(*parts[::-1]))
    dense = functools.reduce(_plus, (np.asarray(part.as_matrix()) for part in parts))
    for band, offset in zip(lx.tridiagonal(operator), (0, -1, 1)):
        np.testing.assert_allclose(band, np.diagonal(dense, offset))


def test_empty():
    none = lx.MatrixLinearOperator(jnp.zeros((0, 0)))
    operator = lx.KroneckerSumLinearOperator(none, lx.MatrixLinearOperator(_A))
    assert operator.mv(jnp.ones((0, 2))).shape == (0, 2)
    assert operator.as_matrix().shape == (0, 0)
    assert [band.shape for band in lx.tridiagonal(operator)] == [(0,), (0,), (0,)]


_A = jnp.array([[2.0, 1.0], [1.0, 3.0]])
_TAGS = {
    lx.symmetric_tag: lx.is_symmetric,
    lx.hermitian_tag: lx.is_hermitian,
    lx.diagonal_tag: lx.is_diagonal,
    lx.lower_triangular_tag: lx.is_lower_triangular,
    lx.upper_triangular_tag: lx.is_upper_triangular,
    lx.positive_semidefinite_tag: lx.is_positive_semidefinite,
    lx.negative_semidefinite_tag: lx.is_negative_semidefinite,
}


@pytest.mark.parametrize("tag", _TAGS, ids=repr)
def test_what_all_parts_have(tag):
    plain, tagged = lx.MatrixLinearOperator(_A), lx.MatrixLinearOperator(_A, tag)
    assert _TAGS[tag](lx.KroneckerSumLinearOperator(tagged, tagged))
    assert not _TAGS[tag](lx.KroneckerSumLinearOperator(tagged, plain))


def test_nonsingular():
    """A definite part and semidefinite others; not: nonsingular parts, whose
    eigenvalues may cancel."""
    semi = lx.MatrixLinearOperator(_A, lx.positive_semidefinite_tag)
    definite = lx.TaggedLinearOperator(semi, lx.nonsingular_tag)
    full = lx.MatrixLinearOperator(_A, lx.nonsingular_tag)
    assert lx.is_nonsingular(lx.KroneckerSumLinearOperator(semi, definite))
    assert not lx.is_nonsingular(lx.KroneckerSumLinearOperator(semi, semi))
    assert not lx.is_nonsingular(lx.KroneckerSumLinearOperator(full, full))
    assert not lx.is_nonsingular(lx.KroneckerSumLinearOperator(definite, -definite))


def test_no_dense_matrix():
    a = jnp.eye(300)
    x = jnp.ones((300, 400))
    b = lx.DiagonalLinearOperator(jnp.ones(400))

    def total(a):
        operator = lx.KroneckerSumLinearOperator(lx.MatrixLinearOperator(a), b)
        bands = lx.tridiagonal(operator)
        return operator.mv(x).sum() + sum(band.sum() for band in bands)

    assert total(a) == 2 * 2 * 300 * 400
    gradient = jax.grad(total)(a)
    np.testing.assert_allclose(gradient, 400 * (np.ones((300, 300)) + np.eye(300)))


def test_bad_parts():
    good = lx.MatrixLinearOperator(_A)
    with pytest.raises(ValueError, match="at least one"):
        lx.KroneckerSumLinearOperator()
    tall = lx.MatrixLinearOperator(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match=r"`operators\[1\]`.*f64\[2\] to f64\[3\]"):
        lx.KroneckerSumLinearOperator(good, tall)
    with pytest.raises(ValueError, match=r"`operators\[0\]`.*array"):
        lx.KroneckerSumLinearOperator(_A)


def test_prints():
    a, b = lx.MatrixLinearOperator(_A), lx.DiagonalLinearOperator(jnp.ones(3))
    text = repr(lx.KroneckerSumLinearOperator(a @ a, b))
    assert text == f"{a!r} @ {a!r} ⊕ {b!r}"
