"""Banded: the four views, pivoting, and that success is success."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from lx_operators import (
    BandedLinearOperator,
    DiagonalLinearOperator,
    MatrixLinearOperator,
    TridiagonalLinearOperator,
)
from lx_solvers import RESULTS, AutoLinearSolver, Banded
from lx_solvers._slogdet import slogdet_of

SOLVER = Banded()


def dense(diagonals, lower, upper):
    """The matrix, a diagonal at a time."""
    n = diagonals.shape[1]
    parts = (
        np.diag(diagonals[upper - k, max(k, 0) : n + min(k, 0)], k)
        for k in range(-min(lower, n - 1), min(upper, n - 1) + 1)
    )
    return sum(parts, np.zeros((n, n), diagonals.dtype))


def stored(matrix, lower, upper):
    """The diagonals of a matrix."""
    n = len(matrix)
    diagonals = np.zeros((lower + upper + 1, n), matrix.dtype)
    for k in range(-lower, upper + 1):
        diagonals[upper - k, max(k, 0) : n + min(k, 0)] = np.diag(matrix, k)
    return diagonals


@eqx.filter_jit
def _views(operator, b):
    """Solves with A, Aᵀ, Ā, Aᴴ from one factorisation; three vectors; determinants."""
    state = SOLVER.init(operator, {})
    transposed = SOLVER.transpose(state, {})[0]
    states = (state, transposed, *(SOLVER.conj(s, {})[0] for s in (state, transposed)))
    many = jax.vmap(lambda b: SOLVER.compute(state, b, {})[0])(
        jnp.stack([b, 2 * b, -b])
    )
    return [SOLVER.compute(s, b, {})[:2] for s in states], many, slogdet_of(states[2])


@pytest.mark.parametrize(
    "n, lower, upper",
    [(7, 2, 1), (7, 1, 2), (6, 3, 0), (3, 4, 4)],
)
def test_views(draw, n, lower, upper, dtype="complex128"):
    """Against dense solves in double precision; zeros on the diagonal ask for
    pivots."""
    diagonals = draw(dtype, lower + upper + 1, n)
    if lower and upper:
        diagonals[upper, ::2] = 0 if n > 1 else 1
    A, b = dense(diagonals, lower, upper), draw(dtype, n)
    operator = BandedLinearOperator(diagonals, lower, upper)
    solutions, many, (sign, logabs) = _views(operator, jnp.asarray(b))
    wide = A.astype(np.result_type(dtype, np.float64))
    limit = 100 * np.linalg.cond(wide) * np.finfo(dtype).eps
    for (x, result), matrix in zip(
        solutions, (wide, wide.T, wide.conj(), wide.conj().T)
    ):
        wanted = np.linalg.solve(matrix, b)
        assert result == RESULTS.successful and x.dtype == dtype
        assert abs(x - wanted).max() <= limit * abs(wanted).max()
    np.testing.assert_allclose(many, np.outer([1, 2, -1], solutions[0][0]), rtol=1e-4)
    wanted = np.linalg.slogdet(wide.conj())
    np.testing.assert_allclose([sign, logabs], wanted, rtol=limit, atol=limit)


@eqx.filter_jit
def _solve(diagonals, lower, upper, b):
    operator = BandedLinearOperator(diagonals, lower, upper)
    x, result, _ = SOLVER.compute(SOLVER.init(operator, {}), b, {})
    return x, result


N = 20


def _verdict(matrix, b):
    """Solves a pentadiagonal system; all have one shape, compiled once for each
    dtype."""
    x, result = _solve(stored(matrix, 2, 2).astype(b.dtype), 2, 2, b)
    return np.asarray(x), RESULTS[result]


def test_singular(draw, dtype):
    neumann = 2 * np.eye(N) - np.eye(N, k=1) - np.eye(N, k=-1)
    neumann[0, 0] = neumann[-1, -1] = 1
    beam = neumann @ neumann
    for matrix in (neumann, beam, np.pi * beam, np.zeros((N, N))):
        assert _verdict(matrix, draw(dtype, N))[1] == RESULTS[RESULTS.singular]


def test_badly_scaled_is_not_singular(draw, backward_error, dtype):
    A = dense(draw(dtype, 5, N), 2, 2) + 5 * np.eye(N, dtype=dtype)
    scale = np.geomspace(1, 1e-15, N).astype(dtype)
    for matrix in (A, A * scale, A * scale[:, None], A * 1e-15, A * 1e15):
        matrix = matrix.astype(dtype)
        b = matrix @ draw(dtype, N)
        x, result = _verdict(matrix, b)
        assert result == "" and backward_error(matrix, x, b) < 20


def test_growth_is_reported():
    """Wilkinson's example on a band: elements double from step to step."""
    n, k, dtype = 120, 30, np.float32
    A = np.eye(n) - np.tril(np.ones((n, n)), -1)
    A[:, k] = 1
    A = np.triu(np.tril(A, k), -k).astype(dtype)
    _, result = _solve(stored(A, k, k), k, k, jnp.ones(n, dtype))
    assert RESULTS[result] == RESULTS[RESULTS.unstable]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite(draw, dtype, bad):
    A, b = dense(draw(dtype, 5, N), 2, 2), draw(dtype, N)
    spoiled = A.copy()
    spoiled[3, 2] = bad
    wanted = RESULTS[RESULTS.nonfinite_input]
    assert _verdict(spoiled, b)[1] == wanted
    b[0] = bad
    assert _verdict(A, b)[1] == wanted


