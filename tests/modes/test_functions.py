"""The functions of an operator other than `linear_solve`: gradients, and sizes that are
not known when they are traced."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax import export

from tests.modes.test_export import matrix

N = 5


def dense(A):
    return lx.MatrixLinearOperator(A, lx.nonsingular_tag)


def definite(A):
    return lx.MatrixLinearOperator(A @ A.T, lx.positive_semidefinite_tag)


def product_with_inverse(A):
    return lx.invert(dense(A), lx.LU(), throw=False).mv(A[0])


FUNCTIONS = {  # beside the same by `jax.numpy`
    "invert": (product_with_inverse, lambda A: jnp.linalg.solve(A, A[0])),
    "slogdet": (
        lambda A: lx.slogdet(dense(A), lx.LU())[1],
        lambda A: jnp.linalg.slogdet(A)[1],
    ),
    "logdet": (
        lambda A: lx.logdet(definite(A), lx.Cholesky()),
        lambda A: jnp.linalg.slogdet(A @ A.T)[1],
    ),
    "inverse_diagonal": (
        lambda A: lx.inverse_diagonal(dense(A), lx.QR()),
        lambda A: jnp.diagonal(jnp.linalg.inv(A)),
    ),
}


def loss(f):
    return lambda A: jnp.sum(jnp.sin(f(A)))


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_gradients(name, compiled):
    A = jnp.asarray(matrix(N))
    ours, truth = (jax.value_and_grad(loss(f)) for f in FUNCTIONS[name])
    ours = jax.jit(ours) if compiled else ours
    for x, y in zip(ours(A), truth(A), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["invert", "slogdet", "logdet"])
def test_symbolic_sizes(name):
    (n,) = export.symbolic_shape("n", constraints=["n >= 2"])
    f, truth = FUNCTIONS[name]
    saved = export.export(jax.jit(f))(jax.ShapeDtypeStruct((n, n), np.float32))
    for size in (3, N):
        A = jnp.asarray(matrix(size))
        np.testing.assert_allclose(saved.call(A), truth(A), rtol=2e-3, atol=2e-3)
