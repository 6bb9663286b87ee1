"""The automatic choice of a solver: one ordered table from property to solver."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
from lx_operators import (
    AbstractLinearOperator,
    CirculantLinearOperator,
    KroneckerLinearOperator,
    KroneckerSumLinearOperator,
    LowRankUpdateLinearOperator,
    PermutationLinearOperator,
    ToeplitzLinearOperator,
    is_diagonal,
    is_lower_triangular,
    is_negative_semidefinite,
    is_nonsingular,
    is_positive_semidefinite,
    is_tridiagonal,
    is_upper_triangular,
)
from lx_operators.internal import (
    bandwidths,
    bare,
    block_diagonal,
    block_shapes,
    block_tridiagonal,
)

from ._annihilated import annihilated
from ._checks import check_state
from ._slogdet import slogdet_of, trace_of
from ._solver import AbstractLinearSolver, Options
from .direct.banded import Banded
from .direct.block_diagonal import BlockDiagonal, full_rank_possible
from .direct.block_elimination import BlockElimination, eliminable
from .direct.block_tridiagonal import BlockTridiagonal
from .direct.cholesky import Cholesky
from .direct.circulant import Circulant
from .direct.diagonal import Diagonal
from .direct.kronecker import Kronecker, of_one_kind
from .direct.kronecker_eigh import KroneckerEigh, hermitian_factors
from .direct.lu import LU
from .direct.permutation import Permutation
from .direct.pivoted_qr import PivotedQR
from .direct.qr import QR
from .direct.sylvester import Sylvester
from .direct.toeplitz import Toeplitz
from .direct.triangular import Triangular
from .direct.tridiagonal import Tridiagonal
from .direct.woodbury import Woodbury


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


def _kronecker(
    well_posed: bool | None,
) -> Callable[[AbstractLinearOperator], bool]:
    """A Kronecker product whose factors can be as well posed as the whole."""

    def holds(operator: AbstractLinearOperator) -> bool:
        product = bare(operator)
        if not isinstance(product, KroneckerLinearOperator):
            return False
        if well_posed is True:
            return not any(map(_rectangular, product.operators))
        return well_posed is False or of_one_kind(operator)

    return holds


def _is(kind: type) -> Callable[[AbstractLinearOperator], bool]:
    return lambda operator: isinstance(bare(operator), kind)


def _definite_toeplitz(operator: AbstractLinearOperator) -> bool:
    """Of others Levinson's recursion may be unstable."""
    return isinstance(bare(operator), ToeplitzLinearOperator) and _semidefinite(
        operator
    )


def _update_of_nonsingular(operator: AbstractLinearOperator) -> bool:
    """A low-rank update of an operator that is known to be nonsingular."""
    update = bare(operator)
    if not isinstance(update, LowRankUpdateLinearOperator) or _rectangular(operator):
        return False
    return is_nonsingular(update.operator)


def _diagonalised(operator: AbstractLinearOperator) -> bool:
    return hermitian_factors(operator) is not None


def _kronecker_sum(operator: AbstractLinearOperator) -> bool:
    on_cpu = jax.default_backend() == "cpu"  # elsewhere JAX has no Schur form
    return on_cpu and isinstance(bare(operator), KroneckerSumLinearOperator)


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
    | `True` | square: diagonal, structured, banded, triangular, definite, any (LU) |
    | `False` | diagonal with zeros allowed, structured, any (pivoted QR) |
    | `None` | diagonal with zeros allowed, structured, not square (QR), as `True` |

    Structured are blocks side by side (`BlockDiagonal`, each block by its own best
    solver), tridiagonal operators, permutations (`Permutation`), circulant operators
    (`Circulant`), Kronecker products (`Kronecker`, with the best solver for each
    factor), Kronecker products and sums of Hermitian factors plus multiples of the
    identity (`KroneckerEigh`); and, but for `False`, other Kronecker sums
    (`Sylvester`), definite Toeplitz operators (`Toeplitz`) and low-rank updates of
    operators that are known to be nonsingular (`Woodbury`).

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


def _structured(well_posed: bool | None) -> tuple[Row, ...]:
    """Solved by its parts: takes precedence over what is known of the whole."""
    inner, posed = AutoLinearSolver(well_posed), well_posed is True
    return (
        Row("it is a permutation", _is(PermutationLinearOperator), Permutation()),
        Row("it is circulant", _is(CirculantLinearOperator), Circulant(posed)),
        Row("it is a Kronecker product", _kronecker(well_posed), Kronecker(inner)),
        Row(
            "its factors' eigenvectors are its own", _diagonalised, KroneckerEigh(posed)
        ),
    )


_SQUARE = (
    Row(
        "it is blocks that can be eliminated",
        eliminable,
        BlockElimination(AutoLinearSolver(True)),
    ),
    Row(
        "it is block tridiagonal and semidefinite",
        _definite_block_rows,
        BlockTridiagonal(),
    ),
    Row("it is a Kronecker sum, on a CPU", _kronecker_sum, Sylvester()),
    Row("it is a definite Toeplitz operator", _definite_toeplitz, Toeplitz()),
    Row(
        "it is a low-rank update of a nonsingular one",
        _update_of_nonsingular,
        Woodbury(AutoLinearSolver(True)),
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
        *_structured(True),
        *_SQUARE,
    ),
    False: (
        Row("it is diagonal", is_diagonal, Diagonal(well_posed=False)),
        Row("it is blocks side by side", _blocks, _side_by_side(False)),
        *_structured(False),
        Row("its rank is not known", _any, PivotedQR()),
    ),
    None: (
        Row("it is blocks side by side", _full_rank_blocks, _side_by_side(None)),
        Row("it is diagonal", is_diagonal, Diagonal(well_posed=False)),
        Row("it is tridiagonal", is_tridiagonal, Tridiagonal()),
        *_structured(None),
        Row("it is not square", _rectangular, QR()),
        *_SQUARE,
    ),
}


@slogdet_of.register
def _(state: AutoState):
    return slogdet_of(state.state)


@trace_of.register
def _(state: AutoState, solver, tangent):
    return trace_of(state.state, state.solver, tangent)


def has_trace(state: Any) -> bool:
    """Whether a state's type has a `trace_of` of its own."""
    state = state.state if isinstance(state, AutoState) else state
    return trace_of.dispatch(type(state)) is not trace_of.dispatch(object)


@annihilated.register
def _(state: AutoState, vector):
    return annihilated(state.state, vector)


def chosen(solver: AbstractLinearSolver, state: Any) -> AbstractLinearSolver:
    """The solver that does the work: of an automatic choice, the one chosen."""
    return state.solver if isinstance(state, AutoState) else solver
