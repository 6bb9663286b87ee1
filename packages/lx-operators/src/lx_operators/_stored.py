"""A matrix-free operator, stored as arrays."""

from jaxtyping import Array, Inexact

from ._banded import banded
from ._functions import diagonal, tridiagonal, with_tags
from ._operator import AbstractLinearOperator
from ._probing import as_blocks, by_columns, by_fewest, by_rows, of_function
from ._properties import declared, is_diagonal, is_tridiagonal
from ._structures import spaces
from .leaves.diagonal import DiagonalLinearOperator
from .leaves.pytree import PyTreeLinearOperator
from .leaves.tridiagonal import TridiagonalLinearOperator

_PROBING = {
    "columns": by_columns,
    "rows": by_rows,
    "fewest": by_fewest,
    "of a function": of_function,
}


def stored(operator: AbstractLinearOperator) -> AbstractLinearOperator:
    """`operator` as arrays: its bands if it is known to be banded, else the blocks of
    its matrix."""
    promises = declared(operator)
    bands = banded(operator)
    if bands is not None:
        return with_tags(bands, promises)
    in_structure, out_structure = spaces(operator)
    blocks = as_blocks(operator.as_matrix(), out_structure, in_structure)
    return PyTreeLinearOperator(
        blocks, out_structure, promises, input_structure=in_structure
    )


def probed(operator: AbstractLinearOperator, by: str) -> Inexact[Array, "m n"]:
    """The matrix of an operator without one: from 1 or 3 products if it is known to be
    banded, else `by` "columns", "rows" or the "fewest" products; "of a function" that
    may not be linear, with one more that tells."""
    if operator.in_size() == operator.out_size():
        if is_diagonal(operator):
            return DiagonalLinearOperator(diagonal(operator)).as_matrix()
        if is_tridiagonal(operator):
            return TridiagonalLinearOperator(*tridiagonal(operator)).as_matrix()
    return _PROBING[by](operator)
