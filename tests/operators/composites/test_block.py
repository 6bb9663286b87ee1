"""A grid of operators."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.internal import block_diagonal, block_grid, promoted
from lx_operators.testing import OperatorLaws


def matrix(key, dtype, m, n):
    return lx.MatrixLinearOperator(jax.random.normal(key, (m, n), dtype))


class TestGrid(OperatorLaws):
    """Blocks that are not square, and a zero."""

    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        k1, k2, k3 = jax.random.split(key, 3)
        a, b = matrix(k1, dtype, 2, 3), matrix(k2, dtype, 1, 3)
        return lx.BlockLinearOperator([[a, None], [b, matrix(k3, dtype, 1, 2)]])

    def matrix(self, operator):
        (a, _), (b, c) = operator.blocks
        return np.block([[a.matrix, np.zeros((2, 2))], [b.matrix, c.matrix]])


class TestSaddle(OperatorLaws):
    """Symmetric in pytrees: [[A, Bᵀ], [B, 0]]."""

    dtypes = ("float64",)

    def make(self, dtype, key):
        k1, k2 = jax.random.split(key)
        A = lx.DiagonalLinearOperator({"u": jax.random.normal(k1, 2, dtype), "v": 1.5})
        out = jax.ShapeDtypeStruct((2,), dtype)
        B = lx.PyTreeLinearOperator(
            {"u": jax.random.normal(k2, (2, 2), dtype), "v": jnp.ones(2, dtype)}, out
        )
        return lx.BlockLinearOperator([[A, B.T], [B, None]])


@pytest.mark.standard_promotion
def test_what_is_known():
    eye = jnp.eye(2)
    psd = lx.MatrixLinearOperator(eye, lx.positive_semidefinite_tag)
    full = lx.MatrixLinearOperator(eye, lx.nonsingular_tag)
    B = lx.MatrixLinearOperator(jnp.ones((2, 2), complex) * 1j)

    def known(grid, *tags):
        return lx.BlockLinearOperator(grid, tags)

    adjoint = known([[psd, B.H], [B, psd]])
    assert lx.is_hermitian(adjoint) and not lx.is_symmetric(adjoint)
    assert lx.is_symmetric(known([[psd, B.T], [B, None]]))
    assert lx.is_symmetric(known([[psd, B.T], [B, None]]).T)
    assert not lx.is_symmetric(known([[psd, B], [B, psd]]))
    assert lx.is_nonsingular(known([[full, None], [B, full]]))
    assert not lx.is_nonsingular(known([[full, B], [B, full]]))
    diagonal = lx.DiagonalLinearOperator(jnp.ones(2))
    assert lx.is_lower_triangular(known([[diagonal, None], [B, diagonal]]))
    assert lx.is_positive_semidefinite(known([[psd, None], [None, psd]]))
    assert not lx.is_lower_triangular(known([[psd, None], [B, diagonal]]))
    tagged = known([[full, B], [B, full]], lx.positive_semidefinite_tag)
    assert lx.is_negative_semidefinite(-tagged)
    assert lx.is_positive_semidefinite(2.0 * tagged)


@pytest.mark.standard_promotion
def test_dtypes_promote_together():
    wide = lx.MatrixLinearOperator(jnp.ones((1, 2)))
    narrow = lx.MatrixLinearOperator(jnp.ones((2, 2), "float32"))
    operator = lx.BlockLinearOperator([[narrow], [wide]])
    assert {leaf.dtype.name for leaf in operator.out_structure()} == {"float64"}
    with jax.numpy_dtype_promotion("strict"), pytest.raises(ValueError, match="strict"):
        lx.BlockLinearOperator([[narrow], [wide]])


def test_seen_through_wrappers():
    a = lx.MatrixLinearOperator(jnp.eye(2))
    grid = lx.BlockLinearOperator([[a, None], [a, a]])
    for operator in (grid, lx.TaggedLinearOperator(grid, lx.nonsingular_tag), 2 * grid):
        assert type(block_grid(operator)) is lx.BlockLinearOperator
    wide = block_grid(promoted(grid, jnp.dtype("complex128")))
    assert wide.in_structure()[0].dtype == "complex128"
    assert block_diagonal(grid) is None
    apart = block_diagonal(lx.BlockLinearOperator([[a, None], [None, a]]))
    assert type(apart) is lx.BlockDiagonalLinearOperator


A = lx.MatrixLinearOperator(jnp.ones((2, 3)))


@pytest.mark.parametrize(
    "blocks, match",
    [
        ([], "at least one, but its rows have"),
        ([[A, A], [A]], r"its rows have \[2, 1\]"),
        ([[A, jnp.ones((2, 3))]], r"`blocks\[0\]\[1\]` must be a linear operator"),
        ([[A, None]], "column 1 of `blocks` has only None"),
        ([[A], [None]], "row 1 of `blocks` has only None"),
        (
            [[A, A.T]],
            r"`blocks\[0\]\[1\]` does not fit `blocks\[0\]\[0\]`: row 0 gives",
        ),
        ([[A], [A.T]], r"`blocks\[1\]\[0\]` does not fit .* column 0 takes f64\[3\]"),
    ],
)
def test_bad_input(blocks, match):
    with pytest.raises(ValueError, match=match):
        lx.BlockLinearOperator(blocks)
