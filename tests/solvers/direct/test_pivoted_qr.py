"""PivotedQR: its factorisation. Its solutions: in `test_svd.py`, beside SVD's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from lx_operators import MatrixLinearOperator
from lx_solvers import PivotedQR
from lx_solvers.direct import _pivoting


@pytest.mark.parametrize("shape", [(1, 1), (6, 6), (9, 5)], ids=str)
def test_swapping_qr(draw, dtype, shape):
    """The factorisation for back ends without LAPACK's is the same as LAPACK's."""
    A = draw(dtype, *shape)
    A[:, -1] = A[:, 0] * 2
    Q, R, p = (np.asarray(a) for a in jax.jit(_pivoting.swapping_qr)(jnp.asarray(A)))
    limit = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(Q @ R, A[:, p], rtol=0, atol=limit)
    np.testing.assert_allclose(Q.conj().T @ Q, np.eye(shape[1]), atol=limit)
    np.testing.assert_array_equal(R, np.triu(R))
    lapack = scipy.linalg.qr(A, mode="r", pivoting=True)[0]
    size, wanted = abs(np.diag(R)), abs(np.diag(lapack))
    np.testing.assert_allclose(size, wanted, rtol=0, atol=limit * max(wanted[0], 1))


def test_swapping_qr_of_zero():
    Q, R, _ = _pivoting.swapping_qr(jnp.zeros((3, 2)))
    assert (R == 0).all()
    np.testing.assert_array_equal(Q, np.eye(3, 2))


def test_default_rank_knows_badly_scaled_columns(draw, run):
    """Monomials up to the tenth power: each column is near its own rounding errors'
    bound only relative to the largest."""
    t = np.linspace(-9, -3, 82)
    A = t[:, None] ** np.arange(11)
    _, _, stats = run(PivotedQR(), A, np.ones(82))
    assert stats["rank"] == 11
    assert np.linalg.matrix_rank(A) < 11


def test_full_rank_is_as_good_as_lapack(draw, run, backward_error, dtype):
    A, b = draw(dtype, 50, 50), draw(dtype, 50)
    x, _, _ = run(PivotedQR(), A, b)
    assert backward_error(A, x, b) < 10


def test_batch_of_different_ranks(draw):
    A = np.stack([draw(np.float64, 6, k) @ draw(np.float64, k, 5) for k in range(1, 6)])
    b = draw(np.float64, 5, 6)

    def one(matrix, vector):
        solver, operator = PivotedQR(), MatrixLinearOperator(matrix)
        return solver.compute(solver.init(operator, {}), vector, {})[::2]

    x, stats = jax.jit(jax.vmap(one))(A, b)
    np.testing.assert_array_equal(stats["rank"], [1, 2, 3, 4, 5])
    wanted = [np.linalg.pinv(m, rcond=1e-12) @ v for m, v in zip(A, b)]
    np.testing.assert_allclose(x, wanted, rtol=1e-9, atol=1e-12)
