"""The automatic choice of a solver."""

import functools
from typing import Any

import equinox as eqx
from lx_operators import AbstractLinearOperator
from lx_operators.internal import MAX_BYTES

from ._checks import check_state
from ._gaussian import inverse_diagonal_of, root_of
from ._memory import check_formed
from ._projection import annihilated
from ._slogdet import slogdet_of, trace_of
from ._solver import AbstractLinearSolver, Options
from ._table import Row, rows


class AutoState(eqx.Module):
    """The state of the solver that was chosen."""

    solver: AbstractLinearSolver = eqx.field(static=True)
    state: Any


class AutoLinearSolver(AbstractLinearSolver[AutoState]):
    """Chooses a direct solver from the operator's structure and tags.

    | `well_posed` | chosen, the first that fits |
    |---|---|
    | `True` | square: diagonal, structured, banded, triangular, semidefinite, LU |
    | `False` | diagonal with zeros allowed, structured, pivoted QR |
    | `None` | diagonal with zeros allowed, structured, not square (QR), as `True` |

    Structured operators are block diagonal operators (`BlockDiagonal`, with the best
    solver for each block), tridiagonal operators, permutations (`Permutation`),
    circulant operators (`Circulant`), Kronecker products (`Kronecker`, with the best
    solver for each factor), Kronecker products and sums of Hermitian factors plus
    multiples of the identity (`KroneckerEigh`); and, except for `False`, other
    Kronecker sums (`Sylvester`), positive or negative definite Toeplitz operators
    (`Toeplitz`) and low-rank updates of operators that are known to be nonsingular
    (`Woodbury`).

    Direct solvers form the matrix of an operator that is not stored as one, such as a
    `FunctionLinearOperator`. This solver refuses to do so if the matrix would be too
    large; to form it anyway, name the direct solver yourself.

    Args:
        well_posed: whether the operator is square and nonsingular (`True`), may be
            anything (`False`), or has full rank (`None`).
        max_bytes: the largest matrix that may be formed from an operator that is itself
            several times smaller; by default 4 GiB, `None` for no limit. Under `vmap`
            the limit applies to each member of the batch.

    Raises:
        ValueError: another value; with `True`, an operator that is not square; or the
            matrix would take more than `max_bytes`. The text then gives its size and
            names an iterative solver that fits.

    ```python
    operator = lx.MatrixLinearOperator(jnp.eye(3), lx.positive_semidefinite_tag)
    solver = lx.AutoLinearSolver(well_posed=None)
    solver.select_solver(operator)  # the solver
    print(solver.explain(operator))  # and why
    ```
    """

    well_posed: bool | None = eqx.field(static=True)
    max_bytes: int | None = eqx.field(
        static=True, default=MAX_BYTES, kw_only=True, repr=False
    )

    def __check_init__(self):
        if self.well_posed not in (True, False, None):
            raise ValueError(
                "`well_posed` must be True, False or None, but got "
                f"{self.well_posed!r}."
            )
        size = self.max_bytes
        if size is not None and not (isinstance(size, int | float) and size >= 0):
            raise ValueError(
                "`max_bytes` must be a number of bytes of at least 0, or None for no "
                f"limit, but got {size!r}."
            )

    def _row(self, operator: AbstractLinearOperator) -> Row:
        m, n = operator.out_size(), operator.in_size()
        if self.well_posed is True and m != n:
            raise ValueError(
                "`AutoLinearSolver(well_posed=True)` solves square systems only, but "
                f"the operator's matrix is {m} by {n}: {operator!r}. For least-squares "
                "or minimum-norm solutions use "
                "`AutoLinearSolver(well_posed=None)`, which assumes full rank, or "
                "`AutoLinearSolver(well_posed=False)`, which does not."
            )
        return next(row for row in self._rows() if row.holds(operator))

    def _rows(self) -> tuple[Row, ...]:
        return table(self.max_bytes)[self.well_posed]

    def select_solver(self, operator: AbstractLinearOperator) -> AbstractLinearSolver:
        """The solver that is used for this operator.

        Args:
            operator: A.

        Returns:
            A solver.

        Raises:
            ValueError: `well_posed=True` and the operator is not square.
        """
        return self._row(operator).solver

    def explain(self, operator: AbstractLinearOperator) -> str:
        """Which row of the table matched, which did not, and why, as text.

        Args:
            operator: A.
        """
        chosen = self._row(operator)
        lines = [f"AutoLinearSolver(well_posed={self.well_posed}) for {operator!r}:"]
        for row in self._rows():
            mark = "->" if row is chosen else "  "
            verdict = "yes" if row.holds(operator) else "not known"
            lines.append(f"{mark} {row.solver!r}: {row.because}? {verdict}")
            if row is chosen:
                break
        return "\n".join(lines)

    def init(self, operator: AbstractLinearOperator, options: Options) -> AutoState:
        solver = self.select_solver(operator)
        check_formed(operator, solver, self.max_bytes, self.well_posed)
        return AutoState(solver, solver.init(operator, options))

    def compute(self, state: AutoState, vector, options: Options):
        check_state(state, AutoState, "AutoLinearSolver")
        return state.solver.compute(state.state, vector, options)

    def transpose(self, state: AutoState, options: Options):
        inner, options = state.solver.transpose(state.state, options)
        return AutoState(state.solver, inner), options

    def conj(self, state: AutoState, options: Options):
        inner, options = state.solver.conj(state.state, options)
        return AutoState(state.solver, inner), options

    def assume_full_rank(self) -> bool:
        """True, unless `well_posed` is `False`. (Derivatives ask the solver that was
        chosen, which may know less: `Diagonal` allows zeros.)"""
        return self.well_posed is not False


@functools.cache
def table(max_bytes: int | None = MAX_BYTES) -> dict[bool | None, tuple[Row, ...]]:
    """For each `well_posed`, the rows from condition to solver, in their order."""
    return rows(functools.partial(AutoLinearSolver, max_bytes=max_bytes))


@slogdet_of.register
def _(state: AutoState):
    return slogdet_of(state.state)


@trace_of.register
def _(state: AutoState, solver, tangent):
    return trace_of(state.state, state.solver, tangent)


@root_of.register
def _(state: AutoState, z):
    return root_of(state.state, z)


@inverse_diagonal_of.register
def _(state: AutoState):
    return inverse_diagonal_of(state.state)


def has_trace(state: Any) -> bool:
    """Whether a state's type has a `trace_of` of its own."""
    state = state.state if isinstance(state, AutoState) else state
    return trace_of.dispatch(type(state)) is not trace_of.dispatch(object)


@annihilated.register
def _(state: AutoState, vector):
    return annihilated(state.state, vector)


@root_of.register
def _(state: AutoState, z):
    return root_of(state.state, z)


@inverse_diagonal_of.register
def _(state: AutoState):
    return inverse_diagonal_of(state.state)


def chosen(solver: AbstractLinearSolver, state: Any) -> AbstractLinearSolver:
    """The solver that does the work: of an automatic choice, the one chosen."""
    return state.solver if isinstance(state, AutoState) else solver
