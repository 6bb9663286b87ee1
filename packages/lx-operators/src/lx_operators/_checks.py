"""Checks of constructors' arguments."""

import inspect
from typing import Any

import jax.tree_util as jtu

from ._operator import AbstractLinearOperator
from ._printing import type_name
from ._promotion import check_dtypes
from ._properties import known
from ._structures import (
    Structure,
    describe,
    is_real,
    same_shapes,
    size_of,
    sparse_hint,
    structures_of,
)
from ._tags import self_adjoint_tags


def check_operator(operator: Any, argument: str) -> None:
    """`argument` must be an operator."""
    if not isinstance(operator, AbstractLinearOperator):
        hint = (
            sparse_hint(operator)
            if hasattr(operator, "todense")
            else "wrap it as `aslinearoperator(operator)`"
            if hasattr(operator, "matvec")
            else "wrap the array as `MatrixLinearOperator(array)`"
            if hasattr(operator, "shape")
            else "pass an `AbstractLinearOperator`"
        )
        raise ValueError(
            f"`{argument}` must be a linear operator, but got a value of type "
            f"`{type_name(operator)}`; {hint}."
        )


def check_callable(fn: Any, *arguments: str) -> None:
    """`fn` must be a function that takes these arguments, as far as its signature
    tells.

    Args:
        fn: the function.
        arguments: the names of its arguments; none to skip this check.
    """
    if not callable(fn):
        raise ValueError(
            f"`fn` must be a function, but got a value of type `{type(fn).__name__}`."
        )
    # a wrapper may show the signature of another function
    if arguments and inspect.isfunction(fn) and not hasattr(fn, "__wrapped__"):
        signature = inspect.signature(fn)
        try:
            signature.bind(*arguments)
        except TypeError as error:
            listed = ", ".join(arguments)
            raise ValueError(
                f"`fn` is called as `fn({listed})`, but its arguments are "
                f"`{signature}`. Wrap it, for example as `lambda {listed}: fn(...)`."
            ) from error


def check_claims(operator: AbstractLinearOperator) -> None:
    """An operator that claims to be symmetric, Hermitian or semidefinite maps a space
    to itself."""
    in_structure, out_structure = structures_of(operator)
    if in_structure == out_structure:
        return
    claimed = sorted(tag.name for tag in self_adjoint_tags & known(operator))
    one_by_one = size_of(in_structure) == size_of(out_structure) == 1
    if claimed and not one_by_one:
        raise ValueError(
            f"`tags` say that the operator is {', '.join(claimed)} (or imply it), "
            "which needs equal input and output structure, but the input is "
            f"{describe(in_structure)} and the output {describe(out_structure)}; "
            "leave the tag out."
        )


def check_same(a: Any, b: Any, what: str) -> None:
    """Structures `a` and `b` must have equal trees and shapes (dtypes promote)."""
    if not same_shapes(a, b):
        raise ValueError(
            f"{what} must be equal, but got {describe(a)} and {describe(b)}; reshape "
            "one of the operators, or check their order."
        )
    check_dtypes(a, b, what)


def check_square(operator: AbstractLinearOperator) -> None:
    """`tridiagonal` needs a square operator."""
    m, n = operator.out_size(), operator.in_size()
    if m != n:
        raise ValueError(
            f"`operator` must be square, but its matrix is {m} by {n}: {operator!r}; "
            "`diagonal` takes rectangular ones."
        )


def check_not_to_real(operator: AbstractLinearOperator) -> None:
    """A map from complex to real vectors is not linear (unless it is zero)."""
    in_structure, out_structure = structures_of(operator)
    if _complex(in_structure) and _real(out_structure):
        raise ValueError(
            f"`operator` maps complex vectors {describe(in_structure)} to real ones "
            f"{describe(out_structure)}: it has no matrix, as no linear map drops an "
            "imaginary part; make its output complex."
        )


def check_transposable(operator: AbstractLinearOperator) -> None:
    """The transpose of a map from real to complex vectors is not linear either."""
    in_structure, out_structure = structures_of(operator)
    if _complex(in_structure) and _real(out_structure):
        check_not_to_real(operator)
    if _real(in_structure) and _complex(out_structure):
        raise ValueError(
            f"`operator` maps real vectors {describe(in_structure)} to complex ones "
            f"{describe(out_structure)}: its transpose would have to drop imaginary "
            "parts; make its input complex."
        )


def _complex(structure: Structure) -> bool:
    return not is_real(structure)


def _real(structure: Structure) -> bool:
    return bool(jtu.tree_leaves(structure)) and is_real(structure)
