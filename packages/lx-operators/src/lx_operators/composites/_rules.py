"""How what is known of a composite follows from what is known of its parts.

Each composite's file has a table of rules, a tag a row. A rule sees the operator and
the known tags of its operands. All rules are sufficient, not necessary; what follows
from a tag by itself (`_tags.py`) needs no row.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .._composite import cached, operands
from .._properties import declared, known
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
    """Have operators of this kind declare what the table says."""

    @cached
    def declaration(operator: Any) -> Tags:
        given = parts(operator)
        return frozenset(tag for tag, rule in table.items() if rule(operator, *given))

    declared.register(kind, declaration)
