"""The generic functions cost what they promise: products are counted."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest


class Counter:
    """Counts products as they run, batched ones by their number."""

    def __init__(self):
        self.products = 0

    def __call__(self, x):
        def count(_):
            self.products += 1

        jax.debug.callback(count, x.ravel()[:1])
        return x


def _banded(n, counter, shape=None, main=3.0, off=-1.0):
    def fn(x):
        flat = counter(x).reshape(-1)
        above, below = jnp.pad(flat[1:], (0, 1)), jnp.pad(flat[:-1], (1, 0))
        return (main * flat + off * above + 2 * off * below).reshape(x.shape)

    return fn, jax.ShapeDtypeStruct(shape or (n,), jnp.float64)


def _products(function, operator, counter):
    counter.products = 0
    out = function(operator)
    jax.effects_barrier()
    return out, counter.products


@pytest.mark.parametrize("wrap", [False, True], ids=["own tag", "tagged"])
@pytest.mark.parametrize(
    ("function", "tag", "off", "products"),
    [
        (lx.diagonal, lx.diagonal_tag, 0.0, 1),
        (lx.tridiagonal, lx.diagonal_tag, 0.0, 1),
        (lx.materialise, lx.diagonal_tag, 0.0, 1),
        (lambda op: op.as_matrix(), lx.diagonal_tag, 0.0, 1),
        (lx.diagonal, lx.tridiagonal_tag, -1.0, 3),
        (lx.tridiagonal, lx.tridiagonal_tag, -1.0, 3),
        (lx.materialise, lx.tridiagonal_tag, -1.0, 3),
        (lambda op: op.as_matrix(), lx.tridiagonal_tag, -1.0, 3),
        (lx.diagonal, lx.symmetric_tag, 0.0, 8),  # one tells whether it is linear
    ],
)
def test_products_of_a_function(function, tag, off, products, wrap):
    counter = Counter()
    fn, structure = _banded(7, counter, off=off)
    operator = lx.FunctionLinearOperator(fn, structure, () if wrap else tag)
    if wrap:
        operator = lx.TaggedLinearOperator(operator, tag)
    out, count = _products(function, operator, counter)
    assert count == products
    dense = 3 * np.eye(7) + off * np.eye(7, k=1) + 2 * off * np.eye(7, k=-1)
    if isinstance(out, lx.AbstractLinearOperator):
        np.testing.assert_array_equal(out.as_matrix(), dense)
        _, more = _products(lambda op: op.mv(jnp.ones(7)), out, counter)
        assert more == 0


def test_bands_of_a_jacobian():
    counter = Counter()

    def fn(x, _):
        return counter(x) ** 2

    operator = lx.JacobianLinearOperator(fn, jnp.arange(5.0), tags=lx.diagonal_tag)
    main, count = _products(lx.diagonal, operator, counter)
    assert main.tolist() == [0, 2, 4, 6, 8] and count == 1


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_colours_of_small_operators(n):
    fn, structure = _banded(n, lambda x: x)
    operator = lx.FunctionLinearOperator(fn, structure, lx.tridiagonal_tag)
    main, lower, upper = lx.tridiagonal(operator)
    assert main.tolist() == [3.0] * n
    assert lower.tolist() == [-2.0] * (n - 1) and upper.tolist() == [-1.0] * (n - 1)


def test_tridiagonal_between_pytrees_is_stored_as_bands():
    fn, structure = _banded(6, lambda x: x, shape=(2, 3))
    operator = lx.FunctionLinearOperator(fn, structure, lx.tridiagonal_tag)
    stored = lx.materialise(operator)
    leaves = jax.tree.leaves(stored)
    assert sorted(leaf.shape for leaf in leaves) == [(5,), (5,), (6,)]
    assert lx.is_tridiagonal(stored)
    np.testing.assert_array_equal(stored.as_matrix(), operator.as_matrix())


def test_rectangular_tridiagonal():
    """A rectangular operator can have the tag too, but has no three bands."""
    dense = np.eye(2, 4) + np.eye(2, 4, k=1)

    for m, n in ((2, 4), (4, 2)):
        a = jnp.asarray(dense if m < n else dense.T)
        operator = lx.FunctionLinearOperator(
            lambda x, a=a: a @ x, jnp.zeros(n), lx.tridiagonal_tag
        )
        np.testing.assert_array_equal(operator.as_matrix(), a)
        np.testing.assert_array_equal(lx.materialise(operator).as_matrix(), a)
        assert lx.diagonal(operator).tolist() == [1.0, 1.0]
        with pytest.raises(ValueError, match=f"must be square.* {m} by {n}"):
            lx.tridiagonal(operator)


def test_matrix_of_a_wide_function_is_had_by_rows():
    """m transposed products where m < n."""
    a = jnp.arange(10.0).reshape(2, 5)
    operator = lx.FunctionLinearOperator(lambda x: a @ x, jnp.zeros(5))
    np.testing.assert_array_equal(operator.as_matrix(), a)
    jaxpr = jax.make_jaxpr(lambda op: op.as_matrix())(operator)
    (product,) = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
    assert {v.aval.shape for v in product.invars} == {(2, 2), (2, 5)}


def test_open_to_registration():
    for function in (
        lx.linearise,
        lx.materialise,
        lx.diagonal,
        lx.tridiagonal,
        lx.conj,
    ):
        assert callable(function.register) and callable(function.dispatch)

    class Mine(lx.AbstractLinearOperator):
        def mv(self, vector):
            return vector

        def as_matrix(self):
            return jnp.eye(2)

        def transpose(self):
            return Mine()

        def in_structure(self):
            return jax.ShapeDtypeStruct((2,), jnp.complex128)

        def out_structure(self):
            return jax.ShapeDtypeStruct((2,), jnp.complex128)

    lx.diagonal.register(Mine, lambda op: "diagonal")
    assert lx.diagonal(Mine()) == "diagonal"

    @lx.conj.register
    def _(operator: Mine):
        return Mine()

    @lx.linearise.register(Mine)
    def _(operator):
        return "linear"

    assert type(lx.conj(Mine())) is Mine and lx.linearise(Mine()) == "linear"
    operator = Mine()
    assert lx.is_positive_semidefinite(lx.conj(operator).T @ operator)
