"""What solves and their derivatives cost: factorisations, solves, products, memory,
compilations. Counted in jaxprs and executables, not timed."""

import collections

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

A = jnp.asarray(np.random.default_rng(3).standard_normal((4, 4)) + 4 * np.eye(4))
TALL, WIDE = A[:, :2], A[:2]


def primitives(fn, *args):
    """How often each primitive stands in the jaxpr of `fn`, sub-jaxprs included."""
    counts = collections.Counter()

    def visit(jaxpr):
        for eqn in jaxpr.eqns:
            counts[eqn.primitive.name] += 1
            for param in jax.tree.leaves(
                list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
            ):
                inner = getattr(param, "jaxpr", param)
                if hasattr(inner, "eqns"):
                    visit(inner)

    visit(jax.make_jaxpr(fn)(*args).jaxpr)
    return counts


def solver_loss(solver, tags=(), **kwargs):
    def loss(matrix):
        operator = lxo.MatrixLinearOperator(matrix, tags)
        vector = jnp.ones(matrix.shape[0])
        solution = lxa.linear_solve(operator, vector, solver, throw=False, **kwargs)
        return jnp.sum(solution.value)

    return loss


FACTORISATIONS = {
    lxs.LU(): (A, (), "lu"),
    lxs.QR(): (TALL, (), "geqrf"),
    lxs.Cholesky(): (A @ A.T, lxo.positive_semidefinite_tag, "cholesky"),
    lxs.SVD(): (TALL, (), "svd"),
    lxs.Eigh(): (A @ A.T, lxo.hermitian_tag, "eigh"),
    lxs.PivotedQR(): (TALL, (), "qr"),
}


@pytest.mark.parametrize("solver", FACTORISATIONS, ids=repr)
def test_one_factorisation(solver):
    """In the value, the gradient, and the tangent: one."""
    matrix, tags, name = FACTORISATIONS[solver]
    loss = solver_loss(solver, tags)
    once = primitives(loss, matrix)[name]
    assert once >= 1
    assert primitives(jax.value_and_grad(loss), matrix)[name] == once
    assert primitives(lambda a: jax.jvp(loss, (a,), (a,)), matrix)[name] == once


# Solves in a value with its tangent: the value's own, and what dx costs.
@pytest.mark.parametrize(
    "solver, matrix, tags, solves",
    [
        (lxs.LU(), A, (), 2),
        (lxs.QR(), TALL, (), 3),
        (lxs.QR(), WIDE, (), 3),
        (lxs.SVD(), A, (), 4),
        (lxs.SVD(), TALL, lxo.nonsingular_tag, 3),
        (lxs.SVD(), A, lxo.nonsingular_tag, 2),
    ],
    ids=str,
)
def test_solves_in_a_tangent(solver, matrix, tags, solves):
    loss = solver_loss(solver, tags)
    tangent = primitives(lambda a: jax.jvp(loss, (a,), (a,)), matrix)
    assert tangent["linear_solve"] == solves
    assert primitives(jax.value_and_grad(loss), matrix)["linear_solve"] == solves


def test_vector_alone_costs_one_solve_more():
    def solve(b):
        return lxa.linear_solve(lxo.MatrixLinearOperator(TALL), b, lxs.SVD()).value

    tangent = primitives(lambda b: jax.jvp(solve, (b,), (b,)), jnp.ones(4))
    assert tangent["linear_solve"] == 2


class Counted:
    """Counts how often a jitted function is traced, and what it compiles."""

    def __init__(self):
        self.compilations = 0

    def __enter__(self):
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_):
        jax.monitoring.clear_event_listeners()

    def _listen(self, name, *_, **__):
        self.compilations += name.endswith("backend_compile_duration")


@pytest.mark.parametrize("throw", [True, False])
@pytest.mark.parametrize("gradient", [False, True])
def test_eager_calls_compile_once(throw, gradient):
    def value(matrix, vector):
        operator = lxo.MatrixLinearOperator(matrix)
        solution = lxa.linear_solve(operator, vector, lxs.LU(), throw=throw)
        return jnp.sum(solution.value)

    call = jax.grad(value) if gradient else value
    problems = [(A + i, jnp.ones(4) * i) for i in range(6)]
    call(*problems[0])  # the first call compiles
    with Counted() as counted:
        for problem in problems:
            call(*problem)
    assert counted.compilations == 0


def test_matrix_free_gradient_is_linear_in_memory():
    """10⁶ unknowns: a few vectors, no matrix."""
    n = 10**6
    weights = jnp.linspace(1.0, 2.0, n)

    def loss(weights):
        def fn(x):
            return weights * x + 0.1 * (2 * x - jnp.roll(x, 1) - jnp.roll(x, -1))

        structure = jax.ShapeDtypeStruct((n,), weights.dtype)
        operator = lxo.FunctionLinearOperator(
            fn, structure, lxo.positive_semidefinite_tag
        )
        solver = lxs.CG(rtol=1e-8, atol=1e-8, max_steps=50)
        return jnp.sum(lxa.linear_solve(operator, jnp.ones(n), solver).value)

    compiled = jax.jit(jax.grad(loss)).lower(weights).compile()
    vectors = compiled.memory_analysis().temp_size_in_bytes / (8 * n)
    assert vectors < 40
    gradient = compiled(weights)
    # The operator is diagonally dominant: compare with a finite difference along ones.
    step = 1e-4
    difference = (loss(weights + step) - loss(weights - step)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(gradient), difference, rtol=1e-5)
