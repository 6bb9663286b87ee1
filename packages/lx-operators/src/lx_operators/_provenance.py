"""Which operator is the transpose, conjugate or adjoint of which.

`X.T`, `X.H` and `conj(X)` remember that they came from X, so that `X.T @ X` is
recognised as a Gram operator although `X.T` holds arrays of its own. The memory stands
outside the operator: it lasts from `X.T` to the product, and is dropped by flattening. What is recognised is then stored in the product (see `composites/compose.py`).

Transposing T, conjugating C and H = TC, with the identity, form Klein's four-group: an
operator stands for `(root, element)`, and two operators of the same root differ by the
product of their elements.
"""

import enum
import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from ._functions import conj
from ._memory import Memory
from ._properties import known
from ._structures import is_real, spaces
from ._tags import hermitian_tag, symmetric_tag

_T = TypeVar("_T")


class Reflection(enum.Flag):
    """An element of the group; the group's product is `^`."""

    IDENTITY = 0
    TRANSPOSE = enum.auto()
    CONJUGATE = enum.auto()
    ADJOINT = TRANSPOSE | CONJUGATE


_origins: Memory[tuple[weakref.ref, Reflection]] = Memory()


def _origin(operator: Any) -> tuple[Any, Reflection]:
    reference, element = _origins.get(operator) or (None, Reflection.IDENTITY)
    root = None if reference is None else reference()
    return (operator, Reflection.IDENTITY) if root is None else (root, element)


def remember(image: _T, operator: Any, reflection: Reflection) -> _T:
    """`image`, marked as this reflection of `operator`."""
    root, element = _origin(operator)
    if image is not root and image is not operator:
        _origins.keep(image, (weakref.ref(root), element ^ reflection))
    return image


def relation(operator1: Any, operator2: Any) -> Reflection | None:
    """The reflection that turns one into the other; None if none is known."""
    (root1, element1), (root2, element2) = _origin(operator1), _origin(operator2)
    return element1 ^ element2 if root1 is root2 else None


def same(operator1: Any, operator2: Any) -> bool:
    """Whether two operators are known to be one and the same."""
    found = relation(operator1, operator2)
    if found is Reflection.CONJUGATE:
        return is_real(*spaces(operator1))
    return found is Reflection.IDENTITY


def reflections(operator1: Any, operator2: Any) -> frozenset[Reflection]:
    """Which of transpose and adjoint turn one of two operators into the other.

    A real operator is its own conjugate, a symmetric one its own transpose, a Hermitian
    one its own adjoint: `X @ X` with X Hermitian is XᴴX.
    """
    first = relation(operator1, operator2)
    if first is None:
        return frozenset()
    tags = known(operator1)
    found = {first}
    if is_real(*spaces(operator1)):
        found |= {element ^ Reflection.CONJUGATE for element in found}
    if symmetric_tag in tags:
        found |= {element ^ Reflection.TRANSPOSE for element in found}
    if hermitian_tag in tags:
        found |= {element ^ Reflection.ADJOINT for element in found}
    return frozenset(found) & {Reflection.TRANSPOSE, Reflection.ADJOINT}


def _remembering(generic: Any, reflection: Reflection) -> None:
    """Have every implementation that is registered mark what it returns."""
    register = generic.register

    def marking(function: Callable) -> Callable:
        @functools.wraps(function)
        def marked(operator: Any) -> Any:
            return remember(function(operator), operator, reflection)

        return marked

    def register_marking(of: Any, function: Callable | None = None) -> Callable:
        if function is not None:
            register(of, marking(function))
            return function
        if callable(of) and not isinstance(of, type):  # its annotation names the type
            register(marking(of))
            return of
        return functools.partial(register_marking, of)

    generic.register = register_marking


_remembering(conj, Reflection.CONJUGATE)
