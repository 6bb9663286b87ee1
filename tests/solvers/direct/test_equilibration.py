"""Matrices R B C, with B well-conditioned and scales over most of the range."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import BandedLinearOperator, MatrixLinearOperator
from lx_solvers import LU, RESULTS, Banded
from lx_solvers._slogdet import slogdet_of

N = 9
DIAGONALS = 2, 1  # below and above the main one


def _as_dense(A):
    return MatrixLinearOperator(jnp.asarray(A))


def _as_banded(A):
    lower, upper = DIAGONALS
    rows = []
    for offset in range(upper, -lower - 1, -1):
        elements = np.diagonal(A, offset)
        rows.append(np.pad(elements, (max(offset, 0), max(-offset, 0))))
    return BandedLinearOperator(jnp.asarray(np.stack(rows)), lower, upper)


SOLVERS = {"LU": (LU(two_sided=True), _as_dense), "Banded": (Banded(), _as_banded)}


def problem(dtype, seed, sides):
    """A = RBC and the exact determinant of its scales; b = RBz, solved by x = C⁻¹z."""
    draw = np.random.default_rng(seed)
    i, j = np.indices((N, N))
    B = draw.choice([-1, 1], (N, N)) * draw.uniform(0.5, 1, (N, N)) + 3 * np.eye(N)
    if np.issubdtype(dtype, np.complexfloating):
        B = B + 0.5j * draw.normal(size=(N, N))
    B = np.where((i - j <= DIAGONALS[0]) & (j - i <= DIAGONALS[1]), B, 0).astype(dtype)
    assert np.linalg.cond(B) < 1e3
    most = 90 if np.finfo(dtype).bits == 32 else 600
    R, C = (np.round(draw.uniform(-most, most, N) / 2) for _ in range(2))
    R, C = (2 * x if sides == 1 else x for x in (R * (sides == 2), C))
    z = draw.normal(size=N).astype(dtype)
    real = np.finfo(dtype).dtype
    A = B * np.exp2(R[:, None] + C[None]).astype(real)
    b = (B @ z) * np.exp2(R).astype(real)
    return A, b, z, np.exp2(C).astype(real), B, R.sum() + C.sum()


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("name", SOLVERS)
def test_solved_to_the_accuracy_of_the_core(dtype, name, sides):
    solver, make = SOLVERS[name]
    eps = np.finfo(dtype).eps

    @eqx.filter_jit
    def solve(A, b):
        state = solver.init(A, {})
        x, result, _ = solver.compute(state, b, {})
        return x, result, slogdet_of(state)

    for seed in range(6):
        A, b, z, C, B, exponent = problem(dtype, seed, sides)
        x, result, (_, log) = solve(make(A), jnp.asarray(b))
        assert RESULTS[result] == RESULTS[RESULTS.successful]
        assert abs(np.asarray(x) * C - z).max() < 1e3 * eps * abs(z).max()
        log_B = np.linalg.slogdet(B)[1]
        np.testing.assert_allclose(log, log_B + exponent * np.log(2), rtol=1e3 * eps)


@pytest.mark.parametrize("name", SOLVERS)
def test_adjoint(dtype, name):
    solver, make = SOLVERS[name]
    A, _, z, C, B, _ = problem(dtype, 0, 1)
    state = solver.init(make(A), {})
    state, _ = solver.conj(solver.transpose(state, {})[0], {})
    b = (B.conj().T @ z) * C  # Aᴴ = C Bᴴ
    x, result, _ = solver.compute(state, jnp.asarray(b), {})
    assert RESULTS[result] == RESULTS[RESULTS.successful]
    assert abs(x - z).max() < 1e3 * np.finfo(dtype).eps * abs(z).max()


@pytest.mark.parametrize("name", SOLVERS)
def test_a_singular_core_is_singular(dtype, name):
    solver, make = SOLVERS[name]
    A, b, *_ = problem(dtype, 0, 1)
    A[3] = 0
    A[:, 5] = 0
    _, result, _ = solver.compute(solver.init(make(A), {}), jnp.asarray(b), {})
    assert RESULTS[result] == RESULTS[RESULTS.singular]


def test_rows_alone_leave_the_columns_scales(dtype):
    """What `two_sided` is for: these matrices are not solved without it."""
    failures = 0
    for seed in range(6):
        A, b, *_ = problem(dtype, seed, 1)
        _, result, _ = LU().compute(LU().init(_as_dense(A), {}), jnp.asarray(b), {})
        failures += RESULTS[result] == RESULTS[RESULTS.singular]
    assert failures > 3


def test_solutions_lost_in_rounding_errors():
    """Elimination with scales that differ from those of the solution: no success is
    claimed for an x of which nothing is known."""
    successes = 0
    for seed in range(40):
        draw = np.random.default_rng(1000 + seed)
        A = draw.normal(size=(N, N)) * 10.0 ** draw.uniform(-12, 12, (N, N))
        A = np.where(draw.random((N, N)) < 2 / N, A, 0)
        A[np.arange(N), draw.permutation(N)] = draw.normal(size=N)
        x = draw.normal(size=N)
        if np.linalg.matrix_rank(A / abs(A).max(axis=1, keepdims=True)) < N:
            continue
        solver = LU(two_sided=True)
        got, result, _ = solver.compute(
            solver.init(_as_dense(A), {}), jnp.asarray(A @ x), {}
        )
        if RESULTS[result] == RESULTS[RESULTS.successful]:
            successes += 1
            assert abs(got - x).max() < 0.1 * abs(x).max()
    assert successes > 2
