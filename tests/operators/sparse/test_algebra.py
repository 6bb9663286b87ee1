"""Sums, products and scalings that stay sparse, and what becomes sparse."""

import functools

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
import scipy.sparse as sp
from jax.test_util import check_grads
from lx_operators.internal import unwrapped

RNG = np.random.default_rng(0)
A = sp.random(6, 6, 0.3, random_state=0, format="csr")
B = sp.random(6, 6, 0.4, random_state=1, format="csr")
X = sp.random(9, 6, 0.3, random_state=2, format="csr")
d, e = RNG.normal(size=6), RNG.normal(size=9)
P = np.array([3, 1, 0, 5, 4, 2])


def sparse(matrix, tags=()):
    return lx.SparseLinearOperator.from_scipy(matrix, tags)


a, b, x = sparse(A), sparse(B), sparse(X)
D, E = lx.DiagonalLinearOperator(d), lx.DiagonalLinearOperator(e)
eye = lx.IdentityLinearOperator(jnp.zeros(6))
permutation = lx.PermutationLinearOperator(P)
tridiagonal = lx.TridiagonalLinearOperator(d, d[:5], d[1:])
banded = lx.BandedLinearOperator(RNG.normal(size=(4, 6)), 2, 1)
lines = lx.SparseDiagonalsLinearOperator(RNG.normal(size=(2, 6)), (-3, 2))
zero = lx.ZeroLinearOperator(jnp.zeros(6))
PARTS = (a, b, x, D, E, eye, permutation, tridiagonal, banded, lines)


@functools.cache
def dense():
    return {id(each): np.asarray(each.as_matrix()) for each in PARTS}


# fmt: off
SIGNS = {
    "A + B": lambda f: f(a) + f(b),
    "A - A": lambda f: f(a) - f(a),
    "A + D": lambda f: f(a) + f(D),
    "I - A": lambda f: f(eye) - f(a),
    "A + 3 I": lambda f: f(a) + 3 * f(eye),
    "A + T": lambda f: f(a) + f(tridiagonal),
    "banded + A": lambda f: f(banded) + f(a),
    "A + lines": lambda f: f(a) + f(lines),
    "A + P": lambda f: f(a) + f(permutation),
    "A @ B": lambda f: f(a) @ f(b),
    "X @ A": lambda f: f(x) @ f(a),
    "D @ A": lambda f: f(D) @ f(a),
    "X @ D": lambda f: f(x) @ f(D),
    "E @ X": lambda f: f(E) @ f(x),
    "P @ A": lambda f: f(permutation) @ f(a),
    "A @ P": lambda f: f(a) @ f(permutation),
    "T @ A": lambda f: f(tridiagonal) @ f(a),
    "A @ banded": lambda f: f(a) @ f(banded),
    "lines @ A": lambda f: f(lines) @ f(a),
    "-A": lambda f: -f(a),
    "2 A / 3": lambda f: 2 * f(a) / 3,
}
# fmt: on


@pytest.mark.parametrize("name", SIGNS)
def test_signs(name):
    """A sum is sparse itself, a product is seen as sparse."""
    operator = SIGNS[name](lambda each: each)
    assert type(operator) is lx.SparseLinearOperator or "@" in name
    assert type(unwrapped(operator)) is lx.SparseLinearOperator
    wanted = SIGNS[name](lambda each: dense()[id(each)])
    for each in (operator, unwrapped(operator), lx.materialise(operator)):
        np.testing.assert_allclose(each.as_matrix(), wanted, atol=1e-13)


def test_gram():
    """X.T @ D @ X is held as what it is, and seen as sparse."""
    M = sparse(B + B.T, lx.symmetric_tag)
    for operator, wanted in (
        (x.T @ x, X.T @ X),
        (x.T @ E @ x, X.T @ sp.diags(e) @ X),
        (x.T @ (E @ x), X.T @ sp.diags(e) @ X),
        (x @ D @ x.T, X @ sp.diags(d) @ X.T),
        (x @ M @ x.T, X @ (B + B.T) @ X.T),
        (permutation.T @ M @ permutation, (B + B.T)[np.argsort(P)][:, np.argsort(P)]),
        (x @ x.T, X @ X.T),
        (a + a.T, A + A.T),
    ):
        assert lx.is_symmetric(operator)
        seen = unwrapped(operator)
        assert type(seen) is lx.SparseLinearOperator
        np.testing.assert_allclose(seen.as_matrix(), wanted.toarray(), atol=1e-13)
        stored = lx.materialise(operator)
        assert type(stored) is lx.SparseLinearOperator and lx.is_symmetric(stored)
    assert lx.is_positive_semidefinite(lx.materialise(x.T @ x))


