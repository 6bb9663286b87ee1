"""`slogdet` and `logdet` from the factors of a solve, against NumPy, closed forms."""

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

RNG = np.random.default_rng(6)


def matrix(dtype):
    a = RNG.standard_normal((4, 4)) + 2 * np.eye(4)
    if dtype == "complex128":
        a = a + 1j * RNG.standard_normal((4, 4))
    return jnp.asarray(a)


BUILD = {
    lxs.LU(): lxo.MatrixLinearOperator,
    lxs.QR(): lxo.MatrixLinearOperator,
    lxs.Cholesky(): lambda a: lxo.MatrixLinearOperator(
        a @ a.conj().T, lxo.positive_semidefinite_tag
    ),
    lxs.Eigh(): lambda a: lxo.MatrixLinearOperator(a + a.conj().T, lxo.hermitian_tag),
    lxs.Triangular(): lambda a: lxo.MatrixLinearOperator(
        jnp.tril(a), lxo.lower_triangular_tag
    ),
    lxs.Diagonal(): lambda a: lxo.DiagonalLinearOperator(jnp.diag(a)),
    lxs.Tridiagonal(): lambda a: lxo.TridiagonalLinearOperator(
        jnp.diag(a), jnp.diag(a, -1), jnp.diag(a, 1)
    ),
    lxs.AutoLinearSolver(well_posed=True): lxo.MatrixLinearOperator,
}


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("solver", BUILD, ids=repr)
def test_value_and_derivatives(solver, dtype):
    a = matrix(dtype)
    build = BUILD[solver]

    def ours(a):
        return tuple(lxa.slogdet(build(a), solver))

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
        operator = lxo.MatrixLinearOperator(a)
        solution = lxa.linear_solve(operator, jnp.ones(4), lxs.LU(), throw=False)
        _, log = lxa.slogdet(operator, lxs.LU(), state=solution.state)
        return jnp.sum(solution.value) + log

    text = jax.jit(jax.value_and_grad(both)).lower(matrix("float64")).as_text()
    assert text.count("getrf") == 1


def test_shares_the_state_of_an_identity():
    operator = lxo.IdentityLinearOperator(jax.ShapeDtypeStruct((3,), "complex64"))
    state = lxa.linear_solve(operator, jnp.ones(3, "complex64")).state
    sign, log = lxa.slogdet(operator, state=state)
    assert sign == 1 and log == 0
    assert (sign.dtype, log.dtype) == ("complex64", "float32")


def test_unit_diagonal_does_not_move():
    """The factors take the diagonal to be one, whatever is stored there."""
    tags = lxo.lower_triangular_tag, lxo.unit_diagonal_tag

    def log(a):
        return lxa.slogdet(lxo.MatrixLinearOperator(a, tags), lxs.Triangular())[1]

    a = matrix("float64")
    assert log(a) == 0
    assert not jnp.any(jax.grad(log)(a))


def test_logdet():
    a = matrix("float64")
    psd = lxo.MatrixLinearOperator(a @ a.T, lxo.positive_semidefinite_tag)
    _, truth = np.linalg.slogdet(a @ a.T)
    np.testing.assert_allclose(lxa.logdet(psd, lxs.Cholesky()), truth, rtol=1e-12)
    negative = lxo.DiagonalLinearOperator(jnp.array([-1.0, 2.0]))
    assert jnp.isnan(lxa.logdet(negative, lxs.Diagonal()))

    def of_diagonal(d):
        return lxa.logdet(lxo.DiagonalLinearOperator(d), lxs.Diagonal())

    assert jnp.all(jnp.isnan(jax.grad(of_diagonal)(jnp.array([-1.0, 2.0]))))
    turned = lxo.DiagonalLinearOperator(jnp.array([1j, 2.0 + 0j]))
    np.testing.assert_allclose(lxa.logdet(turned), np.log(2) + 0.5j * np.pi)


def test_singular():
    sign, log = lxa.slogdet(lxo.DiagonalLinearOperator(jnp.array([0.0, 1.0])))
    assert sign == 0 and log == -jnp.inf


def test_not_square():
    with pytest.raises(ValueError, match="3 by 2"):
        lxa.slogdet(lxo.MatrixLinearOperator(jnp.ones((3, 2))), lxs.QR())


def test_a_solver_without_determinant():
    psd = lxo.MatrixLinearOperator(jnp.eye(2), lxo.positive_semidefinite_tag)
    with pytest.raises(ValueError, match="LU"):
        lxa.slogdet(psd, lxs.CG(1e-6, 1e-6))


def test_a_dense_derivative_is_not_formed_unasked():
    """By a Schur complement the determinant takes memory for what is stored, and its
    derivative a matrix."""

    def bordered(d):
        column = lxo.MatrixLinearOperator(jnp.ones((d.size, 1)))
        corner = lxo.MatrixLinearOperator(jnp.ones((1, 1)))
        blocks = [[lxo.DiagonalLinearOperator(d), column], [column.T, corner]]
        solver = lxs.BlockElimination(lxs.AutoLinearSolver(well_posed=True))
        return lxa.slogdet(lxo.BlockLinearOperator(blocks), solver).logabsdet

    d = jnp.array([2.0, 3.0, 4.0])  # log|(Π dᵢ) (1 - Σ 1/dᵢ)|
    np.testing.assert_allclose(bordered(d), np.log(2), rtol=1e-12)
    expected = 1 / d - 12 / d**2
    np.testing.assert_allclose(jax.grad(bordered)(d), expected, rtol=1e-12)
    d = 2 * jnp.ones(40_000)
    np.testing.assert_allclose(
        bordered(d), 40_000 * np.log(2) + np.log(20_000 - 1), rtol=1e-12
    )
    with pytest.raises(ValueError, match="derivative of `slogdet`.*11.9 GiB"):
        jax.grad(bordered)(d)


def test_nothing_large_is_formed_unasked():
    """The derivative of a tridiagonal determinant takes memory for bands; bounds of the
    error of each element would take a matrix."""
    n = 40_000
    structure = jax.ShapeDtypeStruct((n,), jnp.float64)

    def bands(d):
        off = -jnp.ones(n - 1)
        operator = lxo.TridiagonalLinearOperator(d, off, off)
        return lxa.slogdet(operator, lxs.Tridiagonal()).logabsdet

    d = 4 * jnp.ones(n)
    middle = jax.grad(bands)(d)[n // 2]  # (2π)⁻¹ ∫ 1/(4 - 2 cos t) dt
    np.testing.assert_allclose(middle, 12**-0.5, rtol=1e-12)

    operator = lxo.FunctionLinearOperator(lambda x: 2 * x, structure)
    solution = lxs.Solution(d, lxs.RESULTS.successful, {}, None)
    with pytest.raises(ValueError, match="error_bounds.*11.9 GiB.*matrix=False"):
        lxa.error_bounds(operator, d, solution, lxs.CG(1e-6, 1e-6))
