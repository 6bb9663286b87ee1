"""Matrices that would be formed unasked: how large they are."""

import math
from typing import Any

import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree

from ._operator import AbstractLinearOperator
from ._structures import common_dtype

MAX_BYTES = 4 * 2**30
"""A matrix that nobody has asked for may take this much, or as much as the operator."""

FORMED_PER_HELD = 4
"""A matrix with up to this many times the operator's elements is always formed."""


def elements(tree: PyTree[Any]) -> int:
    """The number of scalars in a pytree of arrays (or of their shapes)."""
    leaves = (x for x in jtu.tree_leaves(tree) if hasattr(x, "shape"))
    return sum(math.prod(x.shape) for x in leaves)


def check_matrix(
    operator: AbstractLinearOperator,
    who: str,
    instead: str,
    max_bytes: int | None = MAX_BYTES,
    held: PyTree[Any] = None,
) -> None:
    """Raise before `who` forms the matrix of an operator that is not stored as one.

    Args:
        operator: A.
        who: the function, in backticks, and why it needs a matrix.
        instead: what to do instead, a sentence.
        max_bytes: the limit; None for no limit.
        held: other arrays than the operator's, as large as its matrix, if any, such
            as factors: the matrix was asked for when they were made.

    Raises:
        ValueError: the matrix takes more than `max_bytes`, and several times what the
            operator and `held` hold.
    """
    if max_bytes is None:
        return
    m, n = operator.out_size(), operator.in_size()
    formed = matrix_bytes(operator)
    if (
        isinstance(formed, int)  # no symbolic size
        and formed > max_bytes
        and m * n > FORMED_PER_HELD * elements((operator, held))
    ):
        raise ValueError(
            f"{who} would form {describe_matrix(operator)} ({gib(formed)}), which the "
            f"operator does not store: {operator!r}. {instead}"
        )


def gib(size: int) -> str:
    """A number of bytes as readable text."""
    figure = size / 2**30
    return f"{figure:.3g} GiB" if figure < 1000 else f"{figure:,.0f} GiB"


def describe_matrix(operator: AbstractLinearOperator) -> str:
    """The matrix's shape as readable text."""
    return f"the {operator.out_size()} by {operator.in_size()} matrix"


def matrix_bytes(operator: AbstractLinearOperator) -> Any:
    """The size of the operator's matrix; symbolic if a size of the operator is."""
    dtype = common_dtype(operator.in_structure(), operator.out_structure())
    return operator.out_size() * operator.in_size() * np.dtype(dtype).itemsize
