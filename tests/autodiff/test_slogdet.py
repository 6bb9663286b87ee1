"""`slogdet` and `logdet`: from the factors of a solve, against NumPy and closed forms."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

RNG = np.random.default_rng(6)


def matrix(dtype):
    a = RNG.standard_normal((4, 4)) + 2 * np.eye(4)
    if dtype == "complex128":
        a = a + 1j * RNG.standard_normal((4, 4))
    return jnp.asarray(a)


BUILD = {
    lx.LU(): lx.MatrixLinearOperator,
    lx.QR(): lx.MatrixLinearOperator,
    lx.Cholesky(): lambda a: lx.MatrixLinearOperator(
        a @ a.conj().T, lx.positive_semidefinite_tag
    ),
    lx.Eigh(): lambda a: lx.MatrixLinearOperator(a + a.conj().T, lx.hermitian_tag),
    lx.Triangular(): lambda a: lx.MatrixLinearOperator(
        jnp.tril(a), lx.lower_triangular_tag
    ),
    lx.Diagonal(): lambda a: lx.DiagonalLinearOperator(jnp.diag(a)),
    lx.Tridiagonal(): lambda a: lx.TridiagonalLinearOperator(
        jnp.diag(a), jnp.diag(a, -1), jnp.diag(a, 1)
    ),
    lx.AutoLinearSolver(well_posed=True): lx.MatrixLinearOperator,
}


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("solver", BUILD, ids=repr)
def test_value_and_derivatives(solver, dtype):
    a = matrix(dtype)
    build = BUILD[solver]

    def ours(a):
        return tuple(lx.slogdet(build(a), solver))

    def truth(a):
        return tuple(jnp.linalg.slogdet(build(a).as_matrix()))

    tangent = jnp.asarray(RNG.standard_normal((4, 4)), a.dtype)

    def orders(fn):
        def first(a):
            return jax.jvp(fn, (a,), (tangent,))[1]

        return fn(a), first(a), jax.jvp(first, (a,), (tangent,))[1]

    for x, y in zip(
        jax.tree.leaves(jax.jit(lambda: orders(ours))()),
        jax.tree.leaves(jax.jit(lambda: orders(truth))()),
        strict=True,
    ):
        np.testing.assert_allclose(x, y, rtol=1e-8, atol=1e-10)
    gradient = jax.grad(lambda a: jnp.real(ours(a)[1]))(a)
    np.testing.assert_allclose(
        gradient, jax.grad(lambda a: jnp.real(truth(a)[1]))(a), rtol=1e-8, atol=1e-10
    )


def test_shares_the_state_of_a_solve():
    def both(a):
        operator = lx.MatrixLinearOperator(a)
        solution = lx.linear_solve(operator, jnp.ones(4), lx.LU(), throw=False)
        _, log = lx.slogdet(operator, lx.LU(), state=solution.state)
        return jnp.sum(solution.value) + log

    text = jax.jit(jax.value_and_grad(both)).lower(matrix("float64")).as_text()
    assert text.count("getrf") == 1


def test_logdet():
    a = matrix("float64")
    psd = lx.MatrixLinearOperator(a @ a.T, lx.positive_semidefinite_tag)
    _, truth = np.linalg.slogdet(a @ a.T)
    np.testing.assert_allclose(lx.logdet(psd, lx.Cholesky()), truth, rtol=1e-12)
    negative = lx.DiagonalLinearOperator(jnp.array([-1.0, 2.0]))
    assert jnp.isnan(lx.logdet(negative, lx.Diagonal()))
    turned = lx.DiagonalLinearOperator(jnp.array([1j, 2.0 + 0j]))
    np.testing.assert_allclose(lx.logdet(turned), np.log(2) + 0.5j * np.pi)


def test_singular():
    sign, log = lx.slogdet(lx.DiagonalLinearOperator(jnp.array([0.0, 1.0])))
    assert sign == 0 and log == -jnp.inf


def test_not_square():
    with pytest.raises(ValueError, match="3 by 2"):
        lx.slogdet(lx.MatrixLinearOperator(jnp.ones((3, 2))), lx.QR())


def test_a_solver_without_determinant():
    psd = lx.MatrixLinearOperator(jnp.eye(2), lx.positive_semidefinite_tag)
    with pytest.raises(ValueError, match="LU"):
        lx.slogdet(psd, lx.CG(1e-6, 1e-6))
