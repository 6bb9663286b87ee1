"""The automatic choice of a preconditioner."""

import importlib.util
from collections.abc import Callable
from typing import NamedTuple

import jax.tree_util as jtu
from lx_operators import (
    AbstractLinearOperator,
    FunctionLinearOperator,
    JacobianLinearOperator,
    SparseLinearOperator,
    ToeplitzLinearOperator,
    is_diagonal,
    is_hermitian,
    is_negative_semidefinite,
    is_positive_semidefinite,
)
from lx_operators.internal import block_grid, same_shapes, unwrapped

from . import _by_operator
from ._preconditioner import AbstractPreconditioner, _Identity
from ._sparse import is_concrete
from .amg import AMG
from .block_jacobi import BlockJacobi
from .block_triangular import SchurComplement
from .circulant import OptimalCirculant
from .incomplete_cholesky import IncompleteCholesky
from .incomplete_lu import IncompleteLU
from .jacobi import Jacobi

LARGE = 2000
"""From so many unknowns on algebraic multigrid is worth its set-up."""

SMALL = 500
"""Blocks of so many unknowns are inverted."""


class Row(NamedTuple):
    """A line of the table."""

    because: str
    holds: Callable[[AbstractLinearOperator], bool]
    make: Callable[[AbstractLinearOperator], AbstractPreconditioner]


def _definite(operator: AbstractLinearOperator) -> bool:
    return is_positive_semidefinite(operator) or is_negative_semidefinite(operator)


def _is_sparse(operator: AbstractLinearOperator) -> bool:
    A = unwrapped(operator)
    return isinstance(A, SparseLinearOperator) and is_concrete(A.pattern)


def _for_amg(operator: AbstractLinearOperator) -> bool:
    return (
        importlib.util.find_spec("pyamg") is not None
        and is_positive_semidefinite(operator)
        and operator.in_size() >= LARGE
        and _is_sparse(operator)
        and is_concrete(unwrapped(operator))
    )


def _is_saddle(operator: AbstractLinearOperator) -> bool:
    grid = block_grid(operator)
    if grid is None or not is_hermitian(operator):
        return False
    blocks = grid.blocks
    if len(blocks) != 2 or blocks[0][0] is None or blocks[1][0] is None:
        return False
    D = blocks[1][1]
    definite = is_positive_semidefinite(blocks[0][0])
    return definite and (D is None or is_negative_semidefinite(D))


def _has_small_blocks(operator: AbstractLinearOperator) -> bool:
    """Whether there is a block for each leaf, small enough to be inverted."""
    grid = block_grid(operator)
    if grid is None or len(grid.blocks) != len(grid.blocks[0]):
        return False
    mine = [row[i] for i, row in enumerate(grid.blocks)]
    return len(mine) > 1 and all(
        block is not None
        and len(jtu.tree_leaves(block.in_structure())) == 1
        and same_shapes(block.in_structure(), block.out_structure())
        and block.in_size() <= SMALL
        for block in mine
    )


def _has_diagonal(operator: AbstractLinearOperator) -> bool:
    """Whether the diagonal is available without a product for each unknown."""
    hidden = FunctionLinearOperator, JacobianLinearOperator
    return is_diagonal(operator) or not isinstance(unwrapped(operator), hidden)


def _first(A: AbstractLinearOperator) -> AbstractPreconditioner:
    return AutoPreconditioner().select(A)


TABLE = (
    Row(
        "a saddle point of two by two blocks",
        _is_saddle,
        lambda A: SchurComplement(_first(block_grid(A).blocks[0][0]), form="diagonal"),
    ),
    Row(
        f"blocks, those on the diagonal square and of up to {SMALL} unknowns",
        _has_small_blocks,
        lambda A: BlockJacobi(),
    ),
    Row(
        "Toeplitz",
        lambda A: isinstance(unwrapped(A), ToeplitzLinearOperator),
        lambda A: OptimalCirculant(),
    ),
    Row(
        f"sparse, positive definite, concrete, from {LARGE} unknowns on, with pyamg",
        _for_amg,
        lambda A: AMG(),
    ),
    Row(
        "sparse and definite",
        lambda A: _is_sparse(A) and _definite(A),
        lambda A: IncompleteCholesky(),
    ),
    Row("sparse", _is_sparse, lambda A: IncompleteLU()),
    Row("with a diagonal that is cheap", _has_diagonal, lambda A: Jacobi()),
    Row("anything else", lambda A: True, lambda A: _Identity()),
)


class AutoPreconditioner(AbstractPreconditioner[AbstractLinearOperator]):
    """Chooses a preconditioner from the operator's structure and tags; the same as
    `preconditioner="auto"`.

    | operator | preconditioner, the first that fits |
    |---|---|
    | saddle point, two by two blocks | `SchurComplement(form="diagonal")` |
    | blocks, those on the diagonal square and small | `BlockJacobi` |
    | Toeplitz | `OptimalCirculant` |
    | sparse, definite, large, concrete; pyamg is installed | `AMG` |
    | sparse and definite | `IncompleteCholesky` |
    | sparse | `IncompleteLU` |
    | with a diagonal that costs few products | `Jacobi` |
    | other | none |

    The choice depends on whether pyamg is installed. If results must be the same on
    other machines, name a preconditioner.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[4.0, 1.0], [2.0, 90.0]]))
    print(lx.AutoPreconditioner().explain(operator))
    solution = lx.linear_solve(operator, jnp.ones(2), lx.GMRES(preconditioner="auto"))
    ```
    """

    def select(self, operator: AbstractLinearOperator) -> AbstractPreconditioner:
        """The preconditioner that is used for this operator.

        Args:
            operator: A.
        """
        return _row(operator).make(operator)

    def explain(self, operator: AbstractLinearOperator) -> str:
        """Which row of the table matched, and which did not, as text.

        Args:
            operator: A.
        """
        chosen = _row(operator)
        lines = [f"AutoPreconditioner() for {operator!r}:"]
        for row in TABLE:
            mark, verdict = ("->", "yes") if row is chosen else ("  ", "no")
            lines.append(f"{mark} {row.because}? {verdict}")
            if row is chosen:
                lines[-1] += f": {row.make(operator)!r}"
                break
        return "\n".join(lines)

    def setup(self, operator):
        return self.select(operator).setup(operator)

    def init(self, operator, options):
        return self.select(operator).as_operator(operator)

    apply = _by_operator.apply
    transpose = _by_operator.transposed
    conj = _by_operator.conjugated

    def tags(self, operator):
        return self.select(operator).tags(operator)


def _row(operator: AbstractLinearOperator) -> Row:
    return next(row for row in TABLE if row.holds(operator))
