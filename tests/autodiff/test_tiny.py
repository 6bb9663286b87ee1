"""Derivatives and transformations of large batches of tiny systems."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from lx_autodiff import linear_solve
from lx_operators import MatrixLinearOperator
from lx_solvers import LU

BATCH, N = 200, 3


@pytest.fixture(scope="module")
def problem():
    draw = np.random.default_rng(5).normal
    A = jnp.asarray(draw(size=(BATCH, N, N)) + 3 * np.eye(N))
    return A, jnp.asarray(draw(size=(BATCH, N)))


def solve(A, b):
    return linear_solve(MatrixLinearOperator(A), b, LU(), throw=False).value


def square(A, b):
    return jnp.sum(solve(A, b) ** 2)


def square_by_jax(A, b):
    return jnp.sum(jnp.linalg.solve(A, b) ** 2)


def alike(ours, theirs, *args):
    got, want = jax.jit(ours)(*args), jax.jit(theirs)(*args)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-8)


def test_gradients_of_each(problem):
    both = (jax.vmap(jax.grad(f, (0, 1))) for f in (square, square_by_jax))
    alike(*both, *problem)


def test_gradient_of_all(problem):
    def total(f):
        return jax.grad(lambda A, b: jnp.sum(jax.vmap(f)(A, b)), (0, 1))

    alike(total(square), total(square_by_jax), *problem)


def test_tangents(problem):
    def tangent(f):
        return lambda A, b: jax.jvp(jax.vmap(f), (A, b), (jnp.sin(A), jnp.cos(b)))

    alike(tangent(square), tangent(square_by_jax), *problem)


def test_hessians(problem):
    both = (jax.vmap(jax.hessian(f, 1)) for f in (square, square_by_jax))
    alike(*both, *problem)


@pytest.mark.parametrize("name", ["spmd_axis_name", "shard_map"])
def test_sharded(problem, name):
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("batch")

    def gradients(f):
        each = jax.grad(f, (0, 1))
        if name == "spmd_axis_name":
            return jax.vmap(each, spmd_axis_name="batch")
        each = jax.vmap(each)
        return jax.shard_map(each, mesh=mesh, in_specs=spec, out_specs=spec)

    problem = jax.device_put(problem, NamedSharding(mesh, spec))
    with jax.set_mesh(mesh):
        alike(gradients(square), jax.vmap(jax.grad(square_by_jax, (0, 1))), *problem)


def test_in_loops_and_branches(problem):
    A, b = problem

    def ours(A, b):
        step = jax.lax.scan(lambda x, _: (solve(A, x), None), b, length=2)[0]
        return jax.lax.cond(b[0] > 0, lambda: solve(A, step), lambda: step)

    def theirs(A, b):
        x = jnp.linalg.solve(A, jnp.linalg.solve(A, b))
        return jnp.where(b[0] > 0, jnp.linalg.solve(A, x), x)

    alike(jax.vmap(ours), jax.vmap(theirs), A, b)
