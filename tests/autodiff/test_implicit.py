"""`implicit`: derivatives of roots, against closed forms."""

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_solvers as lxs
import numpy as np


def newton(a):
    return jax.lax.while_loop(
        lambda x: jnp.abs(x * x - a) > 1e-14 * a, lambda x: (x + a / x) / 2, a
    )


def test_square_root_to_third_order():
    fn = lxa.implicit(lambda x, a: x * x - a, newton)
    truth = jnp.sqrt
    for _ in range(4):
        np.testing.assert_allclose(fn(2.0), truth(2.0), rtol=1e-12)
        fn, truth = jax.grad(fn), jax.grad(truth)


def test_pytree_by_a_matrix_free_solver():
    """x = (u, v) with A u = θ, v = ‖u‖², found by dense linear algebra."""
    a = jnp.array([[3.0, 1.0], [1.0, 2.0]])

    def residual(x, theta):
        return {"u": a @ x["u"] - theta, "v": x["v"] - jnp.sum(x["u"] ** 2)}

    def find(theta):
        u = jax.lax.stop_gradient(jnp.linalg.solve(a, theta))
        return {"u": u, "v": jnp.sum(u**2)}

    def closed_form(theta):
        u = jnp.linalg.inv(a) @ theta
        return {"u": u, "v": jnp.sum(u**2)}

    fn = lxa.implicit(residual, find, lxs.QR())
    theta = jnp.array([1.0, -2.0])
    for jacobian in (jax.jacfwd, jax.jacrev, jax.hessian):
        ours, truth = jax.jit(jacobian(fn))(theta), jacobian(closed_form)(theta)
        for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(truth), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-11, atol=1e-13)


def test_a_failed_solve_is_nan_without_throw():
    fn = lxa.implicit(lambda x, a: 0 * x + 0 * a, lambda a: a, throw=False)
    assert jnp.isnan(jax.grad(fn)(1.0))
