"""LU of large batches of tiny matrices, which LAPACK does not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import MatrixLinearOperator
from lx_solvers import LU, RESULTS
from lx_solvers._slogdet import slogdet_of

BATCH = 300  # more than one piece, the last of which overlaps the one before


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr("lx_solvers.direct._batched._BYTES", 2**13)


def init(matrix):
    return LU().init(MatrixLinearOperator(matrix), {})


def solved(matrix, b):
    x, result, _ = LU().compute(init(matrix), b, {})
    return x, result


def by_lapack(fn, *args):
    return "getrf" in jax.jit(fn).lower(*args).as_text()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
def test_backward_errors_are_lapacks(draw, dtype, backward_error, n):
    A, b = draw(dtype, BATCH, n, n), draw(dtype, BATCH, n)
    A[::3, 0, 0] = 0 if n > 1 else 1
    x, result = jax.jit(jax.vmap(solved))(A, b)
    assert not by_lapack(jax.vmap(solved), A, b) and x.dtype == dtype
    assert (result == RESULTS.successful).all()
    lapack = np.linalg.solve(A, b[..., None])[..., 0]
    ours = max(map(backward_error, A, x, b))
    assert ours < 3 * max(map(backward_error, A, lapack, b)) + 1


def test_factors_are_lapacks(draw, dtype):
    A = draw(dtype, BATCH, 6, 6)
    states = jax.vmap(init)(A)
    for i in range(0, BATCH, 50):
        one = init(A[i])
        np.testing.assert_array_equal(states.pivots[i], one.pivots)
        np.testing.assert_array_equal(states.permutation[i], one.permutation)
        np.testing.assert_array_equal(states.rows[i], one.rows)
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(states.lu[i], one.lu, atol=200 * eps)


def test_alone_or_few_are_lapacks(draw):
    A, b = draw(np.float64, 4, 3, 3), draw(np.float64, 4, 3)
    assert by_lapack(solved, A[0], b[0])
    assert by_lapack(jax.vmap(solved), A, b)
    A, b = draw(np.float64, BATCH, 9, 9), draw(np.float64, BATCH, 9)
    assert by_lapack(jax.vmap(solved), A, b)


def test_a_bad_member_does_not_spoil_its_neighbours(draw, dtype):
    n = 4
    A, b = draw(dtype, BATCH, n, n), draw(dtype, BATCH, n)
    A += 4 * np.eye(n, dtype=dtype)
    wanted = np.zeros(BATCH, object)
    wanted[:] = RESULTS.successful
    A[10] = 0
    A[20] = np.outer(A[20, 0], A[20, 1])
    A[30, :, 2] = 3 * A[30, :, 0]
    wanted[[10, 20, 30]] = RESULTS.singular
    A[40, 1, 1], A[50, 3, 0], b[60, 2] = np.nan, np.inf, np.nan
    wanted[[40, 50, 60]] = RESULTS.nonfinite_input
    A[70] *= np.asarray([1e-30, 1e30, 1, 1e-20], dtype)[:, None]
    x, result = jax.jit(jax.vmap(solved))(A, b)
    for kind in (RESULTS.successful, RESULTS.singular, RESULTS.nonfinite_input):
        np.testing.assert_array_equal(result == kind, [w is kind for w in wanted])
    good = np.array([w is RESULTS.successful for w in wanted])
    good[70] = False
    product = np.einsum("bij,bj->bi", A[good], x[good])
    np.testing.assert_allclose(product, b[good], rtol=0, atol=1e3 * np.finfo(dtype).eps)


@pytest.mark.parametrize("batch", [128, 131, 512, 1009])
def test_any_batch_size(draw, batch):
    A, b = draw(np.float64, batch, 3, 3), draw(np.float64, batch, 3)
    x, _ = jax.jit(jax.vmap(solved))(A, b)
    np.testing.assert_allclose(x, np.linalg.solve(A, b[..., None])[..., 0], rtol=1e-9)


def test_nested(draw, dtype):
    """Maps of matrices within maps of matrices, and of vectors at every depth."""
    n = 3
    A, b = draw(dtype, 15, 20, n, n), draw(dtype, 15, 20, 7, n)
    A += 5 * np.eye(n, dtype=dtype)
    eps = np.finfo(dtype).eps
    vectors = jax.vmap(solved, (None, 0))
    all_vectors = jax.vmap(jax.vmap(vectors))
    x, _ = jax.jit(all_vectors)(A, b)
    assert not by_lapack(all_vectors, A, b)
    want = np.linalg.solve(A, b.swapaxes(-1, -2)).swapaxes(-1, -2)
    np.testing.assert_allclose(x, want, atol=50 * eps)
    one_vector = jax.vmap(jax.vmap(solved, (0, None)), (0, None))
    x, _ = one_vector(A, b[0, 0, 0])
    want = np.linalg.solve(A, b[0, 0, 0][:, None])[..., 0]
    np.testing.assert_allclose(x, want, atol=50 * eps)
    shared = jax.vmap(jax.vmap(solved, (None, 0)), (None, 1), 1)
    x, _ = shared(A[0, 0], b[0])
    want = np.linalg.solve(A[0, 0], b[0].reshape(-1, n).T).T.reshape(b[0].shape)
    np.testing.assert_allclose(x, want, atol=50 * eps)


@pytest.mark.parametrize("view", ["transpose", "conj", "both"])
def test_other_views_of_the_state(draw, dtype, view):
    A, b = draw(dtype, BATCH, 3, 3), draw(dtype, BATCH, 3)

    def solve(matrix, b):
        state = init(matrix)
        for turn in (LU().transpose, LU().conj):
            if view in ("both", turn.__name__):
                state = turn(state, {})[0]
        return LU().compute(state, b, {})[0]

    A += 5 * np.eye(3, dtype=dtype)
    M = A if view == "conj" else A.swapaxes(1, 2)
    M = M if view == "transpose" else M.conj()
    x = jax.jit(jax.vmap(solve))(A, b)
    want = np.linalg.solve(M, b[..., None])[..., 0]
    np.testing.assert_allclose(x, want, atol=50 * np.finfo(dtype).eps)


def test_determinants(draw, dtype):
    A = draw(dtype, BATCH, 4, 4)
    sign, logabs = jax.jit(jax.vmap(lambda A: slogdet_of(init(A))))(A)
    for got, want in zip((sign, logabs), np.linalg.slogdet(A)):
        np.testing.assert_allclose(got, want, atol=500 * np.finfo(dtype).eps)


def test_the_solve_is_linear(draw):
    """It can be transposed and differentiated by itself."""
    A, b, c = (draw(np.complex128, BATCH, *shape) for shape in ((3, 3), (3,), (3,)))
    states = jax.vmap(init)(A)

    def solve(b):
        return jax.vmap(lambda state, b: LU().compute(state, b, {})[0])(states, b)

    wanted = np.linalg.solve(A.swapaxes(1, 2), c[..., None])[..., 0]
    (got,) = jax.linear_transpose(solve, b)(jnp.asarray(c))
    np.testing.assert_allclose(got, wanted, rtol=1e-9)
    np.testing.assert_allclose(jax.vjp(solve, b)[1](jnp.asarray(c))[0], got)
    np.testing.assert_allclose(jax.jvp(solve, (b,), (c,))[1], solve(c))
