"""The product of two operators."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


class TestThrough(OperatorLaws):
    """Rectangular factors."""

    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        k1, k2 = jax.random.split(key)
        a = lx.MatrixLinearOperator(jax.random.normal(k1, (2, 4), dtype))
        return a @ lx.MatrixLinearOperator(jax.random.normal(k2, (4, 3), dtype))

    def matrix(self, operator):
        a, b = operator.operator1.matrix, operator.operator2.matrix
        return np.asarray(a) @ np.asarray(b)


class TestGram(OperatorLaws):
    dtypes = ("float64", "complex128")

    def make(self, dtype, key):
        x = lx.MatrixLinearOperator(
            jax.random.normal(key, (4, 3), dtype), lx.nonsingular_tag
        )
        assert lx.is_nonsingular(x.H @ x) and not lx.is_nonsingular(x @ x.H)
        return x.H @ x


class TestBanded(OperatorLaws):
    """Tridiagonal factors and a diagonal one."""

    dtypes = ("complex128",)

    def make(self, dtype, key):
        main, lower, upper, d = jax.random.normal(key, (4, 4), dtype)
        t = lx.TridiagonalLinearOperator(main, lower[1:], upper[1:])
        return t @ (lx.DiagonalLinearOperator(d) @ t)


class TestBandedAndDense(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        a = lx.MatrixLinearOperator(jax.random.normal(key, (3, 3), dtype))
        t = lx.TridiagonalLinearOperator(a.matrix[0], a.matrix[1, 1:], a.matrix[2, 1:])
        return (t @ a) @ t


class TestDiagonalAndWide(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        a = jax.random.normal(key, (2, 3), dtype)
        return lx.DiagonalLinearOperator(a[:, 0]) @ lx.MatrixLinearOperator(a)


@pytest.mark.standard_promotion
class TestMixedPrecision(OperatorLaws):
    """A float32 factor and a float64 one: the product is float64 on both sides."""

    dtypes = ("float64",)

    def make(self, dtype, key):
        a = lx.MatrixLinearOperator(jax.random.normal(key, (2, 3), "float32"))
        return a @ lx.MatrixLinearOperator(jax.random.normal(key, (3, 3), dtype))


@pytest.mark.standard_promotion
class TestRealAndComplex(OperatorLaws):
    dtypes = ("complex64",)

    def make(self, dtype, key):
        a = lx.MatrixLinearOperator(jax.random.normal(key, (2, 3), dtype))
        b = jax.random.normal(key, (3, 3), "float32")
        return a @ lx.FunctionLinearOperator(lambda x: b @ x, jnp.zeros(3, "float32"))


class TestThroughNothing(OperatorLaws):
    """The space in between has no dimension: the product is zero."""

    dtypes = ("float64",)

    def make(self, dtype, key):
        a, b = jnp.zeros((2, 0), dtype), jnp.zeros((0, 2), dtype)
        return lx.MatrixLinearOperator(a) @ lx.MatrixLinearOperator(b)


def test_structures_must_fit():
    a = lx.MatrixLinearOperator(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match=r"in a product A @ B.*f64\[3\] and f64\[2\]"):
        a @ a


@pytest.mark.parametrize("other", [2, np.ones(3), jnp.ones((3, 3)), "text"])
def test_operators_only(other):
    a = lx.MatrixLinearOperator(jnp.ones((3, 3)))
    for combine in (
        lambda: a @ other,
        lambda: other @ a,
        lambda: lx.ComposedLinearOperator(other, a),
    ):
        with pytest.raises(ValueError, match=f"`{type(other).__name__}`"):
            combine()


def test_vectors_are_told_of_mv():
    with pytest.raises(ValueError, match=r"call `operator\.mv\(vector\)`"):
        lx.MatrixLinearOperator(jnp.ones((3, 3))) @ jnp.ones(3)


def _sizes(jaxpr):
    """Sizes of all that a jaxpr computes, inner ones included."""
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _sizes(inner)
        yield from (out.aval.size for out in equation.outvars)


def test_diagonal_times_matrix_makes_no_diagonal_matrix():
    """One multiplication is the only thing of n² elements."""
    n = 7
    d, m = (
        lx.DiagonalLinearOperator(jnp.ones(n)),
        lx.MatrixLinearOperator(jnp.ones((n, n))),
    )
    for product in (d @ m, m @ d):
        jaxpr = jax.make_jaxpr(lambda op: op.as_matrix())(product)
        names = [
            e.primitive.name for e in jaxpr.eqns if e.outvars[0].aval.size == n * n
        ]
        assert names.count("mul") == 1
        assert not {"scatter", "dot_general", "add"} & set(names)


def test_banded_products_stay_banded():
    """Neither bands nor materialise form an n×n array."""
    n = 11
    t = lx.TridiagonalLinearOperator(jnp.ones(n), jnp.ones(n - 1), jnp.ones(n - 1))
    d = lx.DiagonalLinearOperator(jnp.ones(n))
    fn = lx.FunctionLinearOperator(lambda x: 2 * x, d.in_structure(), lx.diagonal_tag)
    product = t @ (fn @ (d @ t))
    for function in (lx.diagonal, lx.materialise, lambda op: op.mv(jnp.ones(n))):
        jaxpr = jax.make_jaxpr(function)(product)
        assert max(_sizes(jaxpr.jaxpr)) < n * n / 2
    jaxpr = jax.make_jaxpr(lx.tridiagonal)(fn @ (d @ t))
    assert max(_sizes(jaxpr.jaxpr)) < n * n / 2
    stored = lx.materialise(product)
    assert repr(stored).count("Tridiagonal") == 2 and repr(stored).count("@") == 3


def test_diagonal_of_a_product_does_not_form_it():
    n = 6
    a, b = (lx.MatrixLinearOperator(jnp.ones((n, n))) for _ in range(2))
    assert "dot_general" not in str(jax.make_jaxpr(lx.diagonal)(a @ b))
    assert "dot_general" not in str(jax.make_jaxpr(lx.tridiagonal)(a @ b))


def test_unit_diagonal_needs_room_in_between():
    """[m, 1] @ [1, m] of unit lower triangular operators has rank one."""
    tags = lx.lower_triangular_tag, lx.unit_diagonal_tag
    tall = lx.MatrixLinearOperator(jnp.ones((3, 1)), tags)
    wide = lx.MatrixLinearOperator(jnp.eye(1, 3), tags)
    product = tall @ wide
    assert not lx.has_unit_diagonal(product) and not lx.is_nonsingular(product)
    assert lx.is_nonsingular(tall) and lx.is_nonsingular(wide)
    assert lx.has_unit_diagonal(wide @ tall)
