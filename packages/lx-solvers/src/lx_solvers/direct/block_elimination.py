"""BlockElimination: substitution by blocks, or a Schur complement.

A grid of blocks with none above (or below) its diagonal is solved by substitution. Two
by two blocks, one of the diagonal ones A invertible, by elimination of its unknowns
(Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 3.2.11):

    [A B] [x]   [f]         S = D - C A⁻¹ B,
    [C D] [y] = [g],        S y = g - C A⁻¹ f,      A x = f - B y

S is formed, by as many solves with A as it has columns; nothing else is. Elimination
without exchanges across blocks is stable for definite operators, not in general. So
the answer x is checked: `unstable` if ‖b - Mx‖ > √eps (‖M‖‖x‖ + ‖Mx‖ + ‖b‖), where a
product of each block with a random vector stands for ‖M‖, which it does not exceed.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree
from lx_operators import (
    AbstractLinearOperator,
    BlockLinearOperator,
    MatrixLinearOperator,
    TaggedLinearOperator,
    conj,
    hermitian_tag,
    is_nonsingular,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
    symmetric_tag,
)
from lx_operators.internal import (
    Grid,
    bare,
    block_grid,
    common_dtype,
    known,
    map_grid,
    ravel,
    sides,
    size_of,
    square_diagonal,
    unravel,
)

from .._checks import check_options, check_state
from .._results import both
from .._scaling import eps, largest, negligible
from .._sizes import variates
from .._slogdet import part, slogdet_of, trace_of, trace_of_part
from .._solution import RESULTS
from .._solver import AbstractLinearSolver

# Tags that hold for the blocks on the diagonal too, and for Schur complements.
_PRINCIPAL = frozenset(
    (symmetric_tag, hermitian_tag, positive_semidefinite_tag, negative_semidefinite_tag)
)


class _Substitution(eqx.Module):
    grid: Grid
    states: tuple[Any, ...]  # of the blocks on the diagonal
    lower: bool = eqx.field(static=True)


class _Elimination(eqx.Module):
    grid: Grid
    state: Any  # of A
    schur: Any  # of S, between flat vectors
    norm: Array  # at most the maximum norm of the whole
    first: int = eqx.field(static=True)  # where A is: 0 or 1


_State = _Substitution | _Elimination


class BlockElimination(AbstractLinearSolver[_State]):
    """Solves a `BlockLinearOperator` with square blocks on the diagonal: by
    substitution if it is block triangular, or by a Schur complement if it has two by
    two blocks.

    With two by two blocks, the unknowns of a diagonal block known to be nonsingular are
    eliminated, or else those of the larger diagonal block, and the Schur complement of
    that block is formed. Reports `singular` if the eliminated block is singular, even
    where the whole operator is not.

    Args:
        inner_solver: the solver for the blocks on the diagonal, and for the Schur
            complement. `AutoLinearSolver(well_posed=True)` chooses the best one for
            each.

    Raises:
        ValueError: the operator is not known to be such a grid; or the inner solver
            raises it.

    Golub and Van Loan, "Matrix Computations", 4th ed., 2013, section 3.2.11.

    ```python
    A = lx.MatrixLinearOperator(2 * jnp.eye(3), lx.positive_semidefinite_tag)
    B = lx.MatrixLinearOperator(jnp.ones((1, 3)))
    saddle = lx.BlockLinearOperator([[A, B.T], [B, None]])
    solver = lx.BlockElimination(lx.AutoLinearSolver(well_posed=True))
    x, y = lx.linear_solve(saddle, (jnp.ones(3), jnp.ones(1)), solver).value
    ```
    """

    inner_solver: AbstractLinearSolver

    def init(self, operator, options):
        check_options(options, (), "BlockElimination")
        grid = _grid(operator)
        if grid is None:
            raise ValueError(
                "`BlockElimination` solves grids of blocks that are triangular or two "
                "by two, with square blocks on the diagonal, but the operator is not "
                f"known to be one: {operator!r}. Use `LU`."
            )
        init = self.inner_solver.init
        below, above = sides(grid)
        if not (below and above):
            blocks: Any = [row[i] for i, row in enumerate(grid)]
            return _Substitution(grid, tuple(init(b, {}) for b in blocks), not above)
        first = _eliminated(grid)
        A, B, C, D = _ordered(grid, first)
        state = init(A, {})
        space = B.in_structure()

        def column(unit: Array) -> Array:
            y = unravel(unit, space)
            x, _, _ = self.inner_solver.compute(state, B.mv(y), {})
            taken = _negated(C.mv(x))
            return ravel(taken if D is None else _plus(D.mv(y), taken), dtype)

        dtype = common_dtype(space)
        S = jax.vmap(column, out_axes=1)(jnp.eye(size_of(space), dtype=dtype))
        schur = init(MatrixLinearOperator(S, known(operator) & _PRINCIPAL), {})
        return _Elimination(grid, state, schur, _norm(A, B, C, D), first)

    def compute(self, state, vector, options):
        check_state(state, (_Substitution, _Elimination), "BlockElimination")
        if isinstance(state, _Substitution):
            return self._substitute(state, vector)
        return self._eliminate(state, vector)

    def _substitute(self, state: _Substitution, vector: Any) -> Any:
        n, x, result = len(vector), {}, RESULTS.successful
        for i in range(n) if state.lower else reversed(range(n)):
            rest = vector[i]
            for j, block in enumerate(state.grid[i]):
                if j in x and block is not None:
                    rest = _plus(rest, _negated(block.mv(x[j])))
            x[i], ended, _ = self.inner_solver.compute(state.states[i], rest, {})
            result = both(result, ended)
        return tuple(x[i] for i in range(n)), result, {}

    def _eliminate(self, state: _Elimination, vector: Any) -> Any:
        A, B, C, D = _ordered(state.grid, state.first)
        f, g = vector[state.first], vector[1 - state.first]
        space, solve = B.in_structure(), self.inner_solver.compute
        x, result, _ = solve(state.state, f, {})
        rest = ravel(_plus(g, _negated(C.mv(x))), common_dtype(space))
        y, ended, _ = solve(state.schur, rest, {})
        result = both(result, ended)
        y = unravel(y, space)
        By = B.mv(y)
        x, _, _ = solve(state.state, _plus(f, _negated(By)), {})
        Mx = [_plus(A.mv(x), By), C.mv(x) if D is None else _plus(C.mv(x), D.mv(y))]
        bad = ~_solved([f, g], Mx, state.norm * _size([x, y]))
        bad = bad & (result == RESULTS.successful)
        result = RESULTS.where(bad, RESULTS.unstable, result)
        return (x, y) if state.first == 0 else (y, x), result, {}

    def transpose(self, state, options):
        check_state(state, (_Substitution, _Elimination), "BlockElimination")

        def turn(inner: Any) -> Any:
            return self.inner_solver.transpose(inner, {})[0]

        grid = map_grid(lambda block: block.T, tuple(zip(*state.grid)))
        if isinstance(state, _Substitution):
            states = tuple(map(turn, state.states))
            return _Substitution(grid, states, not state.lower), {}
        inner = turn(state.state), turn(state.schur)
        return _Elimination(grid, *inner, state.norm, state.first), {}

    def conj(self, state, options):
        check_state(state, (_Substitution, _Elimination), "BlockElimination")

        def turn(inner: Any) -> Any:
            return self.inner_solver.conj(inner, {})[0]

        grid = map_grid(conj, state.grid)
        if isinstance(state, _Substitution):
            return _Substitution(grid, tuple(map(turn, state.states)), state.lower), {}
        inner = turn(state.state), turn(state.schur)
        return _Elimination(grid, *inner, state.norm, state.first), {}

    def assume_full_rank(self):
        return True


def _grid(operator: AbstractLinearOperator) -> Grid | None:
    """The blocks, if they can be eliminated; those on the diagonal have the tags of the
    whole operator that hold for them too."""
    whole = block_grid(operator)
    if whole is None or not square_diagonal(whole):
        return None
    grid = whole.blocks
    diagonal = [row[i] for i, row in enumerate(grid)]
    if all(sides(grid)):
        possible = len(grid) == 2 and diagonal != [None, None]
    else:
        possible = None not in diagonal
    if not possible:
        return None
    tags = known(operator) & _PRINCIPAL

    def tagged(i: int, j: int, block: Any) -> Any:
        if i != j or block is None or tags <= known(block):
            return block
        return TaggedLinearOperator(block, tags)

    return tuple(
        tuple(tagged(i, j, block) for j, block in enumerate(row))
        for i, row in enumerate(grid)
    )


def eliminable(operator: AbstractLinearOperator) -> bool:
    """Whether elimination succeeds where the whole is nonsingular: blocks on one side
    of the diagonal only, or a nonsingular block on it."""
    grid = _grid(operator)
    if grid is None:
        return False
    if not all(sides(grid)):
        return True
    semidefinite = {positive_semidefinite_tag, negative_semidefinite_tag}
    return bool(known(operator) & semidefinite) or any(
        grid[i][i] is not None and is_nonsingular(grid[i][i]) for i in range(2)
    )


def _eliminated(grid: Grid) -> int:
    """Which of two blocks on the diagonal is eliminated."""

    def worth(i: int) -> tuple[bool, bool, int]:
        block = grid[i][i]
        if block is None:
            return False, False, -1
        return True, is_nonsingular(block), block.in_size()

    return 0 if worth(0) >= worth(1) else 1


def _ordered(grid: Grid, first: int) -> tuple[Any, Any, Any, Any]:
    """A, B, C, D with A the block that is eliminated."""
    p, q = first, 1 - first
    return grid[p][p], grid[p][q], grid[q][p], grid[q][q]


def _norm(*blocks: AbstractLinearOperator | None) -> Array:
    """‖Bz‖ / ‖z‖, the largest of all blocks, for a fixed z of normal variates."""
    norms = []
    for block in blocks:
        if block is not None:
            space = block.in_structure()
            z = variates((size_of(space),), common_dtype(space))
            z = unravel(jnp.asarray(z), space)
            size = _size(z)
            norms.append(_size(block.mv(z)) / jnp.where(size == 0, 1, size))
    return jnp.max(jnp.asarray(norms))


def _solved(b: PyTree[Array], Mx: PyTree[Array], size: Array) -> Array:
    """Whether Mx is b, relative to ‖M‖‖x‖."""
    u = max((eps(leaf.dtype) for leaf in jtu.tree_leaves(b)), default=0.0)
    rest = _size(_plus(b, _negated(Mx)))
    return negligible(rest, size + _size(b) + _size(Mx), u)


def _size(x: PyTree[Array]) -> Array:
    sizes = [largest(leaf) for leaf in jtu.tree_leaves(x)]
    return jnp.max(jnp.asarray(sizes), initial=0)


def _plus(x: PyTree[Array], y: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(jnp.add, x, y)


def _negated(x: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(jnp.negative, x)


@slogdet_of.register
def _(state: _Substitution):
    return _product([slogdet_of(inner) for inner in state.states])


@slogdet_of.register
def _(state: _Elimination):
    return _product([slogdet_of(state.state), slogdet_of(state.schur)])


def _product(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    signs, logs = zip(*parts)
    return jnp.prod(jnp.asarray(signs)), jnp.sum(jnp.asarray(logs))


@trace_of.register
def _(state: _Substitution, solver, tangent):
    """Only the blocks on the diagonal count."""
    if not isinstance(bare(tangent.primal), BlockLinearOperator):
        return None
    traces = []
    for i, inner in enumerate(state.states):
        block = part(lambda op, i=i: bare(op).blocks[i][i], tangent)
        traces.append(trace_of_part(inner, solver.inner_solver, block))
    return jnp.sum(jnp.asarray(traces))
