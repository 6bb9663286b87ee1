"""A function as an operator."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


def _struct(*shape, dtype="float64"):
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


class TestClosure(OperatorLaws):
    """It closes over a matrix, and differentiates with respect to it."""

    def make(self, dtype, key):
        a = jax.random.normal(key, (3, 4), dtype)
        return lx.FunctionLinearOperator(
            lambda x: jnp.matmul(a, x, precision="highest"), _struct(4, dtype=dtype)
        )


class TestTree(OperatorLaws):
    """From tuple to dictionary; a leaf that is not used, one that is zero."""

    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        structure = (_struct(2, dtype=dtype), _struct(2, dtype=dtype), None)
        return lx.FunctionLinearOperator(
            lambda x: {"sum": jnp.cumsum(x[0]), "zero": jnp.zeros((), dtype)}, structure
        )


class TestHermitian(OperatorLaws):
    dtypes = ("float64", "complex128")
    differentiable = False  # the tangent is not Hermitian

    def make(self, dtype, key):
        a = jax.random.normal(key, (3, 3), dtype)
        tags = lx.positive_semidefinite_tag
        return lx.FunctionLinearOperator(
            lambda x: a.conj().T @ (a @ x), _struct(3, dtype=dtype), tags
        )


class TestTridiagonal(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        def laplace(x):
            flat = x.reshape(-1)
            return 3 * x - (
                jnp.pad(flat[1:], (0, 1)) + 2 * jnp.pad(flat[:-1], (1, 0))
            ).reshape(x.shape)

        return lx.FunctionLinearOperator(
            laplace, _struct(2, 3, dtype=dtype), lx.tridiagonal_tag
        )


class TestNothing(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        return lx.FunctionLinearOperator(lambda x: x, _struct(0, dtype=dtype))


class TestRealToNothing(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        return lx.FunctionLinearOperator(lambda x: (), _struct(2, dtype=dtype))


def test_jacobian_of_a_linear_function_transposes_on_pytrees():
    point = {"a": jnp.arange(2.0), "b": (jnp.ones(()), jnp.ones((1, 2)))}

    def fn(x):
        return [x["a"] * x["b"][0], x["b"][1].sum() * x["a"]]

    blocks = jax.jacobian(fn)(point)

    def product(v):
        rows = lx.PyTreeLinearOperator(blocks, jax.eval_shape(fn, point))
        return rows.mv(v)

    operator = lx.FunctionLinearOperator(product, jax.eval_shape(lambda: point))
    _, vjp = jax.vjp(fn, point)
    cotangent = [jnp.ones(2), jnp.arange(2.0)]
    got, (wanted,) = operator.T.mv(cotangent), vjp(cotangent)
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-14), got, wanted)


def test_symmetric_is_not_transposed():
    """A tag makes do with a function that JAX cannot transpose."""

    def halve(x):  # a while loop has no transpose
        return jax.lax.while_loop(
            lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] / 2), (0, x)
        )[1]

    operator = lx.FunctionLinearOperator(halve, _struct(2), lx.symmetric_tag)
    assert operator.T is operator
    complex_ = lx.FunctionLinearOperator(
        halve, _struct(2, dtype=complex), lx.hermitian_tag
    )
    assert complex_.T.mv(jnp.array([8j, 8])).tolist() == [1j, 1]
    assert complex_.H.mv(jnp.array([8j, 8])).tolist() == [1j, 1]
    # where it is not tagged, the matrix comes from columns alone
    untagged = lx.FunctionLinearOperator(lambda x: halve(x[:1]), _struct(3))
    assert untagged.as_matrix().tolist() == [[0.125, 0.0, 0.0]]


def test_crosses_every_transformation():
    def value(a, x):
        operator = lx.FunctionLinearOperator(lambda v: a @ v, _struct(2))
        doubled = jax.jit(lambda op: op)(operator)
        return jnp.sum(doubled.mv(x) ** 2)

    a, x = jnp.arange(6.0).reshape(3, 2), jnp.ones(2)
    gradient = jax.grad(value)(a, x)
    np.testing.assert_allclose(gradient, 2 * np.outer(a @ x, x), rtol=1e-14)
    batch = jax.vmap(jax.grad(value), in_axes=(0, None))(jnp.stack([a, 2 * a]), x)
    np.testing.assert_allclose(batch[1], 2 * gradient, rtol=1e-14)


def test_constructor_is_differentiable():
    def build(a):
        return lx.FunctionLinearOperator(
            lambda v: a @ v, _struct(2), lx.nonsingular_tag
        )

    a, da = jnp.eye(2), jnp.arange(4.0).reshape(2, 2)
    operator, tangent = eqx.filter_jvp(build, (a,), (da,))
    moved = lx.TangentLinearOperator(operator, tangent)
    np.testing.assert_allclose(moved.as_matrix(), da)
    np.testing.assert_allclose(moved.T.mv(jnp.ones(2)), da.T @ np.ones(2))


def test_function_is_traced_once():
    calls = []

    def fn(x):
        calls.append(1)
        return 2 * x

    operator = lx.FunctionLinearOperator(fn, _struct(3))
    assert len(calls) == 1
    operator.mv(jnp.ones(3))
    operator.as_matrix()
    operator.T.mv(jnp.ones(3))
    lx.materialise(operator)
    assert len(calls) == 1


def test_without_closure_conversion():
    operator = lx.FunctionLinearOperator(jnp.cumsum, _struct(3), closure_convert=False)
    assert operator.fn is jnp.cumsum
    np.testing.assert_array_equal(operator.as_matrix(), np.tri(3))
    np.testing.assert_array_equal(operator.T.as_matrix(), np.tri(3).T)


@pytest.mark.parametrize("convert", [True, False])
@pytest.mark.parametrize(
    "fn", [lambda x: x.astype(int), lambda x: x > 0], ids=["int", "bool"]
)
def test_must_return_inexact(fn, convert):
    with pytest.raises(
        ValueError, match="`fn` must return a pytree of floating or comp"
    ):
        lx.FunctionLinearOperator(fn, _struct(3), closure_convert=convert)


def test_integer_structure_becomes_floating():
    operator = lx.FunctionLinearOperator(lambda x: x, jnp.arange(3))
    assert operator.in_structure() == operator.out_structure() == _struct(3)


def test_complex_to_real_has_no_matrix():
    operator = lx.FunctionLinearOperator(jnp.real, _struct(2, dtype=complex))
    with pytest.raises(ValueError, match="no linear map drops an imaginary part"):
        operator.as_matrix()
    with pytest.raises(ValueError, match="no linear map drops an imaginary part"):
        operator.transpose()


@pytest.mark.standard_promotion
def test_real_to_complex():
    operator = lx.FunctionLinearOperator(lambda x: (1 + 2j) * x, _struct(2))
    np.testing.assert_array_equal(operator.as_matrix(), (1 + 2j) * np.eye(2))
    stored = lx.materialise(operator)
    assert stored.in_structure() == operator.in_structure()
    assert stored.mv(jnp.ones(2)).tolist() == [1 + 2j] * 2
    with pytest.raises(ValueError, match="make its input complex"):
        operator.transpose()


def test_weak_output_is_not_weak():
    structure = jax.ShapeDtypeStruct((), jnp.float64, weak_type=True)
    operator = lx.FunctionLinearOperator(lambda x: x * 2, structure)
    assert operator.out_structure() == _struct()
    assert not operator.in_structure().weak_type


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_no_matrix_of_what_is_not_linear(dtype):
    """A matrix read off the unit vectors of a nonlinear function is a lie."""
    structure = jax.ShapeDtypeStruct((4,), dtype)
    linear = {"cumsum": jnp.cumsum, "rounded": lambda x: x - (x * 3 - x * 2)}
    bent = {"square": jnp.square, "sine": jnp.sin, "affine": lambda x: 2 * x + 1}
    if dtype == "complex128":
        linear["fft"], bent["conj"] = jnp.fft.fft, jnp.conj
    for name, fn in linear.items():
        matrix = lx.FunctionLinearOperator(fn, structure).as_matrix()
        assert jnp.all(jnp.isfinite(matrix)), name
    for name, fn in bent.items():
        matrix = lx.FunctionLinearOperator(fn, structure).as_matrix()
        assert jnp.all(jnp.isnan(matrix)), name


def test_too_large_to_form():
    n = 40_000
    structure = jax.ShapeDtypeStruct((n,), jnp.float32)
    operator = lx.FunctionLinearOperator(lambda x: 2 * x, structure)
    for fn in (lx.diagonal, lx.tridiagonal):
        with pytest.raises(ValueError, match="5.96 GiB.*_tag"):
            fn(operator)
    tagged = lx.FunctionLinearOperator(lambda x: 2 * x, structure, lx.diagonal_tag)
    assert lx.diagonal(tagged).shape == (n,)
    assert lx.verify(operator, jax.random.key(0), probes=1).ok
