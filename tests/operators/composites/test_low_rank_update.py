"""Low-rank updates."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest
from lx_operators.testing import OperatorLaws


class TestRectangular(OperatorLaws):
    dtypes = ("float32", "complex128")

    def make(self, dtype, key):
        def normal(*shape):
            return jax.random.normal(key, shape, dtype)

        a = lx.MatrixLinearOperator(normal(4, 3))
        return lx.LowRankUpdateLinearOperator(
            a, normal(4, 2), normal(2, 1), normal(3, 1)
        )

    def matrix(self, operator):
        A, U, C, V = (
            np.asarray(getattr(operator, name).as_matrix())
            for name in ("operator", "U", "C", "V")
        )
        return A + U @ C @ V.conj().T


class TestDefinite(OperatorLaws):
    """Between pytrees, with an operator for U."""

    dtypes = ("complex64",)

    def make(self, dtype, key):
        structure = {"a": jnp.zeros(2, dtype), "b": jnp.zeros(1, dtype)}
        a = lx.IdentityLinearOperator(structure)
        flat = lx.IdentityLinearOperator(jax.ShapeDtypeStruct((3,), dtype), structure)
        U = flat @ lx.MatrixLinearOperator(jax.random.normal(key, (3, 2), dtype))
        C = lx.DiagonalLinearOperator(jnp.array([1.0, 2.0], dtype))
        C = lx.TaggedLinearOperator(C, lx.positive_semidefinite_tag)
        return lx.LowRankUpdateLinearOperator(a, U, C)


def test_what_is_known():
    """A + U C Uᴴ has the tags that A and C have in common."""
    psd = lx.MatrixLinearOperator(jnp.eye(2), lx.positive_semidefinite_tag)
    definite = lx.TaggedLinearOperator(psd, lx.nonsingular_tag)
    update = lx.LowRankUpdateLinearOperator
    U = jnp.ones((2, 2))
    for of, positive, full in (
        (update(psd, U), True, False),
        (update(definite, U, psd), True, True),
        (update(psd, U, definite), True, False),
        (update(definite, U, -psd), False, False),
        (update(definite, U, None, U), False, False),
    ):
        assert lx.is_positive_semidefinite(of) is positive
        assert lx.is_nonsingular(of) is full
    assert lx.is_hermitian(update(definite, U, -psd))
    assert lx.is_negative_semidefinite(update(-psd, U, -definite))


def test_no_dense_matrix():
    n = 200_000
    a = lx.DiagonalLinearOperator(jnp.ones(n))

    def total(U):
        operator = lx.LowRankUpdateLinearOperator(a, U)
        bands = lx.tridiagonal(operator)
        return operator.mv(jnp.ones(n)).sum() + sum(band.sum() for band in bands)

    U = jnp.ones((n, 1))
    assert total(U) == n + n * n + (n + n) + 2 * (n - 1)
    gradient = jax.grad(total)(U)
    np.testing.assert_allclose(gradient[1:-1, 0], 2 * n + 2 + 4)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ((jnp.ones((2, 1)),), "output structures of U and A"),
        ((jnp.ones((3, 1)), None, jnp.ones((2, 1))), "output structures of V"),
        ((jnp.ones((3, 1)), jnp.ones((1, 2))), "input structures of C and V"),
        ((jnp.ones((3, 2)), jnp.ones((1, 2))), "between U and C"),
        ((jnp.ones(3),), "`U` must be an operator or a two-dim"),
        ((jnp.ones((3, 1)), jnp.ones(1)), "`C` must be an operator or a two-dim"),
    ],
)
def test_bad_shapes(arguments, match):
    a = lx.DiagonalLinearOperator(jnp.ones(3))
    with pytest.raises(ValueError, match=match):
        lx.LowRankUpdateLinearOperator(a, *arguments)
