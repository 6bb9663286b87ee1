"""Families (A + σᵢ I) xᵢ = b."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest

PSD = lxo.positive_semidefinite_tag
N = 24


def matrix(rng, values, dtype=np.float64):
    G = rng.normal(size=(len(values),) * 2)
    if np.issubdtype(dtype, np.complexfloating):
        G = G + 1j * rng.normal(size=G.shape)
    W = np.linalg.qr(G)[0]
    A = (W * values) @ W.conj().T
    return ((A + A.conj().T) / 2).astype(dtype)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def residuals(A, X, b, shifts):
    X, I = np.asarray(X), np.eye(len(b))
    return [np.abs(b - (A + σ * I) @ x).max() for σ, x in zip(shifts, X, strict=True)]


@eqx.filter_jit
def family(A, b, shifts, solver, tags=()):
    operator = lxo.MatrixLinearOperator(A, tags)
    return lxa.shifted_solve(operator, b, shifts, solver, throw=False)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_conjugate_gradients(rng, dtype):
    """One product a step, and one for each shift: as many as the slowest takes."""
    A, shifts = matrix(rng, np.geomspace(0.05, 10, N), dtype), [0.0, 0.5, 2.0, 50.0]
    b, tol = rng.normal(size=N).astype(dtype), 1e-4 if dtype == "float32" else 1e-9
    real = np.finfo(dtype).dtype
    solver = lxs.CG(tol, 0.0)
    end = family(jnp.asarray(A), jnp.asarray(b), jnp.asarray(shifts, real), solver, PSD)
    assert (end.result == lxs.RESULTS.successful).all()
    assert max(residuals(A, end.value, b, shifts)) <= tol * np.abs(b).max()
    assert end.value.dtype == dtype
    assert (np.asarray(end.stats["num_steps"]) == 0).all()
    operator = lxo.MatrixLinearOperator(jnp.asarray(A), PSD)
    alone = lxa.linear_solve(operator, jnp.asarray(b), solver).stats["num_steps"]
    assert int(end.stats["shared_steps"]) <= 1.2 * int(alone) + 2


def test_general_with_complex_shifts(rng):
    """A real operator, a real vector and complex shifts."""
    A, b = rng.normal(size=(N, N)) + 6 * np.eye(N), rng.normal(size=N)
    shifts = np.array([0.0, 2.0 - 1.0j, 4.0j, -14.0])
    solver = lxs.GMRES(1e-9, 0.0, restart=N)
    end = family(jnp.asarray(A), jnp.asarray(b), jnp.asarray(shifts), solver)
    assert (end.result == lxs.RESULTS.successful).all()
    assert max(residuals(A, end.value, b, shifts)) <= 1e-9 * np.abs(b).max()
    assert end.stats["shared_steps"] <= N + 1


@pytest.mark.standard_promotion
def test_restarted(rng):
    """A real family with restarts and a complex vector; and one whose first member is
    singular, which is no success."""
    A = matrix(rng, np.linspace(1, 5, N))
    b = rng.normal(size=N) + 1j * rng.normal(size=N)
    shifts = jnp.array([-1.0, 0.0])
    end = family(jnp.asarray(A), jnp.asarray(b), shifts, lxs.GMRES(1e-9, 0.0))
    assert list(end.result == lxs.RESULTS.successful) == [False, True]
    assert residuals(A, end.value, b, [-1, 0])[1] <= 1e-8


def test_pytrees(rng):
    tree = {"a": jnp.ones((2, 3)), "b": jnp.ones(2)}
    operator = lxo.FunctionLinearOperator(
        lambda x: {"a": 2 * x["a"], "b": x["b"]}, jax.eval_shape(lambda: tree), PSD
    )
    X = lxa.shifted_solve(operator, tree, [0.0, 1.0], lxs.CG(1e-9, 0.0)).value
    np.testing.assert_allclose(X["a"], np.ones((2, 2, 3)) / [[[2]], [[3]]], rtol=1e-7)
    np.testing.assert_allclose(X["b"], np.ones((2, 2)) / [[1], [2]], rtol=1e-7)


def test_derivatives(rng):
    """With respect to A, b and the shifts, as those of dense solves; and forward over
    reverse, with respect to the shifts."""
    A = jnp.asarray(rng.normal(size=(5, 5)) + 5 * np.eye(5))
    b, shifts = jnp.asarray(rng.normal(size=5)), jnp.array([0.5, 2.0])
    solver = lxs.GMRES(1e-12, 0.0)

    def ours(A, b, shifts):
        operator = lxo.MatrixLinearOperator(A)
        return jnp.sum(jnp.sin(lxa.shifted_solve(operator, b, shifts, solver).value))

    def dense(A, b, shifts):
        each = lambda σ: jnp.linalg.solve(A + σ * jnp.eye(5), b)  # noqa: E731
        return jnp.sum(jnp.sin(jax.vmap(each)(shifts)))

    got, wanted = (jax.jit(jax.grad(f, (0, 1, 2)))(A, b, shifts) for f in (ours, dense))
    for x, y in zip(got, wanted, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-10)
    got, wanted = (_second(f)(A, b, shifts) for f in (ours, dense))
    np.testing.assert_allclose(got, wanted, atol=1e-10)


def _second(f):
    """The derivative of the gradient along the shifts, as one program."""

    def along(A, b, shifts):
        moved = jnp.zeros_like(A), jnp.zeros_like(b), shifts
        return jax.jvp(jax.grad(f, 2), (A, b, shifts), moved)[1]

    return jax.jit(along)


def test_demands():
    operator = lxo.MatrixLinearOperator(jnp.eye(2), PSD)
    b, cg = jnp.ones(2), lxs.CG(1e-6)
    for match, arguments in {
        "one axis": (operator, b, 1.0, cg),
        "`CG` .*or": (operator, b, jnp.ones(1), lxs.LU()),
        "tagged": (lxo.MatrixLinearOperator(jnp.eye(2)), b, jnp.ones(1), cg),
        "real shifts": (operator, b, jnp.array([1j]), cg),
        "no preconditioner": (
            operator,
            b,
            jnp.ones(1),
            lxs.GMRES(1e-6, preconditioner=lxs.Jacobi()),
        ),
    }.items():
        with pytest.raises(ValueError, match=match):
            lxa.shifted_solve(*arguments)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_each_shift_ends_by_itself(rng, dtype):
    """Equal shifts, huge ones, ones that make A + σ I singular or nearly so, and ones
    that are not finite, which cost the others no step."""
    A, b = matrix(rng, np.linspace(1, 5, N), dtype), rng.normal(size=N).astype(dtype)
    real = np.finfo(dtype).dtype
    tol, huge = (1e-4, 1e30) if dtype == "float32" else (1e-8, 1e300)
    shifts = np.array([0, 0, 1, -2.5, huge, -huge, np.nan, np.inf], real)
    for solver in (lxs.GMRES(tol, 0.0, restart=N), lxs.GMRES(tol, 0.0, restart=6)):
        end = family(*map(jnp.asarray, (A, b, shifts)), solver)
        status = list(end.status)
        assert status[:3] == status[4:6] + ["successful"] == ["successful"] * 3
        assert status[6:] == ["nonfinite_input"] * 2
        left = residuals(A.astype(complex), end.value[:6], b, shifts[:6])
        for each, how in zip(left, status, strict=False):
            assert how != "successful" or each <= tol * np.abs(b).max() * 1.01
        if solver.restart == N:
            assert end.stats["shared_steps"] <= N + 2
    definite = shifts[[0, 1, 2, 4, 6, 7]]
    end = family(*map(jnp.asarray, (A, b, definite)), lxs.CG(tol, 0.0), PSD)
    assert list(end.status) == ["successful"] * 4 + ["nonfinite_input"] * 2
    assert end.stats["shared_steps"] <= 2 * N


def test_a_singular_member_is_called_singular():
    """A right-hand side that is an eigenvector, and the shift that takes its eigenvalue
    away: the guess from the space is not finite there, and b is."""
    A, b = jnp.diag(jnp.array([1.0, 2.0, 3.0])), jnp.array([0.0, 1.0, 0.0])
    end = family(A, b, jnp.array([-2.0, 0.0, -1.0, 1.0]), lxs.GMRES(1e-8, 0.0))
    assert list(end.status) == ["singular"] + ["successful"] * 3
    np.testing.assert_allclose(end.value[1:], np.outer([1 / 2, 1, 1 / 3], b))


@pytest.mark.standard_promotion
def test_derivatives_in_batches(rng):
    """Many operators and vectors, complex shifts of a real operator."""
    A = jnp.asarray(rng.normal(size=(3, 5, 5)) + 5 * np.eye(5))
    b, shifts = jnp.asarray(rng.normal(size=(3, 5))), jnp.array([0.5j, 2.0 - 1.0j])
    solver = lxs.GMRES(1e-12, 0.0)

    def ours(A, b, shifts):
        X = lxa.shifted_solve(lxo.MatrixLinearOperator(A), b, shifts, solver).value
        return jnp.sum(jnp.abs(X) ** 2)

    def dense(A, b, shifts):
        each = lambda σ: jnp.linalg.solve(A + σ * jnp.eye(5), b + 0j)  # noqa: E731
        return jnp.sum(jnp.abs(jax.vmap(each)(shifts)) ** 2)

    def gradients(f):
        return jax.jit(jax.vmap(jax.grad(f, (0, 1, 2)), (0, 0, None)))(A, b, shifts)

    for x, y in zip(gradients(ours), gradients(dense), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-10)