def test_triangular_pivots_are_data():
    """A tiny element on the diagonal is no failure, a zero one is."""
    diagonals = np.stack([np.geomspace(1, 1e-30, N), np.ones(N), np.ones(N)])
    diagonals[1:] *= diagonals[0]
    x, result = _solve(diagonals, 2, 0, jnp.ones(N))
    assert result == RESULTS.successful
    wanted = scipy.linalg.solve_triangular(
        dense(diagonals, 2, 0), np.ones(N), lower=True
    )
    np.testing.assert_allclose(x, wanted, rtol=1e-12)
    diagonals[0, 5] = 0
    assert _solve(diagonals, 2, 0, jnp.ones(N))[1] == RESULTS.singular


def test_many_operators(draw):
    diagonals, bs = draw(np.float64, 3, 4, 9), draw(np.float64, 3, 9)
    xs, _ = jax.vmap(lambda d, b: _solve(d, 1, 2, b))(diagonals, bs)
    for x, d, b in zip(xs, diagonals, bs):
        np.testing.assert_allclose(
            x, scipy.linalg.solve_banded((1, 2), d, b), rtol=1e-9
        )


def test_long_as_scipy(draw):
    n = 5000
    diagonals, b = draw(np.float64, 6, n), draw(np.float64, n)
    x, result = _solve(diagonals, 3, 2, b)
    wanted = scipy.linalg.solve_banded((3, 2), diagonals, b)
    assert result == RESULTS.successful
    assert abs(x - wanted).max() < 1e-8 * abs(wanted).max()


def test_wide_is_an_error():
    with pytest.raises(ValueError, match="Make it a `BandedLinearOperator`"):
        Banded().init(MatrixLinearOperator(jnp.eye(2)), {})


def test_auto():
    """What is known to be narrow goes to `Banded`, except for a pseudoinverse."""
    n = 40
    narrow = BandedLinearOperator(jnp.ones((5, n)), 2, 2)
    tridiagonal = TridiagonalLinearOperator(jnp.ones(n), *jnp.ones((2, n - 1)))
    diagonal = DiagonalLinearOperator(jnp.ones(n))
    wide = BandedLinearOperator(jnp.ones((15, n)), 7, 7)

    def chosen(operator, well_posed=True):
        solver = AutoLinearSolver(well_posed).select_solver(operator)
        return type(solver).__name__

    for operator in (narrow, narrow.T, -narrow, 2 * narrow @ diagonal, narrow + narrow):
        assert chosen(operator) == chosen(operator, None) == "Banded"
    assert chosen(tridiagonal @ tridiagonal) == "Banded"
    assert chosen(tridiagonal + diagonal) == "Tridiagonal"
    assert chosen(narrow, False) == "PivotedQR"
    assert chosen(wide) == "LU"
