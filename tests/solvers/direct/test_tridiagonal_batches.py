"""Large batches of tridiagonal systems, which LAPACK does not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import TridiagonalLinearOperator
from lx_solvers import RESULTS, Tridiagonal
from lx_solvers._slogdet import slogdet_of

BATCH = 150  # more than one piece, the last of which overlaps the one before
KINDS = [(0, "d"), *((1, x) for x in "fD"), *((2, x) for x in "dF")]
KINDS += [*((3, x) for x in "fD"), *((10, x) for x in "fdFD")]


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr("lx_solvers.direct._batched._BYTES", 2**7)


def init(main, lower, upper):
    return Tridiagonal().init(TridiagonalLinearOperator(main, lower, upper), {})


def solved(main, lower, upper, b):
    return Tridiagonal().compute(init(main, lower, upper), b, {})


in_batch = jax.jit(jax.vmap(solved))


@jax.jit
def one_by_one(*arrays):
    return jax.lax.map(lambda each: solved(*each), arrays)


def systems(draw, dtype, *shape):
    """Bands, and right-hand sides."""
    *batch, n = shape
    sizes = n, max(n - 1, 0), max(n - 1, 0), n
    return [draw(dtype, *batch, size) for size in sizes]


def dense(main, lower, upper):
    n = main.shape[-1]
    A = np.zeros((*main.shape, n), main.dtype)
    for band, k in (main, 0), (lower, -1), (upper, 1):
        i = np.arange(band.shape[-1])
        A[..., i + max(-k, 0), i + max(k, 0)] = band
    return A


def by_lapack(fn, *args):
    return "gtsv" in jax.jit(fn).lower(*args).as_text()


@pytest.mark.parametrize(("n", "letter"), KINDS)
def test_backward_errors_are_lapacks(draw, backward_error, n, letter):
    dtype = np.dtype(letter)
    *bands, b = systems(draw, dtype, BATCH, n)
    bands[0][::3] *= 0 if n == 10 else 1  # pivots are elsewhere
    x, result, _ = in_batch(*bands, b)
    assert x.dtype == dtype and x.shape == b.shape
    assert (result == RESULTS.successful).all()
    if n:
        assert not by_lapack(jax.vmap(solved), *bands, b)
        A = dense(*bands)
        lapack = np.linalg.solve(A, b[..., None])[..., 0]
        ours = max(map(backward_error, A, x, b))
        assert ours < 3 * max(map(backward_error, A, lapack, b)) + 1


@pytest.mark.parametrize("batch", [63, 64, 65, 131])
def test_any_batch_size(draw, batch):
    *bands, b = systems(draw, np.float64, batch, 4)
    bands[0] += 5
    assert by_lapack(jax.vmap(solved), *bands, b) == (batch < 64)
    x, _, _ = in_batch(*bands, b)
    want = np.linalg.solve(dense(*bands), b[..., None])[..., 0]
    np.testing.assert_allclose(x, want, rtol=1e-12)


def test_a_bad_member_does_not_spoil_its_neighbours(draw, dtype):
    n, wanted = 5, np.zeros(BATCH, object)
    main, lower, upper, b = systems(draw, dtype, BATCH, n)
    main += 5
    wanted[:] = RESULTS.successful
    main[10], lower[10], upper[10] = 0, 0, 0
    main[20, -1], lower[20, -1] = 0, 0
    main[30], lower[30], upper[30] = [1, 2, 2, 2, 1], -1, -1  # of Neumann's problem
    wanted[[10, 20, 30]] = RESULTS.singular
    main[40, 1], lower[50, 3], upper[60, 0] = np.nan, np.inf, np.nan
    b[70, 2], b[80, 4] = np.nan, -np.inf
    wanted[[40, 50, 60, 70, 80]] = RESULTS.nonfinite_input
    b[90] = 0
    bands = main, lower, upper
    x, result, _ = in_batch(*bands, b)
    for kind in (RESULTS.successful, RESULTS.singular, RESULTS.nonfinite_input):
        np.testing.assert_array_equal(result == kind, [w is kind for w in wanted])
    good = np.array([w is RESULTS.successful for w in wanted])
    want = np.linalg.solve(dense(*bands)[good], b[good, :, None])[..., 0]
    np.testing.assert_allclose(x[good], want, rtol=0, atol=20 * np.finfo(dtype).eps)
    np.testing.assert_array_equal(x[90], np.zeros(n))


def test_each_as_if_alone(draw, dtype):
    """Its status and figures, for members whose rows and columns differ by 24 decades,
    which others of the batch need not scale."""
    n = 8
    main, lower, upper, b = systems(draw, dtype, BATCH, n)
    decades = np.geomspace(1e-12, 1e12, n).astype(np.finfo(dtype).dtype)
    one = np.ones_like(decades)
    kinds = (1, decades, one), (2, one, decades), (3, decades, decades[::-1])
    for start, r, c in kinds:
        for band, i, j in (main, 0, 0), (lower, 1, 0), (upper, 0, 1):
            size = band.shape[-1]
            band[start::5] *= r[i : i + size]
            band[start::5] *= c[j : j + size]
        b[start::5] *= r
    main[4::5, ::2] = 0
    x, result, stats = in_batch(main, lower, upper, b)
    x_alone, result_alone, alone = one_by_one(main, lower, upper, b)
    for kind in (RESULTS.successful, RESULTS.singular, RESULTS.unstable):
        np.testing.assert_array_equal(result == kind, result_alone == kind)
    assert np.mean(result == RESULTS.successful) > 0.9
    u, rcond = np.finfo(dtype).eps, np.asarray(alone["reciprocal_condition"])
    np.testing.assert_allclose(stats["reciprocal_condition"], rcond, rtol=u**0.5)
    most = max(alone["backward_error"])
    assert max(stats["backward_error"]) < 3 * most + 10 * u
    good = np.asarray(result == RESULTS.successful)
    A = dense(main, lower, upper)
    A, x, b = (np.asarray(v)[good].astype(np.clongdouble) for v in (A, x, b))
    r = abs(b - np.einsum("bij,bj->bi", A, x))
    size = np.einsum("bij,bj->bi", abs(A), abs(x)) + abs(b)
    assert (r <= u**0.5 * size).all() and (r <= 50 * u * size).mean() > 0.95


def test_nested(draw, dtype):
    """Maps of matrices within maps of matrices, and of vectors at every depth."""
    n, eps = 3, np.finfo(dtype).eps
    *bands, _ = systems(draw, dtype, 10, 9, n)
    bands[0] += 5
    A, b = dense(*bands), draw(dtype, 10, 9, 7, n)
    vectors = jax.vmap(solved, (None, None, None, 0))
    all_vectors = jax.vmap(jax.vmap(vectors))
    assert not by_lapack(all_vectors, *bands, b)
    x = jax.jit(all_vectors)(*bands, b)[0]
    want = np.linalg.solve(A, b.swapaxes(-1, -2)).swapaxes(-1, -2)
    np.testing.assert_allclose(x, want, atol=50 * eps)
    one_vector = jax.vmap(solved, (0, 0, 0, None))
    one_vector = jax.vmap(one_vector, (0, 0, 0, None))
    x = one_vector(*bands, b[0, 0, 0])[0]  # not compiled as a whole
    want = np.linalg.solve(A, b[0, 0, 0][:, None])[..., 0]
    np.testing.assert_allclose(x, want, atol=50 * eps)
    one = [band[0, 0] for band in bands]
    shared = jax.vmap(jax.vmap(solved, (None, None, None, 0)), (None, None, None, 1), 1)
    assert by_lapack(shared, *one, b[:, 0])
    x = jax.jit(shared)(*one, b[:, 0])[0]
    want = np.linalg.solve(A[0, 0], b[:, 0].reshape(-1, n).T).T
    np.testing.assert_allclose(x, want.reshape(x.shape), atol=50 * eps)


@pytest.mark.parametrize("view", ["transpose", "conj", "both"])
def test_other_views_of_the_state(draw, view):
    dtype = np.dtype(np.complex128)
    *bands, b = systems(draw, dtype, BATCH, 3)
    bands[0] += 5

    def solve(main, lower, upper, b):
        state = init(main, lower, upper)
        for turn in (Tridiagonal().transpose, Tridiagonal().conj):
            if view in ("both", turn.__name__):
                state = turn(state, {})[0]
        return Tridiagonal().compute(state, b, {})[0]

    A = dense(*bands)
    A = A if view == "conj" else A.swapaxes(1, 2)
    A = A if view == "transpose" else A.conj()
    x = jax.jit(jax.vmap(solve))(*bands, b)
    want = np.linalg.solve(A, b[..., None])[..., 0]
    np.testing.assert_allclose(x, want, atol=50 * np.finfo(dtype).eps)


def test_determinants(draw, dtype):
    *bands, _ = systems(draw, dtype, BATCH, 4)
    got = jax.jit(jax.vmap(lambda *bands: slogdet_of(init(*bands))))(*bands)
    for ours, numpys in zip(got, np.linalg.slogdet(dense(*bands))):
        np.testing.assert_allclose(ours, numpys, atol=500 * np.finfo(dtype).eps)


def test_the_solve_is_linear(draw):
    """It can be transposed and differentiated by itself, in the operator too."""
    *bands, b = systems(draw, np.complex128, BATCH, 3)
    bands[0] += 5
    A, c = dense(*bands), draw(np.complex128, BATCH, 3)
    states = jax.jit(jax.vmap(init))(*bands)

    def solve(b):
        return jax.vmap(lambda state, b: Tridiagonal().compute(state, b, {})[0])(
            states, b
        )

    (got,) = jax.jit(jax.linear_transpose(solve, b))(jnp.asarray(c))
    wanted = np.linalg.solve(A.swapaxes(1, 2), c[..., None])[..., 0]
    np.testing.assert_allclose(got, wanted, rtol=1e-12)
    moved = systems(draw, np.complex128, BATCH, 3)
    first = jax.jit(
        lambda *tangents: jax.jvp(
            lambda *args: jax.vmap(solved)(*args)[0], (*bands, b), tangents
        )[1]
    )
    x = np.linalg.solve(A, b[..., None])
    right = moved[3][..., None] - dense(*moved[:3]) @ x
    np.testing.assert_allclose(
        first(*moved), np.linalg.solve(A, right)[..., 0], rtol=1e-9, atol=1e-12
    )
