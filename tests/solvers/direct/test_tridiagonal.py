"""Tridiagonal: its laws, pivoting, and that success is success."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import (
    MatrixLinearOperator,
    TridiagonalLinearOperator,
    tridiagonal_tag,
)
from lx_solvers import RESULTS, Tridiagonal


def banded(matrix):
    return np.triu(np.tril(matrix, 1), -1)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 9])
def test_laws(obeys_laws, draw, dtype, n):
    A = banded(draw(dtype, n, n)) + 4 * np.eye(n, dtype=dtype)
    obeys_laws(Tridiagonal(), A, tridiagonal_tag)


def test_pivots(draw, run, backward_error, dtype):
    """Zeros on the diagonal."""
    A = banded(draw(dtype, 8, 8)) * (1 - np.eye(8, dtype=dtype))
    b = draw(dtype, 8)
    x, result, _ = run(Tridiagonal(), A, b, tridiagonal_tag)
    assert result == "successful" and backward_error(A, x, b) < 20


def test_singular(draw, run, dtype):
    n = 20
    neumann = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    neumann[0, 0] = neumann[-1, -1] = 1
    # the Laplacian of a path, its weights such that float32 holds it exactly
    d = np.ceil(8 * abs(draw(np.float64, n - 1))) / 8
    path = np.diag(np.r_[d, 0] + np.r_[0, d]) - np.diag(d, 1) - np.diag(d, -1)
    for matrix in (neumann, np.pi * neumann, path, np.zeros((n, n))):
        b = draw(dtype, n)
        result = run(Tridiagonal(), matrix.astype(dtype), b, tridiagonal_tag)[1]
        assert result == "singular"


def test_badly_scaled_is_not_singular(draw, run, backward_error, dtype):
    n = 20
    A = banded(draw(dtype, n, n)) + 3 * np.eye(n, dtype=dtype)
    scale = np.geomspace(1, 1e-15, n).astype(dtype)
    for matrix in (A * scale, A * scale[:, None], A * 1e-15, A * 1e15):
        matrix = matrix.astype(dtype)
        b = matrix @ draw(dtype, n)
        x, result, _ = run(Tridiagonal(), matrix, b, tridiagonal_tag)
        assert result == "successful" and backward_error(matrix, x, b) < 20


def test_zero_vector(draw, run, dtype):
    A = banded(draw(dtype, 5, 5))
    x, result, _ = run(Tridiagonal(), A, np.zeros(5, dtype), tridiagonal_tag)
    assert result == "successful"
    np.testing.assert_array_equal(x, np.zeros(5))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite(draw, run, dtype, bad):
    A = banded(draw(dtype, 5, 5))
    spoiled = A.copy()
    spoiled[3, 2] = bad
    b = draw(dtype, 5)
    assert run(Tridiagonal(), spoiled, b, tridiagonal_tag)[1] == "nonfinite_input"
    b[0] = bad
    assert run(Tridiagonal(), A, b, tridiagonal_tag)[1] == "nonfinite_input"


def test_a_million_unknowns():
    """Nothing but bands is held."""
    n = 1_000_000
    ones = jnp.ones(n)
    operator = TridiagonalLinearOperator(4.0 * ones, -ones[1:], -ones[1:])
    solver = Tridiagonal()

    @jax.jit
    def solve(operator):
        x, result, _ = solver.compute(solver.init(operator, {}), 2 * ones, {})
        return x, result

    x, result = solve(operator)
    assert result == RESULTS.successful
    np.testing.assert_allclose(x[1000:-1000], 1, rtol=1e-12)


def test_untagged_is_an_error():
    with pytest.raises(ValueError, match="tridiagonal_tag"):
        Tridiagonal().init(MatrixLinearOperator(jnp.eye(2)), {})


def test_slogdet(draw, slogdet, dtype):
    for n in (0, 1, 9):
        slogdet(Tridiagonal(), banded(draw(dtype, n, n)), tridiagonal_tag)
