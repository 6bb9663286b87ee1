"""Incomplete factors and relaxation beside the same in NumPy, and their worth."""

import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest
import scipy.sparse

from .problems import PSD, N, matrix_of, solved, succeeded


@pytest.mark.parametrize("modified", [0.0, 0.7])
def test_incomplete_lu(sparse, modified):
    operator, A, mask, back = sparse
    for k in range(N):
        for i in range(k + 1, N):
            if not mask[i, k]:
                continue
            A[i, k] /= A[k, k]
            for j in range(k + 1, N):
                if mask[i, j]:
                    A[i, j] -= A[i, k] * A[k, j]
                elif mask[k, j]:
                    A[i, i] -= modified * A[i, k] * A[k, j]
    M = np.linalg.inv((np.tril(A, -1) + np.eye(N)) @ np.triu(A))
    got = matrix_of(lxs.IncompleteLU(modified), operator)
    np.testing.assert_allclose(got, back(M), atol=1e-14)


def test_relaxation(sparse):
    operator, A, _, back = sparse
    L, D, U, ω = np.tril(A, -1), np.diag(np.diag(A)), np.triu(A, 1), 1.3
    M = ω * np.linalg.inv(D + ω * L)
    got = matrix_of(lxs.GaussSeidel(ω), operator)
    np.testing.assert_allclose(got, back(M), atol=1e-14)
    M = (2 - ω) * np.linalg.inv(D + ω * U) @ D @ M
    np.testing.assert_allclose(matrix_of(lxs.SSOR(ω), operator), back(M), atol=1e-14)


def test_order_is_of_the_pattern(sparse, laplacian):
    """No two coupled unknowns of one colour; two colours for a chessboard."""
    operator, _, mask, _ = sparse
    order = lxs.SSOR().setup(operator).order
    place, starts = np.asarray(order.place), np.asarray(order.starts)
    colour = np.searchsorted(starts, place, side="right")
    rows, columns = np.asarray(operator.pattern.rows), operator.pattern.columns
    assert np.all((colour[rows] != colour[columns]) | (rows == columns))
    assert len(lxs.SSOR().setup(laplacian).order.starts) == 3


def test_incomplete_cholesky_shifts():
    """Where a pivot is not positive, the diagonal is raised, and M is definite."""
    n = 9  # no M-matrix, and barely definite
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    apart = np.minimum(apart, n - apart)
    A = np.where(apart == 2, 0.3, 0) + np.where(apart == 1, 0.9, 0)
    A += (1e-3 - np.linalg.eigvalsh(A)[0]) * np.eye(n)
    operator = lo.SparseLinearOperator.from_dense(jnp.asarray(A), PSD)
    recipe = lxs.IncompleteCholesky().setup(operator)
    state = recipe.init(operator, {})
    assert state.shift > 0
    assert np.linalg.eigvalsh(matrix_of(recipe, operator))[0] > 0
    lost = lo.SparseLinearOperator.from_dense(jnp.diag(jnp.array([1.0, -1.0])), PSD)
    recipe = lxs.IncompleteCholesky()
    assert recipe.as_operator(lost).verdict != 0


def test_shift_is_told(rng):
    """Where an incomplete pivot is zero, the diagonal is raised; the operator is far
    from singular."""
    apart = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    mask = np.minimum(apart, N - apart) <= 2
    A = np.where(mask, rng.standard_normal((N, N)), 0) + 3 * np.eye(N)
    operator = lo.SparseLinearOperator.from_dense(jnp.asarray(A))
    order = np.asarray(lxs.SSOR().setup(operator).order.order)
    w = A[np.ix_(order, order)]
    mask = w != 0
    for k in range(N):
        for i in np.flatnonzero(mask[:, k] & (np.arange(N) > k)):
            w[i, k] /= w[k, k]
            for j in np.flatnonzero(mask[i] & (np.arange(N) > k)):
                w[i, j] -= w[i, k] * w[k, j]
    A[order[-1], order[-1]] -= w[-1, -1]
    assert np.linalg.cond(A) < 1000
    hard = lo.SparseLinearOperator.from_dense(jnp.asarray(A), pattern=operator.pattern)
    solver = lxs.GMRES(1e-8, 0.0, preconditioner=lxs.IncompleteLU()).setup(hard)
    x, result, stats = solved(solver, hard, jnp.ones(N))
    assert result == succeeded
    assert 1e-3 <= stats["preconditioner_shift"] < 1
    np.testing.assert_allclose(A @ x, np.ones(N), atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200])
