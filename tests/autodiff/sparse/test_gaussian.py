"""N(0, A⁻¹): samples and variances from factors, and second derivatives of log|det A|,
against dense inverses."""

import importlib.util

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
import pytest

BACKENDS = ["superlu"] + ["rslab"] * (importlib.util.find_spec("rslab") is not None)
DEFINITE = lxo.positive_semidefinite_tag
RANDOM = np.random.default_rng(3)


def definite(n=20, scale=1e3):
    """Graded, complex Hermitian, in a pattern that fills in."""
    mask = RANDOM.random((n, n)) < 0.1
    X = mask * (RANDOM.standard_normal((n, n)) + 1j * RANDOM.standard_normal((n, n)))
    A = X + X.conj().T
    A += np.diag(np.abs(A).sum(1) + 1)
    d = RANDOM.permutation(np.geomspace(1 / scale, scale, n))
    return d[:, None] * A * d


A = definite()
SPARSE = lxo.SparseLinearOperator.from_dense(A, DEFINITE)
WITH_VALUES = lxo.SparseLinearOperator
KEY = jax.random.key(0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_variances(backend):
    wanted = np.diag(np.linalg.inv(A))
    for solver in (lx.SparseCholesky(backend), lx.SparseLU(backend)):
        for _ in range(2):  # with an ordering that is found, and one that is known
            got = lxa.inverse_diagonal(SPARSE, solver)
            np.testing.assert_allclose(got, wanted, rtol=1e-12)
            lx.sparse_cache.clear()
    B = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [1.0, 5.0, 0.0]])
    operator = lxo.SparseLinearOperator.from_dense(B)  # without a diagonal
    got = lxa.inverse_diagonal(operator, lx.SparseLU(backend))
    np.testing.assert_allclose(got, np.diag(np.linalg.inv(B)), atol=1e-14)
    transposed = lxa.inverse_diagonal(-2.0 * operator.T, lx.SparseLU(backend))
    np.testing.assert_allclose(transposed, got / -2, atol=1e-14)


def test_variances_of_others():
    dense = lxo.MatrixLinearOperator(jnp.asarray(A), DEFINITE)
    wanted = np.diag(np.linalg.inv(A))
    for solver in (lx.Cholesky(), lx.AutoLinearSolver(well_posed=True)):
        got = lxa.inverse_diagonal(dense, solver)
        np.testing.assert_allclose(got, wanted, rtol=1e-10)
    diagonal = lxo.DiagonalLinearOperator(jnp.array([2.0, 0.0, -4.0]))
    got = lxa.inverse_diagonal(diagonal, lx.Diagonal(well_posed=True))
    np.testing.assert_array_equal(got, [0.5, np.nan, -0.25])
    with pytest.raises(ValueError, match="only square operators have an inverse"):
        lxa.inverse_diagonal(lxo.MatrixLinearOperator(jnp.ones((2, 3))))


def test_derivatives_of_variances():
    def log(values):
        operator = WITH_VALUES(values, SPARSE.pattern, DEFINITE)
        variances = lxa.inverse_diagonal(operator, lx.SparseCholesky("superlu"))
        return jnp.sum(jnp.log(variances.real))

    def dense(values):
        at = SPARSE.pattern.rows, SPARSE.pattern.columns
        inverse = jnp.linalg.inv(jnp.zeros_like(jnp.asarray(A)).at[at].set(values))
        return jnp.sum(jnp.log(jnp.diagonal(inverse).real))

    v = SPARSE.values
    got, wanted = (jax.jit(jax.grad(fn))(v) for fn in (log, dense))
    np.testing.assert_allclose(got * v, wanted * v, atol=1e-10)


