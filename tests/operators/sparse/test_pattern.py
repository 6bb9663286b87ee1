"""Sparsity patterns: what they say, how they assemble, what they refuse."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
import scipy.sparse as sp
from jax.test_util import check_grads
from lx_operators.sparse._indices import index_dtype

RNG = np.random.default_rng(0)
MATRIX = sp.random(9, 7, 0.3, random_state=1, format="csr")


@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "dia", "lil", "dok", "bsr"])
@pytest.mark.parametrize("container", ["matrix", "array"])
def test_formats_of_scipy(kind, container):
    made = MATRIX if container == "matrix" else sp.csr_array(MATRIX)
    pattern = lx.SparsityPattern.from_scipy(made.asformat(kind))
    rows, columns = (MATRIX.toarray() != 0).nonzero()
    nonzero = MATRIX.asformat(kind).tocsr().nnz
    assert pattern.size == nonzero
    assert set(zip(rows, columns)) <= set(
        zip(np.asarray(pattern.rows).tolist(), np.asarray(pattern.columns).tolist())
    )
    operator = lx.SparseLinearOperator.from_scipy(made.asformat(kind))
    np.testing.assert_array_equal(operator.as_matrix(), MATRIX.toarray())
    np.testing.assert_array_equal(operator.to_scipy().toarray(), MATRIX.toarray())


def test_facts():
    pattern = lx.SparsityPattern.from_scipy(MATRIX)
    dense = MATRIX.toarray() != 0
    i, j = dense.nonzero()
    assert pattern.shape == (9, 7) and pattern.size == dense.sum()
    assert pattern.longest_row == dense.sum(1).max()
    assert pattern.longest_column == dense.sum(0).max()
    assert (pattern.lower, pattern.upper) == ((i - j).max(), (j - i).max())
    assert not pattern.is_symmetric and pattern.rows.dtype == jnp.int32
    np.testing.assert_array_equal(pattern.rows, i)
    np.testing.assert_array_equal(pattern.columns, j)
    np.testing.assert_array_equal(pattern.row_starts, MATRIX.indptr)
    np.testing.assert_array_equal(pattern.column_starts, MATRIX.tocsc().indptr)
    order = np.lexsort((i, j))
    np.testing.assert_array_equal(pattern.transposed, order)
    np.testing.assert_array_equal(pattern.untransposed, np.argsort(order))
    assert pattern.T == lx.SparsityPattern.from_scipy(MATRIX.T)
    assert pattern.T.T == pattern and pattern != pattern.T
    assert hash(pattern.T.T) == hash(pattern)
    symmetric = lx.SparsityPattern.from_scipy(MATRIX @ MATRIX.T)
    assert symmetric.is_symmetric
    eye = lx.SparsityPattern.from_dense(np.eye(3))
    assert eye.is_diagonal and eye.is_lower and eye.is_upper and eye.offsets == (0,)


def test_assembly():
    """Finite elements on a line: contributions in any order, several in one place."""
    cells = np.stack([np.arange(5), np.arange(1, 6)], axis=1)
    rows, columns = np.repeat(cells, 2, 1).ravel(), np.tile(cells, 2).ravel()
    pattern = lx.SparsityPattern.from_coo(rows, columns, (6, 6))
    given = RNG.normal(size=rows.size)
    wanted = sp.coo_array((given, (rows, columns)), (6, 6)).toarray()
    values = jax.jit(lambda p, v: p.assemble(v))(pattern, given)
    operator = lx.SparseLinearOperator(values, pattern)
    np.testing.assert_allclose(operator.as_matrix(), wanted, rtol=1e-14)
    check_grads(pattern.assemble, (jnp.asarray(given),), 2, ["fwd", "rev"])
    text = str(jax.make_jaxpr(jax.grad(lambda v: jnp.sum(pattern.assemble(v))))(given))
    assert "scatter" not in text
    batch = jax.vmap(pattern.assemble)(jnp.stack([given, 2 * given]))
    np.testing.assert_allclose(batch, [values, 2 * values], rtol=1e-14)
    with pytest.raises(ValueError, match="20 contributions"):
        pattern.assemble(jnp.ones(3))


def test_submatrix():
    operator = lx.SparseLinearOperator.from_scipy(MATRIX)
    rows, columns = [7, 0, 3, 8], np.array([1, 0, 0, 1, 1, 0, 1], bool)
    wanted = MATRIX.toarray()[rows][:, columns]
    part = operator.submatrix(rows, columns)
    np.testing.assert_array_equal(part.as_matrix(), wanted)
    pattern = operator.pattern.submatrix(rows, columns)
    values = jax.jit(pattern.assemble)(3 * operator.values)
    np.testing.assert_allclose(values, 3 * part.values, rtol=1e-15)
    check_grads(pattern.assemble, (operator.values,), 2, ["fwd", "rev"])
    with pytest.raises(ValueError, match="entry 1 is in row 9"):
        operator.submatrix([0, 9], [0])
    with pytest.raises(ValueError, match="twice"):
        operator.submatrix([0, 0], [0])


def test_dirichlet():
    matrix = sp.diags([np.ones(4), 3 * np.ones(5), np.ones(4)], [-1, 0, 1]).tocsr()
    operator = lx.SparseLinearOperator.from_scipy(matrix, lx.symmetric_tag)
    fixed = jnp.array([True, False, False, True, False])
    constrained = jax.jit(lambda a, f: a.with_dirichlet(f))(operator, fixed)
    b, g = RNG.normal(size=5), RNG.normal(size=5)
    right = jnp.where(fixed, g, b - operator.mv(jnp.where(fixed, g, 0)))
    x = np.linalg.solve(constrained.as_matrix(), right)
    free = ~np.asarray(fixed)
    np.testing.assert_allclose(x[~free], g[~free], rtol=1e-13)
    np.testing.assert_allclose((matrix @ x)[free], b[free], rtol=1e-12)
    assert lx.is_symmetric(constrained)

    @jax.jit
    def of_constants(values):  # mask and pattern are known there
        return lx.SparseLinearOperator(values, operator.pattern).with_dirichlet(fixed)

    again = of_constants(operator.values)
    np.testing.assert_array_equal(again.values, constrained.values)
    hole = lx.SparseLinearOperator.from_coo([1.0, 1.0], [0, 1], [1, 0], (2, 2))
    with pytest.raises(ValueError, match="unknown 1 is fixed"):
        hole.with_dirichlet([False, True])


def test_tags_with_dirichlet():
    """Only those that stay true."""
    pattern = lx.SparsityPattern.from_dense(np.ones((2, 2)))
    fixed = jnp.array([True, False])

    def clamped(matrix, *tags):
        matrix = np.array(matrix)
        operator = lx.SparseLinearOperator.from_dense(matrix, tags, pattern=pattern)
        return operator.with_dirichlet(fixed)

    swap = clamped([[0.0, 1.0], [1.0, 0.0]], lx.symmetric_tag, lx.nonsingular_tag)
    np.testing.assert_array_equal(swap.as_matrix(), [[1, 0], [0, 0]])
    assert lx.is_symmetric(swap) and not lx.is_nonsingular(swap)
    negative = lx.negative_semidefinite_tag, lx.nonsingular_tag
    negative = clamped([[-2.0, 1.0], [1.0, -2.0]], *negative)
    assert lx.is_symmetric(negative) and not lx.is_negative_semidefinite(negative)
    positive = lx.positive_semidefinite_tag, lx.nonsingular_tag
    positive = clamped([[2.0, 1.0], [1.0, 2.0]], *positive)
    assert lx.is_positive_semidefinite(positive) and lx.is_nonsingular(positive)
    lower = clamped([[2.0, 0], [1, 3]], lx.lower_triangular_tag, lx.nonsingular_tag)
    assert lx.is_lower_triangular(lower) and lx.is_nonsingular(lower)


def test_dirichlet_of_traced_indices():
    """Several entries in one place of the diagonal become one 1."""

    @jax.jit
    def clamped(rows, columns, values):
        operator = lx.SparseLinearOperator.from_coo(values, rows, columns, (3, 3))
        return operator.with_dirichlet(jnp.array([True, False, True])).as_matrix()

    rows, columns = jnp.array([2, 0, 1, 0, 2, 1]), jnp.array([2, 0, 1, 0, 2, 0])
    got = clamped(rows, columns, jnp.arange(1.0, 7.0))
    np.testing.assert_array_equal(got, np.diag([1.0, 3.0, 1.0]))


def test_transposes_are_known_under_jit():
    pattern = lx.SparsityPattern([0, 2, 1], [1, 1, 0], (3, 2))

    @jax.jit
    def known(values):
        operator = lx.SparseLinearOperator(values, pattern)
        assert operator.T.pattern == lx.SparsityPattern([1, 1, 0], [0, 2, 1], (2, 3))
        product = lx.materialise(operator.T @ operator)
        assert isinstance(product, lx.SparseLinearOperator)
        return product.as_matrix()

    got = known(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(got, [[4.0, 0.0], [0.0, 10.0]])


@pytest.mark.parametrize("periodic", [False, True, (True, False)])
def test_stencil(periodic):
    grid = (4, 5)
    cross = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
    pattern = lx.SparsityPattern.from_stencil(cross, grid, periodic)
    wraps = (periodic,) * 2 if isinstance(periodic, bool) else periodic

    def axis(n, wrap):
        a = np.eye(n, k=1) + np.eye(n, k=-1)
        a[0, -1] = a[-1, 0] = float(wrap)
        return a

    first, second = (axis(n, w) for n, w in zip(grid, wraps))
    wanted = np.kron(first, np.eye(5)) + np.kron(np.eye(4), second) + np.eye(20)
    ones = lx.SparseLinearOperator(jnp.ones(pattern.size), pattern)
    np.testing.assert_array_equal(ones.as_matrix(), wanted)


def test_traced_indices():
    """From values and traced indices: sorted, duplicates apart, products right."""

    @jax.jit
    def product(values, rows, columns, x):
        operator = lx.SparseLinearOperator.from_coo(values, rows, columns, (4, 3))
        assert not operator.pattern.exact
        shifted = operator.T @ operator + lx.IdentityLinearOperator(jnp.zeros(3))
        return operator.mv(x), operator.T.mv(operator.mv(x)), shifted.mv(x)

    rows, columns = jnp.array([3, 0, 3, 1]), jnp.array([1, 2, 1, 0])
    values, x = jnp.asarray(RNG.normal(size=4)), jnp.asarray(RNG.normal(size=3))
    dense = sp.coo_array((values, (rows, columns)), (4, 3)).toarray()
    y, z, w = product(values, rows, columns, x)
    np.testing.assert_allclose(y, dense @ x, rtol=1e-13)
    np.testing.assert_allclose(z, dense.T @ dense @ x, rtol=1e-13)
    np.testing.assert_allclose(w, dense.T @ dense @ x + x, rtol=1e-13)


def test_fifty_patterns_compile_once():
    """Equal facts are one program: nothing of the content is static."""
    traces = []

    @eqx.filter_jit
    def product(operator, x):
        traces.append(1)
        return operator.mv(x), operator.T.mv(x)

    n, x = 60, RNG.normal(size=60)
    for seed in range(50):
        # the diagonal, a cycle through all unknowns, and two corners
        cycle = np.random.default_rng(seed).permutation(np.arange(1, n - 1))
        cycle = np.concatenate([[0], cycle[:20], [n - 1], cycle[20:]])
        rows = np.concatenate([np.arange(n), cycle, [0, n - 1]])
        columns = np.concatenate([np.arange(n), np.roll(cycle, 1), [n - 1, 0]])
        matrix = sp.coo_array((np.cos(rows + columns), (rows, columns)), (n, n)).tocsr()
        operator = lx.SparseLinearOperator.from_scipy(matrix)
        y, z = product(operator, x)
        np.testing.assert_allclose(y, matrix @ x, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(z, matrix.T @ x, rtol=1e-12, atol=1e-14)
    assert len(traces) == 1


# fmt: off
BAD = {
    "row": (lambda: lx.SparsityPattern([0, 5], [0, 1], (3, 3)), "entry 1 is in row 5"),
    "column": (lambda: lx.SparsityPattern([0], [-1], (3, 3)), "in column -1"),
    "lengths": (lambda: lx.SparsityPattern([0, 1], [0], (3, 3)), "got 2 and 1"),
    "floats": (lambda: lx.SparsityPattern([0.0], [0], (3, 3)), "`rows` must be.*float"),
    "shape": (lambda: lx.SparsityPattern([0], [0], (3, -3)), "`shape` must be"),
    "dense": (lambda: lx.SparsityPattern.from_scipy(np.eye(3)), "from_dense"),
    "values": (lambda: lx.SparseLinearOperator(np.ones(2), PATTERN), "the 3 entries"),
    "pattern": (lambda: lx.SparseLinearOperator(np.ones(2), sp.eye(2)), "from_scipy"),
    "not finite": (
        lambda: lx.SparseLinearOperator.from_scipy(sp.diags([1.0, np.nan])),
        "entry 1, in row 1 and column 1, is nan",
    ),
    "structure": (
        lambda: lx.SparseLinearOperator(
            np.ones(3), PATTERN, input_structure=np.ones(4)
        ),
        "`input_structure` must have 3 scalars",
    ),
    "tag": (
        lambda: lx.SparseLinearOperator.from_scipy(MATRIX, lx.symmetric_tag),
        "symmetric",
    ),
}
# fmt: on
PATTERN = lx.SparsityPattern([0, 1, 2], [0, 1, 2], (3, 3))


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    make, text = BAD[name]
    with pytest.raises(ValueError, match=text):
        make()


def test_damaged_pointers():
    damaged = sp.csr_array(np.eye(3))
    damaged.indptr = np.array([0, 2, 1, 3], damaged.indptr.dtype)
    with pytest.raises(ValueError, match="must not decrease, but that of row 1 is 2"):
        lx.SparsityPattern.from_scipy(damaged)
    damaged = sp.csc_array(np.eye(3))
    damaged.indices[1] = 7
    with pytest.raises(ValueError, match="entry 1 is in row 7"):
        lx.SparsityPattern.from_scipy(damaged)


def test_large_indices():
    """Indices that need 64 bits are never cut to 32."""
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="indices up to 2147483649 do not fit"):
            lx.SparsityPattern([], [], (2**31, 1))
    finally:
        jax.config.update("jax_enable_x64", True)
    assert index_dtype(2**31 - 1) == np.int32 and index_dtype(2**31) == np.int64


def test_flag_of_scipy_is_not_trusted():
    """A matrix that says it is sorted, but is not."""
    matrix = sp.csr_array(np.arange(1.0, 7).reshape(2, 3))
    assert matrix.has_canonical_format
    matrix.indices[:3] = [2, 0, 1]
    wanted = [[2.0, 3.0, 1.0], [4.0, 5.0, 6.0]]
    operator = lx.SparseLinearOperator.from_scipy(matrix)
    np.testing.assert_array_equal(operator.as_matrix(), wanted)


def test_nothing():
    """No rows, no columns, no entries: all are matrices."""
    for shape in ((0, 0), (0, 3), (3, 0), (2, 3)):
        operator = lx.SparseLinearOperator.from_scipy(sp.csr_array(shape))
        for each in (operator, lx.linearise(operator), operator.T.T):
            np.testing.assert_array_equal(
                each.mv(jnp.ones(shape[1])), np.zeros(shape[0])
            )
            assert each.as_matrix().shape == shape


def test_patterns_are_freed():
    """Also their transposes, copies and batches, of which nothing else keeps hold."""
    import gc
    import weakref

    def arrays():
        pattern = lx.SparsityPattern([0, 2, 0], [1, 1, 1], (3, 3))
        operator = lx.SparseLinearOperator(jnp.ones(2), pattern)
        coloured = lx.ColouredPattern(pattern)
        every = pattern, pattern.T, pattern.without_assembly(), coloured.T.pattern
        every += operator.T.pattern, pattern.submatrix([0], [1])
        return [weakref.ref(one) for one in every]

    left = arrays()
    gc.collect()
    assert all(one() is None for one in left)
