"""Rules by which the tags of a composite follow from the tags of its parts.

Each composite's file has a table of rules, one row for each tag. A rule gets the
operator and the known tags of its operands. All rules are sufficient, not necessary;
implications between tags (`_tags.py`) need no row.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .._composite import cached, map_parts, operands
from .._functions import adjoint_product, conj, linearise, materialise, sparse_form
from .._operator import AbstractLinearOperator
from .._properties import declared, is_own_adjoint, known
from .._provenance import Reflection, reflected_product
from .._tags import Tag, Tags

Rule = Callable[..., bool]  # (operator, *known tags of its operands) -> bool


def all_have(*tags: Tag) -> Rule:
    """Every operand has all of these."""
    return lambda op, *parts: all(part.issuperset(tags) for part in parts)


def any_of(*rules: Rule) -> Rule:
    return lambda op, *parts: any(rule(op, *parts) for rule in rules)


def declare(
    kind: type,
    table: Mapping[Tag, Rule],
    parts: Callable[[Any], tuple[Tags, ...]] = lambda op: tuple(
        map(known, operands(op))
    ),
) -> None:
    """Make operators of this kind declare the tags of the table."""

    @cached
    def declaration(operator: Any) -> Tags:
        given = parts(operator)
        return frozenset(tag for tag, rule in table.items() if rule(operator, *given))

    declared.register(kind, declaration)


def maps_to_parts(
    kind: type,
    map_of: Callable[[Callable[[Any], Any], Any], Any] = map_parts,
    generics: tuple[Any, ...] = (linearise, materialise, conj),
) -> None:
    """Register generic functions for a composite: each is applied to the parts. A
    composite of sparse operators is materialised as a sparse operator.

    Args:
        kind: the type of the composite.
        map_of: from a function of an operator and the composite to that composite.
        generics: the generic functions.
    """

    def register(fn: Any) -> None:
        @fn.register(kind)
        def _(operator: Any) -> Any:
            sparse = sparse_form(operator) if fn is materialise else None
            return map_of(fn, operator) if sparse is None else sparse

    for fn in generics:
        register(fn)


class _Adjoint(AbstractLinearOperator):
    """Aᴴ, by the adjoint product of A."""

    operator: AbstractLinearOperator

    def mv(self, vector):
        return reflected_product(self.operator, Reflection.ADJOINT, vector)

    def as_matrix(self):
        return self.operator.H.as_matrix()

    def transpose(self):
        return conj(self.operator)

    def in_structure(self):
        return self.operator.out_structure()

    def out_structure(self):
        return self.operator.in_structure()


def adjoint_by_parts(
    kind: type, reflect: Callable[[Callable[[Any], Any], Any], Any] = map_parts
) -> None:
    """Register `adjoint_product` for a composite: its own product if it is known to be
    Hermitian, else by the adjoint products of its parts.

    Args:
        kind: the type of the composite.
        reflect: from the function that gives the adjoint of a part, and the composite,
            to the adjoint of the composite.
    """

    @adjoint_product.register(kind)
    def _(operator: Any) -> Any:
        own = is_own_adjoint(operator)
        return operator.mv if own else reflect(_Adjoint, operator).mv


def adjoint_by_itself(kind: type) -> None:
    """Register `adjoint_product` for a composite: if it is known to be Hermitian, its
    own product."""

    @adjoint_product.register(kind)
    def _(operator: Any) -> Any:
        return operator.mv if is_own_adjoint(operator) else operator.H.mv
