"""The automatic choice of a solver: one ordered table from property to solver."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
from lx_operators import (
    AbstractLinearOperator,
    is_diagonal,
    is_lower_triangular,
    is_negative_semidefinite,
    is_positive_semidefinite,
    is_tridiagonal,
    is_upper_triangular,
)
from lx_operators.internal import (
    bandwidths,
    block_diagonal,
    block_shapes,
    block_tridiagonal,
)

from ._checks import check_state
from ._slogdet import slogdet_of
from ._solver import AbstractLinearSolver, Options
from .direct.banded import Banded
from .direct.block_diagonal import BlockDiagonal, full_rank_possible
from .direct.block_tridiagonal import BlockTridiagonal
from .direct.cholesky import Cholesky
from .direct.diagonal import Diagonal
from .direct.lu import LU
from .direct.pivoted_qr import PivotedQR
from .direct.qr import QR
from .direct.triangular import Triangular
from .direct.tridiagonal import Tridiagonal


class Row(NamedTuple):
    """Where `holds`, `solver` is taken, `because`."""

    because: str
    holds: Callable[[AbstractLinearOperator], bool]
    solver: AbstractLinearSolver


def _rectangular(operator: AbstractLinearOperator) -> bool:
    return operator.out_size() != operator.in_size()


def _triangular(operator: AbstractLinearOperator) -> bool:
    return is_lower_triangular(operator) or is_upper_triangular(operator)


def _narrow(operator: AbstractLinearOperator) -> bool:
    """Few diagonals beside n: else dense kernels are faster than a scan."""
    widths = bandwidths(operator)
    return widths is not None and 4 * (sum(widths) + 1) <= operator.in_size()


def _blocks(operator: AbstractLinearOperator) -> bool:
    return block_diagonal(operator) is not None


def _square_blocks(operator: AbstractLinearOperator) -> bool:
    blocks = block_diagonal(operator)
    return blocks is not None and all(m == n for m, n in block_shapes(blocks))


def _full_rank_blocks(operator: AbstractLinearOperator) -> bool:
    blocks = block_diagonal(operator)
    return blocks is not None and full_rank_possible(blocks)


def _semidefinite(operator: AbstractLinearOperator) -> bool:
    return is_positive_semidefinite(operator) or is_negative_semidefinite(operator)


def _definite_block_rows(operator: AbstractLinearOperator) -> bool:
    """For others, rows must be exchanged across blocks: they are solved as bands."""
    return block_tridiagonal(operator) is not None and _semidefinite(operator)


def _any(operator: AbstractLinearOperator) -> bool:
    return True


class AutoState(eqx.Module):
    """The state of the solver that was chosen."""

    solver: AbstractLinearSolver = eqx.field(static=True)
    state: Any


class AutoLinearSolver(AbstractLinearSolver[AutoState]):
    """Chooses a direct solver by the operator's structure and tags.

    | `well_posed` | chosen, the first that fits |
    |---|---|
    | `True` | square: diagonal, tridiagonal, banded, triangular, definite, any (LU) |
    | `False` | diagonal with zeros allowed, else rank-revealing (pivoted QR) |
    | `None` | not square: QR; else as `True`, a diagonal with zeros allowed |

    Args:
        well_posed: whether the operator is square and nonsingular (`True`), may be
            anything (`False`), or has full rank (`None`).

    Raises:
        ValueError: another value; with `True`, an operator that is not square.

    ```python
    operator = lx.MatrixLinearOperator(jnp.eye(3), lx.positive_semidefinite_tag)
    solver = lx.AutoLinearSolver(well_posed=None)
    solver.select_solver(operator)  # the solver
    print(solver.explain(operator))  # and why
    ```
    """

    well_posed: bool | None = eqx.field(static=True)

    def __check_init__(self):
        if self.well_posed not in (True, False, None):
            raise ValueError(
                "`well_posed` must be True, False or None, but got "
                f"{self.well_posed!r}."
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
        return next(row for row in TABLE[self.well_posed] if row.holds(operator))

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
        for row in TABLE[self.well_posed]:
            mark = "->" if row is chosen else "  "
            verdict = "yes" if row.holds(operator) else "not known"
            lines.append(f"{mark} {row.solver!r}: {row.because}? {verdict}")
            if row is chosen:
                break
        return "\n".join(lines)

    def init(self, operator: AbstractLinearOperator, options: Options) -> AutoState:
        solver = self.select_solver(operator)
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
        return self.well_posed is True


def _side_by_side(well_posed: bool | None) -> BlockDiagonal:
    return BlockDiagonal(AutoLinearSolver(well_posed))


_SQUARE = (
    Row(
        "it is block tridiagonal and semidefinite",
        _definite_block_rows,
        BlockTridiagonal(),
    ),
    Row("its diagonals are few", _narrow, Banded()),
    Row("it is triangular", _triangular, Triangular()),
    Row("it is semidefinite, hence definite if nonsingular", _semidefinite, Cholesky()),
    Row("it is square, and nothing more is known of it", _any, LU()),
)

# Read from the top: the first row that holds is taken.
TABLE: dict[bool | None, tuple[Row, ...]] = {
    True: (
        Row("it is diagonal", is_diagonal, Diagonal(well_posed=True)),
        Row("it is tridiagonal", is_tridiagonal, Tridiagonal()),
        Row("it is square blocks side by side", _square_blocks, _side_by_side(True)),
        *_SQUARE,
    ),
    False: (
        Row("it is diagonal", is_diagonal, Diagonal(well_posed=False)),
        Row("it is blocks side by side", _blocks, _side_by_side(False)),
        Row("its rank is not known", _any, PivotedQR()),
    ),
    None: (
        Row("it is blocks side by side", _full_rank_blocks, _side_by_side(None)),
        Row("it is not square", _rectangular, QR()),
        Row("it is diagonal", is_diagonal, Diagonal(well_posed=False)),
        Row("it is tridiagonal", is_tridiagonal, Tridiagonal()),
        *_SQUARE,
    ),
}


@slogdet_of.register
def _(state: AutoState):
    return slogdet_of(state.state)


def chosen(solver: AbstractLinearSolver, state: Any) -> AbstractLinearSolver:
    """The solver that does the work: of an automatic choice, the one chosen."""
    return state.solver if isinstance(state, AutoState) else solver
