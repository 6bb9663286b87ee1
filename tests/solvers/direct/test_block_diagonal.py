"""BlockDiagonal: each block by its own solver, listed or stacked."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from lx_operators import (
    BlockDiagonalLinearOperator,
    MatrixLinearOperator,
    StackedLinearOperator,
    TaggedLinearOperator,
    TridiagonalLinearOperator,
    positive_semidefinite_tag,
)
from lx_operators.internal import ravel, unravel
from lx_solvers import CG, LU, QR, RESULTS, AutoLinearSolver, BlockDiagonal
from lx_solvers._slogdet import slogdet_of


def stack(matrices):
    return StackedLinearOperator(eqx.filter_vmap(MatrixLinearOperator)(matrices))


def listed(draw, dtype):
    """Three blocks, for three solvers; one of them a stack."""
    a = draw(dtype, 3, 3)
    return BlockDiagonalLinearOperator(
        {
            "definite": MatrixLinearOperator(
                a @ a.conj().T + np.eye(3, dtype=dtype), positive_semidefinite_tag
            ),
            "bands": TridiagonalLinearOperator(
                draw(dtype, 3) + 4, draw(dtype, 2), draw(dtype, 2)
            ),
            "stack": stack(draw(dtype, 2, 2, 2) + 3 * np.eye(2, dtype=dtype)),
        }
    )


@eqx.filter_jit
def _views(solver, operator, b):
    state = solver.init(operator, {})
    transposed = solver.transpose(state, {})[0]
    states = (state, transposed, *(solver.conj(s, {})[0] for s in (state, transposed)))
    vector = unravel(b, operator.out_structure())
    solved = [solver.compute(s, vector, {})[:2] for s in states]
    return [(ravel(x), result) for x, result in solved], slogdet_of(states[2])


def test_views(draw, dtype="complex128"):
    operator = listed(draw, dtype)
    A, b = np.asarray(operator.as_matrix()), draw(dtype, operator.in_size())
    limit = 1000 * np.finfo(dtype).eps
    solver = AutoLinearSolver(well_posed=True)
    solutions, determinant = _views(solver, operator, jnp.asarray(b))
    wide = A.astype(np.result_type(dtype, np.float64))
    for (x, result), M in zip(solutions, (wide, wide.T, wide.conj(), wide.conj().T)):
        assert result == RESULTS.successful
        np.testing.assert_allclose(x, np.linalg.solve(M, b), rtol=limit, atol=limit)
    wanted = np.linalg.slogdet(wide.conj())
    np.testing.assert_allclose(determinant, wanted, rtol=limit, atol=limit)


def test_each_block_by_its_own_solver(draw):
    solver = AutoLinearSolver(well_posed=True)
    state = solver.init(listed(draw, np.float64), {}).state
    names = [type(part.solver).__name__ for part in state.states]
    assert names == ["Tridiagonal", "Cholesky", "BlockDiagonal"]


def test_a_tag_on_the_whole_is_one_on_the_blocks():
    whole = TaggedLinearOperator(stack(jnp.ones((2, 3, 3))), positive_semidefinite_tag)
    state = AutoLinearSolver(well_posed=True).init(whole, {}).state
    assert type(state.state.solver).__name__ == "Cholesky"


@pytest.mark.parametrize("well_posed", [False, None])
def test_pseudoinverse(draw, well_posed):
    """Blocks of any shape; rank-deficient ones where rank is looked at."""
    tall, deficient = draw(np.float64, 3, 2), np.outer(*draw(np.float64, 2, 3))
    blocks = [MatrixLinearOperator(jnp.asarray(tall)), stack(draw(np.float64, 2, 3, 2))]
    if well_posed is False:
        blocks += [MatrixLinearOperator(jnp.asarray(m)) for m in (deficient, tall.T)]
    operator = BlockDiagonalLinearOperator(tuple(blocks))
    solver = AutoLinearSolver(well_posed)
    assert type(solver.select_solver(operator)) is BlockDiagonal
    b = draw(np.float64, operator.out_size())
    (x, result), *_ = _solutions(solver, operator, jnp.asarray(b))
    assert result == RESULTS.successful
    np.testing.assert_allclose(x, np.linalg.pinv(operator.as_matrix()) @ b, atol=1e-12)


@eqx.filter_jit
def _solutions(solver, operator, *bs):
    state = solver.init(operator, {})
    vectors = (unravel(b, operator.out_structure()) for b in bs)
    return [
        (ravel(x), result)
        for x, result, _ in (solver.compute(state, vector, {}) for vector in vectors)
    ]


def test_first_failure_is_the_result(draw):
    good, bad = draw(np.float64, 2, 2), np.ones((2, 2))
    lost = np.full((2, 2), np.nan)
    singular, nonfinite = RESULTS[RESULTS.singular], RESULTS[RESULTS.nonfinite_input]
    for matrices, wanted in (
        ([good, good], ""),
        ([good, bad], singular),
        ([bad, lost], singular),
        ([lost, bad], nonfinite),
    ):
        blocks = [MatrixLinearOperator(jnp.asarray(m)) for m in matrices]
        for operator in (
            BlockDiagonalLinearOperator(blocks),
            stack(np.stack(matrices)),
        ):
            ((_, result),) = _solutions(BlockDiagonal(LU()), operator, jnp.ones(4))
            assert RESULTS[result] == wanted


def test_statistics_of_blocks():
    one = MatrixLinearOperator(jnp.eye(2), positive_semidefinite_tag)
    two = MatrixLinearOperator(jnp.diag(jnp.arange(1.0, 4)), positive_semidefinite_tag)
    operator = BlockDiagonalLinearOperator([one, two])
    solver = BlockDiagonal(CG(rtol=1e-9, atol=1e-9))

    @jax.jit
    def steps():
        state = solver.init(operator, {})
        _, _, stats = solver.compute(state, [jnp.ones(2), jnp.ones(3)], {})
        return [block["num_steps"] for block in stats["blocks"]]

    first, second = steps()
    assert first < second


def test_many_equal_blocks_are_one_batch():
    """10⁴ blocks compile to one batched factorisation."""
    matrices = jnp.tile(2 * jnp.eye(3), (10_000, 1, 1))
    operator = stack(matrices)
    b = jnp.ones(30_000)
    ((x, result),) = _solutions(AutoLinearSolver(well_posed=True), operator, b)
    assert result == RESULTS.successful
    np.testing.assert_array_equal(x, 0.5)


def test_tall_beside_wide_has_no_full_rank():
    tall = MatrixLinearOperator(jnp.ones((3, 2)))
    operator = BlockDiagonalLinearOperator([tall, tall.T])
    with pytest.raises(ValueError, match="cannot have full rank"):
        BlockDiagonal(QR()).init(operator, {})
    chosen = AutoLinearSolver(well_posed=True).select_solver(operator)
    assert chosen == LU()


def test_others_are_an_error():
    with pytest.raises(ValueError, match="Make it a `BlockDiagonalLinearOperator`"):
        BlockDiagonal(LU()).init(MatrixLinearOperator(jnp.eye(2)), {})


def test_scipy_block_diag(draw):
    matrices = [draw(np.float64, n, n) + 4 * np.eye(n) for n in (1, 3, 2)]
    operator = BlockDiagonalLinearOperator(
        [MatrixLinearOperator(jnp.asarray(m)) for m in matrices]
    )
    b = draw(np.float64, 6)
    ((x, _),) = _solutions(BlockDiagonal(LU()), operator, jnp.asarray(b))
    wanted = scipy.linalg.solve(scipy.linalg.block_diag(*matrices), b)
    np.testing.assert_allclose(x, wanted, rtol=1e-12)
