"""`invert`: the pseudoinverse as an operator."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

A = jnp.asarray(np.random.default_rng(4).standard_normal((3, 3)) + 3 * np.eye(3))
B = jnp.array([1.0, -2.0, 0.5])


@pytest.mark.parametrize("solver", [lx.LU(), lx.QR(), lx.SVD()], ids=repr)
def test_is_the_inverse(solver):
    inverse = lx.invert(lx.MatrixLinearOperator(A), solver)
    truth = np.linalg.inv(A)
    assert isinstance(inverse, lx.FunctionLinearOperator)
    np.testing.assert_allclose(inverse.as_matrix(), truth, rtol=1e-11)
    np.testing.assert_allclose(inverse.T.mv(B), truth.T @ B, rtol=1e-11)
    np.testing.assert_allclose(jax.jit(lambda op, b: op.mv(b))(inverse, B), truth @ B)


@pytest.mark.parametrize("shape", [(4, 2), (2, 4)])
def test_pseudoinverse(shape):
    matrix = np.random.default_rng(5).standard_normal(shape)
    inverse = lx.invert(lx.MatrixLinearOperator(jnp.asarray(matrix)), lx.QR())
    np.testing.assert_allclose(inverse.as_matrix(), np.linalg.pinv(matrix), rtol=1e-11)


def test_derivative():
    def ours(a):
        return lx.invert(lx.MatrixLinearOperator(a), lx.QR()).mv(B)

    truth = jax.hessian(lambda a: jnp.linalg.solve(a, B))(A)
    np.testing.assert_allclose(jax.hessian(ours)(A), truth, rtol=1e-9, atol=1e-11)


def test_one_factorisation_for_many_products():
    def two(a):
        inverse = lx.invert(lx.MatrixLinearOperator(a), lx.LU(), throw=False)
        return inverse.mv(inverse.mv(B))

    assert jax.jit(two).lower(A).as_text().count("getrf") == 1


@pytest.mark.parametrize(
    "tags, kept",
    [
        (lx.symmetric_tag, {lx.is_symmetric}),
        (lx.positive_semidefinite_tag, {lx.is_positive_semidefinite, lx.is_symmetric}),
        (lx.tridiagonal_tag, set()),
        (lx.unit_diagonal_tag, set()),
        (
            (lx.lower_triangular_tag, lx.unit_diagonal_tag),
            {lx.is_lower_triangular, lx.has_unit_diagonal},
        ),
        (lx.nonsingular_tag, {lx.is_nonsingular}),
    ],
)
def test_tags(tags, kept):
    asked = (
        lx.is_symmetric,
        lx.is_positive_semidefinite,
        lx.is_tridiagonal,
        lx.is_lower_triangular,
        lx.has_unit_diagonal,
    )
    inverse = lx.invert(lx.MatrixLinearOperator(jnp.eye(3), tags), lx.LU())
    assert {question for question in asked if question(inverse)} == kept - {
        lx.is_nonsingular
    }
    assert all(question(inverse) for question in kept)
