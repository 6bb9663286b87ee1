"""`invert`: the pseudoinverse as an operator."""

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

A = jnp.asarray(np.random.default_rng(4).standard_normal((3, 3)) + 3 * np.eye(3))
B = jnp.array([1.0, -2.0, 0.5])


@pytest.mark.parametrize("solver", [lxs.LU(), lxs.QR(), lxs.SVD()], ids=repr)
def test_is_the_inverse(solver):
    inverse = lxa.invert(lxo.MatrixLinearOperator(A), solver)
    truth = np.linalg.inv(A)
    assert isinstance(inverse, lxo.FunctionLinearOperator)
    np.testing.assert_allclose(inverse.as_matrix(), truth, rtol=1e-11)
    np.testing.assert_allclose(inverse.T.mv(B), truth.T @ B, rtol=1e-11)
    np.testing.assert_allclose(jax.jit(lambda op, b: op.mv(b))(inverse, B), truth @ B)


@pytest.mark.parametrize("shape", [(4, 2), (2, 4)])
def test_pseudoinverse(shape):
    matrix = np.random.default_rng(5).standard_normal(shape)
    inverse = lxa.invert(lxo.MatrixLinearOperator(jnp.asarray(matrix)), lxs.QR())
    np.testing.assert_allclose(inverse.as_matrix(), np.linalg.pinv(matrix), rtol=1e-11)


@pytest.mark.parametrize("m, n", [(3, 3), (2, 3), (3, 2)])
def test_identity(m, n):
    structures = (jax.ShapeDtypeStruct((k,), float) for k in (n, m))
    inverse = lxa.invert(lxo.IdentityLinearOperator(*structures))
    np.testing.assert_allclose(inverse.as_matrix(), np.eye(n, m))


def test_derivative():
    def ours(a):
        return lxa.invert(lxo.MatrixLinearOperator(a), lxs.QR()).mv(B)

    truth = jax.hessian(lambda a: jnp.linalg.solve(a, B))(A)
    np.testing.assert_allclose(jax.hessian(ours)(A), truth, rtol=1e-9, atol=1e-11)


def test_one_factorisation_for_many_products():
    def two(a):
        inverse = lxa.invert(lxo.MatrixLinearOperator(a), lxs.LU(), throw=False)
        return inverse.mv(inverse.mv(B))

    assert jax.jit(two).lower(A).as_text().count("getrf") == 1


@pytest.mark.parametrize(
    "tags, kept",
    [
        (lxo.symmetric_tag, {lxo.is_symmetric}),
        (
            lxo.positive_semidefinite_tag,
            {lxo.is_positive_semidefinite, lxo.is_symmetric},
        ),
        (lxo.tridiagonal_tag, set()),
        (lxo.unit_diagonal_tag, set()),
        (
            (lxo.lower_triangular_tag, lxo.unit_diagonal_tag),
            {lxo.is_lower_triangular, lxo.has_unit_diagonal},
        ),
        (lxo.nonsingular_tag, {lxo.is_nonsingular}),
    ],
)
def test_tags(tags, kept):
    asked = (
        lxo.is_symmetric,
        lxo.is_positive_semidefinite,
        lxo.is_tridiagonal,
        lxo.is_lower_triangular,
        lxo.has_unit_diagonal,
    )
    inverse = lxa.invert(lxo.MatrixLinearOperator(jnp.eye(3), tags), lxs.LU())
    assert {question for question in asked if question(inverse)} == kept - {
        lxo.is_nonsingular
    }
    assert all(question(inverse) for question in kept)
