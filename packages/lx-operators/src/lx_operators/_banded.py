"""A diagonal or tridiagonal operator, stored as its diagonals."""

from ._functions import compose, diagonal, tridiagonal
from ._operator import AbstractLinearOperator
from ._properties import is_diagonal, is_tridiagonal
from ._structures import spaces, unravel
from .leaves.diagonal import DiagonalLinearOperator
from .leaves.identity import IdentityLinearOperator
from .leaves.tridiagonal import TridiagonalLinearOperator


def banded(operator: AbstractLinearOperator) -> AbstractLinearOperator | None:
    """`operator` as a diagonal or tridiagonal one; None if it is not known to be one.

    A tridiagonal operator between pytrees is one between vectors, with the identity on
    either side to carry the structures.
    """
    in_structure, out_structure = spaces(operator)
    if in_structure == out_structure and is_diagonal(operator):
        return DiagonalLinearOperator(unravel(diagonal(operator), in_structure))
    if is_tridiagonal(operator) and operator.in_size() == operator.out_size():
        bands = TridiagonalLinearOperator(*tridiagonal(operator))
        flat, _ = spaces(bands)
        if in_structure != flat:
            bands = compose(bands, IdentityLinearOperator(in_structure, flat))
        if out_structure != flat:
            bands = compose(IdentityLinearOperator(flat, out_structure), bands)
        return bands
    return None
