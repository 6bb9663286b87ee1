"""What is recognised stays true: it follows from how a product or a sum is stored."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.internal import bands as bands_of, bandwidths
from lx_operators.testing import OperatorLaws

RNG = np.random.default_rng(5)


def normal(*shape, dtype=complex):
    a = RNG.normal(size=shape)
    return jnp.asarray(a if dtype is float else a + 1j * RNG.normal(size=shape))


def matrix(*shape, dtype=complex):
    return lx.MatrixLinearOperator(normal(*shape, dtype=dtype))


def function(*shape, dtype=complex):
    a = normal(*shape, dtype=dtype)
    return lx.FunctionLinearOperator(lambda x: a @ x, a[0])


def circulant(dtype=complex):
    return lx.CirculantLinearOperator(normal(4, dtype=dtype))


def kronecker(dtype=complex):
    return lx.KroneckerLinearOperator(
        matrix(3, 2, dtype=dtype), matrix(2, 2, dtype=dtype)
    )


def stacked(dtype=complex):
    build = eqx.filter_vmap(lx.MatrixLinearOperator)
    return lx.StackedLinearOperator(build(normal(3, 2, 2, dtype=dtype)))


def saddle(dtype, star):
    B = matrix(2, 3, dtype=dtype)
    A = matrix(3, 3, dtype=dtype)
    A = A + (A.H if star == "H" else A.T)
    return lx.BlockLinearOperator([[A, getattr(B, star)], [B, None]])


def congruence(dtype):
    X, Y = matrix(4, 3, dtype=dtype), matrix(3, 3, dtype=dtype)
    D = Y @ Y.H
    return (X @ D) @ X.H


def deep(dtype):
    A, B = matrix(4, 3, dtype=dtype), matrix(3, 2, dtype=dtype)
    return (A @ B).H @ (A @ B)


def definite(dtype):
    X = circulant(dtype)
    return X.H @ X + 0.5 * lx.IdentityLinearOperator(X.in_structure())


def own(fn):
    return lambda dtype: (lambda X: fn(X))(circulant(dtype))


CASES = {
    "XᴴX": lambda dtype: (lambda X: X.H @ X)(matrix(4, 3, dtype=dtype)),
    "XXᴴ": lambda dtype: (lambda X: X @ X.H)(matrix(2, 3, dtype=dtype)),
    "XᵀX": lambda dtype: (lambda X: X.T @ X)(matrix(4, 3, dtype=dtype)),
    "XXᵀ": lambda dtype: (lambda X: X @ X.T)(matrix(2, 3, dtype=dtype)),
    "a function's": lambda dtype: (lambda X: X.H @ X)(function(4, 3, dtype=dtype)),
    "X̄ᵀX": lambda dtype: (lambda X: lx.conj(X).T @ X)(matrix(4, 3, dtype=dtype)),
    "BᴴAᴴAB": deep,
    "X(YYᴴ)Xᴴ": congruence,
    "CᴴC": own(lambda X: X.H @ X),
    "2CᴴC": own(lambda X: 2 * (X.H @ X)),
    "CᴴC + I/2": definite,
    "C + Cᴴ": own(lambda X: X + X.H),
    "KᴴK": lambda dtype: (lambda X: X.H @ X)(kronecker(dtype)),
    "SᴴS": lambda dtype: (lambda X: X.H @ X)(stacked(dtype)),
    "S + Sᴴ": lambda dtype: (lambda X: X + X.H)(stacked(dtype)),
    "A + Aᴴ": lambda dtype: (lambda A: A + A.H)(matrix(3, 3, dtype=dtype)),
    "Aᵀ + A": lambda dtype: (lambda A: A.T + A)(matrix(3, 3, dtype=dtype)),
    "-(A + Aᴴ)": lambda dtype: (lambda A: -(A + A.H))(matrix(3, 3, dtype=dtype)),
    "Hermitian grid": lambda dtype: saddle(dtype, "H"),
    "symmetric grid": lambda dtype: saddle(dtype, "T"),
    "2 * grid": lambda dtype: 2 * saddle(dtype, "H"),
}


def is_true(operator):
    """What is claimed, asserted of the matrix."""
    a = np.asarray(operator.as_matrix())
    small = 1e-12 * np.max(abs(a))
    if lx.is_symmetric(operator):
        assert np.max(abs(a - a.T)) <= small
    if lx.is_hermitian(operator):
        assert np.max(abs(a - a.conj().T)) <= small
    if lx.is_positive_semidefinite(operator):
        least = np.min(np.linalg.eigvalsh((a + a.conj().T) / 2))
        assert least >= (small if lx.is_nonsingular(operator) else -small)


def descend(operator):
    """One gradient step, of a function whose gradient has no symmetry."""
    arrays, rest = eqx.partition(operator, eqx.is_inexact_array)
    weight = jnp.asarray(
        np.random.default_rng(0).normal(size=(operator.in_size(),) * 2)
    )

    def loss(arrays):
        matrix = eqx.combine(arrays, rest).as_matrix()
        return jnp.abs(jnp.sum(weight.astype(matrix.dtype) * matrix)) ** 2

    gradient = jax.grad(loss)(arrays)
    return eqx.combine(jtu.tree_map(lambda a, g: a - 0.1 * g, arrays, gradient), rest)


def disturb(operator):
    """Every leaf replaced by random numbers."""
    rng = np.random.default_rng(7)

    def other(leaf):
        noise = rng.normal(size=leaf.shape)
        noise = noise + 1j * rng.normal(size=leaf.shape)
        return jnp.asarray(noise if jnp.iscomplexobj(leaf) else noise.real, leaf.dtype)

    arrays, rest = eqx.partition(operator, eqx.is_inexact_array)
    return eqx.combine(jtu.tree_map(other, arrays), rest)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [float, complex])
def test_claims_outlive_their_arrays(name, dtype):
    operator = CASES[name](dtype)
    assert lx.is_symmetric(operator) or lx.is_hermitian(operator)
    is_true(operator)
    for changed in (descend(operator), disturb(operator)):
        assert lx.is_hermitian(changed) == lx.is_hermitian(operator)
        is_true(changed)
        is_true(changed.T)
        is_true(lx.conj(changed))
        is_true(lx.materialise(changed))
        is_true(2 * changed)


def test_held_once():
    X, D = matrix(4, 3), lx.DiagonalLinearOperator(normal(4))
    for product in (X.H @ X, X.T @ X, X @ X.T):
        (leaf,) = jtu.tree_leaves(product)
        assert leaf is X.matrix
    assert len(jtu.tree_leaves(X.T @ D @ X)) == 2
    A = matrix(3, 3)
    assert jtu.tree_leaves(A + A.H) == [A.matrix] == jtu.tree_leaves(A.T + A)
    grid = lx.BlockLinearOperator([[None, X.H], [X, None]])
    assert len(jtu.tree_leaves(grid)) == 1
    assert grid.blocks[0][0] is None and grid.blocks[1][0] is X
    np.testing.assert_array_equal(grid.blocks[0][1].as_matrix(), X.matrix.conj().T)


def test_by_identity_of_arrays():
    """Two objects with the very same arrays, tracers included, are one operator."""
    M = normal(4, 3)
    again = lx.MatrixLinearOperator(M).H @ lx.MatrixLinearOperator(M)
    assert lx.is_positive_semidefinite(again)
    X = lx.MatrixLinearOperator(M)
    through = jtu.tree_map(lambda leaf: leaf, X)
    assert through is not X and lx.is_positive_semidefinite(X.H @ through)
    assert lx.is_positive_semidefinite(through.H @ X)

    @jax.jit
    def inside(M):
        one, other = lx.MatrixLinearOperator(M), lx.MatrixLinearOperator(M)
        assert lx.is_positive_semidefinite(one.H @ other)
        assert not lx.is_positive_semidefinite(one.H @ lx.MatrixLinearOperator(M + 0))
        return M

    inside(M)
    numbers = [lx.MulLinearOperator(X, s) for s in (2, 2, 3, 2.0)]
    assert lx.is_hermitian(numbers[0].H @ numbers[1])
    assert not lx.is_hermitian(numbers[0].H @ numbers[2])
    assert not lx.is_hermitian(numbers[0].H @ numbers[3])


def test_tags_hide_nothing():
    X = matrix(4, 3)
    tagged = lx.TaggedLinearOperator(X, lx.nonsingular_tag)
    for gram in (X.H @ tagged, tagged.H @ X, tagged.H @ tagged, tagged @ X.H):
        assert lx.is_positive_semidefinite(gram)
    assert lx.is_nonsingular(X.H @ tagged)
    A = matrix(3, 3)
    assert lx.is_hermitian(A + lx.TaggedLinearOperator(A, lx.nonsingular_tag).H)


def test_memory_keeps_no_arrays():
    import weakref

    X = matrix(4, 3)
    star, held = X.H, weakref.ref(X.matrix)
    assert lx.is_hermitian(star @ X)
    del X
    assert held() is None
    assert star.out_size() == 3


def test_constructors_recognise_nothing():
    X, A = matrix(4, 3), matrix(3, 3)
    assert not lx.is_hermitian(lx.ComposedLinearOperator(X.H, X))
    assert not lx.is_hermitian(lx.AddLinearOperator(A, A.H))


def test_inverse_is_undone_inside_a_gram_operator():
    from lx_operators.internal import as_product

    X = matrix(3, 3)
    product = as_product(X.H @ X)
    assert product.operator2 is X
    np.testing.assert_allclose(product.as_matrix(), (X.H @ X).as_matrix())


class TestGramWithMiddle(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        k1, k2 = jax.random.split(key)
        X = lx.MatrixLinearOperator(jax.random.normal(k1, (4, 3), dtype))
        diagonal, *off = jax.random.normal(k2, (3, 3), dtype)
        D = lx.TridiagonalLinearOperator(diagonal, off[0][1:], off[1][1:])
        return X @ D @ X.H

    def matrix(self, operator):
        X, D = np.asarray(operator.operator.matrix), operator.middle.as_matrix()
        return X @ np.asarray(D) @ X.conj().T


class TestTransposedGram(OperatorLaws):
    dtypes = ("float64", "complex64")

    def make(self, dtype, key):
        X = lx.MatrixLinearOperator(jax.random.normal(key, (4, 3), dtype))
        return X.T @ X

    def matrix(self, operator):
        X = np.asarray(operator.operator.matrix)
        return X.T @ X


class TestBandedGram(OperatorLaws):
    dtypes = ("complex128",)

    def make(self, dtype, key):
        X = lx.BandedLinearOperator(jax.random.normal(key, (3, 5), dtype), 2, 0)
        return X.H @ X


class TestRectangularBandedGram(OperatorLaws):
    dtypes = ("float64",)

    def make(self, dtype, key):
        bands = jax.random.normal(key, (3, 4), dtype)
        X = lx.BandedLinearOperator(bands, 1, 1, rows=6)
        gram = X.T @ X
        assert (
            bandwidths(gram) == bandwidths(lx.ComposedLinearOperator(X.T, X)) == (2, 2)
        )
        for product in (gram, X @ X.T, lx.ComposedLinearOperator(X.T, X)):
            (_, upper), dense = bandwidths(product), np.asarray(product.as_matrix())
            rows = np.asarray(bands_of(product))
            for (i, j), element in np.ndenumerate(dense):
                r = upper + i - j
                inside = 0 <= r < len(rows)
                np.testing.assert_allclose(
                    rows[r, j] if inside else 0, element, rtol=8 * jnp.finfo(dtype).eps
                )
        return gram

    def matrix(self, operator):
        X = np.asarray(operator.operator.as_matrix())
        return X.T @ X


class TestOfFunction(OperatorLaws):
    """XᴴX and A + Aᵀ of a function with pytrees."""

    dtypes = ("complex128",)

    def make(self, dtype, key):
        a = jax.random.normal(key, (3, 3), dtype)
        structure = {"u": jax.ShapeDtypeStruct((2,), dtype)}
        structure["v"] = jax.ShapeDtypeStruct((), dtype)

        def fn(x):
            y = a @ jnp.append(x["u"], x["v"])
            return {"u": y[:2], "v": y[2]}

        A = lx.FunctionLinearOperator(fn, structure)
        return A.T + A + A.H @ A


class TestCirculantMirror(OperatorLaws):
    dtypes = ("complex128",)

    def make(self, dtype, key):
        C = lx.CirculantLinearOperator(jax.random.normal(key, (4,), dtype))
        return C.H + C


class TestHermitianGrid(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        k1, k2 = jax.random.split(key)
        A = lx.MatrixLinearOperator(jax.random.normal(k1, (2, 2), dtype))
        B = lx.MatrixLinearOperator(jax.random.normal(k2, (3, 2), dtype))
        return lx.BlockLinearOperator([[A @ A.H, B.H], [B, None]])
