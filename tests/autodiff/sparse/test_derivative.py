"""Derivatives of sparse solves: the laws, and what they cost."""

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
from lx_autodiff import linear_solve
from lx_autodiff.testing import ProblemClass, check_derivatives

MASK = np.array([[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 1, 1]], bool)
PATTERN = lxo.SparsityPattern.from_dense(MASK)


def masked(parameters):
    return jnp.where(MASK, parameters, jnp.zeros_like(parameters))


def definite(parameters):
    """Hermitian, and definite as its diagonal dominates."""
    A = masked(parameters)
    return (A + A.conj().T) / 2 + 4 * jnp.eye(4, dtype=A.dtype)


def problem(name, matrix, *tags):
    def parameters(rng, dtype):
        A = rng.standard_normal((4, 4)) + 4 * np.eye(4)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            A = A + 1j * rng.standard_normal((4, 4))
        return jnp.asarray(A, dtype)

    def operator(x):
        return lxo.SparseLinearOperator.from_dense(matrix(x), tags, pattern=PATTERN)

    return ProblemClass(
        name, parameters, operator, matrix, lambda x: jnp.linalg.inv(matrix(x))
    )


def test_general():
    check_derivatives(lx.SparseLU("superlu"), problem("sparse", masked), "complex128")


def test_definite():
    tagged = problem("sparse definite", definite, lxo.positive_semidefinite_tag)
    check_derivatives(lx.SparseCholesky("superlu"), tagged, "complex128")


def laplacian(n):
    """The Laplacian of a path, plus the identity, as an operator."""
    i = np.arange(n)
    rows = np.concatenate([i, i[1:], i[:-1]])
    columns = np.concatenate([i, i[:-1], i[1:]])
    pattern = lxo.SparsityPattern(rows, columns, (n, n))
    values = np.concatenate([3 * np.ones(n), -np.ones(2 * n - 2)])
    return lxo.SparseLinearOperator(pattern.assemble(values), pattern)


def sizes(jaxpr):
    """The numbers of elements of all that is computed."""
    for equation in jaxpr.eqns:
        yield from (v.aval.size for v in equation.outvars if hasattr(v.aval, "size"))
        for parameter in jax.tree.leaves(
            equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            inner = getattr(parameter, "jaxpr", parameter)
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


def test_a_gradient_has_a_number_for_each_entry():
    """And nothing larger is formed on the way, in either mode and to second order."""
    n = 1000
    operator = laplacian(n)

    def loss(values, b):
        A = lxo.SparseLinearOperator(values, operator.pattern)
        x = linear_solve(A, b, lx.SparseLU("superlu"), throw=False).value
        return jnp.sum(x**2)

    def curvature(values, b):
        _, second = jax.jvp(lambda v: jax.grad(loss)(v, b), (values,), (values,))
        return second

    b = jnp.ones(n)
    for fn in (jax.grad(loss), curvature):
        jaxpr = jax.make_jaxpr(fn)(operator.values, b)
        assert max(sizes(jaxpr.jaxpr)) <= 8 * operator.values.size
    gradient = jax.jit(jax.grad(loss))(operator.values, b)
    assert gradient.shape == operator.values.shape
    A = operator.as_matrix()
    x = np.linalg.solve(A, b)
    adjoint = np.linalg.solve(A.T, 2 * x)
    rows, columns = (
        np.asarray(i) for i in (operator.pattern.rows, operator.pattern.columns)
    )
    np.testing.assert_allclose(gradient, -adjoint[rows] * x[columns], rtol=1e-12)


def test_one_factorisation_serves_value_and_gradient():
    operator = laplacian(50)

    def loss(values):
        A = lxo.SparseLinearOperator(values, operator.pattern)
        return jnp.sum(linear_solve(A, jnp.ones(50), lx.SparseLU("superlu")).value ** 2)

    jax.block_until_ready(jax.jit(jax.value_and_grad(loss))(operator.values))
    info = lx.sparse_cache.info()
    assert (info.misses, info.items) == (2, 2)  # an analysis, and factors
