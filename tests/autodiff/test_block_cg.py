"""Block conjugate gradients, and block GMRES."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers.krylov.block_cg import BlockCG
from lx_solvers.krylov.block_gmres import BlockGMRES
from lx_solvers.krylov.cg import CG
from lx_solvers.krylov.gmres import GMRES

PSD = lo.positive_semidefinite_tag
K, N = 6, 40


@pytest.fixture
def draw():
    rng = np.random.default_rng(0)

    def draw(dtype, *shape):
        x = rng.normal(size=shape)
        if np.issubdtype(dtype, np.complexfloating):
            x = x + 1j * rng.normal(size=shape)
        return x.astype(dtype)

    return draw


@pytest.fixture
def spectral(draw):
    """A Hermitian matrix of these eigenvalues."""

    def spectral(dtype, values):
        wide = np.result_type(dtype, np.float64)
        q, _ = np.linalg.qr(draw(wide, values.size, values.size))
        a = (q * values) @ q.conj().T
        return ((a + a.conj().T) / 2).astype(dtype)

    return spectral


@eqx.filter_jit
def many(operator, B, solver, options):
    """The rows of B, each a right-hand side."""
    return lxa.linear_solve(
        operator, B, solver, options=options, rhs_axis=0, throw=False
    )


def solved(a, B, solver, tags: Any = PSD, **options):
    operator = lo.MatrixLinearOperator(jnp.asarray(a), tags)
    return many(operator, jnp.asarray(B), solver, options)


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_fewer_products(spectral, draw, dtype):
    """Columns that share their space take less than half the products of columns alone,
    and are as good."""
    a = spectral(dtype, np.geomspace(1e-3, 1, N))
    B, tol = draw(dtype, K, N), 1e-3 if dtype == "float32" else 1e-9
    block, alone = (solved(a, B, kind(tol, 0.0)) for kind in (BlockCG, CG))
    assert (block.result == lxs.RESULTS.successful).all()
    X = np.asarray(block.value).astype(np.complex128)
    assert np.abs(B - X @ a.astype(np.complex128).T).max() <= tol * np.abs(B).max()
    assert 2 * block.stats["num_steps"].sum() < alone.stats["num_steps"].sum()
    assert block.value.dtype == dtype


def test_dependent_columns(spectral, draw):
    """Equal ones, sums of others and zeros: no breakdown, and a status each."""
    a, B = spectral(np.float64, np.geomspace(1e-2, 1, N)), draw(np.float64, K, N)
    B[1], B[2], B[3] = B[0], 1e8 * (B[4] + B[5]), 0
    end = solved(a, B, BlockCG(1e-9, 0.0))
    assert (end.result == lxs.RESULTS.successful).all()
    for x, b in zip(np.asarray(end.value), B, strict=True):
        assert np.abs(b - a @ x).max() <= 1e-9 * np.abs(b).max()
    assert int(end.stats["block_steps"][0]) <= N // 2
    B[4, 3] = np.nan
    result = solved(a, B, BlockCG(1e-9, 0.0)).result
    good = np.asarray(result == lxs.RESULTS.successful)
    assert list(good) == [True] * 4 + [False, True]


def test_negative_definite_with_preconditioner(spectral, draw):
    """The inverse as a preconditioner: a step or two."""
    a, B = -spectral(np.float64, np.geomspace(1e-3, 1, N)), draw(np.float64, K, N)
    inverse = np.linalg.inv(a)
    M = lo.MatrixLinearOperator(
        jnp.asarray((inverse + inverse.T) / 2), lo.negative_semidefinite_tag
    )
    tags = lo.negative_semidefinite_tag
    end = solved(a, B, BlockCG(1e-8, 0.0), tags, preconditioner=M)
    assert (end.result == lxs.RESULTS.successful).all()
    assert end.stats["num_steps"].max() <= 3
    np.testing.assert_allclose(end.value, B @ inverse.T, rtol=0, atol=1e-3)


def test_one_vector_and_many_operators(spectral, draw):
    """Are solved by CG."""
    a, b = spectral(np.float64, np.linspace(1, 5, N)), draw(np.float64, N)

    def steps(solver, a, b):
        operator = lo.MatrixLinearOperator(a, PSD)
        stats = lxa.linear_solve(operator, b, solver).stats
        return stats["num_steps"], stats.get("block_steps", 0)

    operators, vectors = jnp.asarray(np.stack([a, 2 * a])), jnp.asarray([b, 3 * b])
    solvers = BlockCG(1e-8, 0.0), CG(1e-8, 0.0)
    for f, given in (
        (steps, (jnp.asarray(a), jnp.asarray(b))),
        (jax.vmap(steps, (None, 0, 0)), (operators, vectors)),
    ):
        block, alone = (f(solver, *given) for solver in solvers)
        np.testing.assert_array_equal(block[0], alone[0])
        assert not np.any(block[1])


def test_gradient(spectral, draw):
    a, B = spectral(np.float64, np.linspace(1, 5, 8)), jnp.asarray(draw(float, 3, 8))
    operator = lo.MatrixLinearOperator(jnp.asarray(a), PSD)

    @jax.jit
    @jax.grad
    def gradient(B):
        solver = BlockCG(1e-12, 0.0)
        return jnp.sum(jnp.sin(lxa.linear_solve(operator, B, solver, rhs_axis=0).value))

    wanted = np.linalg.solve(a, np.cos(np.linalg.solve(a, B.T))).T
    np.testing.assert_allclose(gradient(B), wanted, atol=1e-10)


def test_gmres():
    """Block GMRES, of a nonnormal matrix with five small eigenvalues, with columns that
    depend on others or are zero: the columns find the eigenvalues together, while GMRES
    forgets them at each restart, and solves none. Equal columns converge in as many
    steps as one."""
    rng, n = np.random.default_rng(2), 300
    values = np.r_[np.geomspace(1e-4, 1e-2, 5), np.linspace(1, 2, n - 5)]
    a = (1 + 0.1j) * np.diag(values) + 0.02 * np.triu(rng.normal(size=(n, n)), 1)
    B = rng.normal(size=(K, n)) + 1j * rng.normal(size=(K, n))
    B[2], B[3] = 1e6 * (B[0] + B[1]), 0
    together, alone = (kind(1e-8, 0.0, restart=20) for kind in (BlockGMRES, GMRES))
    end = solved(a, B, together, ())
    assert (end.result == lxs.RESULTS.successful).all()
    for x, b in zip(np.asarray(end.value), B, strict=True):
        assert np.abs(b - a @ x).max() <= 1e-8 * np.abs(b).max()
    result = solved(a, B, alone, ()).result
    assert list(np.asarray(result == lxs.RESULTS.successful)) == [
        i == 3 for i in range(K)
    ]

    B[:] = B[0]
    B[1, 3] = np.nan
    result = solved(a + np.eye(n), B, together, ()).result
    good = np.asarray(result == lxs.RESULTS.successful)
    assert list(good) == [True, False] + [True] * (K - 2)
    with pytest.raises(ValueError, match="BlockGMRES"):
        BlockGMRES(1e-6, restart=0)


def test_gmres_that_fills_the_space():
    """A cycle ends when its steps find no further direction, however long it may be."""
    rng, n = np.random.default_rng(3), 12
    a, B = np.eye(n) + 0.3 * rng.normal(size=(n, n)), rng.normal(size=(K, n))
    end = solved(a, B, BlockGMRES(1e-15, 0.0, restart=n), ())
    np.testing.assert_allclose(end.value, np.linalg.solve(a, B.T).T, rtol=1e-9)
    assert int(end.stats["block_steps"][0]) <= 3 * (n // K + 1)


def test_demands():
    with pytest.raises(ValueError, match="BlockCG"):
        BlockCG(-1.0)
    with pytest.raises(ValueError, match="positive_semidefinite_tag"):
        BlockCG(1e-6).init(lo.MatrixLinearOperator(jnp.eye(2)), {})
