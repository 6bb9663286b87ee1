"""Derivatives and transformations of large batches of small systems that are solved all
at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from lx_autodiff import linear_solve, slogdet
from lx_operators import MatrixLinearOperator, TridiagonalLinearOperator
from lx_solvers import LU, Tridiagonal

BATCH, N = 200, 3


def tridiagonal(A):
    return TridiagonalLinearOperator(*(jnp.diagonal(A, k) for k in (0, -1, 1)))


SOLVERS = {"LU": (LU(), MatrixLinearOperator), "bands": (Tridiagonal(), tridiagonal)}


@pytest.fixture(scope="module")
def problem():
    draw = np.random.default_rng(5).normal
    A = jnp.asarray(draw(size=(BATCH, N, N)) + 3 * np.eye(N))
    return A, jnp.asarray(draw(size=(BATCH, N)))


@pytest.fixture(scope="module", params=SOLVERS)
def pair(request):
    """The same by a solver, and by JAX: a solution, and a determinant."""
    solver, make = SOLVERS[request.param]

    def matrix(A):
        return A if make is MatrixLinearOperator else jnp.triu(jnp.tril(A, 1), -1)

    def solve(A, b, **options):
        return linear_solve(make(A), b, solver, throw=False, **options).value

    def solve_by_jax(A, b, **_):
        return jnp.linalg.solve(matrix(A), b)

    def logdet(A):
        return slogdet(make(A), solver)[1]

    def logdet_by_jax(A):
        return jnp.linalg.slogdet(matrix(A))[1]

    return (solve, solve_by_jax), (logdet, logdet_by_jax)


@pytest.fixture(scope="module")
def solves(pair):
    return pair[0]


@pytest.fixture(scope="module")
def squares(solves):
    return [lambda A, b, solve=solve: jnp.sum(solve(A, b) ** 2) for solve in solves]


def alike(ours, theirs, *args):
    got, want = jax.jit(ours)(*args), jax.jit(theirs)(*args)
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-7, atol=1e-7)


def test_gradients_of_each(problem, squares):
    both = (jax.vmap(jax.grad(f, (0, 1))) for f in squares)
    alike(*both, *problem)


def test_gradient_of_all(problem, squares):
    def total(f):
        return jax.grad(lambda A, b: jnp.sum(jax.vmap(f)(A, b)), (0, 1))

    alike(*map(total, squares), *problem)


def test_tangents(problem, squares):
    def tangent(f):
        return lambda A, b: jax.jvp(jax.vmap(f), (A, b), (jnp.sin(A), jnp.cos(b)))

    alike(*map(tangent, squares), *problem)


def test_hessians(problem, squares):
    both = (jax.vmap(jax.hessian(f, (0, 1))) for f in squares)
    alike(*both, *problem)


@pytest.mark.parametrize("name", ["spmd_axis_name", "shard_map"])
def test_sharded(problem, squares, name):
    square, square_by_jax = squares
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


def test_in_loops_and_branches(problem, solves):
    solve, solve_by_jax = solves

    def ours(A, b):
        step = jax.lax.scan(lambda x, _: (solve(A, x), None), b, length=2)[0]
        return jax.lax.cond(b[0] > 0, lambda: solve(A, step), lambda: step)

    def theirs(A, b):
        x = solve_by_jax(A, solve_by_jax(A, b))
        return jnp.where(b[0] > 0, solve_by_jax(A, x), x)

    alike(jax.vmap(ours), jax.vmap(theirs), *problem)


def test_many_vectors_of_each(problem, solves):
    """Each system with several right-hand sides, and gradients in both."""
    A, b = problem
    B = jnp.stack([b, 2 * b, jnp.sin(b), jnp.cos(b)], axis=-1)

    def gradients(solve):
        def total(A, B):
            return jnp.sum(solve(A, B, rhs_axis=1) ** 2)

        return jax.vmap(jax.grad(total, (0, 1)))

    alike(*map(gradients, solves), A, B)


def test_determinants(problem, pair):
    def derivatives(logdet):
        both = jax.vmap(jax.value_and_grad(logdet)), jax.vmap(jax.hessian(logdet))
        return lambda A: [f(A) for f in both]

    A = problem[0]
    alike(*map(derivatives, pair[1]), A + 3 * jnp.eye(N)[None])
