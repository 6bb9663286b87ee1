"""Rules by which `+ - @ * /` give one structured operator instead of a composite.

Each row of the tables is an identity of matrices, so only rounding changes. The row
stands in the file of the operator that it makes. A row is tried on the operands
themselves, and on the unwrapped operands. Constructors (`AddLinearOperator(a, b)`) do
not simplify; only the signs do.

A sign simplifies only if the result has every tag that is known of the composite: `XᴴX`
is known to be semidefinite from its factors, and a simplified result would have to be
known as such by itself. Otherwise the composite is kept, and `unwrapped` gives the
structured form.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ._composite import Memory
from ._properties import known
from ._structures import same_shapes, structures_of


class Rewrite(NamedTuple):
    """For operands of these types, the composite is `result(a, b)`, unless that is
    None. `signs`: whether the sign gives that, or only the view does."""

    identity: str
    left: type
    right: type
    result: Callable[[Any, Any], Any]
    signs: bool = True

    def apply(self, a: Any, b: Any) -> Any:
        fits = isinstance(a, self.left) and isinstance(b, self.right)
        return self.result(a, b) if fits else None


class Scaling(NamedTuple):
    """For an operand of this type, the scaling is `result(a, s)`, unless that is None;
    `s` scales: operators by `s(B)`, arrays by `s.array(x)`."""

    identity: str
    of: type
    result: Callable[[Any, Any], Any]
    signs: bool = True

    def apply(self, a: Any, s: Any) -> Any:
        return self.result(a, s) if isinstance(a, self.of) else None


SUMS: list[Rewrite] = []
PRODUCTS: list[Rewrite] = []
SCALINGS: list[Scaling] = []


def both_orders(identity: str, left: type, right: type, result: Any) -> list[Rewrite]:
    """A row for `a, b` and one for `b, a`, with the same result."""
    return [
        Rewrite(identity, left, right, result),
        Rewrite(identity, right, left, lambda b, a: result(a, b)),
    ]


@functools.singledispatch
def unwrapped(operator: Any) -> Any:
    """The operator inside tags and promotions; for a sum, product or scaling, the
    structured operator that a row of the tables makes of it, if one does.

    Structured solvers look at it. It may have a narrower dtype and fewer tags than the
    operator: ask the operator itself for its tags.
    """
    return operator


@functools.singledispatch
def multiple_of_identity(operator: Any) -> Callable[[Any], Any] | None:
    """For an operator s·I, the function from a structure to s·I on that space; None for
    any other operator."""
    return None


def simplified(plain: Any, rows: Sequence[Any], *operands: Any) -> Any:
    """The result of a row for a composite's operands, if it has all tags of `plain`;
    else `plain`."""
    rows = [row for row in rows if row.signs]
    for result in _results(rows, *map(_views, operands)):
        same = structures_of(result) == structures_of(plain)
        if same and known(plain) <= known(result):
            return result
    return plain


# composites that no row simplifies
_settled: Memory[bool] = Memory()


def view(plain: Any, rows: Sequence[Any], *operands: Callable[[], Any]) -> Any:
    """The result of a row for a composite's unwrapped operands; else `plain`."""
    if _settled.get(plain):
        return plain
    for result in _results(rows, *([operand()] for operand in operands)):
        if all(map(same_shapes, structures_of(result), structures_of(plain))):
            return result
    _settled.keep(plain, True)
    return plain


def _views(operand: Any) -> list[Any]:
    inner = unwrapped(operand)
    return [operand] if inner is operand else [operand, inner]


def _results(rows: Sequence[Any], *operands: Sequence[Any]) -> Iterator[Any]:
    for given in itertools.product(*operands):
        for row in rows:
            result = row.apply(*given)
            if result is not None:
                yield result
