"""Block diagonal operators, listed or stacked."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
import scipy.linalg
from lx_operators.internal import bands, bandwidths, block_diagonal, promoted
from lx_operators.testing import OperatorLaws


class TestListed(OperatorLaws):
    """Blocks of other kinds, shapes and structures."""

    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        k1, k2 = jax.random.split(key)
        return lx.BlockDiagonalLinearOperator(
            {
                "b": lx.MatrixLinearOperator(jax.random.normal(k1, (2, 3), dtype)),
                "a": lx.DiagonalLinearOperator({"x": jax.random.normal(k2, 2, dtype)}),
            }
        )

    def matrix(self, operator):
        blocks = operator.blocks
        first = np.diag(blocks["a"].diagonal["x"])
        return scipy.linalg.block_diag(first, blocks["b"].matrix)


class TestStacked(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        matrices = jax.random.normal(key, (3, 2, 2), dtype)
        return lx.StackedLinearOperator(
            eqx.filter_vmap(lx.MatrixLinearOperator)(matrices)
        )

    def matrix(self, operator):
        return scipy.linalg.block_diag(*np.asarray(operator.operator.matrix))


class TestStackedTree(OperatorLaws):
    """With several leaves, the first leaves of all slices come first."""

    dtypes = ("float64",)

    def make(self, dtype, key):
        def build(diagonal):
            return lx.DiagonalLinearOperator({"x": diagonal[:2], "y": diagonal[2]})

        diagonals = jax.random.normal(key, (2, 3), dtype)
        return lx.StackedLinearOperator(eqx.filter_vmap(build)(diagonals))

    def matrix(self, operator):
        d = operator.operator.diagonal
        return np.diag(np.concatenate([d["x"].ravel(), d["y"]]))


def square(*tags):
    return lx.MatrixLinearOperator(2 * jnp.eye(2), tags)


def test_what_all_blocks_are():
    """The operator has the tags that all of its blocks have, and no more."""

    def listed(*blocks):
        return lx.BlockDiagonalLinearOperator(blocks)

    psd, low = lx.positive_semidefinite_tag, lx.lower_triangular_tag
    assert lx.is_positive_semidefinite(listed(square(psd), square(psd)))
    assert not lx.is_positive_semidefinite(listed(square(psd), square()))
    assert lx.is_lower_triangular(listed(square(low), square(lx.diagonal_tag)))
    wide = lx.MatrixLinearOperator(jnp.ones((1, 2)), (low, lx.nonsingular_tag))
    full = square(lx.nonsingular_tag)
    assert not lx.is_lower_triangular(listed(wide, square(low)))
    assert lx.is_nonsingular(listed(wide, full))
    assert not lx.is_nonsingular(listed(wide, wide.T, full))


def test_algebra_stays_block_diagonal():
    a = lx.BlockDiagonalLinearOperator([square(), square(lx.symmetric_tag)])
    kind = lx.BlockDiagonalLinearOperator
    for operator in (a + a, a @ a.T, 2 * a, -a / 3):
        assert type(operator) is kind
    other = lx.BlockDiagonalLinearOperator([square()])
    with pytest.raises(ValueError, match="structures of the two operators"):
        a + other
    stacked = lx.StackedLinearOperator(
        eqx.filter_vmap(lx.MatrixLinearOperator)(jnp.ones((3, 2, 2)))
    )
    gram = stacked.H @ stacked
    assert type(gram) is lx.StackedLinearOperator
    assert lx.is_positive_semidefinite(gram)


def test_bands():
    """Banded blocks make a banded whole, listed or stacked."""
    narrow = lx.BandedLinearOperator(jnp.arange(1.0, 13).reshape(3, 4), 2, 0)
    stacked = lx.StackedLinearOperator(
        eqx.filter_vmap(lambda b: lx.BandedLinearOperator(b, 2, 0))(
            jnp.stack([narrow.bands, 2 * narrow.bands])
        )
    )
    diagonal = lx.DiagonalLinearOperator(jnp.ones(2))
    listed = lx.BlockDiagonalLinearOperator((narrow, diagonal, narrow.T))
    for operator, widths in ((stacked, (2, 0)), (listed, (2, 2))):
        assert bandwidths(operator) == widths
        again = lx.BandedLinearOperator(bands(operator), *widths)
        np.testing.assert_array_equal(again.as_matrix(), operator.as_matrix())


def test_seen_through_wrappers():
    """Tags of the operator reach its blocks; so do wider dtypes."""
    a = lx.BlockDiagonalLinearOperator(
        [square(), lx.DiagonalLinearOperator(jnp.ones(1))]
    )
    tagged = lx.TaggedLinearOperator(a, lx.positive_semidefinite_tag)
    seen = block_diagonal(promoted(tagged, jnp.dtype("complex128")))
    assert all(map(lx.is_positive_semidefinite, seen.blocks))
    assert seen.in_structure()[0].dtype == "complex128"
    assert block_diagonal(square()) is None


def test_bad_input():
    with pytest.raises(ValueError, match=r"`blocks\['u'\]\[1\]` must be a linear op"):
        lx.BlockDiagonalLinearOperator({"u": [square(), jnp.eye(2)]})
    with pytest.raises(ValueError, match=r"shapes are \(2,\), \(3,\)"):
        lx.StackedLinearOperator(lx.DiagonalLinearOperator((jnp.ones(2), jnp.ones(3))))
    with pytest.raises(ValueError, match="give `size`"):
        lx.StackedLinearOperator(lx.IdentityLinearOperator(jnp.ones(2)))
    identities = lx.StackedLinearOperator(lx.IdentityLinearOperator(jnp.ones(2)), 3)
    assert identities.in_structure().shape == (3, 2)
