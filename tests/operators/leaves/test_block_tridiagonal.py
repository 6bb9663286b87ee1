"""A block tridiagonal operator."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.internal import bands, bandwidths, block_tridiagonal, promoted
from lx_operators.testing import OperatorLaws


def draw(key, dtype, n, b):
    keys = jax.random.split(key, 3)
    sizes = (n, max(n - 1, 0), max(n - 1, 0))
    return [jax.random.normal(k, (m, b, b), dtype) for k, m in zip(keys, sizes)]


def dense(operator):
    """The matrix, a block at a time."""
    main, lower, upper = map(
        np.asarray,
        (operator.diagonal, operator.lower_diagonal, operator.upper_diagonal),
    )
    n, b, _ = main.shape
    blocks = [[np.zeros((b, b), main.dtype) for _ in range(n)] for _ in range(n)]
    for i in range(n):
        blocks[i][i] = main[i]
        if i:
            blocks[i][i - 1], blocks[i - 1][i] = lower[i - 1], upper[i - 1]
    return np.block(blocks) if n else np.zeros((0, 0))


class TestThree(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        return lx.BlockTridiagonalLinearOperator(*draw(key, dtype, 3, 2))

    def matrix(self, operator):
        return dense(operator)


@pytest.mark.parametrize("n, b", [(4, 3), (1, 2), (3, 1), (0, 2)])
def test_diagonals(n, b):
    """Blocks hold no more than their diagonals."""
    operator = lx.BlockTridiagonalLinearOperator(
        *draw(jax.random.key(0), "float64", n, b)
    )
    again = lx.BandedLinearOperator(bands(operator), *bandwidths(operator))
    wanted = dense(operator)
    np.testing.assert_array_equal(operator.as_matrix(), wanted)
    np.testing.assert_array_equal(again.as_matrix(), wanted)
    for band, offset in zip(lx.tridiagonal(operator), (0, -1, 1)):
        np.testing.assert_array_equal(band, np.diag(wanted, offset) if n else [])


def test_what_is_known():
    blocks = jnp.tile(2 * jnp.eye(2), (3, 1, 1))
    plain = lx.BlockTridiagonalLinearOperator(blocks, 0 * blocks[1:], 0 * blocks[1:])
    psd = lx.BlockTridiagonalLinearOperator(
        blocks, -blocks[1:] / 2, -blocks[1:] / 2, lx.positive_semidefinite_tag
    )
    assert not lx.is_tridiagonal(plain) and not lx.is_symmetric(plain)
    assert lx.is_symmetric(psd) and psd.T is psd
    ones = lx.BlockTridiagonalLinearOperator(*(jnp.ones((k, 1, 1)) for k in (3, 2, 2)))
    assert lx.is_tridiagonal(ones)
    wide = block_tridiagonal(promoted(psd, jnp.dtype("complex64")))
    assert wide.diagonal.dtype == "complex128" and lx.is_hermitian(wide)


@pytest.mark.parametrize(
    "shapes, match",
    [
        (((3, 2, 3), (2, 2, 3), (2, 2, 3)), "`diagonal` must hold n square blocks"),
        (((3, 2, 2), (3, 2, 2), (2, 2, 2)), "`lower_diagonal` must have shape"),
        (((3, 2, 2), (2, 2, 2), (2, 3, 3)), r"`upper_diagonal` .* but got \(2, 3, 3\)"),
    ],
)
def test_bad_input(shapes, match):
    with pytest.raises(ValueError, match=match):
        lx.BlockTridiagonalLinearOperator(*map(jnp.ones, shapes))
