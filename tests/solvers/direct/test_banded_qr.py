"""QR of band matrices that are not square."""

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers._projection import annihilated
from lx_solvers._slogdet import slogdet_of
from lx_solvers.direct.banded import _factorise_rectangular

# rows, columns, diagonals below and above
SHAPES = [(7, 4, 2, 1), (9, 4, 1, 1), (6, 3, 7, 3), (6, 5, 1, 0), (4, 7, 1, 2)]


def band(A, lower, upper):
    """LAPACK's storage."""
    m, n = A.shape
    out = np.zeros((lower + upper + 1, n), A.dtype)
    for i, j in np.ndindex(m, n):
        if -lower <= j - i <= upper:
            out[upper + i - j, j] = A[i, j]
    return out


def matrix(draw, dtype, m, n, lower, upper):
    i, j = np.indices((m, n))
    return np.where((j - i <= upper) & (i - j <= lower), draw(dtype, m, n), 0)


def factorised(A, lower, upper):
    operator = lxo.MatrixLinearOperator(jnp.asarray(A))
    factorise = jax.jit(lambda A: _factorise_rectangular(operator, A, lower, upper))
    return factorise(jnp.asarray(band(A, lower, upper)))


def close(x, expected, dtype):
    size = np.max(np.abs(expected), initial=0) + np.finfo(dtype).tiny
    assert np.max(np.abs(np.asarray(x) - expected)) <= 3e2 * np.finfo(dtype).eps * size


def wide(A):
    return A.astype(np.result_type(A.dtype, np.float64))


@pytest.mark.parametrize("shape", SHAPES)
def test_least_squares_and_minimum_norm(draw, dtype, shape):
    """Solutions with A, Aᵀ and Ā against NumPy's pseudoinverse, and the projections."""
    original, solver = matrix(draw, dtype, *shape), lxs.Banded()
    start = factorised(original, *shape[2:])
    transposed, _ = solver.transpose(start, {})
    conjugate, _ = solver.conj(start, {})
    cases = (start, original), (transposed, original.T), (conjugate, original.conj())
    for state, A in cases:
        b, inverse = draw(dtype, A.shape[0]), np.linalg.pinv(wide(A))
        x, result, stats = solver.compute(state, jnp.asarray(b), {})
        assert result == lxs.RESULTS.successful
        close(x, inverse @ b, dtype)
        assert np.linalg.cond(A) ** -1 / 9 <= stats["reciprocal_condition"] <= 1
        v = draw(dtype, A.shape[1])
        expected = v - inverse @ (wide(A) @ v)
        assert np.allclose(annihilated(state, jnp.asarray(v)), expected, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale(draw, scale):
    """The scale of each column does not matter, nor that of the whole."""
    A = matrix(draw, np.float32, 9, 4, 1, 1)
    columns = np.array([1, 1e6, 1e-6, 1], np.float32)
    b = draw(np.float32, 9)
    state = factorised((A * columns * np.float32(scale)).astype(np.float32), 1, 1)
    x, result, _ = lxs.Banded().compute(state, jnp.asarray(b * np.float32(scale)), {})
    assert result == lxs.RESULTS.successful
    close(x * columns, np.linalg.pinv(wide(A)) @ b, np.float32)


def test_rank_deficient(draw, dtype):
    """A column that is a combination of its neighbours, but for rounding errors."""
    A = matrix(draw, dtype, 9, 4, 3, 3)
    A[:, 2] = A[:, 1] / 3 + A[:, 0] / 7
    for M in (A, A.T.copy()):
        state = factorised(M, 9, 9)
        b = jnp.asarray(draw(dtype, M.shape[0]))
        _, result, _ = lxs.Banded().compute(state, b, {})
        assert result == lxs.RESULTS.singular


def test_not_finite(draw):
    A = matrix(draw, np.float32, 6, 5, 1, 0)
    A[3, 3] = np.nan
    _, result, _ = lxs.Banded().compute(
        factorised(A, 1, 0), jnp.ones(6, jnp.float32), {}
    )
    assert result == lxs.RESULTS.nonfinite_input


def test_no_determinant(draw):
    with pytest.raises(ValueError, match="square"):
        slogdet_of(factorised(matrix(draw, np.float32, 6, 5, 1, 0), 1, 0))


def test_work_is_linear_in_the_size():
    """No array of n² elements is formed."""
    n = 1000
    diagonals = jax.ShapeDtypeStruct((3, n), np.float32)
    operator = lxo.FunctionLinearOperator(
        lambda x: jnp.append(x, 0), jax.ShapeDtypeStruct((n,), np.float32)
    )

    def solve(A, b):
        state = _factorise_rectangular(operator, A, 1, 1)
        return lxs.Banded().compute(state, b, {})[0]

    b = jax.ShapeDtypeStruct((n + 1,), np.float32)
    text = str(jax.make_jaxpr(solve)(diagonals, b))
    assert f"{n},{n}" not in text and f"{n + 1},{n}" not in text


@pytest.mark.parametrize("shape", SHAPES)
def test_operator(draw, dtype, shape):
    """From an operator, and from its transpose."""
    A = matrix(draw, dtype, *shape)
    lower, upper = shape[2:]
    operator = lxo.BandedLinearOperator(
        jnp.asarray(band(A, lower, upper)), lower, upper, rows=len(A)
    )
    for op, M in ((operator, A), (operator.T, A.T)):
        state = lxs.Banded().init(op, {})
        b = draw(dtype, len(M))
        x, result, _ = lxs.Banded().compute(state, jnp.asarray(b), {})
        assert result == lxs.RESULTS.successful
        close(x, np.linalg.pinv(wide(M)) @ b, dtype)


def test_chosen_automatically():
    bands = jnp.ones((3, 40), jnp.float32)
    operator = lxo.BandedLinearOperator(bands, lower=1, upper=1, rows=41)
    state = lxs.AutoLinearSolver(well_posed=None).init(operator, {})
    assert isinstance(state.solver, lxs.Banded)
