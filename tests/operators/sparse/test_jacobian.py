"""A Jacobian as an operator."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


def _fn(x, scale):
    return {"a": jnp.sin(x["u"]) * x["v"], "b": scale * jnp.sum(x["u"] ** 3) * x["v"]}


class Laws(OperatorLaws):
    dtypes = ("float64", "complex64")
    jac = None
    shape = (3,)

    def make(self, dtype, key):
        k1, k2 = jax.random.split(key)
        x = {
            "u": jax.random.normal(k1, self.shape, dtype),
            "v": jax.random.normal(k2, (), dtype),
        }
        return lx.JacobianLinearOperator(_fn, x, jnp.asarray(0.5, dtype), jac=self.jac)

    def matrix(self, operator):
        """By hand, with the rows and columns of the trees in order."""
        u, v = (np.asarray(operator.x[name]) for name in "uv")
        top = np.concatenate([np.diag(np.cos(u) * v), np.sin(u)[:, None]], axis=1)
        low = np.concatenate([1.5 * u**2 * v, [0.5 * np.sum(u**3)]])
        return np.concatenate([top, low[None, :]])


class TestDefault(Laws):
    pass


class TestForward(Laws):
    dtypes = ("float32", "complex128")
    jac = "fwd"


class TestBackward(Laws):
    dtypes = ("complex128",)
    jac = "bwd"


@jax.custom_vjp
def _only_backward(x):
    return jnp.sin(x)


_only_backward.defvjp(
    lambda x: (jnp.sin(x), jnp.cos(x)), lambda cos, cotangent: (cos * cotangent,)
)


class TestOnlyBackward(OperatorLaws):
    """A function with a custom vjp: forward mode would be a `TypeError`."""

    dtypes = ("float64",)
    differentiable = False  # for the same reason

    def make(self, dtype, key):
        a = jax.random.normal(key, (2, 3), dtype)
        return lx.JacobianLinearOperator(
            lambda x, a: a @ _only_backward(x), jnp.arange(3, dtype=dtype), a, jac="bwd"
        )

    def matrix(self, operator):
        return np.asarray(operator.args) * np.cos(np.arange(3.0))


def test_forward_mode_of_only_backward_is_an_error():
    x = jnp.ones(2)
    for jac in ("fwd", None):
        operator = lx.JacobianLinearOperator(lambda x, _: _only_backward(x), x, jac=jac)
        with pytest.raises(TypeError):
            operator.mv(x)


@pytest.mark.parametrize("jac", [None, "fwd", "bwd"])
def test_symmetric_hessian(jac):
    """Tagged symmetric, the transpose is the operator itself."""
    gradient = jax.grad(lambda x: jnp.sum(x**4) + x[0] * x[1])
    x = jnp.arange(1.0, 4)
    operator = lx.JacobianLinearOperator(
        lambda x, _: gradient(x), x, tags=lx.symmetric_tag, jac=jac
    )
    hessian = 12 * np.diag(np.arange(1.0, 4) ** 2)
    hessian[0, 1] = hessian[1, 0] = 1
    assert operator.T is operator
    np.testing.assert_allclose(operator.as_matrix(), hessian, rtol=1e-14)
    np.testing.assert_allclose(operator.mv(x), hessian @ x, rtol=1e-14)
    linear = lx.linearise(operator)
    np.testing.assert_allclose(linear.mv(x), hessian @ x, rtol=1e-14)


def test_integer_point_becomes_floating():
    operator = lx.JacobianLinearOperator(lambda x, _: x**2, jnp.arange(3))
    assert operator.x.dtype == jnp.float64
    assert operator.mv(jnp.ones(3)).tolist() == [0.0, 2.0, 4.0]


def test_primal_is_linearised_once():
    calls = []

    def fn(x, args):
        calls.append(1)
        return jnp.sin(x)

    operator = lx.JacobianLinearOperator(fn, jnp.ones(3))
    assert len(calls) == 1
    linear = lx.linearise(operator)
    linear.mv(jnp.ones(3))
    linear.T.mv(jnp.ones(3))
    assert len(calls) == 1


def test_linearised_product_has_no_primal_pass():
    operator = lx.JacobianLinearOperator(lambda x, _: jnp.sin(x), jnp.ones(3))
    primitives = [
        str(jax.make_jaxpr(lambda v, op=op: op.mv(v))(jnp.ones(3)))
        for op in (operator, lx.linearise(operator))
    ]
    assert "cos" in primitives[0] and "cos" not in primitives[1]


def test_arguments_may_be_anything():
    def fn(x, args):
        return args["scale"] * x if args["mode"] == "linear" else x**2

    operator = lx.JacobianLinearOperator(
        fn, jnp.ones(2), {"mode": "linear", "scale": 3, "unused": None}
    )
    assert operator.mv(jnp.ones(2)).tolist() == [3.0, 3.0]
    assert eqx.filter_jit(lambda op, v: op.mv(v))(operator, jnp.ones(2)).tolist() == [
        3,
        3,
    ]


def test_crosses_jit_and_grad():
    def value(scale, x):
        operator = lx.JacobianLinearOperator(lambda x, _: scale * x**2, x)
        return jnp.sum(jax.jit(lambda op: op.mv(jnp.ones(2)))(operator))

    x = jnp.array([1.0, 2.0])
    by_scale, by_x = jax.grad(value, argnums=(0, 1))(3.0, x)
    assert by_scale == 6.0  # Σ 2x
    assert by_x.tolist() == [6.0, 6.0]


def test_not_holomorphic_is_found_out():
    """The Jacobian of a function that is not holomorphic is no linear map."""
    operator = lx.JacobianLinearOperator(lambda z, _: jnp.conj(z), jnp.array([1 + 1j]))
    assert "linearity" in lx.verify(operator, jax.random.key(0)).broken


def test_unknown_mode():
    with pytest.raises(
        ValueError, match="`jac` must be None, 'fwd' or 'bwd', but got 'f"
    ):
        lx.JacobianLinearOperator(lambda x, _: x, jnp.ones(2), jac="forward")


def test_must_return_inexact():
    with pytest.raises(ValueError, match=r"must return .* but returned i64\[2\]"):
        lx.JacobianLinearOperator(lambda x, _: x.astype(int), jnp.ones(2))
