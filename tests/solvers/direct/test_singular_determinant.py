"""The determinant of an operator that is singular to working precision is zero, though
rounding errors leave no pivot zero."""

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers.internal import slogdet_of

N = 12
_LINE = np.diag(np.full(N, 2.0)) - np.eye(N, k=1) - np.eye(N, k=-1)


def neumann(shift):
    """A singular tridiagonal matrix of integers, whose multipliers are inexact, plus a
    multiple of a diagonal matrix."""
    A = _LINE + shift * np.eye(N)
    A[0, 0] -= 1
    A[-1, -1] -= 1
    scale = np.array([7, 3, 9, 5, 7, 9, 3, 7, 5, 9, 3, 7.0])
    return scale[:, None] * A * scale


def bands(A):
    return np.diagonal(A), np.diagonal(A, -1), np.diagonal(A, 1)


def banded(A):
    d, low, up = bands(A)
    rows = np.stack((np.append(0, up), d, np.append(low, 0)))
    return lxo.BandedLinearOperator(jnp.asarray(rows), lower=1, upper=1)


def blocks(A):
    A = A.reshape(6, 2, 6, 2).transpose(0, 2, 1, 3)
    i = np.arange(6)
    parts = A[i, i], A[i[1:], i[:-1]], A[i[:-1], i[1:]]
    return lxo.BlockTridiagonalLinearOperator(*map(jnp.asarray, parts))


def updated(A):
    """A as the sum of the part that is definite and a product of two vectors."""
    e = np.zeros((N, 1), A.dtype)
    e[0] = A[0, 0]
    rest = A - e @ e.T
    return lxo.LowRankUpdateLinearOperator(
        lxo.MatrixLinearOperator(jnp.asarray(rest)), jnp.asarray(e)
    )


def matrix(*tags):
    return lambda A: lxo.MatrixLinearOperator(jnp.asarray(A), tags)


CASES = {
    "LU": (lxs.LU(), matrix()),
    "QR": (lxs.QR(), matrix()),
    "Cholesky": (lxs.Cholesky(), matrix(lxo.positive_semidefinite_tag)),
    "Eigh": (lxs.Eigh(), matrix(lxo.symmetric_tag)),
    "Banded": (lxs.Banded(), banded),
    "Tridiagonal": (
        lxs.Tridiagonal(),
        lambda A: lxo.TridiagonalLinearOperator(*map(jnp.asarray, bands(A))),
    ),
    "BlockTridiagonal": (lxs.BlockTridiagonal(), blocks),
    "in parallel": (lxs.BlockTridiagonal(parallel=True), blocks),
    "BlockDiagonal": (
        lxs.BlockDiagonal(lxs.LU()),
        lambda A: lxo.BlockDiagonalLinearOperator(
            [matrix()(A), matrix()(np.eye(2, dtype=A.dtype))]
        ),
    ),
    "Kronecker": (
        lxs.Kronecker(lxs.LU()),
        lambda A: lxo.KroneckerLinearOperator(
            matrix()(A), matrix()(2 * np.eye(2, dtype=A.dtype))
        ),
    ),
    "Woodbury": (lxs.Woodbury(lxs.LU()), updated),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_singular(name, precision):
    solver, make = CASES[name]
    operator = make(neumann(0.0).astype(precision))
    sign, log = jax.jit(lambda op: slogdet_of(solver.init(op, {})))(operator)
    assert sign == 0 and log == -np.inf


@pytest.mark.parametrize("name", CASES)
def test_nonsingular(name):
    """A shift by a thousandth is enough to see the true value."""
    solver, make = CASES[name]
    operator = make(neumann(1e-3))
    sign, log = jax.jit(lambda op: slogdet_of(solver.init(op, {})))(operator)
    expected = np.linalg.slogdet(np.asarray(operator.as_matrix()))
    np.testing.assert_allclose((sign, log), expected, rtol=1e-9)


def test_worthless_factors_have_no_determinant():
    """NaN, and not a number from factors that a solve would refuse."""
    n = 60  # Wilkinson's matrix: elements double at each step of elimination
    A = np.eye(n) - np.tril(np.ones((n, n)), -1)
    A[:, -1] = 1
    sign, log = slogdet_of(lxs.LU().init(matrix()(A.astype(np.float32)), {}))
    assert np.isnan(sign) and np.isnan(log)
    sign, log = slogdet_of(lxs.LU().init(matrix()(A * np.nan), {}))
    assert np.isnan(sign) and np.isnan(log)


@pytest.mark.parametrize("shapes", [((3, 2), (2, 3)), ((2, 3), (3, 2))])
@pytest.mark.parametrize(
    "solver",
    [
        lxs.AutoLinearSolver(well_posed=True),
        lxs.AutoLinearSolver(well_posed=None),
        lxs.Kronecker(lxs.AutoLinearSolver(well_posed=False)),
        lxs.LU(),
    ],
)
def test_rectangular_factors(shapes, solver):
    """A square Kronecker product of rectangular factors is singular."""
    draw = np.random.default_rng(0).normal
    parts = [matrix()(draw(size=shape).astype(np.float32)) for shape in shapes]
    operator = lxo.KroneckerLinearOperator(*parts)
    sign, log = slogdet_of(solver.init(operator, {}))
    assert sign == 0 and log == -np.inf


def test_composites_in_both_orders():
    """What the automatic choice makes of a singular part, wherever it stands."""
    draw = np.random.default_rng(0).normal
    S, R = draw(size=(3, 3)), draw(size=(3, 3)) + 3 * np.eye(3)
    S[:, 0] = S[:, 1:] @ draw(size=2)
    H, K = (A + A.T for A in draw(size=(2, 3, 3)))
    K = K - np.eye(3) * (np.linalg.eigvalsh(H)[1] + np.linalg.eigvalsh(K)[0])
    B, C = draw(size=(3, 2)), draw(size=(2, 3))
    schur = C @ np.linalg.inv(R) @ B

    def both(A, B, *tags):
        return [(matrix(*tags)(x), matrix(*tags)(y)) for x, y in ((A, B), (B, A))]

    operators = [
        *(lxo.KroneckerLinearOperator(*pair) for pair in both(S, R)),
        *(lxo.BlockDiagonalLinearOperator(list(pair)) for pair in both(S, R)),
        *(x @ y for x, y in both(S, R)),
        *(lxo.KroneckerSumLinearOperator(*p) for p in both(H, K, lxo.symmetric_tag)),
        lxo.BlockLinearOperator(
            [[matrix()(R), matrix()(B)], [matrix()(C), matrix()(schur)]]
        ),
        lxo.BlockLinearOperator(
            [[matrix()(schur), matrix()(C)], [matrix()(B), matrix()(R)]]
        ),
        lxo.BlockLinearOperator([[matrix()(S), None], [matrix()(R), matrix()(R)]]),
        lxo.BlockLinearOperator([[matrix()(R), matrix()(R)], [None, matrix()(S)]]),
    ]
    solver = lxs.AutoLinearSolver(well_posed=True)

    @jax.jit
    def logs(operators):
        return [slogdet_of(solver.init(operator, {}))[1] for operator in operators]

    assert all(log == -np.inf for log in logs(operators))
