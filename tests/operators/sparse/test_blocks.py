"""Sparse matrices of dense blocks, against SciPy's and against the matrix number by
number."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
import scipy.sparse as sp
from lx_operators.internal import unwrapped
from lx_operators.testing import OperatorLaws

MASK = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]], bool)
WIDE = lx.SparsityPattern.from_dense(MASK)
GRID = lx.SparsityPattern.from_dense(np.eye(3) + np.eye(3, k=1) + np.eye(3, k=-1))
HUB = lx.SparsityPattern.from_dense(  # one long row: in pieces
    np.vstack([np.ones(40), np.eye(40)[1:]])
)


class TestOblong(OperatorLaws):
    """Blocks of 2 × 3, and an empty row of them."""

    dtypes = ("complex128",)
    pattern, r, c = WIDE, 2, 3

    def make(self, dtype, key):
        shape = self.pattern.size, self.r, self.c
        return lx.BlockSparseLinearOperator(
            jax.random.normal(key, shape, dtype), self.pattern
        )

    def matrix(self, operator):
        return bsr(operator).toarray()


class TestLaidOut(TestOblong):
    dtypes = ("float32",)

    def make(self, dtype, key):
        return lx.linearise(super().make(dtype, key))

    def matrix(self, operator):
        return lx.materialise(operator).to_scipy().toarray()


class TestDiagonals(TestLaidOut):
    dtypes = ("float64",)
    pattern, r, c = GRID, 2, 2


def bsr(operator):
    pattern, (_, r, c) = operator.pattern, operator.blocks.shape
    m, n = pattern.shape
    data, columns = (np.array(x) for x in (operator.blocks, pattern.columns))
    starts = np.asarray(pattern.row_starts)
    return sp.bsr_array((data, columns, starts), shape=(m * r, n * c), blocksize=(r, c))


def random(pattern=WIDE, r=2, c=3, seed=0):
    blocks = np.random.default_rng(seed).standard_normal((pattern.size, r, c))
    return lx.BlockSparseLinearOperator(blocks, pattern)


@pytest.mark.parametrize("pattern", [WIDE, GRID, HUB], ids=["rows", "lines", "pieces"])
def test_scipy(pattern):
    """From SciPy, and the same as number by number."""
    wanted = bsr(random(pattern))
    operator = lx.BlockSparseLinearOperator.from_scipy(wanted)
    assert operator.blocks.shape == (pattern.size, 2, 3)
    scalar = lx.materialise(operator)
    assert type(scalar) is lx.SparseLinearOperator
    assert type(unwrapped(operator)) is lx.SparseLinearOperator
    np.testing.assert_array_equal(scalar.to_scipy().toarray(), wanted.toarray())
    x = np.random.default_rng(1).standard_normal(wanted.shape[1])
    for each in (operator, scalar, lx.linearise(operator)):
        np.testing.assert_allclose(each.mv(jnp.asarray(x)), wanted @ x, atol=1e-13)


@pytest.mark.parametrize("form", [lambda operator: operator, lx.linearise])
def test_derivatives(form):
    """One number for each number of the blocks, in both modes, and no scatter but sums
    of sorted segments."""
    pattern = HUB
    operator = random(pattern)
    y, x = (np.random.default_rng(k).standard_normal(40 * k) for k in (2, 3))

    def loss(blocks, x):
        given = lx.BlockSparseLinearOperator(blocks, pattern)
        return jnp.vdot(y, form(given).mv(x))

    of_blocks, of_x = jax.jit(jax.grad(loss, (0, 1)))(operator.blocks, x)
    rows, columns = np.asarray(pattern.rows), np.asarray(pattern.columns)
    left, right = y.reshape(-1, 2)[rows], x.reshape(-1, 3)[columns]
    np.testing.assert_allclose(of_blocks, left[:, :, None] * right[:, None], rtol=1e-12)
    np.testing.assert_allclose(of_x, bsr(operator).T @ y, atol=1e-12)
    _, slope = jax.jvp(lambda b: loss(b, x), (operator.blocks,), (operator.blocks,))
    np.testing.assert_allclose(slope, y @ (bsr(operator) @ x), rtol=1e-12)
    text = jax.jit(jax.grad(loss, (0, 1))).lower(operator.blocks, x).as_text()
    for line in text.splitlines():
        assert "stablehlo.scatter" not in line or "indices_are_sorted = true" in line


def test_algebra():
    operator = random(GRID, 2, 2)
    A = bsr(operator).toarray()
    eye = lx.IdentityLinearOperator(jnp.zeros(6))
    for found, wanted in (
        (operator + 2 * eye, A + 2 * np.eye(6)),
        (operator.T @ operator, A.T @ A),
        (3 * operator - operator.T, 3 * A - A.T),
    ):
        assert type(lx.materialise(found)) is lx.SparseLinearOperator
        np.testing.assert_allclose(found.as_matrix(), wanted, atol=1e-13)
    assert "7 blocks of 2 × 2" in repr(operator)


def test_under_jit():
    """With a traced pattern it multiplies, and is dense when it is materialised."""
    operator = random()
    x = jnp.arange(12.0)
    got = jax.jit(lambda operator, x: lx.linearise(operator).mv(x))(operator, x)
    np.testing.assert_allclose(got, bsr(operator) @ np.arange(12.0), atol=1e-12)
    dense = jax.jit(lambda operator: lx.materialise(operator).as_matrix())(operator)
    np.testing.assert_array_equal(dense, bsr(operator).toarray())


@pytest.mark.parametrize(
    "blocks, match",
    [
        (np.ones((4, 2, 2)), "a block for each of the 5 entries"),
        (np.ones((5, 2)), r"must have shape \[size, r, c\]"),
        (np.ones((5, 0, 2)), r"must have shape \[size, r, c\]"),
    ],
)
def test_bad_input(blocks, match):
    with pytest.raises(ValueError, match=match):
        lx.BlockSparseLinearOperator(blocks, WIDE)


def test_bad_matrices():
    bad = bsr(random()).copy()
    bad.data[2, 1, 0] = np.nan
    with pytest.raises(ValueError, match="values must be finite"):
        lx.BlockSparseLinearOperator.from_scipy(bad)
    with pytest.raises(ValueError, match="must be a SciPy sparse matrix"):
        lx.BlockSparseLinearOperator.from_scipy(np.eye(2))
    with pytest.raises(ValueError, match="must be a `SparsityPattern`"):
        lx.BlockSparseLinearOperator(np.ones((1, 2, 2)), np.eye(1))