@pytest.mark.parametrize("kind", [*BACKENDS, "dense", "diagonal"])
def test_covariance(kind):
    """The covariance exactly, without the law of large numbers: with z = I, the samples
    are the columns of a root of A⁻¹."""
    from lx_autodiff import _sample_gaussian as module

    matrix, operator, solver = A, SPARSE, lx.SparseCholesky(kind)
    if kind == "dense":
        operator, solver = lxo.MatrixLinearOperator(jnp.asarray(A), DEFINITE), None
    elif kind == "diagonal":
        d = jnp.geomspace(1.0, 9.0, 20)
        matrix, solver = np.diag(d), lx.Diagonal()
        operator = lxo.TaggedLinearOperator(lxo.DiagonalLinearOperator(d), DEFINITE)
    solver = lx.AutoLinearSolver(well_posed=True) if solver is None else solver
    for A_, M in ((operator, matrix), (operator.T, matrix.T)):
        x = lxa.sample_gaussian(A_, KEY, (3, 2), solver)
        assert x.shape == (3, 2, 20)
        problem = module.square_problem(A_, solver, None, module.NO_STATE, "")
        arrays, static = module.split(problem)
        z = jnp.eye(20, dtype=x.dtype)
        rows = jax.vmap(lambda z, s=static, a=arrays: module._sample(s, a, z))(z)
        roots = np.asarray(rows).T
        covariance = roots @ roots.conj().T
        sizes = np.sqrt(np.abs(np.diag(M)))
        error = (covariance - np.linalg.inv(M)) * sizes[:, None] * sizes
        assert np.abs(error).max() < 1e-12


def test_samples_move_the_covariance():
    """dx = -½ A⁻¹ dA x, and what has no root."""
    solver, v = lx.SparseCholesky("superlu"), SPARSE.values
    dv = v * jnp.asarray(RANDOM.standard_normal(v.shape), v.dtype)

    def sample(values):
        operator = WITH_VALUES(values, SPARSE.pattern, DEFINITE)
        return lxa.sample_gaussian(operator, KEY, (2,), solver)

    x, dx = jax.jit(lambda v: jax.jvp(sample, (v,), (dv,)))(v)
    at = SPARSE.pattern.rows, SPARSE.pattern.columns
    dA = np.zeros_like(A)
    dA[at] = dv
    wanted = -np.linalg.solve(A, dA @ np.asarray(x).T).T / 2
    sizes = np.sqrt(np.abs(np.diag(A)))
    np.testing.assert_allclose(np.asarray(dx) * sizes, wanted * sizes, atol=1e-12)
    lost = jax.jit(sample)(-v)
    assert np.isnan(lost).all()
    negative = WITH_VALUES(v, SPARSE.pattern, lxo.negative_semidefinite_tag)
    for operator, other, match in (
        (negative, solver, "negative definite operator has no square root"),
        (SPARSE, lx.SparseLU("superlu"), "by `SparseCholesky` only"),
        (lxo.MatrixLinearOperator(jnp.eye(2)), lx.LU(), "`Cholesky`, `SparseCholesky`"),
    ):
        with pytest.raises(ValueError, match=match):
            lxa.sample_gaussian(operator, KEY, (), other)


def test_second_derivatives_of_the_determinant():
    """A column at a time: no n × n array."""
    n = 300
    i = np.arange(n)
    pattern = lxo.SparsityPattern.from_coo(
        np.concatenate((i, i, (7 * i + 1) % n)),
        np.concatenate((i, (i + 3) % n, i)),
        (n, n),
    )
    v = 5.0 * np.asarray(pattern.rows == pattern.columns)
    v = jnp.asarray(v + RANDOM.standard_normal(v.shape))
    dv = jnp.asarray(RANDOM.standard_normal(v.shape))

    def log(values):
        return lxa.slogdet(WITH_VALUES(values, pattern), lx.SparseLU("superlu"))[1]

    second = jax.jit(lambda v: jax.jvp(jax.grad(log), (v,), (dv,))[1]).lower(v)
    assert f"{n}x{n}x" not in second.as_text()
    at = pattern.rows, pattern.columns
    B, dB = np.zeros((2, n, n))
    B[at], dB[at] = v, dv
    inverse = np.linalg.inv(B)
    wanted = -(inverse @ dB @ inverse).T[at]
    np.testing.assert_allclose(second.compile()(v), wanted, atol=1e-10)