def test_right_factor(rng, scale):
    """The factors of a full pattern are complete: A R⁻¹ has orthonormal columns, but
    for one of zeros."""
    A = scale * rng.standard_normal((7, 4)) * [1, 1e50, 0, 1e-50]
    pattern = lo.SparsityPattern.from_dense(np.ones((7, 4)))
    operator = lo.SparseLinearOperator.from_dense(jnp.asarray(A), pattern=pattern)
    recipe = lxs.IncompleteCholesky().setup(operator)
    R = recipe.right_factor(operator)
    assert R.verdict == 0
    Q = A @ np.asarray(R.as_matrix())
    np.testing.assert_allclose(Q.T @ Q, np.diag(np.diag(Q.T @ Q).round()), atol=1e-12)
    assert np.trace(Q.T @ Q) == pytest.approx(3)
    np.testing.assert_allclose(R.T.as_matrix(), R.as_matrix().T, rtol=1e-12)


def test_least_squares_with_incomplete_factors(rng):
    """Fewer steps than with the lengths of columns."""
    D = scipy.sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(12, 12))
    eye = scipy.sparse.eye_array(12)
    A = scipy.sparse.vstack(
        [scipy.sparse.kron(eye, D), scipy.sparse.kron(D, eye), 0.01 * np.eye(144)]
    )
    operator = lo.SparseLinearOperator.from_scipy(scipy.sparse.csr_array(A))
    b = rng.standard_normal(A.shape[0])
    counts = {}
    for recipe in (lxs.Jacobi(), lxs.IncompleteCholesky()):
        solver = lxs.LSMR(1e-9, 0.0, preconditioner=recipe).setup(operator)
        x, result, stats = solved(solver, operator, jnp.asarray(b))
        assert result == succeeded
        counts[type(recipe)] = int(stats["num_steps"])
        wanted = np.linalg.lstsq(A.toarray(), b)[0]
        np.testing.assert_allclose(x, wanted, atol=1e-5 * abs(wanted).max())
    assert counts[lxs.IncompleteCholesky] < 0.75 * counts[lxs.Jacobi]


def test_right_factor_of_a_square_operator(rng):
    """M is one: M Mᴴ ≈ (AᴴA)⁻¹."""
    A = rng.standard_normal((6, 6))
    operator = lo.MatrixLinearOperator(jnp.asarray(A))
    solver = lxs.LSQR(1e-8, 0.0, preconditioner=lxs.LU())
    x, result, stats = solved(solver, operator, jnp.ones(6))
    assert result == succeeded and stats["num_steps"] <= 2
    np.testing.assert_allclose(A @ x, np.ones(6), atol=1e-6)
    _, result, _ = solved(solver, 0 * operator, jnp.ones(6))
    assert result == lxs.RESULTS.preconditioner_failed
    tall = lo.MatrixLinearOperator(jnp.ones((6, 2)))
    with pytest.raises(ValueError, match="no such form"):
        lxs.LSQR(preconditioner=lxs.LU()).init(tall, {})


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200])
def test_gram_of_columns(rng, sparse, scale):
    """The right factor of Jacobi makes columns of length one, zeros aside."""
    A = scale * rng.standard_normal((7, 4)) * [1, 1e50, 0, 1e-50]
    operator = lo.MatrixLinearOperator(jnp.asarray(A))
    if sparse:
        operator = lo.SparseLinearOperator.from_scipy(scipy.sparse.csr_array(A))
    R = lxs.Jacobi().right_factor(operator)
    norms = np.linalg.norm(A @ R.as_matrix(), axis=0)
    np.testing.assert_allclose(norms, [1, 1, 0, 1], atol=1e-14)


def test_what_is_large_is_not_formed():
    """A sparse matrix stays sparse; of a function the matrix is not formed unasked."""
    n = 200_000
    operator = lo.SparseLinearOperator.from_scipy(2 * scipy.sparse.eye_array(n))
    R = lxs.Jacobi().right_factor(operator)
    np.testing.assert_array_equal(R.mv(jnp.ones(n)), np.full(n, 0.5))
    function = lo.FunctionLinearOperator(jnp.negative, operator.in_structure())
    with pytest.raises(ValueError, match="GiB"):
        lxs.Jacobi().right_factor(function)
    with pytest.raises(ValueError, match="`BlockJacobi`.*GiB.*sparse"):
        lxs.BlockJacobi(2).as_operator(function)
