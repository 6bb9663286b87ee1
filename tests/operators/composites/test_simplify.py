"""The signs simplify, and only rounding changes."""

import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.internal import known, same_shapes, unwrapped

_RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(_RNG.normal(size=shape) + 1j * _RNG.normal(size=shape))


def matrix(*shape):
    return lx.MatrixLinearOperator(normal(*shape))


def kronecker(*shapes):
    return lx.KroneckerLinearOperator(*(matrix(*shape) for shape in shapes))


def update(k, C=None, V=True):
    V = normal(4, k) if V else None
    return lx.LowRankUpdateLinearOperator(matrix(4, 4), normal(4, k), C, V)


DIAGONAL = lx.DiagonalLinearOperator(normal(4))
BANDED = lx.BandedLinearOperator(normal(4, 4), 2, 1)
CIRCULANT, OTHER = (lx.CirculantLinearOperator(normal(4)) for _ in range(2))
TOEPLITZ = lx.ToeplitzLinearOperator(normal(4))
GENERAL = lx.ToeplitzLinearOperator(normal(4), normal(4))
EYE = lx.IdentityLinearOperator(CIRCULANT.in_structure())
ZERO = lx.ZeroLinearOperator(CIRCULANT.in_structure())
ORDER = lx.PermutationLinearOperator([2, 0, 1, 3], CIRCULANT.in_structure())
SWAPS = lx.PermutationLinearOperator([1, 0, 3, 2], CIRCULANT.in_structure())
SUM = lx.KroneckerSumLinearOperator(matrix(2, 2), matrix(2, 2))
GRID = lx.IdentityLinearOperator(SUM.in_structure())
SHIFT = 2 * EYE / jnp.asarray(3.0)

PRODUCTS = {
    "Kronecker": (kronecker((2, 3), (1, 2)), kronecker((3, 2), (2, 2)), "Kronecker"),
    "circulant": (CIRCULANT, OTHER, "Circulant"),
    "permutations": (ORDER, SWAPS, "Permutation"),
    "PᵀP": (ORDER.T, ORDER, "Identity"),
    "zero @": (ZERO, matrix(4, 4), "Zero"),
    "@ zero": (matrix(3, 4), ZERO, "Zero"),
}
SUMS = {
    "circulant": (CIRCULANT, OTHER, "Circulant"),
    "circulant + s": (CIRCULANT, SHIFT, "Circulant"),
    "s + Toeplitz": (-SHIFT, TOEPLITZ, "Toeplitz"),
    "Toeplitz": (TOEPLITZ, GENERAL, "Toeplitz"),
    "Hermitian Toeplitz": (TOEPLITZ, TOEPLITZ, "Toeplitz"),
    "A ⊕ B + s": (SUM, GRID * 2j, "KroneckerSum"),
    "s + A ⊕ B": (GRID / 3, SUM, "KroneckerSum"),
    "low rank": (update(1), update(2), "LowRankUpdate"),
    "low rank, cores": (update(1, normal(1, 1)), update(2), "LowRankUpdate"),
    "low rank, Hermitian": (update(1, V=False), update(2, V=False), "LowRankUpdate"),
    "low rank +": (update(1), matrix(4, 4), "LowRankUpdate"),
    "+ low rank": (DIAGONAL, update(1), "LowRankUpdate"),
    "zero": (matrix(4, 4), ZERO, "Matrix"),
}
SCALED = {
    "Kronecker": kronecker((2, 3), (1, 2)),
    "KroneckerSum": SUM,
    "LowRankUpdate": update(1),
    "Circulant": CIRCULANT,
    "Toeplitz": TOEPLITZ,
}


def check(result, plain, dense, kind):
    assert type(result).__name__ == f"{kind}LinearOperator"
    assert result.in_structure() == plain.in_structure()
    assert result.out_structure() == plain.out_structure()
    assert known(plain) <= known(result)
    np.testing.assert_allclose(result.as_matrix(), dense, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name):
    a, b, kind = PRODUCTS[name]
    plain = lx.ComposedLinearOperator(a, b)
    assert type(plain) is lx.ComposedLinearOperator
    check(a @ b, plain, np.asarray(a.as_matrix()) @ np.asarray(b.as_matrix()), kind)


@pytest.mark.parametrize("name", SUMS)
def test_sums(name):
    a, b, kind = SUMS[name]
    plain = lx.AddLinearOperator(a, b)
    assert type(plain) is lx.AddLinearOperator
    check(a + b, plain, np.asarray(a.as_matrix()) + np.asarray(b.as_matrix()), kind)


@pytest.mark.parametrize("kind", SCALED)
def test_scalings(kind):
    a = SCALED[kind]
    dense = np.asarray(a.as_matrix())
    check(3 * a, lx.MulLinearOperator(a, 3), 3 * dense, kind)
    check(a * (1 + 2j), lx.MulLinearOperator(a, 1 + 2j), (1 + 2j) * dense, kind)
    check(a / jnp.asarray(3.0), lx.DivLinearOperator(a, 3), dense / 3, kind)
    check(-a, lx.NegLinearOperator(a), -dense, kind)


@pytest.mark.standard_promotion
def test_not_where_it_is_no_theorem():
    """Factors that do not match, dtypes that would be lost, operators that are not
    s·I."""
    three = lx.KroneckerLinearOperator(matrix(2, 2), matrix(2, 1), matrix(1, 2))
    two = kronecker((2, 2), (2, 2))
    structures = two.in_structure(), three.out_structure()
    assert not same_shapes(*structures)
    swapped = kronecker((2, 2), (3, 3)), kronecker((2, 2), (3, 3))
    assert isinstance(swapped[0] @ swapped[1], lx.KroneckerLinearOperator)
    narrow = lx.MatrixLinearOperator(jnp.ones((4, 4), "float32"))
    assert isinstance(narrow + ZERO, lx.AddLinearOperator)
    assert isinstance(CIRCULANT + DIAGONAL, lx.AddLinearOperator)
    real = lx.CirculantLinearOperator(jnp.ones(4))
    complex_shift = real + 1j * lx.IdentityLinearOperator(real.in_structure())
    np.testing.assert_allclose(complex_shift.as_matrix(), 1 + 1j * np.eye(4))


@pytest.mark.parametrize("order", (lambda a, b: (a, b), lambda a, b: (b, a)))
def test_views(order):
    """A diagonal times a band stays a product, which a solver sees as a band."""
    a, b = order(DIAGONAL, BANDED)
    dense = np.asarray(a.as_matrix()) @ np.asarray(b.as_matrix())
    plain = a @ b
    assert type(plain) is lx.ComposedLinearOperator
    check(unwrapped(plain), plain, dense, "Banded")


def test_what_the_composite_knows_is_kept():
    """`XᴴX` and `XᴴDX` are semidefinite, whatever they are stored as."""
    weights = lx.DiagonalLinearOperator(jnp.abs(normal(4)).astype(complex))
    D = lx.TaggedLinearOperator(weights, lx.positive_semidefinite_tag)
    for x in (CIRCULANT, kronecker((3, 2), (2, 2)), ORDER, BANDED, TOEPLITZ):
        assert lx.is_positive_semidefinite(x.H @ x)
        if x.out_structure() == D.in_structure():
            for product in (x.H @ D @ x, x.H @ (D @ x), x @ D @ x.H, x @ (D @ x.H)):
                assert lx.is_positive_semidefinite(product)
    psd = lx.CirculantLinearOperator(
        jnp.array([2.0, 1.0]), lx.positive_semidefinite_tag
    )
    assert lx.is_positive_semidefinite(psd + psd)
    assert lx.is_negative_semidefinite(-2 * psd)
