"""Sums and products of all pairs of kinds, tagged and not, in both orders: right, and
of one kind whatever the order and the tags."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators._tags import Tag
from lx_operators.internal import unwrapped

RNG = np.random.default_rng(3)
MINE = Tag("mine")  # says nothing that anything follows from


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape))


def matrix(*shape):
    return lx.MatrixLinearOperator(normal(*shape))


def function(shape):
    a = normal(4, 4)
    return lx.FunctionLinearOperator(
        lambda x: (a @ x.ravel()).reshape(shape), jnp.zeros(shape)
    )


VECTOR, GRID = jnp.zeros(4), jnp.zeros((2, 2))
PAIR = (jnp.zeros(2), jnp.zeros(2))
SPACES = {
    "vectors": {
        "matrix": matrix(4, 4),
        "diagonal": lx.DiagonalLinearOperator(normal(4)),
        "tridiagonal": lx.TridiagonalLinearOperator(normal(4), normal(3), normal(3)),
        "banded": lx.BandedLinearOperator(normal(4, 4), 2, 1),
        "circulant": lx.CirculantLinearOperator(normal(4)),
        "toeplitz": lx.ToeplitzLinearOperator(normal(4), normal(4)),
        "sparse": lx.SparseLinearOperator.from_coo(
            normal(6), [0, 0, 1, 2, 2, 3], [1, 3, 1, 0, 2, 0], (4, 4)
        ),
        "permutation": lx.PermutationLinearOperator([2, 0, 1, 3]),
        "update": lx.LowRankUpdateLinearOperator(matrix(4, 4), normal(4, 1)),
        "identity": lx.IdentityLinearOperator(VECTOR),
        "multiple": 2.0 * lx.IdentityLinearOperator(VECTOR),
        "zero": lx.ZeroLinearOperator(VECTOR),
        "function": function((4,)),
        "sum": matrix(4, 4) + lx.DiagonalLinearOperator(normal(4)),
    },
    "arrays": {
        "kronecker": lx.KroneckerLinearOperator(matrix(2, 2), matrix(2, 2)),
        "kronecker sum": lx.KroneckerSumLinearOperator(matrix(2, 2), matrix(2, 2)),
        "stacked": lx.StackedLinearOperator(
            eqx.filter_vmap(lx.MatrixLinearOperator)(normal(2, 2, 2))
        ),
        "circulant": lx.CirculantLinearOperator(normal(2, 2)),
        "block tridiagonal": lx.BlockTridiagonalLinearOperator(
            normal(2, 2, 2), normal(1, 2, 2), normal(1, 2, 2)
        ),
        "update": lx.LowRankUpdateLinearOperator(
            lx.IdentityLinearOperator(GRID), function((2, 2))
        ),
        "multiple": lx.IdentityLinearOperator(GRID) / 3,
        "zero": lx.ZeroLinearOperator(GRID),
        "function": function((2, 2)),
    },
    "pairs": {
        "block diagonal": lx.BlockDiagonalLinearOperator((matrix(2, 2), matrix(2, 2))),
        "grid": lx.BlockLinearOperator(
            [[matrix(2, 2), matrix(2, 2)], [None, matrix(2, 2)]]
        ),
        "multiple": 0.5 * lx.IdentityLinearOperator(PAIR),
        "zero": lx.ZeroLinearOperator(PAIR),
    },
}
PAIRS = [
    (space, *pair)
    for space, kinds in SPACES.items()
    for pair in itertools.combinations_with_replacement(kinds, 2)
]


def tagged(operator):
    return lx.TaggedLinearOperator(operator, MINE)


def variants(a, b):
    return itertools.product((a, tagged(a)), (b, tagged(b)))


def kind(operator):
    return type(unwrapped(operator))


def close(operator, dense):
    seen = unwrapped(operator)
    for each in (operator, seen):
        np.testing.assert_allclose(each.as_matrix(), dense, rtol=1e-12, atol=1e-12)
    assert seen.in_structure() == operator.in_structure()


@pytest.mark.parametrize("space, first, second", PAIRS)
def test_pairs(space, first, second):
    a, b = SPACES[space][first], SPACES[space][second]
    da, db = np.asarray(a.as_matrix()), np.asarray(b.as_matrix())
    sums, products = set(), [set(), set()]
    for x, y in variants(a, b):
        for total in (x + y, y + x):
            close(total, da + db)
            sums.add(kind(total))
        for found, product, dense in zip(products, (x @ y, y @ x), (da @ db, db @ da)):
            close(product, dense)
            found.add(kind(product))
    assert len(sums) == 1, sums
    assert [len(found) for found in products] == [1, 1], products


@pytest.mark.parametrize(
    "space, name", [(space, name) for space in SPACES for name in SPACES[space]]
)
def test_scalings(space, name):
    a = SPACES[space][name]
    dense = np.asarray(a.as_matrix())
    kinds = set()
    for x in (a, tagged(a), tagged(tagged(a))):
        for scaled, factor in ((2 * x, 2), (x / -4.0, -0.25), (-x, -1)):
            close(scaled, factor * dense)
            kinds.add(kind(scaled))
        kinds.add(kind(2 * (3 * x)))
    plain = {lx.MulLinearOperator, lx.DivLinearOperator, lx.NegLinearOperator}
    assert len(kinds) == 1 or kinds <= plain, kinds


def test_structure_that_tags_hid():
    C, K = SPACES["vectors"]["circulant"], SPACES["arrays"]["kronecker"]
    eye = lx.IdentityLinearOperator(C.in_structure())
    for operator in (
        C.T @ C + 0.1 * eye,
        0.1 * eye + C.T @ C,
        2 * (C.T @ C),
        2 * lx.TaggedLinearOperator(C, lx.nonsingular_tag),
        C + C.T,
        (C.T @ C) @ C,
    ):
        assert kind(operator) is lx.CirculantLinearOperator, operator
        np.testing.assert_allclose(
            unwrapped(operator).as_matrix(), operator.as_matrix(), rtol=1e-12
        )
    shifted = C.T @ C + 0.1 * eye
    assert lx.is_positive_semidefinite(shifted) and lx.is_nonsingular(shifted)
    tags = lx.TaggedLinearOperator(K, lx.nonsingular_tag)
    for operator in (tags @ K, K @ tags, K.T @ K, tags.T @ tags, K @ K.T):
        assert kind(operator) is lx.KroneckerLinearOperator, operator
    low, stacked = SPACES["arrays"]["update"], SPACES["arrays"]["stacked"]
    for operator in (low + stacked, stacked + low):
        assert type(operator) is lx.LowRankUpdateLinearOperator
    for space in SPACES.values():
        for B in space.values():
            zero = space["zero"]
            assert kind(zero + B) is kind(B + zero) is kind(B)
            assert type(zero @ B) is type(B @ zero) is lx.ZeroLinearOperator


def test_derivative_through_the_view():
    """What a solver sees moves with the operator's arrays."""
    c = normal(4)

    def column(c):
        C = lx.CirculantLinearOperator(c)
        shift = 0.1 * lx.IdentityLinearOperator(C.in_structure())
        return unwrapped(C.T @ C + shift).column

    step, d = 1e-6, normal(4)
    _, moved = jax.jvp(column, (c,), (d,))
    quotient = (column(c + step * d) - column(c - step * d)) / (2 * step)
    np.testing.assert_allclose(moved, quotient, rtol=1e-7, atol=1e-8)
