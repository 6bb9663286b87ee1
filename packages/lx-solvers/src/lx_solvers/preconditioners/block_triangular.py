"""Block operators: substitution by blocks, and Schur complements."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, PyTree
from lx_operators import (
    AbstractLinearOperator,
    DiagonalLinearOperator,
    TaggedLinearOperator,
    conj,
    diagonal,
    hermitian_tag,
    is_hermitian,
    is_positive_semidefinite,
    positive_semidefinite_tag,
)
from lx_operators.internal import Grid, block_grid, map_grid, unravel

from .._auto import AutoLinearSolver
from .._sequence import follow
from ._adapted import as_preconditioner
from ._preconditioner import AbstractPreconditioner, stopped

_FORMS = ("diagonal", "lower", "upper", "full")


class _State(eqx.Module):
    grid: Grid
    inverses: tuple[AbstractLinearOperator, ...]
    """Inverses of the blocks on the diagonal, or of their replacements."""
    form: str = eqx.field(static=True)


def _grid_of(operator: AbstractLinearOperator, name: str) -> Grid:
    grid = block_grid(operator)
    if grid is None:
        raise ValueError(
            f"`{name}` needs a `BlockLinearOperator`, but got {operator!r}."
        )
    return grid.blocks


def _substituted(state: _State, vector: PyTree[Array]) -> tuple[PyTree[Array], ...]:
    """z = M r, block by block."""
    z: list[Any] = [None] * len(state.inverses)
    indices = range(len(z))
    if state.form == "diagonal":
        return tuple(P.mv(r) for P, r in zip(state.inverses, vector))
    for i in indices if state.form in ("lower", "full") else reversed(indices):
        z[i] = state.inverses[i].mv(_less(vector[i], state.grid[i], z))
    if state.form == "full":  # the first block again, now that the second is known
        (_, B), second = state.grid[0], z[1]
        if B is not None:
            z[0] = _sub(z[0], state.inverses[0].mv(B.mv(second)))
    return tuple(z)


def _less(r: PyTree[Array], row: Any, z: Sequence[Any]) -> PyTree[Array]:
    for block, known in zip(row, z):
        if block is not None and known is not None:
            r = _sub(r, block.mv(known))
    return r


def _sub(x: PyTree[Array], y: PyTree[Array]) -> PyTree[Array]:
    return jax.tree.map(lambda a, b: a - b, x, y)


_TRANSPOSED = {"lower": "upper", "upper": "lower", "diagonal": "diagonal"}


def _turned(state: _State, fn: Callable, transposed: bool) -> _State:
    grid = map_grid(fn, state.grid)
    form = state.form
    if transposed:
        grid = tuple(zip(*grid))
        form = _TRANSPOSED.get(form, form)
    return _State(grid, tuple(map(fn, state.inverses)), form)


class BlockTriangular(AbstractPreconditioner[_State]):
    """Substitution by the lower (or upper) triangle of a `BlockLinearOperator`, with a
    preconditioner in place of each block on the diagonal.

    Benzi, Golub and Liesen 2005, section 10.1, doi:10.1017/S0962492904000212. Exact
    inverses of A and of the Schur complement on the diagonal make `GMRES` converge in
    two steps.

    Args:
        blocks: for each block on the diagonal a preconditioner, a direct solver, or an
            operator that approximates the inverse, as needed for a block of zeros.
        upper: substitute by the upper triangle.

    Raises:
        ValueError: the operator is not made of square blocks, as many as `blocks`.

    ```python
    A = lx.MatrixLinearOperator(4 * jnp.eye(3) + 1, lx.positive_semidefinite_tag)
    B = lx.MatrixLinearOperator(jnp.ones((1, 3)))
    saddle = lx.BlockLinearOperator([[A, B.T], [B, None]])
    schur = lx.DiagonalLinearOperator(jnp.array([-2.0]))
    solver = lx.GMRES(preconditioner=lx.BlockTriangular([lx.Cholesky(), schur]))
    solution = lx.linear_solve(saddle, (jnp.ones(3), jnp.ones(1)), solver)
    ```
    """

    blocks: tuple[Any, ...]
    upper: bool = eqx.field(static=True)

    def __init__(self, blocks: Sequence[Any], *, upper: bool = False):
        self.blocks = tuple(map(_part, blocks))
        self.upper = upper

    def setup(self, operator):
        grid = _grid_of(operator, "BlockTriangular")
        parts = tuple(
            _ready(part, grid[i][i])
            for i, part in enumerate(self.blocks[: min(len(grid), len(grid[0]))])
        )
        parts += self.blocks[len(parts) :]
        if all(new is old for new, old in zip(parts, self.blocks)):
            return self
        return BlockTriangular(parts, upper=self.upper)

    def init(self, operator, options):
        grid = _grid_of(operator, "BlockTriangular")
        if not len(grid) == len(grid[0]) == len(self.blocks):
            raise ValueError(
                f"`BlockTriangular` has preconditioners for {len(self.blocks)} blocks, "
                f"but the operator has {len(grid)} rows and {len(grid[0])} columns of "
                "blocks."
            )
        inverses = []
        for i, part in enumerate(self.blocks):
            if isinstance(part, AbstractPreconditioner):
                block = grid[i][i]
                if block is None:
                    raise ValueError(
                        f"block {i} on the diagonal is zero: `BlockTriangular` needs "
                        "an operator in place of its inverse, such as that of a Schur "
                        f"complement, but got {part!r}; or use `SchurComplement`."
                    )
                part = part.as_operator(follow(block, inverses))
            inverses.append(part)
        return _State(grid, tuple(inverses), "upper" if self.upper else "lower")

    def apply(self, state, vector):
        return _substituted(state, vector)

    def transpose(self, state, options):
        return _turned(state, lambda A: A.T, True), options

    def conj(self, state, options):
        return _turned(state, conj, False), options

    def is_constant(self):
        return all(getattr(x, "is_constant", lambda: True)() for x in self.blocks)


class SchurComplement(AbstractPreconditioner[_State]):
    """For two by two blocks [[A, B], [C, D]], as of saddle points (Stokes flow, KKT
    systems): a preconditioner of A and one of the Schur complement S = D - C A⁻¹ B.

    Benzi, Golub and Liesen 2005, section 10, doi:10.1017/S0962492904000212. By `form`:

    | form | M⁻¹ | for |
    |---|---|---|
    | "diagonal" | [[A, 0], [0, -S]] | `MINRES` |
    | "lower" | [[A, 0], [C, S]] | `GMRES` |
    | "upper" | [[A, B], [0, S]] | `GMRES` |
    | "full" | [[A, B], [C, D]], if A and S are exact | `GMRES` |

    The diagonal form is positive definite if A is, D is not positive, and the operator
    Hermitian (Murphy, Golub and Wathen 2000, doi:10.1137/S1064827599355153).

    Args:
        first: for A: a preconditioner, a direct solver, or an operator near A⁻¹.
        schur: for D - C diag(A)⁻¹ B: a preconditioner, a direct solver, or an operator
            near S⁻¹, such as the inverse of minus the mass matrix in Stokes flow. By
            default this matrix is formed and factorised.
        form: see the table.

    Raises:
        ValueError: the operator does not have two by two blocks.

    ```python
    A = lx.MatrixLinearOperator(4 * jnp.eye(3) + 1, lx.positive_semidefinite_tag)
    B = lx.MatrixLinearOperator(jnp.ones((1, 3)))
    saddle = lx.BlockLinearOperator([[A, B.T], [B, None]])
    schur = lx.SchurComplement(lx.Cholesky(), form="diagonal")
    solver = lx.MINRES(preconditioner=schur)
    solution = lx.linear_solve(saddle, (jnp.ones(3), jnp.ones(1)), solver)
    ```
    """

    first: Any
    schur: Any
    form: str = eqx.field(static=True)

    def __init__(self, first: Any, schur: Any = None, *, form: str = "lower"):
        if form not in _FORMS:
            raise ValueError(
                f"`form` of `SchurComplement` must be one of {_FORMS}, but got "
                f"{form!r}."
            )
        self.first = _part(first)
        self.schur = _part(AutoLinearSolver(True) if schur is None else schur)
        self.form = form

    def setup(self, operator):
        grid, S, _ = self._blocks(operator)
        first, schur = _ready(self.first, grid[0][0]), _ready(self.schur, S)
        if first is self.first and schur is self.schur:
            return self
        return SchurComplement(first, schur, form=self.form)

    def _blocks(self, operator: AbstractLinearOperator) -> tuple[Grid, Any, bool]:
        """The grid, S where it is needed, and whether that is -S."""
        grid = _grid_of(operator, "SchurComplement")
        if len(grid) != 2 or len(grid[0]) != 2 or grid[0][0] is None:
            raise ValueError(
                "`SchurComplement` needs two by two blocks, the first not zero, but "
                f"got {operator!r}."
            )
        if not isinstance(self.schur, AbstractPreconditioner):
            return grid, None, False
        positive = self.form == "diagonal" and _is_saddle(operator, grid)
        return grid, _schur(grid, positive), positive

    def init(self, operator, options):
        grid, S, positive = self._blocks(operator)
        first: Any = self.first
        schur: Any = self.schur
        A: Any = grid[0][0]
        if isinstance(first, AbstractPreconditioner):
            first = first.as_operator(A)
        if isinstance(schur, AbstractPreconditioner):
            schur = schur.as_operator(follow(S, first))
            schur = schur if positive or self.form != "diagonal" else -schur
        elif self.form == "diagonal":
            schur = -schur
        return _State(grid, (first, schur), self.form)

    def apply(self, state, vector):
        return _substituted(state, vector)

    def transpose(self, state, options):
        return _turned(state, lambda A: A.T, True), options

    def conj(self, state, options):
        return _turned(state, conj, False), options

    def tags(self, operator):
        grid = block_grid(operator)
        if self.form == "diagonal" and grid and _is_saddle(operator, grid.blocks):
            return frozenset((positive_semidefinite_tag,))
        hermitian = self.form == "full" and is_hermitian(operator)
        return frozenset((hermitian_tag,)) if hermitian else frozenset()

    def is_constant(self):
        parts = self.first, self.schur
        return all(getattr(x, "is_constant", lambda: True)() for x in parts)


def _part(given: Any) -> Any:
    """An operator as it is, else a preconditioner."""
    if isinstance(given, AbstractLinearOperator):
        return stopped(given)
    part = as_preconditioner(given)
    if part is None:
        raise ValueError("a preconditioner is needed for each block, but got None.")
    return part


def _ready(part: Any, block: AbstractLinearOperator | None) -> Any:
    """A part that was set up, if it is a preconditioner."""
    if block is None or not isinstance(part, AbstractPreconditioner):
        return part
    return part.setup(block)


def _is_saddle(operator: AbstractLinearOperator, grid: Grid) -> bool:
    """Whether -S is positive semidefinite, as far as is known."""
    A, D = grid[0][0], grid[1][1]
    below = D is None or is_positive_semidefinite(-D)
    return is_hermitian(operator) and is_positive_semidefinite(A) and below


def _schur(grid: Grid, positive: bool) -> AbstractLinearOperator:
    """D - C diag(A)⁻¹ B; or, positive, its negative."""
    (A, B), (C, D) = grid
    if A is None or B is None or C is None:
        raise ValueError(
            "`SchurComplement` needs blocks off the diagonal that are not zero; for "
            "this operator use `BlockTriangular` or `BlockJacobi`."
        )
    inverse = DiagonalLinearOperator(unravel(1 / diagonal(A), A.in_structure()))
    product = C @ inverse @ B
    if not positive:
        return -product if D is None else D - product
    S = product if D is None else product - D
    return TaggedLinearOperator(S, positive_semidefinite_tag)
