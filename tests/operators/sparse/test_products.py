"""Products: all forms beside SciPy, and what their derivatives compile to."""

import jax
import jax.export
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings, strategies as st
from jax.test_util import check_grads
from lx_operators.sparse import _forms

RNG = np.random.default_rng(0)


def grid(n):
    line = sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], (n, n))
    return sp.csr_array(sp.kronsum(line, line))


def arrow(n):
    """One full row and one full column: short rows in pieces."""
    matrix = sp.lil_array(sp.diags([1.0, 2.0], [0, 1], (n, n)))
    matrix[3, :] = matrix[:, 5] = RNG.normal(size=n)
    return sp.csr_array(matrix)


def four_a_row(m, n):
    columns = np.concatenate([RNG.permutation(n)[:4] for _ in range(m)])
    entries = (RNG.normal(size=4 * m), (np.repeat(np.arange(m), 4), columns))
    return sp.csr_array(sp.coo_array(entries, (m, n)))


FORMS = {
    "diagonals": (grid(6), "5 diagonals"),
    "wide diagonals": (
        sp.diags_array(
            [np.ones(17), np.arange(20.0), np.ones(20)],
            offsets=[-3, 0, 2],
            shape=(20, 26),
        ).tocsr(),
        "3 diagonals",
    ),
    "rows": (four_a_row(40, 30), "rows of up to 4"),
    "pieces": (arrow(90), "rows in pieces"),
    "long rows": (sp.random(30, 60, 0.7, random_state=0, format="csr"), "rows of up"),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms(name):
    matrix, form = FORMS[name]
    operator = lx.SparseLinearOperator.from_scipy(matrix)
    assert form in operator.pattern.form and form in repr(operator)
    m, n = matrix.shape
    values = np.stack([operator.values, RNG.normal(size=operator.values.size)])
    x, many = RNG.normal(size=n), RNG.normal(size=(n, 5))
    pattern = operator.pattern
    second = sp.csr_array((values[1], matrix.indices, matrix.indptr), matrix.shape)

    def product(values, x):
        return lx.SparseLinearOperator(values, pattern).mv(x)

    def laid_out(values, x):
        return lx.linearise(lx.SparseLinearOperator(values, pattern)).mv(x)

    for fn in (product, laid_out):
        fn = jax.jit(fn)
        np.testing.assert_allclose(fn(values[0], x), matrix @ x, atol=1e-12)
        columns = jax.vmap(fn, (None, 1), 1)(values[0], many)
        np.testing.assert_allclose(columns, matrix @ many, atol=1e-12)
        matrices = jax.vmap(fn, (0, None))(values, x)
        np.testing.assert_allclose(matrices, [matrix @ x, second @ x], atol=1e-12)
        both = jax.vmap(jax.vmap(fn, (None, 1)), (0, None))(values, many)
        wanted = [(matrix @ many).T, (second @ many).T]
        np.testing.assert_allclose(both, wanted, atol=1e-12)
        nested = jax.vmap(jax.vmap(fn, (0, None)), (None, 1))(values, many)
        np.testing.assert_allclose(np.swapaxes(nested, 0, 1), wanted, atol=1e-12)
    y = RNG.normal(size=m)
    np.testing.assert_allclose(operator.T.mv(y), matrix.T @ y, atol=1e-12)
    np.testing.assert_allclose(lx.linearise(operator).T.mv(y), matrix.T @ y, atol=1e-12)


def test_many_terms(monkeypatch):
    """Long rows beyond the cache are summed in passes."""
    monkeypatch.setattr(_forms, "_IN_CACHE", 0)
    laid, columns = RNG.normal(size=(30, 7)), RNG.integers(0, 9, (30, 7))
    for x in (RNG.normal(size=9), RNG.normal(size=(9, 2))):
        found = _forms.terms_of_chunks(*map(jnp.asarray, (laid, columns, x)))
        wanted = np.einsum("kc,kc...->c...", laid, x[columns])
        np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_kernel_on_cpus():
    """Irregular rows times several columns go to JAX's kernel for compressed rows, but
    not in programs that are exported, nor on other platforms."""
    matrix, _ = FORMS["pieces"]
    operator, many = lx.SparseLinearOperator.from_scipy(matrix), jnp.ones((90, 5))
    product = jax.jit(lambda operator, x: jax.vmap(operator.mv, 1, 1)(x))
    for each in (operator, lx.linearise(operator)):
        lowered = product.trace(each, many).lower(lowering_platforms=("cpu",))
        assert ("custom_call" in lowered.as_text()) == (jax.default_backend() == "cpu")
        cuda = product.trace(each, many).lower(lowering_platforms=("cuda",))
        assert "cpu_csr" not in cuda.as_text()
    leaves, tree = jax.tree.flatten(operator)
    exported = jax.export.export(
        jax.jit(lambda leaves, x: product(jax.tree.unflatten(tree, leaves), x))
    )(leaves, many)
    np.testing.assert_allclose(exported.call(leaves, many), matrix @ many, atol=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_derivatives(name):
    """Derivatives of any order, in values and vector, with one number for each
    entry."""
    matrix, _ = FORMS[name]
    operator = lx.SparseLinearOperator.from_scipy(matrix)
    pattern, x = operator.pattern, jnp.asarray(RNG.normal(size=matrix.shape[1]))
    y = RNG.normal(size=matrix.shape[0])

    def loss(values, x):
        return jnp.vdot(y, lx.SparseLinearOperator(values, pattern).mv(x))

    of_values, of_x = jax.grad(loss, (0, 1))(operator.values, x)
    rows, columns = np.asarray(pattern.rows), np.asarray(pattern.columns)
    np.testing.assert_allclose(of_values, y[rows] * x[columns], rtol=1e-12)
    np.testing.assert_allclose(of_x, matrix.T @ y, atol=1e-12)
    if name == "pieces":
        check_grads(loss, (operator.values, x), 2, ["fwd", "rev"])


def laid_loss(values, x, pattern):
    operator = lx.linearise(lx.SparseLinearOperator(values, pattern))
    return jnp.sum(operator.mv(x) ** 2)


@pytest.mark.parametrize("name", ["diagonals", "pieces"])
def test_derivatives_laid_out(name):
    order = 2 if name == "diagonals" else 1
    operator = lx.SparseLinearOperator.from_scipy(FORMS[name][0])
    x = jnp.asarray(RNG.normal(size=operator.in_size()))
    fn = lambda values, x: laid_loss(values, x, operator.pattern)  # noqa: E731
    check_grads(fn, (operator.values, x), order, ["fwd", "rev"])


def test_complex():
    matrix = sp.csr_array(FORMS["rows"][0] * (1 + 2j))
    matrix.data = matrix.data * np.exp(1j * np.arange(matrix.nnz))
    operator = lx.SparseLinearOperator.from_scipy(matrix)
    y = RNG.normal(size=40) + 1j * RNG.normal(size=40)
    np.testing.assert_allclose(operator.H.mv(y), matrix.conj().T @ y, atol=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_programs(name):
    """No array of rows times columns anywhere, and no scatter but the sum of sorted
    segments: in the product, its transpose and its derivatives."""
    matrix, _ = FORMS[name]
    operator = lx.SparseLinearOperator.from_scipy(matrix)
    m, n = matrix.shape
    x, y = jnp.ones(n), jnp.ones(m)

    def loss(operator, x):
        return jnp.sum(operator.mv(x) ** 2)

    def both(operator, x):
        grads = jax.grad(loss, (0, 1), allow_int=True)(operator, x)
        return grads[0].values, grads[1]

    def second(operator, x):
        return jax.jvp(lambda x: both(operator, x), (x,), (x,))

    programs = [
        jax.jit(lambda a, x: a.mv(x)).lower(operator, x),
        jax.jit(lambda a, y: a.T.mv(y)).lower(operator, y),
        jax.jit(both).lower(operator, x),
        jax.jit(second).lower(operator, x),
    ]
    pattern = operator.pattern
    for program in programs:
        text = program.as_text()
        for line in text.splitlines():
            if "stablehlo.scatter" in line:
                assert "indices_are_sorted = true" in line, line
        assert f"{m}x{n}xf64" not in text
        cut = (pattern.by_rows.rows, pattern.by_columns.rows)
        assert ("stablehlo.scatter" in text) <= any(x is not None for x in cut)


@st.composite
def matrices(draw):
    """Matrices of any shape and filling: empty rows and columns, one entry, full,
    duplicates."""
    m, n = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    size = draw(st.integers(0, 2 * m * n))
    rows = draw(st.lists(st.integers(0, m - 1), min_size=size, max_size=size))
    columns = draw(st.lists(st.integers(0, n - 1), min_size=size, max_size=size))
    return (m, n), rows, columns


@settings(max_examples=60, deadline=None, derandomize=True)
@given(matrices())
def test_any_pattern(drawn):
    """By NumPy: what products read is each entry once, in either order."""
    shape, rows, columns = drawn
    pattern = lx.SparsityPattern.from_coo(rows, columns, shape)
    places = sorted(set(zip(rows, columns)))
    found = np.stack([pattern.rows, pattern.columns], 1)
    assert [tuple(place) for place in found.tolist()] == places
    turned = [places[k] for k in np.asarray(pattern.transposed)]
    assert turned == sorted(places, key=lambda place: place[::-1])
    for p in (pattern, pattern.T):
        starts, chunks = np.asarray(p.row_starts), p.by_rows
        np.testing.assert_array_equal(
            np.repeat(range(p.shape[0]), np.diff(starts)), p.rows
        )
        if chunks.rows is not None:
            starts = np.asarray(chunks.starts)
            np.testing.assert_array_equal(
                np.repeat(chunks.rows, np.diff(starts)), p.rows
            )
        assert starts[0] == 0 and starts[-1] == p.size
        assert max(np.diff(starts), default=0) <= chunks.width


@settings(max_examples=5, deadline=None, derandomize=True)
@given(matrices())
def test_any_product(drawn):
    shape, rows, columns = drawn
    values = np.cos(1 + np.arange(len(rows)))
    matrix = sp.coo_array((values, (rows, columns)), shape).toarray()
    operator = lx.SparseLinearOperator.from_coo(values, rows, columns, shape)
    x, y = np.sin(1 + np.arange(shape[1])), np.sin(2 + np.arange(shape[0]))
    for each in (operator, lx.linearise(operator)):
        np.testing.assert_allclose(each.mv(x), matrix @ x, atol=1e-12)
        np.testing.assert_allclose(each.T.mv(y), matrix.T @ y, atol=1e-12)
    np.testing.assert_allclose(operator.as_matrix(), matrix, atol=1e-14)
    square = (operator.T @ operator).as_matrix()
    np.testing.assert_allclose(square, matrix.T @ matrix, atol=1e-12)


@pytest.mark.parametrize("laid", [False, True])
@pytest.mark.parametrize("sizes", [(0, 2, 1), (3, 0, 2), (0, 0, 0), (3, 2, 0)])
def test_empty_batches(laid, sizes):
    """No unknowns, or no vectors: the shapes of NumPy, in values and in derivatives."""
    n, k, l = sizes
    pattern = lx.SparsityPattern.from_dense(np.ones((n, n), bool))

    def product(v, x):
        operator = lx.SparseLinearOperator(v, pattern)
        return (lx.linearise(operator) if laid else operator).mv(x)

    def gradient(v, x):
        return jax.grad(lambda v: jnp.sum(product(v, x)))(v)

    v, x = jnp.ones((l, k, n * n)), jnp.ones((l, k, n))
    twice = lambda fn, axes: jax.vmap(jax.vmap(fn, axes), axes)  # noqa: E731
    assert twice(product, (None, 0))(v[:0].sum((0, 1)), x).shape == x.shape
    assert twice(product, 0)(v, x).shape == x.shape
    assert twice(gradient, 0)(v, x).shape == v.shape
