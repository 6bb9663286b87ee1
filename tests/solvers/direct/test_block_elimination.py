"""BlockElimination: substitution, Schur complements, and that success is success."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import (
    BlockLinearOperator,
    DiagonalLinearOperator,
    MatrixLinearOperator,
    TaggedLinearOperator,
    nonsingular_tag,
    positive_semidefinite_tag,
)
from lx_operators.internal import ravel, unravel
from lx_solvers import LU, RESULTS, AutoLinearSolver, BlockElimination
from lx_solvers._slogdet import slogdet_of

AUTO = AutoLinearSolver(well_posed=True)
SOLVER = BlockElimination(AUTO)


def matrix(a, *tags):
    return MatrixLinearOperator(jnp.asarray(a), tags)


def triangular(draw, dtype, lower):
    """Three by three, with a zero; the blocks on the diagonal of different kinds."""
    a, b = draw(dtype, 2, 2), draw(dtype, 3) + 3
    grid = [
        [matrix(a + 3 * np.eye(2, dtype=dtype)), None, None],
        [matrix(draw(dtype, 3, 2)), DiagonalLinearOperator(b), None],
        [None, matrix(draw(dtype, 1, 3)), matrix(draw(dtype, 1, 1))],
    ]
    operator = BlockLinearOperator(grid)
    return operator if lower else operator.T


def saddle(draw, dtype, flipped):
    """[[A, Bᵀ], [B, 0]], or its blocks exchanged."""
    a = draw(dtype, 4, 4)
    A = matrix(a @ a.conj().T + np.eye(4, dtype=dtype), positive_semidefinite_tag)
    B = matrix(draw(dtype, 2, 4))
    if flipped:
        return BlockLinearOperator([[None, B], [B.H, A]])
    return BlockLinearOperator([[A, B.H], [B, None]])


CASES = {
    "lower": lambda draw, dtype: triangular(draw, dtype, True),
    "upper": lambda draw, dtype: triangular(draw, dtype, False),
    "saddle": lambda draw, dtype: saddle(draw, dtype, False),
    "saddle, flipped": lambda draw, dtype: saddle(draw, dtype, True),
}


@eqx.filter_jit
def _views(solver, operator, b):
    state = solver.init(operator, {})
    transposed = solver.transpose(state, {})[0]
    views = (
        (operator, state),
        (operator.T, transposed),
        (operator, solver.conj(state, {})[0]),
        (operator.T, solver.conj(transposed, {})[0]),
    )
    solved = []
    for op, s in views:
        x, result, _ = solver.compute(s, unravel(b, op.out_structure()), {})
        solved.append((ravel(x), result))
    return solved, slogdet_of(views[2][1])


@pytest.mark.parametrize("name", CASES)
def test_views(draw, name, dtype="complex128"):
    operator = CASES[name](draw, dtype)
    A, b = np.asarray(operator.as_matrix()), draw(dtype, operator.in_size())
    solutions, determinant = _views(SOLVER, operator, jnp.asarray(b))
    wide = A.astype(np.result_type(dtype, np.float64))
    limit = 1000 * np.linalg.cond(wide) * np.finfo(dtype).eps
    for (x, result), M in zip(solutions, (wide, wide.T, wide.conj(), wide.conj().T)):
        assert result == RESULTS.successful and x.dtype == dtype
        np.testing.assert_allclose(x, np.linalg.solve(M, b), rtol=limit, atol=limit)
    wanted = np.linalg.slogdet(wide.conj())
    np.testing.assert_allclose(determinant, wanted, rtol=limit, atol=limit)


@eqx.filter_jit
def _solve(solver, operator, b):
    state = solver.init(operator, {})
    x, result, _ = solver.compute(state, unravel(b, operator.out_structure()), {})
    return ravel(x), result


def test_failures(draw):
    """One shape, one compilation: the first failure counts, and a wrong answer is no
    success."""
    I, B = np.eye(2), draw(np.float64, 2, 2)

    def ended(A, D=4 * I, solver=BlockElimination(LU())):
        operator = BlockLinearOperator([[matrix(A), matrix(B)], [matrix(I), matrix(D)]])
        result = _solve(solver, operator, jnp.asarray(draw(np.float64, 4)))[1]
        return RESULTS[result]

    assert ended(5 * I) == ""
    assert ended(np.ones((2, 2))) == RESULTS[RESULTS.singular]
    assert ended(I, B) == RESULTS[RESULTS.singular]  # S = B - B
    assert ended(np.nan * I) == RESULTS[RESULTS.nonfinite_input]
    # A is nonsingular, but elimination by it loses all of D
    assert ended(1e-14 * I) == RESULTS[RESULTS.unstable]


def test_auto():
    eye = jnp.eye(3)
    full, plain = matrix(eye, nonsingular_tag), matrix(eye)

    def chosen(grid, *tags, well_posed=True):
        operator = BlockLinearOperator(grid, tags)
        return type(AutoLinearSolver(well_posed).select_solver(operator)).__name__

    assert chosen([[plain, None], [plain, plain]]) == "BlockElimination"
    assert chosen([[plain, plain], [plain, full]]) == "BlockElimination"
    assert (
        chosen([[plain, plain], [plain, full]], well_posed=None) == "BlockElimination"
    )
    definite = positive_semidefinite_tag
    assert chosen([[plain, plain], [plain, plain]], definite) == "BlockElimination"
    # a block that may be singular says nothing of the whole
    assert chosen([[plain, plain], [plain, plain]]) == "LU"
    assert chosen([[plain, plain], [plain, full]], well_posed=False) == "PivotedQR"
    assert chosen([[plain, None], [None, plain]]) == "BlockDiagonal"


def test_tags_of_the_whole_reach_its_parts(draw):
    """If the block matrix is definite, so are A and the Schur complement."""
    a = draw(np.float64, 4, 4)
    a = a @ a.T + np.eye(4)
    grid = [
        [matrix(a[:2, :2]), matrix(a[:2, 2:])],
        [matrix(a[2:, :2]), matrix(a[2:, 2:])],
    ]
    operator = TaggedLinearOperator(
        BlockLinearOperator(grid), positive_semidefinite_tag
    )
    state = SOLVER.init(operator, {})
    names = [type(part.solver).__name__ for part in (state.state, state.schur)]
    assert names == ["Cholesky", "Cholesky"]
    b = draw(np.float64, 4)
    x, _ = _solve(SOLVER, operator, jnp.asarray(b))
    np.testing.assert_allclose(x, np.linalg.solve(a, b), rtol=1e-10)


def test_only_the_schur_complement_is_formed():
    """10⁵ unknowns, and two constraints on them."""
    n = 100_000
    A = TaggedLinearOperator(DiagonalLinearOperator(jnp.full(n, 2.0)), nonsingular_tag)
    B = matrix(np.stack([np.ones(n), np.arange(n) % 2]))
    operator = BlockLinearOperator([[A, B.T], [B, None]])
    x = jnp.linspace(0, 1, n + 2)
    b = ravel(operator.mv(unravel(x, operator.in_structure())))
    found, result = _solve(AUTO, operator, b)
    assert result == RESULTS.successful
    np.testing.assert_allclose(found, x, atol=1e-9)


def test_others_are_an_error():
    wide = matrix(np.ones((1, 2)))
    for operator in (matrix(np.eye(2)), BlockLinearOperator([[wide], [wide]])):
        with pytest.raises(ValueError, match="with square blocks on the diagonal"):
            SOLVER.init(operator, {})
