"""Which operators the sparse solvers take, and what they say of the others."""

import importlib.util

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
import pytest
from lx_autodiff import linear_solve

RSLAB = importlib.util.find_spec("rslab") is not None
A = 4 * np.eye(6) + np.eye(6, k=1) + np.eye(6, k=-2)
SPARSE = lxo.SparseLinearOperator.from_dense(A)
B = np.arange(1.0, 7.0)


def chain(x, args):
    return jnp.roll(x, 1) * args + x**3 + 3 * x


@pytest.mark.parametrize(
    "operator, matrix",
    [
        (2.0 * SPARSE, 2 * A),
        (-SPARSE / 4.0, -A / 4),
        (jnp.asarray(3.0) * SPARSE.T, 3 * A.T),
        (lxo.TaggedLinearOperator(SPARSE, lxo.nonsingular_tag), A),
        (lxo.linearise(SPARSE), A),
    ],
    ids=["times", "divided", "array", "tagged", "linearised"],
)
def test_scaled_and_laid_out(operator, matrix):
    solution = linear_solve(operator, jnp.asarray(B), lx.SparseLU())
    np.testing.assert_allclose(solution.value, np.linalg.solve(matrix, B), rtol=1e-12)


def test_sparsity_of_products():
    """A Jacobian by products: with a pattern of its own, or of the solver's."""
    x, args = jnp.linspace(1.0, 2.0, 6), jnp.asarray(0.5)
    matrix = jax.jacobian(chain)(x, args)
    pattern = lxo.jacobian_sparsity(chain, x, args)
    own = lxo.JacobianLinearOperator(chain, x, args, sparsity=pattern)
    plain = lxo.JacobianLinearOperator(chain, x, args)
    wanted = np.linalg.solve(matrix, B)
    for operator, solver in (
        (own, lx.SparseLU()),
        (plain, lx.SparseLU(sparsity=pattern)),
        (plain, lx.SparseLeastSquares(sparsity=pattern)),
    ):
        got = linear_solve(operator, jnp.asarray(B), solver).value
        np.testing.assert_allclose(got, wanted, rtol=1e-10)

    def loss(x):
        operator = lxo.JacobianLinearOperator(chain, x, args)
        solver = lx.SparseLU(sparsity=pattern)
        return jnp.sum(linear_solve(operator, jnp.asarray(B), solver).value)

    step = 1e-6 * np.ones(6)
    slope = (loss(x + step) - loss(x - step)) / 2e-6
    np.testing.assert_allclose(jax.grad(loss)(x).sum(), slope, rtol=1e-6)


def test_pytrees():
    """A sparse matrix between pytrees."""
    structure = {
        "a": jax.ShapeDtypeStruct((2,), jnp.float64),
        "b": jax.ShapeDtypeStruct((2, 2), jnp.float64),
    }
    operator = lxo.SparseLinearOperator(
        SPARSE.values,
        SPARSE.pattern,
        input_structure=structure,
        output_structure=structure,
    )
    vector = {"a": jnp.asarray(B[:2]), "b": jnp.asarray(B[2:].reshape(2, 2))}
    x = linear_solve(operator, vector, lx.SparseLU()).value
    got = np.concatenate([x["a"], x["b"].ravel()])
    np.testing.assert_allclose(got, np.linalg.solve(A, B), rtol=1e-12)


@pytest.mark.parametrize("solver", [lx.SparseLU(), lx.SparseLeastSquares()])
def test_refused(solver):
    dense = lxo.MatrixLinearOperator(jnp.asarray(A))
    with pytest.raises(ValueError, match="sparse matrices only.*from_scipy"):
        linear_solve(dense, jnp.asarray(B), solver)

    @jax.jit
    def traced(rows):
        pattern = lxo.SparsityPattern(rows, rows, (6, 6))
        operator = lxo.SparseLinearOperator(jnp.ones(6), pattern)
        return linear_solve(operator, jnp.asarray(B), solver).value

    with pytest.raises(ValueError, match="outside of `jit`"):
        traced(jnp.arange(6))


def test_refused_by_kind():
    b = jnp.asarray(B)
    with pytest.raises(ValueError, match="not known to be semidefinite"):
        linear_solve(SPARSE, b, lx.SparseCholesky())
    with pytest.raises(ValueError, match="symmetric and Hermitian systems only"):
        linear_solve(SPARSE, b, lx.SparseLDL())
    tall = lxo.SparseLinearOperator.from_dense(A[:, :4])
    with pytest.raises(ValueError, match="square systems only"):
        linear_solve(tall, b, lx.SparseLU())
    symmetric = lxo.SparseLinearOperator.from_dense(A + A.T, lxo.symmetric_tag)
    with pytest.raises(ValueError, match="no factorisation"):
        linear_solve(symmetric, b, lx.SparseLDL("superlu"))
    with pytest.raises(ValueError, match="`backend` must be"):
        linear_solve(SPARSE, b, lx.SparseLU("umfpack"))
    if not RSLAB:
        with pytest.raises(ValueError, match=r"lx-solvers\[sparse\]"):
            linear_solve(SPARSE, b, lx.SparseLU("rslab"))
    with pytest.raises(ValueError, match="`damp` must be"):
        lx.SparseLeastSquares(damp=-1.0)
