"""Triangular: its laws, and what it reads."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import (
    DiagonalLinearOperator,
    MatrixLinearOperator,
    lower_triangular_tag,
    unit_diagonal_tag,
    upper_triangular_tag,
)
from lx_solvers import Triangular

LOWER, UPPER = lower_triangular_tag, upper_triangular_tag


@pytest.mark.parametrize("n", [0, 1, 6])
def test_laws(obeys_laws, draw, dtype, n):
    A = draw(dtype, n, n) / 4 + np.eye(n, dtype=dtype)
    obeys_laws(Triangular(), np.tril(A), LOWER)
    obeys_laws(Triangular(), np.triu(A), UPPER)
    unit = np.tril(A, -1) + np.eye(n, dtype=dtype)
    obeys_laws(Triangular(), unit, (LOWER, unit_diagonal_tag))


def test_reads_its_triangle_alone(draw, run, dtype):
    A, b = draw(dtype, 5, 5) + 4 * np.eye(5, dtype=dtype), draw(dtype, 5)
    full = A.copy()
    full[np.triu_indices(5, 1)] = np.nan
    x, result, _ = run(Triangular(), full, b, LOWER)
    assert result == "successful"
    np.testing.assert_allclose(np.tril(A) @ x, b, atol=1e3 * np.finfo(dtype).eps)
    full[np.diag_indices(5)] = np.nan
    x, result, _ = run(Triangular(), full, b, (LOWER, unit_diagonal_tag))
    assert result == "successful"
    unit = np.tril(A, -1) + np.eye(5, dtype=dtype)
    scale = abs(x).max()
    np.testing.assert_allclose(unit @ x, b, atol=1e3 * np.finfo(dtype).eps * scale)


def test_zero_pivot_is_singular(draw, run, dtype):
    A = np.tril(draw(dtype, 4, 4))
    A[2, 2] = 0
    assert run(Triangular(), A, draw(dtype, 4), LOWER)[1] == "singular"


def test_tiny_pivots_are_not(draw, run, backward_error, dtype):
    """They are data, not rounding errors."""
    n = 12
    A = np.triu(draw(dtype, n, n)) * np.geomspace(1, 1e-15, n).astype(dtype)[:, None]
    b = A @ draw(dtype, n)
    x, result, _ = run(Triangular(), A, b, UPPER)
    assert result == "successful" and backward_error(A, x, b) < 20


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite(draw, run, dtype, bad):
    A = np.tril(draw(dtype, 4, 4))
    spoiled = A.copy()
    spoiled[3, 0] = bad
    b = draw(dtype, 4)
    assert run(Triangular(), spoiled, b, LOWER)[1] == "nonfinite_input"
    b[1] = bad
    assert run(Triangular(), A, b, LOWER)[1] == "nonfinite_input"


def test_reciprocals_out_of_range_are_unstable(run, dtype):
    """LAPACK multiplies by them: 0 would come out, silently."""
    largest = np.finfo(dtype).max
    for d, wanted in [(largest / 8, "successful"), (largest / 2, "unstable")]:
        x, result, _ = run(
            Triangular(), np.diag(np.array([1, d], dtype)), np.ones(2, dtype), LOWER
        )
        assert result == wanted
    huge = np.array([[1, 0], [largest / 2, 1]], dtype)
    assert run(Triangular(), huge, np.ones(2, dtype), LOWER)[1] == "successful"


def test_diagonal_operator(draw):
    d, b = draw(np.float64, 4), draw(np.float64, 4)
    solver = Triangular()
    state = solver.init(DiagonalLinearOperator(jnp.asarray(d)), {})
    x, _, _ = solver.compute(state, jnp.asarray(b), {})
    np.testing.assert_allclose(x, b / d, rtol=1e-14)


def test_untagged_is_an_error():
    with pytest.raises(ValueError, match="lower_triangular_tag"):
        Triangular().init(MatrixLinearOperator(jnp.eye(2)), {})


def test_slogdet(draw, slogdet, dtype):
    A = np.tril(draw(dtype, 5, 5))
    slogdet(Triangular(), A, LOWER)
    np.fill_diagonal(A, 1)
    slogdet(Triangular(), A, (LOWER, unit_diagonal_tag))


def test_the_matrix_is_not_copied():
    """LAPACK reads by columns what lies in memory by rows."""

    def solve(matrix, vector):
        solver = Triangular()
        state = solver.init(MatrixLinearOperator(matrix, LOWER), {})
        return solver.compute(state, vector, {})[0]

    program = jax.jit(solve).lower(jnp.eye(7), jnp.ones(7)).compile().as_text()
    assert "trsm" in program or jax.default_backend() != "cpu"
    assert not re.search(r"f64\[7,7\]\S* (copy|transpose)\(", program)
