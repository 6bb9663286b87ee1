"""Checks and questions of preconditioners about sparse operators."""

from typing import Any

import jax
import jax.core
import jax.tree_util as jtu
from lx_operators import (
    AbstractLinearOperator,
    ShardedSparseLinearOperator,
    SparseLinearOperator,
    SparsityPattern,
)
from lx_operators.internal import unwrapped


def sparse(operator: AbstractLinearOperator, name: str, instead: str) -> Any:
    """The operator without its wrapping.

    Raises:
        ValueError: it is not sparse.
    """
    A = unwrapped(operator)
    if isinstance(A, ShardedSparseLinearOperator):
        instead = "`AdditiveSchwarz` factorises each device's own rows."
    if not isinstance(A, SparseLinearOperator):
        raise ValueError(
            f"`{name}` needs a `SparseLinearOperator`, but got {operator!r}. {instead}"
        )
    return A


def is_concrete(*trees: Any) -> bool:
    """Whether all arrays are known."""
    leaves = jtu.tree_leaves(trees)
    return not any(isinstance(x, jax.core.Tracer) for x in leaves)


def check_pattern(ours: SparsityPattern, other: SparsityPattern, name: str) -> None:
    """A preconditioner that was set up for one pattern serves that pattern alone.

    Raises:
        ValueError: another pattern, as far as it is known.
    """
    same = (ours.shape, ours.size) == (other.shape, other.size)
    if not same or (is_concrete(ours, other) and ours != other):
        raise ValueError(
            f"this `{name}` was set up for the pattern {ours!r}, but the operator has "
            f"{other!r}; set it up again: `{name}(...).setup(operator)`."
        )
