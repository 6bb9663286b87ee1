"""Matrices R B C, with B well-conditioned and scales over most of the range."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import (
    BandedLinearOperator,
    BlockTridiagonalLinearOperator,
    MatrixLinearOperator,
    TridiagonalLinearOperator,
)
from lx_solvers import (
    LU,
    QR,
    RESULTS,
    Banded,
    BlockTridiagonal,
    Refined,
    Tridiagonal,
)
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


def _as_tridiagonal(A):
    diagonals = (jnp.asarray(np.diagonal(A, k)) for k in (0, -1, 1))
    return TridiagonalLinearOperator(*diagonals)


def _as_blocks(A):
    grid = jnp.asarray(A.reshape(3, 3, 3, 3).transpose(0, 2, 1, 3))
    i = np.arange(3)
    return BlockTridiagonalLinearOperator(
        grid[i, i], grid[i[1:], i[:-1]], grid[i[:-1], i[1:]]
    )


SOLVERS = {
    "LU": (LU(two_sided=True), _as_dense, DIAGONALS),
    "Banded": (Banded(), _as_banded, DIAGONALS),
    "QR": (QR(), _as_dense, DIAGONALS),
    "Tridiagonal": (Tridiagonal(), _as_tridiagonal, (1, 1)),
    "BlockTridiagonal": (BlockTridiagonal(), _as_blocks, (3, 3)),
}


REFINED = {
    f"Refined {name}": (Refined(SOLVERS[name][0]), *SOLVERS[name][1:])
    for name in ("LU", "QR")
}


def problem(dtype, seed, sides, widths=DIAGONALS):
    """A = RBC and the exact determinant of its scales; b = RBz, solved by x = C⁻¹z."""
    draw = np.random.default_rng(seed)
    i, j = np.indices((N, N))
    B = draw.choice([-1, 1], (N, N)) * draw.uniform(0.5, 1, (N, N)) + 3 * np.eye(N)
    if np.issubdtype(dtype, np.complexfloating):
        B = B + 0.5j * draw.normal(size=(N, N))
    B = np.where((i - j <= widths[0]) & (j - i <= widths[1]), B, 0).astype(dtype)
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
@pytest.mark.parametrize("name", SOLVERS | REFINED)
def test_solved_to_the_accuracy_of_the_core(dtype, name, sides):
    solver, make, widths = (SOLVERS | REFINED)[name]
    eps = np.finfo(dtype).eps

    @eqx.filter_jit
    def solve(A, b):
        state = solver.init(A, {})
        b = b.reshape(A.in_structure().shape)
        x, result, _ = solver.compute(state, b, {})
        return x.ravel(), result, slogdet_of(state)

    for seed in range(6):
        A, b, z, C, B, exponent = problem(dtype, seed, sides, widths)
        x, result, (_, log) = solve(make(A), jnp.asarray(b))
        assert RESULTS[result] == RESULTS[RESULTS.successful]
        assert abs(np.asarray(x) * C - z).max() < 1e3 * eps * abs(z).max()
        log_B = np.linalg.slogdet(B)[1]
        np.testing.assert_allclose(log, log_B + exponent * np.log(2), rtol=1e3 * eps)


@pytest.mark.parametrize("name", SOLVERS)
def test_rows_that_zeros_solve(dtype, name):
    """Where b is zero in rows that touch no other unknowns, so is x, but for rounding
    errors that come from the other rows by pivoting: no failure."""
    solver, make, widths = SOLVERS[name]
    eps, i, j, count = np.finfo(dtype).eps, *np.indices((N, N)), 0

    @eqx.filter_jit
    def solve(A, b):
        b = b.reshape(A.in_structure().shape)
        x, result, _ = solver.compute(solver.init(A, {}), b, {})
        return x.ravel(), result

    for seed in range(20):
        draw = np.random.default_rng(seed)
        apart = np.arange(N) < 4 if seed % 2 else np.arange(N) % 3 == 0
        inside = (i - j <= widths[0]) & (j - i <= widths[1])
        inside &= ~(apart[:, None] & ~apart[None])
        A = np.where(inside, draw.normal(size=(N, N)), 0).astype(dtype)
        b = np.where(apart, 0, draw.normal(size=N)).astype(dtype)
        if np.linalg.cond(A) > 100:
            continue
        count += 1
        x, result = solve(make(A), jnp.asarray(b))
        assert RESULTS[result] == RESULTS[RESULTS.successful]
        exact = np.linalg.solve(A.astype(complex), b)
        assert abs(np.asarray(x) - exact).max() < 1e4 * eps * abs(exact).max()
    assert count >= 5


@pytest.mark.parametrize("name", SOLVERS | REFINED)
def test_zeros_in_columns_of_other_scales(dtype, name):
    """The same where these rounding errors, divided by the scales of their columns, are
    larger than all of x: no success, unless they are refined away."""
    solver, make, widths = (SOLVERS | REFINED)[name]
    eps, i, j = np.finfo(dtype).eps, *np.indices((N, N))
    most, count, successes = 50 if np.finfo(dtype).bits == 32 else 300, 0, 0

    @eqx.filter_jit
    def solve(A, b):
        b = b.reshape(A.in_structure().shape)
        x, result, _ = solver.compute(solver.init(A, {}), b, {})
        return x.ravel(), result

    for seed in range(30):
        draw = np.random.default_rng(seed)
        apart = np.arange(N) < 4 if seed % 2 else np.arange(N) % 3 == 0
        inside = (i - j <= widths[0]) & (j - i <= widths[1])
        inside &= ~(apart[:, None] & ~apart[None])
        B = np.where(inside, draw.normal(size=(N, N)), 0).astype(dtype)
        z = np.where(apart, 0, draw.normal(size=N)).astype(dtype)
        if np.linalg.cond(B) > 100:
            continue
        count += 1
        small = np.exp2(-np.round(draw.uniform(most / 2, most)))
        C = np.where(apart, small, 1).astype(np.finfo(dtype).dtype)
        x, result = solve(make(B * C), jnp.asarray(np.where(apart, 0, B @ z)))
        if RESULTS[result] == RESULTS[RESULTS.successful]:
            successes += 1
            assert abs(np.asarray(x) - z).max() < 2 * eps**0.5 * abs(z).max()
        else:
            assert RESULTS[result] == RESULTS[RESULTS.unstable]
    assert count >= 10
    assert successes >= count / (6 if name in REFINED else 3)


@pytest.mark.parametrize("name", SOLVERS)
def test_adjoint(dtype, name):
    solver, make, widths = SOLVERS[name]
    A, _, z, C, B, _ = problem(dtype, 0, 1, widths)
    state = solver.init(make(A), {})
    state, _ = solver.conj(solver.transpose(state, {})[0], {})
    b = (B.conj().T @ z) * C  # Aᴴ = C Bᴴ
    b = jnp.asarray(b).reshape(make(A).in_structure().shape)
    x, result, _ = solver.compute(state, b, {})
    x = x.ravel()
    assert RESULTS[result] == RESULTS[RESULTS.successful]
    assert abs(x - z).max() < 1e3 * np.finfo(dtype).eps * abs(z).max()


@pytest.mark.parametrize("name", SOLVERS)
def test_a_singular_core_is_singular(dtype, name):
    solver, make, widths = SOLVERS[name]
    A, b, *_ = problem(dtype, 0, 1, widths)
    A[3] = 0
    A[:, 5] = 0
    b = jnp.asarray(b).reshape(make(A).in_structure().shape)
    _, result, _ = solver.compute(solver.init(make(A), {}), b, {})
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
    """Scales that differ from those of the solution: no success is claimed for an x of
    which nothing is known."""

    @eqx.filter_jit
    def solve(solver, A, b):
        x, result, _ = solver.compute(solver.init(A, {}), b, {})
        return x, result

    successes = {LU(two_sided=True): 0, QR(): 0}
    for seed in range(40):
        draw = np.random.default_rng(1000 + seed)
        A = draw.normal(size=(N, N)) * 10.0 ** draw.uniform(-12, 12, (N, N))
        A = np.where(draw.random((N, N)) < 2 / N, A, 0)
        A[np.arange(N), draw.permutation(N)] = draw.normal(size=N)
        x = draw.normal(size=N)
        if np.linalg.matrix_rank(A / abs(A).max(axis=1, keepdims=True)) < N:
            continue
        for solver in successes:
            got, result = solve(solver, _as_dense(A), jnp.asarray(A @ x))
            if RESULTS[result] == RESULTS[RESULTS.successful]:
                successes[solver] += 1
                assert abs(got - x).max() < 0.1 * abs(x).max()
    assert min(successes.values()) > 2


def test_columns_of_least_squares(dtype):
    """Their scales change x alone, also with damping, if that is scaled with them."""
    draw = np.random.default_rng(0)
    most = 24 if np.finfo(dtype).bits == 32 else 150
    B = draw.normal(size=(8, 3)).astype(dtype)
    C = (10.0 ** np.array([-most, 0, most])).astype(np.finfo(dtype).dtype)
    z = np.array([1, -2, 3], dtype)
    b = B @ z
    for A, v, expected in ((B * C, b, z / C), ((B * C).T, z * C, None)):
        solver, operator = QR(), MatrixLinearOperator(jnp.asarray(A))
        state = solver.init(operator, {})
        x, result, _ = solver.compute(state, jnp.asarray(v), {})
        assert RESULTS[result] == RESULTS[RESULTS.successful]
        if expected is None:  # x of minimum norm with Bᵀx = z
            expected = np.linalg.pinv(B.T) @ z
        sizes = abs(expected).max() if x.size > 3 else abs(expected)
        assert (abs(x - expected) / sizes).max() < 100 * np.finfo(dtype).eps
