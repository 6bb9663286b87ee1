"""BlockTridiagonal, in sequence and in parallel: the views, and honest failure."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import (
    BlockTridiagonalLinearOperator,
    MatrixLinearOperator,
    positive_semidefinite_tag,
)
from lx_solvers import RESULTS, AutoLinearSolver, Banded, BlockTridiagonal
from lx_solvers._slogdet import slogdet_of

both = pytest.mark.parametrize("parallel", [False, True])


def operator_of(draw, dtype, n, b):
    main = draw(dtype, n, b, b) + 6 * np.eye(b, dtype=dtype)
    off = draw(dtype, 2, max(n - 1, 0), b, b)
    return BlockTridiagonalLinearOperator(main, *off)


@eqx.filter_jit
def _conjugated(solver, operator, b):
    state = solver.conj(solver.init(operator, {}), {})[0]
    many = jax.vmap(lambda b: solver.compute(state, b, {})[:2])(jnp.stack([b, -b]))
    return many, slogdet_of(state)


@both
def test_odd_number_of_blocks(draw, dtype, parallel, n=5, b=3):
    operator, rhs = operator_of(draw, dtype, n, b), draw(dtype, n, b)
    solver = BlockTridiagonal(parallel)
    (x, result), determinant = _conjugated(solver, operator, jnp.asarray(rhs))
    A = np.asarray(operator.as_matrix()).astype(np.result_type(dtype, np.float64))
    limit = 1000 * np.finfo(dtype).eps
    assert (result == RESULTS.successful).all() and x.dtype == dtype
    wanted = np.linalg.solve(A.conj(), rhs.ravel()).reshape(n, b)
    np.testing.assert_allclose(x, [wanted, -wanted], rtol=limit, atol=limit)
    wanted = np.linalg.slogdet(A.conj())
    np.testing.assert_allclose(determinant, wanted, rtol=limit, atol=limit)


@eqx.filter_jit
def _solve(solver, operator, b):
    x, result, _ = solver.compute(solver.init(operator, {}), b, {})
    return x, result


def _path(n, b):
    """The Laplacian of a path of n nodes, each b times: it has a null space."""
    main = 2 * np.ones(n)
    main[[0, -1]] = 1
    eye = np.eye(b)
    off = -np.tile(eye, (n - 1, 1, 1))
    return BlockTridiagonalLinearOperator(main[:, None, None] * eye, off, off)


@both
def test_verdict(draw, parallel):
    """One shape, one compilation: singular, NaN, infinite."""
    n, b = 6, 2
    solver = BlockTridiagonal(parallel)

    def ended(operator, rhs=None):
        rhs = draw(np.float64, n, b) if rhs is None else rhs
        return RESULTS[_solve(solver, operator, jnp.asarray(rhs))[1]]

    good = operator_of(draw, np.float64, n, b)
    assert ended(good) == ""
    assert ended(_path(n, b)) == RESULTS[RESULTS.singular]
    lost = eqx.tree_at(lambda op: op.upper_diagonal, good, good.upper_diagonal * np.nan)
    assert ended(lost) == RESULTS[RESULTS.nonfinite_input]
    assert ended(good, np.full((n, b), np.inf)) == RESULTS[RESULTS.nonfinite_input]


@both
def test_rows_of_any_scale(draw, parallel):
    n, b = 6, 2
    good, x = operator_of(draw, np.float64, n, b), draw(np.float64, n, b)
    rows = np.geomspace(1, 1e-200, n)[:, None, None]
    scaled = BlockTridiagonalLinearOperator(
        good.diagonal * rows,
        good.lower_diagonal * rows[1:],
        good.upper_diagonal * rows[:-1],
    )
    found, result = _solve(
        BlockTridiagonal(parallel), scaled, scaled.mv(jnp.asarray(x))
    )
    assert result == RESULTS.successful
    np.testing.assert_allclose(found, x, rtol=1e-10)


def test_not_stable_is_not_called_a_solution(draw):
    """A first block that is all but zero, in a matrix that is well conditioned: rows
    would have to be exchanged across blocks, which `Banded` does."""
    n, b = 6, 2
    A = operator_of(draw, np.float64, n, b)
    A = eqx.tree_at(lambda op: op.diagonal, A, A.diagonal.at[0].multiply(1e-13))
    rhs = jnp.asarray(draw(np.float64, n, b))
    result = _solve(BlockTridiagonal(), A, rhs)[1]
    assert RESULTS[result] == RESULTS[RESULTS.unstable]
    x, result = _solve(Banded(), A, rhs)
    assert result == RESULTS.successful
    wanted = np.linalg.solve(A.as_matrix(), rhs.ravel())
    np.testing.assert_allclose(x.ravel(), wanted, rtol=1e-9)


def test_a_hundred_thousand_unknowns():
    """-Δ + 1 on a strip of 25 000 by 4 points; its solution is known."""
    n, b = 25_000, 4
    strip = 5 * np.eye(b) - np.eye(b, k=1) - np.eye(b, k=-1)
    off = jnp.tile(-jnp.eye(b), (n - 1, 1, 1))
    operator = BlockTridiagonalLinearOperator(
        jnp.tile(jnp.asarray(strip), (n, 1, 1)), off, off, positive_semidefinite_tag
    )
    x = jnp.sin(jnp.arange(1.0, n * b + 1)).reshape(n, b)
    found, result = _solve(AutoLinearSolver(well_posed=True), operator, operator.mv(x))
    assert result == RESULTS.successful
    np.testing.assert_allclose(found, x, atol=1e-12)


def test_auto():
    n = 40
    eye = jnp.tile(jnp.eye(2), (n, 1, 1))

    def chosen(tags, well_posed=True):
        operator = BlockTridiagonalLinearOperator(4 * eye, -eye[1:], -eye[1:], tags)
        return AutoLinearSolver(well_posed).select_solver(operator)

    assert chosen(positive_semidefinite_tag) == BlockTridiagonal()
    assert chosen(positive_semidefinite_tag, None) == BlockTridiagonal()
    assert chosen(()) == Banded()
    assert type(chosen(positive_semidefinite_tag, False)).__name__ == "PivotedQR"


def test_others_are_an_error():
    with pytest.raises(ValueError, match="Make it a `BlockTridiagonalLinearOperator`"):
        BlockTridiagonal().init(MatrixLinearOperator(jnp.eye(2)), {})
