"""LU: its laws, and that success is success."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from lx_operators import (
    MatrixLinearOperator,
    PyTreeLinearOperator,
    positive_semidefinite_tag,
)
from lx_solvers import LU, QR, RESULTS, SVD, Cholesky
from lx_solvers._slogdet import slogdet_of


@pytest.mark.parametrize("n", [0, 1, 7])
def test_laws(obeys_laws, draw, dtype, n):
    obeys_laws(LU(), draw(dtype, n, n) + 2 * n * np.eye(n, dtype=dtype))


def test_pivots(obeys_laws, dtype):
    obeys_laws(LU(), np.array([[0, 1, 0], [0, 0, 2], [3, 0, 0]], dtype))


def growth(n):
    """Wilkinson's matrix: elements grow by 2ⁿ⁻¹ under partial pivoting."""
    matrix = np.eye(n) - np.tril(np.ones((n, n)), -1)
    matrix[:, -1] = 1
    return matrix


def prescribed(n, condition, draw, dtype):
    """A matrix of geometric singular values from 1 to 1/condition."""
    U, V = (np.linalg.qr(draw(dtype, n, n))[0] for _ in range(2))
    return ((U * np.geomspace(1, 1 / condition, n)) @ V).astype(dtype)


def singular_ones(draw, dtype, n):
    """Exactly rank-deficient matrices, and products that are so up to rounding."""
    duplicate = draw(dtype, n, n)
    duplicate[:, 0] = 3 * duplicate[:, -1]
    zero_row = draw(dtype, n, n)
    zero_row[n // 2] = 0
    whole = np.round(5 * draw(dtype, n, n - 1)) @ np.round(5 * draw(dtype, n - 1, n))
    laplacian = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    laplacian[0, 0] = laplacian[-1, -1] = 1
    return {
        "zero": np.zeros((n, n), dtype),
        "rank n - 1": draw(dtype, n, n - 1) @ draw(dtype, n - 1, n),
        "rank n / 2": draw(dtype, n, n // 2) @ draw(dtype, n // 2, n),
        "duplicate column": duplicate,
        "zero row": zero_row,
        "whole numbers": whole.astype(dtype),
        "counting": (np.arange(n * n).reshape(n, n) + 1).astype(dtype),
        "laplacian": (np.pi * laplacian).astype(dtype),
    }


@pytest.mark.parametrize("n", [3, 50])
def test_singular(draw, run, dtype, n):
    for solver in (LU(), QR()):
        for name, matrix in singular_ones(draw, dtype, n).items():
            _, result, _ = run(solver, matrix, draw(dtype, n))
            assert result == "singular", (solver, name)


@pytest.mark.parametrize("solver", [LU(), QR()], ids=["LU", "QR"])
def test_neither_misses_nor_false_alarms(draw, dtype, solver):
    """A hundred singular matrices, a hundred near 1/(100 eps), a thousand others. About
    one singular matrix in a thousand has factors of one that is not."""
    n, count = 20, 100
    low = draw(dtype, count, n, n - 1) @ draw(dtype, count, n - 1, n)
    ill = np.stack(
        [prescribed(n, 0.01 / np.finfo(dtype).eps, draw, dtype) for _ in range(count)]
    )
    matrices = np.concatenate((low, ill, draw(dtype, 1000, n, n)))

    @jax.jit
    @jax.vmap
    def ends(matrix, b):
        state = solver.init(MatrixLinearOperator(matrix), {})
        _, result, _ = solver.compute(state, b, {})
        return result == RESULTS.singular, result == RESULTS.successful

    singular, successful = map(
        np.asarray, ends(matrices, draw(dtype, len(matrices), n))
    )
    assert singular[:count].sum() >= count - 2
    assert successful[count:].all()


@pytest.mark.parametrize("solver", [LU(), QR()], ids=["LU", "QR"])
def test_badly_scaled_is_not_singular(draw, run, backward_error, dtype, solver):
    n = 30
    scale = np.geomspace(1, 1e-20 if dtype in ("f8", "c16") else 1e-12, n).astype(dtype)
    A = draw(dtype, n, n)
    for matrix in (scale[:, None] * A, A * scale, scale[:, None] * A * scale[::-1]):
        matrix = matrix.astype(dtype)
        b = matrix @ draw(dtype, n)
        x, result, _ = run(solver, matrix, b)
        assert result == "successful"
        assert backward_error(matrix, x, b) < 20
    _, result, _ = run(solver, np.diag(np.array([1, 1e-20], dtype)), np.ones(2, dtype))
    assert result == "successful"


@pytest.mark.parametrize("solver", [LU(), QR()], ids=["LU", "QR"])
def test_any_scale(draw, run, backward_error, dtype, solver):
    n = 30
    A, b = draw(dtype, n, n), draw(dtype, n)
    x, _, _ = run(solver, A, b)
    for scale in (1e-30, 1e-10, 1e20):
        for other in (1e-30, 1e20):
            if dtype in ("f4", "c8") and not 1e-30 < other / scale < 1e30:
                continue  # the solution is beyond float32
            matrix = (A * dtype.type(scale)).astype(dtype)
            y, result, _ = run(solver, matrix, b * dtype.type(other))
            assert result == "successful"
            assert backward_error(matrix, y, b * dtype.type(other)) < 20


@pytest.mark.parametrize("solver", [LU(), QR()], ids=["LU", "QR"])
@pytest.mark.parametrize("condition", [1e0, 1e3, 1e6, 1e10, 1e14])
def test_success_means_small_backward_error(
    draw, run, backward_error, dtype, solver, condition
):
    """And up to a condition of 1/(100 eps), it is success; no worse than LAPACK."""
    for n in (5, 100):
        matrix = prescribed(n, condition, draw, dtype)
        b = draw(dtype, n)
        x, result, _ = run(solver, matrix, b)
        if condition < 0.01 / np.finfo(dtype).eps:
            assert result == "successful"
        if result == "successful":
            lapack = backward_error(matrix, np.linalg.solve(matrix, b), b)
            assert backward_error(matrix, x, b) <= 10 * max(lapack, 1)


@pytest.mark.parametrize(
    "matrix",
    [
        scipy.linalg.hilbert(12),
        scipy.linalg.hilbert(5),
        scipy.linalg.pascal(10),
        np.vander(np.linspace(0, 1, 12)),
        np.triu(-np.ones((30, 30)), 1) + np.eye(30),
        scipy.linalg.toeplitz([2, -1] + [0] * 48),
        growth(20),
    ],
    ids=[
        "Hilbert 12",
        "Hilbert 5",
        "Pascal",
        "Vandermonde",
        "triu",
        "Poisson",
        "growth",
    ],
)
@pytest.mark.parametrize("solver", [LU(), QR()], ids=["LU", "QR"])
def test_classics_are_accurate_or_reported(
    draw, run, backward_error, dtype, solver, matrix
):
    matrix = matrix.astype(dtype)
    b = draw(dtype, len(matrix))
    x, result, _ = run(solver, matrix, b)
    assert result in ("successful", "singular", "unstable")
    if result == "successful":
        assert backward_error(matrix, x, b) < np.finfo(dtype).eps ** -0.5


def test_growth_is_unstable(draw, run, backward_error, dtype):
    matrix, b = growth(60).astype(dtype), draw(dtype, 60)
    assert run(LU(), matrix, b)[1] == "unstable"
    x, result, _ = run(QR(), matrix, b)
    assert result == "successful" and backward_error(matrix, x, b) < 20


@pytest.mark.parametrize("solver", [LU(), QR()], ids=["LU", "QR"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite(draw, run, dtype, solver, bad):
    A, b = draw(dtype, 6, 6), draw(dtype, 6)
    for i, j in [(0, 0), (0, 5), (5, 0), (5, 5), (2, 3)]:
        spoiled = A.copy()
        spoiled[i, j] = bad
        assert run(solver, spoiled, b)[1] == "nonfinite_input"
    spoiled = np.triu(A)  # here elimination has nothing to spread the bad element by
    spoiled[0, -1] = bad
    assert run(solver, spoiled, b * np.eye(6, dtype=dtype)[0])[1] == "nonfinite_input"
    b[3] = bad
    assert run(solver, A, b)[1] == "nonfinite_input"


def test_one_bad_in_a_batch(draw):
    """A failure belongs to its own system."""
    matrices = np.stack([np.eye(2), np.ones((2, 2)), [[np.nan, 0], [0, 1]], growth(2)])

    def result(matrix):
        operator, solver = MatrixLinearOperator(matrix), LU()
        return solver.compute(solver.init(operator, {}), jnp.ones(2), {})[1]

    results = jax.vmap(result)(matrices)
    for name, wanted in (
        ("successful", [True, False, False, True]),
        ("singular", [False, True, False, False]),
        ("nonfinite_input", [False, False, True, False]),
    ):
        assert (results == getattr(RESULTS, name)).tolist() == wanted


def test_pytrees(draw):
    """Unknowns {x: [2], y: []}, equations ([3],)."""
    A = draw(np.float64, 3, 3)
    blocks = ({"x": jnp.asarray(A[:, :2]), "y": jnp.asarray(A[:, 2])},)
    operator = PyTreeLinearOperator(blocks, (jax.ShapeDtypeStruct((3,), A.dtype),))
    solver, b = LU(), draw(np.float64, 3)
    state = solver.init(operator, {})
    x, _, _ = solver.compute(state, (jnp.asarray(b),), {})
    np.testing.assert_allclose([*x["x"], x["y"]], np.linalg.solve(A, b), rtol=1e-10)
    b = {"x": jnp.asarray(b[:2]), "y": jnp.asarray(b[2])}
    (x,), _, _ = solver.compute(solver.transpose(state, {})[0], b, {})
    np.testing.assert_allclose(x, np.linalg.solve(A.T, [*b["x"], b["y"]]), rtol=1e-10)


def test_slogdet(draw, slogdet, dtype):
    for n in (0, 1, 30):
        slogdet(LU(), draw(dtype, n, n))


def test_slogdet_of_singular():
    state = LU().init(MatrixLinearOperator(jnp.zeros((2, 2))), {})
    sign, logabs = slogdet_of(state)
    assert sign == 0 and logabs == -jnp.inf


def test_rectangular_is_an_error():
    with pytest.raises(ValueError, match="square"):
        LU().init(MatrixLinearOperator(jnp.ones((3, 2))), {})


def test_other_structure_is_an_error():
    state = LU().init(MatrixLinearOperator(jnp.eye(2)), {})
    with pytest.raises(ValueError, match="structure"):
        LU().compute(state, jnp.ones(3), {})


def test_strict_modes(draw, run, dtype):
    A, b = draw(dtype, 4, 4), draw(dtype, 4)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        x, result, _ = run(LU(), A, b)
    assert result == "successful"
    np.testing.assert_allclose(A @ x, b, atol=1e3 * np.finfo(dtype).eps)


def test_crosses_scan(draw):
    A, b = draw(np.float64, 5, 5), draw(np.float64, 5)
    solver = LU()

    @eqx.filter_jit
    def iterate(operator, b):
        state = solver.init(operator, {})
        step = lambda x, _: (solver.compute(state, x, {})[0], None)  # noqa: E731
        return jax.lax.scan(step, b, length=3)[0]

    x = iterate(MatrixLinearOperator(jnp.asarray(A)), jnp.asarray(b))
    np.testing.assert_allclose(np.linalg.matrix_power(A, 3) @ x, b, rtol=1e-8)


@pytest.mark.parametrize("solver", [LU(), QR(), SVD(), Cholesky()])
def test_one_nan_among_many(solver):
    """XLA's maximum of many numbers may drop it."""
    A = np.eye(70)
    A[40, 7] = np.nan
    operator = MatrixLinearOperator(A, positive_semidefinite_tag)
    verdict = solver.init(operator, {}).verdict
    assert RESULTS[verdict] == RESULTS[RESULTS.nonfinite_input]
