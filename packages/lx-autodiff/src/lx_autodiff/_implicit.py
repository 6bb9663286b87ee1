"""Exact derivatives of solutions of equations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree
from lx_operators import JacobianLinearOperator
from lx_solvers import AbstractLinearSolver, AutoLinearSolver

from ._linear_solve import linear_solve


def implicit(
    residual: Callable[[PyTree[Array], PyTree[Array]], PyTree[Array]],
    find: Callable[[PyTree[Array]], PyTree[Array]],
    solver: AbstractLinearSolver = AutoLinearSolver(well_posed=True),
    *,
    tags: object = (),
    throw: bool = True,
) -> Callable[[PyTree[Array]], PyTree[Array]]:
    """The solution x(θ) of F(x, θ) = 0, differentiable no matter how it was computed.

    By the implicit function theorem, ∂F/∂x dx = −∂F/∂θ dθ. So a derivative costs one
    linear solve with the Jacobian at the solution, and the steps of `find` are not
    differentiated. A fixed point x = g(x, θ) is the root of x − g(x, θ).

    Args:
        residual: F, from pytrees of arrays x and θ to a pytree like x.
        find: a function from θ to a solution x; any algorithm, loops included.
        solver: solves the systems with the Jacobian, which is a
            `JacobianLinearOperator`; an iterative solver forms no matrix.
        tags: tags of the Jacobian ∂F/∂x.
        throw: whether a failed linear solve raises; if not, the derivative is NaN.

    Returns:
        A function θ ↦ x(θ), differentiable in both modes and to any order.

    ```python
    def find(a):  # Newton's iteration for the square root
        return jax.lax.fori_loop(0, 20, lambda _, x: (x + a / x) / 2, a)

    sqrt = lx.implicit(lambda x, a: x * x - a, find)
    jax.grad(sqrt)(2.0)  # 1 / (2 √2)
    ```
    """

    @jax.custom_jvp
    def root(theta: PyTree[Array]) -> PyTree[Array]:
        return find(theta)

    @root.defjvp
    def _(primals, tangents):
        (theta,), (d_theta,) = primals, tangents
        x = root(theta)
        jacobian = JacobianLinearOperator(residual, x, theta, tags)
        _, moved = jax.jvp(lambda theta: residual(x, theta), (theta,), (d_theta,))
        dx = linear_solve(jacobian, moved, solver, throw=throw).value
        return x, jtu.tree_map(jnp.negative, dx)

    return root
