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


class Shifting(lxs.AbstractLinearSolver):
    """A third party's: its options hold Python numbers, and one is an axis."""

    inner: lxs.AbstractLinearSolver = lxs.LU()

    def init(self, operator, options):
        assert type(options["shift"]) is int
        return self.inner.init(operator, {})

    def compute(self, state, vector, options):
        shift, (order, ones) = options["shift"], options["order"]
        assert (type(shift), type(order)) == (int, float)
        vector = (
            jnp.roll(vector, shift) * ones.astype(vector.dtype) if order < 1 else vector
        )
        return self.inner.compute(state, vector, {})

    def transpose(self, state, options):
        return self.inner.transpose(state, {})[0], options

    def conj(self, state, options):
        return self.inner.conj(state, {})[0], options

    def assume_full_rank(self):
        return True


@pytest.mark.parametrize("solver", [lxs.LU(), lxs.QR(), lxs.SVD()], ids=repr)
def test_is_the_inverse(solver):
    inverse = lxa.invert(lxo.MatrixLinearOperator(A), solver)
    truth = np.linalg.inv(A)
    assert isinstance(inverse, lxo.FunctionLinearOperator)
    np.testing.assert_allclose(inverse.as_matrix(), truth, rtol=1e-11)
    np.testing.assert_allclose(inverse.T.mv(B), truth.T @ B, rtol=1e-11)
    np.testing.assert_allclose(jax.jit(lambda op, b: op.mv(b))(inverse, B), truth @ B)


@pytest.mark.parametrize(
    "solver, options",
    [
        (lxs.QR(damp=0.5), {}),
        (lxs.SVD(rcond=1e-6), {}),
        (lxs.Normal(lxs.CG(rtol=1e-10, atol=1e-12)), {}),
        (Shifting(), {"shift": 2, "order": [0.5, np.ones(3)]}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_python_numbers_of_a_solver_stay_numbers(solver, options):
    """An inverse is an argument of `jit`, turned within it, and comes out again."""
    inverse = lxa.invert(
        lxo.MatrixLinearOperator(A.astype(complex)), solver, options=options
    )
    turned, value = jax.jit(lambda op, b: (op.H, op.mv(b)))(inverse, B.astype(complex))
    np.testing.assert_allclose(value, inverse.mv(B.astype(complex)), rtol=1e-12)
    np.testing.assert_allclose(
        turned.mv(B.astype(complex)), inverse.H.mv(B.astype(complex)), rtol=1e-12
    )


def test_the_sign_of_a_scaling_crosses_jit():
    """Without it, `-2 A` would not be known to be definite there."""
    operator = -2.0 * lxo.MatrixLinearOperator(A @ A.T, lxo.positive_semidefinite_tag)
    inverse = lxa.invert(operator, lxs.Cholesky())
    value = jax.jit(lambda op, b: op.mv(b))(inverse, B)
    np.testing.assert_allclose(value, np.linalg.solve(-2 * A @ A.T, B), rtol=1e-10)


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


def test_turning_an_inverse_turns_its_factors():
    """The transpose and the conjugate of an inverse are inverses, without a new
    factorisation."""
    matrix = A.astype(complex) + 1j * jnp.eye(3, dtype=complex)
    inverse = lxa.invert(lxo.MatrixLinearOperator(matrix), lxs.LU())
    truth = np.linalg.inv(matrix)
    b = B.astype(complex)
    for turned, dense in (
        (inverse.T, truth.T),
        (lxo.conj(inverse), truth.conj()),
        (inverse.H, truth.conj().T),
    ):
        assert isinstance(turned, lxa.InverseLinearOperator)
        np.testing.assert_allclose(turned.mv(b), dense @ b, rtol=1e-11)
    lowered = jax.jit(lambda op, b: op.H.mv(b)).lower(inverse, b)
    assert "getrf" not in lowered.as_text()


def test_it_and_its_operator_are_the_identity_where_that_is_a_theorem():
    full = lxo.MatrixLinearOperator(A, lxo.nonsingular_tag)
    inverse = lxa.invert(full)
    other = lxo.MatrixLinearOperator(2 * A)
    for product in (
        full @ inverse,
        inverse @ full,
        full.T @ inverse.T,
        inverse.H @ full.H,
    ):
        assert isinstance(product, lxo.IdentityLinearOperator)
        np.testing.assert_array_equal(product.as_matrix(), np.eye(3))
    assert (other @ full) @ inverse is other
    assert inverse @ (full @ other) is other
    assert lxa.invert(inverse) is full
    half = full / 2
    assert isinstance(half @ lxa.invert(half), lxo.IdentityLinearOperator)

    unsure = lxo.MatrixLinearOperator(A)  # nothing promises that it has an inverse
    tall = lxo.MatrixLinearOperator(A[:, :2], lxo.nonsingular_tag)
    for operator, inverse in (
        (unsure, lxa.invert(unsure)),
        (tall, lxa.invert(tall, lxs.QR())),
        (full, lxa.invert(other)),
    ):
        assert isinstance(operator @ inverse, lxo.ComposedLinearOperator)
        assert isinstance(inverse @ operator, lxo.ComposedLinearOperator)
    assert lxa.invert(lxa.invert(unsure)) is not unsure
