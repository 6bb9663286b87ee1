"""A matrix-free operator, stored as arrays."""

from jaxtyping import Array, Inexact

from ._functions import compose, diagonal, tridiagonal, with_tags
from ._operator import AbstractLinearOperator
from ._probing import as_blocks, by_columns, by_fewest, by_rows, of_function
from ._properties import declared, is_diagonal, is_tridiagonal
from ._structures import structures_of, unravel
from .leaves.diagonal import DiagonalLinearOperator
from .leaves.identity import IdentityLinearOperator
from .leaves.pytree import PyTreeLinearOperator
from .leaves.tridiagonal import TridiagonalLinearOperator

_PROBING = {
    "columns": by_columns,
    "rows": by_rows,
    "fewest": by_fewest,
    "of a function": of_function,
}


def materialised(operator: AbstractLinearOperator) -> AbstractLinearOperator:
    """`operator` stored as arrays: its diagonals if it is known to be diagonal or
    tridiagonal, else the blocks of its matrix."""
    promises = declared(operator)
    bands = as_bands(operator)
    if bands is not None:
        return with_tags(bands, promises)
    in_structure, out_structure = structures_of(operator)
    blocks = as_blocks(operator.as_matrix(), out_structure, in_structure)
    return PyTreeLinearOperator(
        blocks, out_structure, promises, input_structure=in_structure
    )


def as_bands(operator: AbstractLinearOperator) -> AbstractLinearOperator | None:
    """`operator` as a diagonal or tridiagonal one; None if it is not known to be one.

    A tridiagonal operator between pytrees becomes one between flat vectors, composed
    with reshaping identities on both sides.
    """
    in_structure, out_structure = structures_of(operator)
    if in_structure == out_structure and is_diagonal(operator):
        return DiagonalLinearOperator(unravel(diagonal(operator), in_structure))
    if is_tridiagonal(operator) and operator.in_size() == operator.out_size():
        bands = TridiagonalLinearOperator(*tridiagonal(operator))
        flat, _ = structures_of(bands)
        if in_structure != flat:
            bands = compose(bands, IdentityLinearOperator(in_structure, flat))
        if out_structure != flat:
            bands = compose(IdentityLinearOperator(flat, out_structure), bands)
        return bands
    return None


def probed_matrix(operator: AbstractLinearOperator, by: str) -> Inexact[Array, "m n"]:
    """The matrix of a matrix-free operator: by 1 or 3 products if it is known to be
    diagonal or tridiagonal, else `by` "columns", "rows" or whichever takes the "fewest"
    products; "of a function" that may not be linear, with one more that tells."""
    if operator.in_size() == operator.out_size():
        if is_diagonal(operator):
            return DiagonalLinearOperator(diagonal(operator)).as_matrix()
        if is_tridiagonal(operator):
            return TridiagonalLinearOperator(*tridiagonal(operator)).as_matrix()
    return _PROBING[by](operator)
