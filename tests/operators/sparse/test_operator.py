"""The sparse operator: its laws, its constructors, what its pattern says."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import scipy.sparse as sp
from lx_operators.testing import OperatorLaws

# rows 2 and 4 and column 3 are empty, column 1 has four entries
ROWS = [0, 0, 1, 1, 3, 3, 3, 5]
COLUMNS = [0, 1, 1, 4, 0, 1, 2, 1]
SHAPE = (6, 5)


def draw(key, dtype, size):
    return jax.random.normal(key, (size,), dtype)


def dense(rows, columns, values, shape):
    matrix = np.zeros(shape, np.asarray(values).dtype)
    np.add.at(matrix, (np.asarray(rows), np.asarray(columns)), np.asarray(values))
    return matrix


class TestRectangular(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        pattern = lx.SparsityPattern.from_coo(ROWS, COLUMNS, SHAPE)
        return lx.SparseLinearOperator(draw(key, dtype, 8), pattern)

    def matrix(self, operator):
        return dense(ROWS, COLUMNS, operator.values, SHAPE)


class TestHermitian(OperatorLaws):
    dtypes = ("complex64",)

    def make(self, dtype, key):
        rows, columns = [0, 0, 1, 1, 2, 3], [0, 2, 1, 3, 0, 1]
        pattern = lx.SparsityPattern.from_coo(rows, columns, (4, 4))
        a, b, c, d = draw(key, dtype, 4)
        a, b = (a + a.conj(), b + b.conj())
        values = jnp.stack([a, c, b, d, c.conj(), d.conj()])
        return lx.SparseLinearOperator(values, pattern, lx.hermitian_tag)


class TestLaidOut(TestRectangular):
    """Chunks of rows, as `linearise` makes them."""

    def make(self, dtype, key):
        return lx.linearise(super().make(dtype, key))

    def matrix(self, operator):
        return None


class TestDiagonals(TestLaidOut):
    """Diagonals, as `linearise` makes them of a few full ones."""

    dtypes = ("float32",)

    def make(self, dtype, key):
        matrix = sp.diags([np.ones(5), np.ones(4), np.ones(3)], [0, 1, -2], (5, 5))
        pattern = lx.SparsityPattern.from_scipy(matrix)
        return lx.linearise(
            lx.SparseLinearOperator(draw(key, dtype, pattern.size), pattern)
        )


class TestPytrees(OperatorLaws):
    """A grid of patterns is one pattern, between pytrees of vectors."""

    dtypes = ("float32",)

    def make(self, dtype, key):
        pattern = lx.SparsityPattern.from_coo(ROWS, COLUMNS, SHAPE)
        ins = {
            "u": jax.ShapeDtypeStruct((2,), dtype),
            "p": jax.ShapeDtypeStruct((3, 1), dtype),
        }
        outs = (jax.ShapeDtypeStruct((2, 2), dtype), jax.ShapeDtypeStruct((2,), dtype))
        return lx.SparseLinearOperator(
            draw(key, dtype, 8), pattern, input_structure=ins, output_structure=outs
        )

    def matrix(self, operator):
        return dense(ROWS, COLUMNS, operator.values, SHAPE)


def test_verify():
    """Tags are checked: symmetry exactly, by the entries."""
    rows, columns = [0, 0, 1, 1, 2], [0, 1, 0, 1, 2]
    pattern = lx.SparsityPattern(rows, columns, (3, 3))
    good = lx.SparseLinearOperator(
        [2.0, 1, 1, 2, 3], pattern, lx.positive_semidefinite_tag
    )
    assert lx.verify(good, jax.random.key(0)).ok
    for values, tag in (
        ([2.0, 1, 1 + 1e-9, 2, 3], lx.symmetric_tag),
        ([2.0, 1, 1, 2, -3], lx.positive_semidefinite_tag),
    ):
        operator = lx.SparseLinearOperator(values, pattern, tag)
        assert not lx.verify(operator, jax.random.key(0)).ok
    n = 2000
    matrix = sp.diags_array([1.0, 4.0, 1.0], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    large = lx.SparseLinearOperator.from_scipy(matrix, lx.symmetric_tag)
    assert lx.verify(large, jax.random.key(0)).ok
    matrix[n - 1, n - 2] += 1e-9
    off = lx.SparseLinearOperator.from_scipy(matrix, lx.symmetric_tag)
    assert "symmetric" in lx.verify(off, jax.random.key(0)).broken


def test_padding_of_traced_formats():
    """What lies outside of the matrix counts for nothing, in all products."""
    from jax.experimental import sparse

    dense = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    x, y = np.arange(1.0, 4.0), np.array([5.0, 7.0])
    bcsr = sparse.BCSR(
        (
            jnp.array([1.0, 2, 3, 9, 9]),
            jnp.array([0, 1, 2, 1, 1]),
            jnp.array([0, 2, 3]),
        ),
        shape=(2, 3),
    )
    outside = jnp.array([[0, 0], [0, 1], [1, 2], [2, 3], [-1, 0], [0, -2]])
    bcoo = sparse.BCOO((jnp.array([1.0, 2, 3, 9, 9, 9]), outside), shape=(2, 3))

    @jax.jit
    def products(operator):
        return operator.as_matrix(), operator.mv(x), operator.T.mv(y)

    for found in (
        jax.jit(lambda m: products(lx.SparseLinearOperator.from_bcsr(m)))(bcsr),
        jax.jit(lambda m: products(lx.SparseLinearOperator.from_bcoo(m)))(bcoo),
    ):
        for got, wanted in zip(found, (dense, dense @ x, dense.T @ y)):
            np.testing.assert_array_equal(got, wanted)
