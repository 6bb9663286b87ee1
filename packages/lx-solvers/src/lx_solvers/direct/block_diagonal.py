"""BlockDiagonal: block by block."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from lx_operators import (
    AbstractLinearOperator,
    BlockDiagonalLinearOperator,
    StackedLinearOperator,
    TangentLinearOperator,
)
from lx_operators.internal import bare, block_diagonal, block_shapes

from .._checks import check_options, check_state
from .._results import both, first_failure
from .._sequence import follow, in_sequence
from .._slogdet import part, slogdet_of, trace_of, trace_of_part
from .._solution import RESULTS
from .._solver import AbstractLinearSolver


class _Listed(eqx.Module):
    states: tuple[Any, ...]
    tree: Any = eqx.field(static=True)  # that the blocks stand in


class _Stacked(eqx.Module):
    state: Any  # of one slice, its arrays stacked
    size: int = eqx.field(static=True)


_State = _Listed | _Stacked


class BlockDiagonal(AbstractLinearSolver[_State]):
    """Solves a `BlockDiagonalLinearOperator` block by block, and the slices of a
    `StackedLinearOperator` as one batch.

    The pseudoinverse of a block diagonal operator consists of those of its blocks. A
    rank-revealing inner solver judges small singular values relative to their own
    block, not to the whole operator.

    Args:
        inner_solver: the solver for each block. `AutoLinearSolver` chooses the best one
            for each.

    If a block fails, the result is that of the first one that did. If the inner solver
    has statistics, `stats["blocks"]` has them for each block.

    Raises:
        ValueError: the operator is not known to be block diagonal; some blocks have
            more rows than columns and others fewer, and the inner solver assumes full
            rank, which the whole then cannot have; what the inner solver raises.

    ```python
    a = lx.MatrixLinearOperator(2 * jnp.eye(2))
    b = lx.DiagonalLinearOperator(jnp.ones(3))
    operator = lx.BlockDiagonalLinearOperator([a, b])
    solver = lx.BlockDiagonal(lx.AutoLinearSolver(well_posed=True))
    solution = lx.linear_solve(operator, [jnp.ones(2), jnp.ones(3)], solver)
    ```
    """

    inner_solver: AbstractLinearSolver

    def init(self, operator, options):
        check_options(options, (), "BlockDiagonal")
        blocks = block_diagonal(operator)
        if blocks is None:
            raise ValueError(
                "`BlockDiagonal` solves block diagonal systems only, but the operator "
                f"is not known to be one: {operator!r}. Make it a "
                "`BlockDiagonalLinearOperator` or a `StackedLinearOperator`."
            )
        if self.inner_solver.assume_full_rank() and not full_rank_possible(blocks):
            raise ValueError(
                "with blocks that have more rows than columns and others that have "
                f"fewer, as in {operator!r}, an operator cannot have full rank, which "
                f"`{self.inner_solver!r}` assumes; use a rank-revealing solver for the "
                "blocks, such as `AutoLinearSolver(well_posed=False)`."
            )
        if isinstance(blocks, StackedLinearOperator):
            state = _vmap(self._init, blocks.size)(blocks.operator)
            return _Stacked(state, blocks.size)
        parts, tree = _flatten(blocks)
        return _Listed(tuple(in_sequence(self._init, parts)), tree)

    def _init(self, block: AbstractLinearOperator) -> Any:
        return self.inner_solver.init(block, {})

    def compute(self, state, vector, options):
        check_state(state, (_Listed, _Stacked), "BlockDiagonal")
        if isinstance(state, _Stacked):
            compute = _vmap(self._compute, state.size)
            x, results, stats = compute(state.state, vector)
            result = first_failure(results)
            return x, result, {"blocks": stats} if stats else {}
        vectors = state.tree.flatten_up_to(vector)
        # the states were made in sequence: the last is there when all are
        vectors = follow(vectors, state.states[-1:])
        solved = in_sequence(
            lambda b, inner: self._compute(inner, b), vectors, state.states
        )
        result, stats = RESULTS.successful, [stats for _, _, stats in solved]
        for _, ended, _ in solved:
            result = both(result, ended)
        x = state.tree.unflatten([x for x, _, _ in solved])
        return x, result, {"blocks": state.tree.unflatten(stats)} if any(stats) else {}

    def _compute(self, state: Any, vector: Any) -> Any:
        return self.inner_solver.compute(state, vector, {})

    def transpose(self, state, options):
        check_state(state, (_Listed, _Stacked), "BlockDiagonal")
        return _mapped(lambda s: self.inner_solver.transpose(s, {})[0], state), {}

    def conj(self, state, options):
        check_state(state, (_Listed, _Stacked), "BlockDiagonal")
        return _mapped(lambda s: self.inner_solver.conj(s, {})[0], state), {}

    def assume_full_rank(self):
        return self.inner_solver.assume_full_rank()


def full_rank_possible(operator: Any) -> bool:
    """Whether no block has fewer rows than columns, or none has fewer columns than
    rows."""
    shapes = block_shapes(operator)
    return all(m >= n for m, n in shapes) or all(m <= n for m, n in shapes)


def _flatten(operator: BlockDiagonalLinearOperator) -> tuple[list[Any], Any]:
    return jtu.tree_flatten(
        operator.blocks, is_leaf=lambda x: isinstance(x, AbstractLinearOperator)
    )


def _vmap(fn: Any, size: int) -> Any:
    return eqx.filter_vmap(fn, axis_size=size)


def _mapped(fn: Any, state: _State) -> _State:
    if isinstance(state, _Stacked):
        return _Stacked(_vmap(fn, state.size)(state.state), state.size)
    return _Listed(tuple(map(fn, state.states)), state.tree)


@slogdet_of.register
def _(state: _Listed):
    parts = [slogdet_of(part) for part in state.states]
    signs, logs = zip(*parts) if parts else ((), ())
    return jnp.prod(jnp.asarray(signs)), jnp.sum(jnp.asarray(logs))


@slogdet_of.register
def _(state: _Stacked):
    signs, logs = _vmap(slogdet_of, state.size)(state.state)
    return jnp.prod(signs), jnp.sum(logs)


@trace_of.register
def _(state: _Listed, solver, tangent):
    if not isinstance(bare(tangent.primal), BlockDiagonalLinearOperator):
        return None

    def trace(inner: Any, i: int) -> Any:
        block = part(lambda op: _flatten(bare(op))[0][i], tangent)
        return trace_of_part(inner, solver.inner_solver, block)

    states = follow(state.states, state.states[-1:])
    traces = in_sequence(trace, states, range(len(states)))
    return jnp.sum(jnp.asarray(traces))


@trace_of.register
def _(state: _Stacked, solver, tangent):
    primal, moved = bare(tangent.primal), bare(tangent.tangent)
    if not isinstance(primal, StackedLinearOperator):
        return None

    def trace(inner: Any, primal: Any, moved: Any) -> Any:
        block = TangentLinearOperator(primal, moved)
        return trace_of_part(inner, solver.inner_solver, block)

    traces = _vmap(trace, state.size)
    return jnp.sum(traces(state.state, primal.operator, moved.operator))
