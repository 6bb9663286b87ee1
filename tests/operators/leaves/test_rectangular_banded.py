"""Band matrices that are not square."""

import jax
import jax.numpy as jnp
import lx_operators as lxo
import numpy as np
import pytest
from lx_operators.internal import bands, bandwidths

# rows, columns, diagonals below and above
SHAPES = [(7, 4, 2, 1), (9, 4, 1, 1), (4, 7, 1, 2), (3, 9, 0, 4), (2, 3, 5, 5)]


def both(m, n, lower, upper, dtype=np.float32):
    """An operator, and its matrix element by element."""
    draw = np.random.default_rng(m * n)
    diagonals = draw.normal(size=(lower + upper + 1, n)).astype(dtype)
    if np.issubdtype(dtype, np.complexfloating):
        diagonals = diagonals + (1j * draw.normal(size=diagonals.shape)).astype(dtype)
    matrix = np.zeros((m, n), dtype)
    for i, j in np.ndindex(m, n):
        if -lower <= j - i <= upper:
            matrix[i, j] = diagonals[upper + i - j, j]
    operator = lxo.BandedLinearOperator(jnp.asarray(diagonals), lower, upper, rows=m)
    return operator, matrix


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("precision", [np.float32, np.complex64])
def test_is_its_matrix(shape, precision):
    operator, matrix = both(*shape, precision)
    m, n = matrix.shape
    for op, A in (
        (operator, matrix),
        (operator.T, matrix.T),
        (operator.H, matrix.conj().T),
        (lxo.conj(operator), matrix.conj()),
        (operator + operator, 2 * matrix),
        (3.0 * operator, 3 * matrix),
    ):
        assert (op.out_size(), op.in_size()) == A.shape
        np.testing.assert_allclose(op.as_matrix(), A, rtol=1e-6)
        x = np.arange(1.0, A.shape[1] + 1).astype(precision)
        np.testing.assert_allclose(op.mv(jnp.asarray(x)), A @ x, rtol=1e-5, atol=1e-4)
    assert bandwidths(operator) == shape[2:]
    assert bands(operator).shape == (sum(shape[2:]) + 1, n)
    np.testing.assert_allclose(lxo.diagonal(operator), np.diagonal(matrix))
    assert not lxo.is_tridiagonal(operator) and not lxo.is_lower_triangular(operator)


@pytest.mark.parametrize("shape", SHAPES)
def test_products(shape):
    """With itself, and with diagonal operators, none of which take it for square."""
    operator, matrix = both(*shape)
    m, n = matrix.shape
    left = lxo.DiagonalLinearOperator(jnp.arange(1.0, m + 1, dtype=jnp.float32))
    right = lxo.DiagonalLinearOperator(jnp.arange(1.0, n + 1, dtype=jnp.float32))
    D, E = np.diag(np.arange(1.0, m + 1)), np.diag(np.arange(1.0, n + 1))
    for op, A in (
        (operator.T @ operator, matrix.T @ matrix),
        (operator @ operator.T, matrix @ matrix.T),
        (left @ operator, D @ matrix),
        (operator @ right, matrix @ E),
    ):
        np.testing.assert_allclose(op.as_matrix(), A, rtol=1e-5, atol=1e-4)
        widths = bandwidths(op)
        if widths is not None:
            i, j = np.indices(A.shape)
            outside = (i - j > widths[0]) | (j - i > widths[1])
            assert not np.any(A[outside])
    blocks = lxo.BlockDiagonalLinearOperator([operator, operator.T])
    assert bandwidths(blocks) is None


def test_what_lies_outside_is_ignored():
    """Also by derivatives."""
    operator, _ = both(4, 7, 1, 2)
    noisy = operator.bands.at[0, 0].set(jnp.nan).at[3, 6].set(jnp.nan)

    def total(diagonals):
        op = lxo.BandedLinearOperator(diagonals, 1, 2, rows=4)
        return jnp.sum(op.mv(jnp.ones(7, jnp.float32)))

    assert jnp.isfinite(total(noisy))
    assert jnp.all(jnp.isfinite(jax.grad(total)(noisy)))


@pytest.mark.parametrize("rows", [-1, 2.5, True])
def test_rows_must_be_a_number(rows):
    with pytest.raises(ValueError, match="`rows`"):
        lxo.BandedLinearOperator(jnp.ones((2, 3)), 1, 0, rows=rows)
