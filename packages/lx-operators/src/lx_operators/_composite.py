"""Composites rebuilt from their parts, and a memory for facts about operators."""

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

_PARTS = ("operator", "operator1", "operator2", "operators")


@functools.cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind) if f.name in _PARTS)


def operands(operator: Any) -> tuple[Any, ...]:
    """The operators that a composite is made of; empty for a leaf."""
    parts: list[Any] = []
    for name in _names(type(operator)):
        part = getattr(operator, name)
        parts.extend(part if isinstance(part, tuple) else (part,))
    return tuple(parts)


def map_parts(fn: Callable[[Any], Any], operator: _T) -> _T:
    """The same composite, with `fn` applied to each part."""
    return with_parts(operator, *(fn(part) for part in operands(operator)))


def with_parts(operator: _T, *parts: Any) -> _T:
    """The same composite with other parts."""
    each, fields = iter(parts), {}
    for name in _names(type(operator)):
        old = getattr(operator, name)
        new = tuple(next(each) for _ in old) if isinstance(old, tuple) else next(each)
        fields[name] = new
    return with_fields(operator, **fields)


def with_fields(operator: _T, /, **fields: Any) -> _T:
    """The same operator with other fields, which are known to fit."""
    kind: Any = type(operator)
    clone = object.__new__(kind)
    for field in dataclasses.fields(kind):
        new = fields.get(field.name, getattr(operator, field.name))
        object.__setattr__(clone, field.name, new)
    return clone


class Memory(Generic[_T]):
    """A table from objects, compared by identity and held weakly, to values.

    An operator is exactly its fields: whatever else is stored on the object would
    become part of its pytree.
    """

    def __init__(self):
        self._values: dict[int, tuple[weakref.ref, _T]] = {}

    def get(self, key: Any) -> _T | None:
        """The value kept for this object; None if there is none."""
        kept = self._values.get(id(key))
        return None if kept is None else kept[1]

    def keep(self, key: Any, value: _T) -> None:
        """Keep `value` for as long as `key` lives."""
        values, identity = self._values, id(key)

        def forget(_: weakref.ref) -> None:
            values.pop(identity, None)

        values[identity] = weakref.ref(key, forget), value


def cached(fn: Callable[[Any], _T]) -> Callable[[Any], _T]:
    """`fn(operator)`, computed once for each operator object, so that a question about
    a composite does not ask its parts again. Values must not be None."""
    memory: Memory[_T] = Memory()

    @functools.wraps(fn)
    def remembered(operator: Any) -> _T:
        found = memory.get(operator)
        if found is None:
            found = fn(operator)
            memory.keep(operator, found)
        return found

    return remembered
