"""A record of which operator is the transpose, conjugate or adjoint of which.

`X.T`, `X.H` and `conj(X)` remember that they came from X, so that `X.T @ X` is
recognised as a Gram operator although `X.T` holds arrays of its own. The record is kept
outside the operator: it lasts from `X.T` to the product, and is lost when `X.T` is
flattened, as by `jit`. A recognised product holds X only once (see
`composites/gram.py`), so that it stays symmetric however its arrays change.

Transposing T, conjugating C and H = TC, with the identity, form Klein's four-group: an
operator stands for `(root, element)`, and two operators of the same root differ by the
product of their elements. Two roots are the same if they are one object, or if they
have the same type and the same array objects (tracers included).
"""

import enum
import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from ._composite import Memory
from ._functions import adjoint_product, conj
from ._promotion import conform, in_parts
from ._properties import known
from ._structures import is_real, structures_of
from ._tags import hermitian_tag, symmetric_tag

_T = TypeVar("_T")


class Reflection(enum.Flag):
    """An element of the group; the group's product is `^`."""

    IDENTITY = 0
    TRANSPOSE = enum.auto()
    CONJUGATE = enum.auto()
    ADJOINT = TRANSPOSE | CONJUGATE


def reflected(operator: Any, reflection: Reflection | None) -> Any:
    """The transpose or adjoint."""
    return operator.T if reflection is Reflection.TRANSPOSE else operator.H


def reflected_product(
    operator: Any, reflection: Reflection | None, vector: PyTree[Array]
) -> PyTree[Array]:
    """The product of the transpose or adjoint with a vector, without its arrays."""
    times, (_, outs) = adjoint_product(operator), structures_of(operator)

    def conjugated(tree: PyTree[Array]) -> PyTree[Array]:
        return jtu.tree_map(lambda x: x.conj(), tree)

    def transposed(x: PyTree[Array]) -> PyTree[Array]:
        return conjugated(times(conjugated(x)))  # Aᵀx is the conjugate of Aᴴx̄

    fn = times if reflection is Reflection.ADJOINT else transposed
    return in_parts(fn, conform(vector, outs, "the vector"), outs)


class _Root:
    """An operator and its arrays, held weakly, to be compared with others."""

    def __init__(self, operator: Any):
        self.operator = weakref.ref(operator)
        leaves, self.treedef = jtu.tree_flatten(operator)
        self.leaves = [_held(leaf) for leaf in leaves]

    def is_one_with(self, other: "_Root") -> bool:
        if self is other or (whole := self.operator()) and whole is other.operator():
            return True
        pairs = zip(self.leaves, other.leaves)
        return self.treedef == other.treedef and all(_one(a(), b()) for a, b in pairs)


def _held(leaf: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(leaf)
    except TypeError:  # a Python number
        return lambda: leaf


def _one(a: Any, b: Any) -> bool:
    """Whether two leaves are the same living array, or equal numbers."""
    if isinstance(a, bool | int | float | complex):
        return type(a) is type(b) and a == b
    return a is b and a is not None


_origins: Memory[tuple[_Root, Reflection]] = Memory()


def _origin(operator: Any) -> tuple[_Root, Reflection]:
    return _origins.get(operator) or (_Root(operator), Reflection.IDENTITY)


def remember(image: _T, operator: Any, reflection: Reflection) -> _T:
    """`image`, marked as this reflection of `operator`."""
    if image is not operator:
        root, element = _origin(operator)
        if root.operator() is not image:
            _origins.keep(image, (root, element ^ reflection))
    return image


def is_image(operator: Any) -> bool:
    """Whether an operator is known as the reflection of another."""
    return _origins.get(operator) is not None


@functools.singledispatch
def untagged(operator: Any) -> Any:
    """The operator inside tags."""
    return operator


def relation(operator1: Any, operator2: Any) -> Reflection | None:
    """The reflection that turns one into the other, tags aside; None if none is
    known."""
    found = _relation(operator1, operator2)
    if found is None:
        inner1, inner2 = untagged(operator1), untagged(operator2)
        if inner1 is not operator1 or inner2 is not operator2:
            found = _relation(inner1, inner2)
    return found


def _relation(operator1: Any, operator2: Any) -> Reflection | None:
    if operator1 is operator2:
        return Reflection.IDENTITY
    if not is_image(operator1) and not is_image(operator2):
        if type(operator1) is not type(operator2):
            return None
    (root1, element1), (root2, element2) = _origin(operator1), _origin(operator2)
    return element1 ^ element2 if root1.is_one_with(root2) else None


def same(operator1: Any, operator2: Any) -> bool:
    """Whether two operators are known to be one and the same."""
    found = relation(operator1, operator2)
    if found is Reflection.CONJUGATE:
        return is_real(*structures_of(operator1))
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
    if is_real(*structures_of(operator1)):
        found |= {element ^ Reflection.CONJUGATE for element in found}
    if symmetric_tag in tags:
        found |= {element ^ Reflection.TRANSPOSE for element in found}
    if hermitian_tag in tags:
        found |= {element ^ Reflection.ADJOINT for element in found}
    return frozenset(found) & {Reflection.TRANSPOSE, Reflection.ADJOINT}


def stronger(found: frozenset[Reflection]) -> Reflection | None:
    """The adjoint rather than the transpose; for real operators they are the same."""
    for reflection in (Reflection.ADJOINT, Reflection.TRANSPOSE):
        if reflection in found:
            return reflection
    return None


def _remembering(generic: Any, reflection: Reflection) -> None:
    """Make every registered implementation mark what it returns."""
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
