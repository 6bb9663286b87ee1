"""A banded operator, and bands through the algebra."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.internal import bands, bandwidths
from lx_operators.testing import OperatorLaws


def dense(diagonals, lower, upper):
    """The matrix, by the definition of the storage."""
    diagonals = np.asarray(diagonals)
    n = diagonals.shape[1]
    matrix = np.zeros((n, n), diagonals.dtype)
    for i in range(n):
        for j in range(n):
            if -lower <= j - i <= upper:
                matrix[i, j] = diagonals[upper + i - j, j]
    return matrix


def draw(key, dtype, n, lower, upper):
    return jax.random.normal(key, (lower + upper + 1, n), dtype)


class TestWide(OperatorLaws):
    dtypes = ("float32", "complex128")
    widths = 2, 1

    def make(self, dtype, key):
        lower, upper = self.widths
        diagonals = draw(key, dtype, 5, lower, upper).at[0, 0].set(jnp.nan)
        return lx.BandedLinearOperator(diagonals, lower, upper)

    def matrix(self, operator):
        return dense(operator.bands, operator.lower, operator.upper)


class TestHermitian(OperatorLaws):
    dtypes = ("complex64",)

    def make(self, dtype, key):
        a = lx.BandedLinearOperator(draw(key, dtype, 5, 2, 2), 2, 2)
        return lx.BandedLinearOperator(bands(a + a.H), 2, 2, lx.hermitian_tag)


class TestWiderThanTheMatrix(TestWide):
    """Also what has no row r at all."""

    dtypes = ("float64",)

    def make(self, dtype, key):
        return lx.BandedLinearOperator(draw(key, dtype, 2, 3, 4), 3, 4)


def test_what_the_widths_say():
    def tags(lower, upper):
        operator = lx.BandedLinearOperator(
            jnp.ones((lower + upper + 1, 5)), lower, upper
        )
        questions = (
            lx.is_diagonal,
            lx.is_tridiagonal,
            lx.is_lower_triangular,
            lx.is_upper_triangular,
        )
        return [question(operator) for question in questions]

    assert tags(0, 0) == [True, True, True, True]
    assert tags(1, 1) == [False, True, False, False]
    assert tags(2, 0) == [False, False, True, False]
    assert tags(0, 1) == [False, True, False, True]
    assert tags(1, 2) == [False, False, False, False]


@pytest.fixture(scope="module")
def parts():
    k1, k2, k3 = jax.random.split(jax.random.key(1), 3)
    return {
        "A": lx.BandedLinearOperator(draw(k1, "float64", 6, 2, 1), 2, 1),
        "B": lx.BandedLinearOperator(draw(k2, "complex128", 6, 0, 2), 0, 2),
        "T": lx.TridiagonalLinearOperator(jnp.arange(1.0, 7), *jnp.ones((2, 5))),
        "D": lx.DiagonalLinearOperator(draw(k3, "float64", 6, 0, 0)[0]),
    }


# fmt: off
ALGEBRA = {
    "A + B": (lambda A, B, T, D: A + B, (2, 2)),
    "B + D": (lambda A, B, T, D: B + D, (0, 2)),
    "T - A": (lambda A, B, T, D: T - A, (2, 1)),
    "A @ B": (lambda A, B, T, D: A @ B, (2, 3)),
    "D @ A": (lambda A, B, T, D: D @ A, (2, 1)),
    "A @ D": (lambda A, B, T, D: A @ D, (2, 1)),
    "A @ A.T @ T": (lambda A, B, T, D: A @ A.T @ T, (4, 4)),
    "A @ A @ A": (lambda A, B, T, D: A @ A @ A, (5, 3)),
    "2j * A / 3": (lambda A, B, T, D: 2j * A / 3, (2, 1)),
    "-B.T": (lambda A, B, T, D: -B.T, (2, 0)),
    "tagged lower": (
        lambda A, B, T, D: lx.TaggedLinearOperator(A, lx.lower_triangular_tag), (2, 0)
    ),
    "tagged tridiagonal": (
        lambda A, B, T, D: lx.TaggedLinearOperator(A, lx.tridiagonal_tag), (1, 1)
    ),
}
# fmt: on


@pytest.mark.standard_promotion
@pytest.mark.parametrize("name", ALGEBRA)
def test_algebra(parts, name):
    """Sums, products and scalings know their widths, and have the right diagonals."""
    build, widths = ALGEBRA[name]
    operator = build(**parts)
    assert bandwidths(operator) == widths
    wanted = np.asarray(operator.as_matrix())
    lower, upper = widths
    if name.startswith("tagged"):  # what the tag denies is not looked at
        wanted = np.triu(np.tril(wanted, upper), -lower)
    np.testing.assert_allclose(dense(bands(operator), lower, upper), wanted, atol=1e-13)
    np.testing.assert_allclose(lx.diagonal(operator), np.diag(wanted), atol=1e-13)


def test_unknown_widths():
    full = lx.MatrixLinearOperator(jnp.eye(3))
    narrow = lx.BandedLinearOperator(jnp.ones((1, 3)), 0, 0)
    for operator in (full, full + narrow, narrow @ full, -full):
        assert bandwidths(operator) is None


def test_nothing_of_the_matrix_is_formed():
    """10⁵ unknowns: a matrix would take 80 GB."""
    n = 100_000
    a = lx.BandedLinearOperator(jnp.ones((4, n)), 2, 1)
    product = a.T @ (2 * a)
    x = jax.jit(lambda op: op.mv(jnp.ones(n)))(product)
    np.testing.assert_array_equal(x[5:-5], 32)
    np.testing.assert_array_equal(lx.diagonal(product)[5:-5], 8)


@pytest.mark.parametrize(
    "shape, lower, upper, match",
    [
        ((3, 4), 1, 2, r"\[4, n\], but got \(3, 4\)"),
        ((3,), 1, 1, "`bands` must have shape"),
        ((3, 4), -1, 3, "`lower` must be a number of diagonals.*got -1"),
        ((3, 4), 1, 1.0, "`upper` must be a number of diagonals.*got 1.0"),
    ],
)
def test_bad_input(shape, lower, upper, match):
    with pytest.raises(ValueError, match=match):
        lx.BandedLinearOperator(jnp.ones(shape), lower, upper)