def test_tags():
    definite = sparse(A @ A.T + sp.eye(6), lx.positive_semidefinite_tag)
    shifted = definite + 2 * eye
    assert type(shifted) is lx.SparseLinearOperator
    assert lx.is_positive_semidefinite(shifted) and lx.is_nonsingular(shifted)
    assert lx.is_negative_semidefinite(-definite)
    assert not lx.is_positive_semidefinite(definite - eye)
    lower = sparse(sp.tril(A, format="csr"))
    assert lx.is_lower_triangular(lower @ lower) and lx.is_upper_triangular(lower.T)


def test_derivative_of_a_product():
    def product(u, v):
        left = lx.SparseLinearOperator(u, a.pattern)
        return unwrapped(left @ lx.SparseLinearOperator(v, b.pattern)).values

    u, v = a.values, b.values
    check_grads(product, (u, v), 2, ["fwd", "rev"])
    text = jax.jit(jax.grad(lambda u: jnp.sum(product(u, v) ** 2))).lower(u).as_text()
    for line in text.splitlines():
        assert "stablehlo.scatter" not in line or "indices_are_sorted = true" in line


def test_traced_patterns():
    """Under `jit`, of arguments: what keeps the pattern is sparse, the rest is held."""
    kinds = []

    @jax.jit
    def run(a, b, D, v):
        found = (a + b, a @ b, a + a, D @ a, a @ D, 2 * a)
        kinds.extend(type(unwrapped(each)).__name__ for each in found)
        return [each.mv(v) for each in found]

    got = run(a, b, D, d)
    M, N, S = A.toarray(), B.toarray(), np.diag(d)
    for y, matrix in zip(got, (M + N, M @ N, 2 * M, S @ M, M @ S, 2 * M)):
        np.testing.assert_allclose(y, matrix @ d, atol=1e-13)
    held = ["AddLinearOperator", "ComposedLinearOperator"]
    assert kinds == held + 4 * ["SparseLinearOperator"]


# fmt: off
BECOMES = {
    "kronecker": (lx.KroneckerLinearOperator(a, x), sp.kron(A, X)),
    "kronecker sum": (lx.KroneckerSumLinearOperator(a, b), sp.kronsum(B, A)),
    "grid": (
        lx.BlockLinearOperator([[a, x.T], [x, None]]), sp.bmat([[A, X.T], [X, None]])
    ),
    "blocks": (lx.BlockDiagonalLinearOperator({"a": a, "b": x}), sp.block_diag((A, X))),
    "update": (lx.LowRankUpdateLinearOperator(a, x.T, None, b @ x.T),
               A + X.T @ (B @ X.T).T),
    "mixed": (lx.BlockLinearOperator([[a, None], [None, zero]]),
              sp.block_diag((A, sp.csr_array((6, 6))))),
}
# fmt: on


@pytest.mark.parametrize("name", BECOMES)
def test_materialise(name):
    operator, wanted = BECOMES[name]
    stored = lx.materialise(operator)
    assert type(stored) is lx.SparseLinearOperator
    assert stored.in_structure() == operator.in_structure()
    assert stored.out_structure() == operator.out_structure()
    np.testing.assert_allclose(
        stored.to_scipy().toarray(), wanted.toarray(), atol=1e-13
    )
    np.testing.assert_allclose(stored.as_matrix(), operator.as_matrix(), atol=1e-13)


def test_products_that_fill_are_not_multiplied_out():
    column = sparse(sp.csr_array(np.ones((200, 1))))
    product = column @ sparse(sp.csr_array(np.ones((1, 200))))
    assert type(unwrapped(product)) is lx.ComposedLinearOperator
    assert lx.materialise(product).pattern.size == 200**2


def test_plans_are_kept():
    from lx_operators.sparse import _plans

    first = _plans.multiplied(a.pattern, b.pattern)
    assert _plans.multiplied(a.pattern, b.pattern) is first
    again = lx.SparsityPattern.from_scipy(A)
    assert _plans.multiplied(again, b.pattern) is not first


def test_spy(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from lx_operators.plot import spy

    ax = spy(x.T @ x)
    points = np.asarray(ax.collections[0].get_offsets())
    (columns, rows) = points.T.astype(int)
    found = np.zeros((6, 6), bool)
    found[rows, columns] = True
    np.testing.assert_array_equal(found, (abs(X).T @ abs(X)).toarray() > 0)
    assert ax.get_ylim() == (5.5, -0.5)
    with pytest.raises(ValueError, match="not known"):
        spy(lx.FunctionLinearOperator(lambda v: v, jnp.zeros(2)))


def test_plans_of_lost_patterns_are_dropped():
    """One matrix that is added to many, one after another, does not remember them."""
    import gc
    import weakref

    kept = sparse(A)
    lost = []
    for k in range(6):
        other = sparse(sp.random(6, 6, 0.4, random_state=10 + k, format="csr"))
        total, product = kept + other, lx.materialise(kept @ other)
        lost += [weakref.ref(total.pattern.rows), weakref.ref(product.pattern.rows)]
    del other, total, product
    gc.collect()
    assert sum(rows() is not None for rows in lost) <= 2  # those of the last
