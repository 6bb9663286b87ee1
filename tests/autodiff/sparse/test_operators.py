"""Which operators the sparse solvers take, and what they say of the others."""

import importlib.util

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
import pytest
import scipy.sparse
from lx_autodiff import invert, linear_solve, logdet

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
    with pytest.raises(ValueError, match="square.*`SparseLeastSquares`, `LSMR`"):
        linear_solve(tall, b, lx.SparseLU())
    symmetric = lxo.SparseLinearOperator.from_dense(A + A.T, lxo.symmetric_tag)
    with pytest.raises(ValueError, match="no factorisation.*rslab"):
        linear_solve(symmetric, b, lx.SparseLDL("superlu"))
    with pytest.raises(ValueError, match="`backend` must be"):
        linear_solve(SPARSE, b, lx.SparseLU("umfpack"))
    if not RSLAB:
        with pytest.raises(ValueError, match=r"lx-solvers\[sparse\]"):
            linear_solve(SPARSE, b, lx.SparseLU("rslab"))
    with pytest.raises(ValueError, match="`damp` must be"):
        lx.SparseLeastSquares(damp=-1.0)


@pytest.mark.parametrize("of", [np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("solver", [lx.SparseLU(), lx.SparseLeastSquares()])
def test_wider_vectors(solver, of):
    """A float32 matrix solves with vectors of other dtypes, in theirs."""
    operator = lxo.SparseLinearOperator.from_dense(A.astype(np.float32))
    b = jnp.asarray(B * (1 + 0.5j if of != np.float64 else 1), of)
    with jax.numpy_dtype_promotion("standard"):
        x = linear_solve(operator, b, solver).value
    assert x.dtype == b.dtype
    rtol = 1e-5 if of == np.complex64 else 1e-13
    np.testing.assert_allclose(x, np.linalg.solve(A, np.asarray(b)), rtol=rtol)


PRODUCTS = {
    "gram": lambda S: S.T @ S + 2 * lxo.IdentityLinearOperator(S.in_structure()),
    "product": lambda S: S @ (S.T + S),
    "scaled product": lambda S: 2.0 * (S.T @ S),
    "blocks": lambda S: lxo.BlockSparseLinearOperator(
        S.values[:, None, None] * jnp.array([[[2.0, 1.0], [0.5, 3.0]]]), S.pattern
    ),
    "diagonals": lambda S: lxo.SparseDiagonalsLinearOperator(
        S.values[:3, None] * jnp.ones((3, 6)) + jnp.array([[1.0], [8.0], [1.0]]),
        (-2, 0, 3),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_one_matrix_of_several(name):
    """Formed outside of the compiled solve, where the indices are known: eagerly, and
    under transformations of a function that has built them or closes over them."""
    make = PRODUCTS[name]

    def operator(values):
        return make(lxo.SparseLinearOperator(values, SPARSE.pattern))

    b = jnp.arange(1.0, 1 + operator(SPARSE.values).out_size())
    solver = lx.SparseLU()

    def loss(values):
        return jnp.sum(linear_solve(operator(values), b, solver).value ** 2)

    def dense(values):
        return jnp.sum(jnp.linalg.solve(operator(values).as_matrix(), b) ** 2)

    def determinant(values):
        return logdet(operator(values), solver)

    def dense_determinant(values):
        return jnp.linalg.slogdet(operator(values).as_matrix())[1]

    for ours, truth in ((loss, dense), (determinant, dense_determinant)):
        got, wanted = ours(SPARSE.values), truth(SPARSE.values)
        np.testing.assert_allclose(got, wanted, rtol=1e-10)
        slopes = jax.jit(jax.grad(ours))(SPARSE.values), jax.grad(truth)(SPARSE.values)
        np.testing.assert_allclose(*slopes, rtol=1e-8, atol=1e-12)
    many = jnp.stack([SPARSE.values, 2 * SPARSE.values])
    np.testing.assert_allclose(jax.vmap(loss)(many), jax.vmap(dense)(many), rtol=1e-9)
    state = solver.init(operator(SPARSE.values), {})
    again = linear_solve(operator(SPARSE.values), b, solver, state=state).value
    inverse = invert(operator(SPARSE.values), solver).mv(b)
    np.testing.assert_allclose(again, inverse, rtol=1e-12)


def test_chosen_for_large_ones():
    """The automatic choice factorises the sparse matrix that it says it takes."""
    n = 500
    S = lxo.SparseLinearOperator.from_scipy(
        scipy.sparse.diags_array([4.0, 1.0, 1.0], offsets=[0, 1, -90], shape=(n, n))
    )
    ones = jnp.ones((2, n))
    for operator in (
        S.T @ S + lxo.IdentityLinearOperator(S.in_structure()),
        lxo.BlockSparseLinearOperator(S.values[:, None, None], S.pattern),
        lxo.SparseDiagonalsLinearOperator(5 * ones.at[1].set(1.0), (0, 90)),
    ):
        solution = linear_solve(operator, jnp.ones(n))
        assert "refinement_steps" in solution.stats  # of a sparse solver
        residual = operator.mv(solution.value) - 1
        assert np.max(np.abs(residual)) < 1e-12
