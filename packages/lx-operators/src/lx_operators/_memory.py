"""What is remembered about an operator, kept outside it.

An operator is exactly its fields: whatever else is stored on the object would become
part of its pytree. So memories stand in a table of their own, keyed by the identity of
the object, and are dropped when the object is.
"""

import weakref
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Memory(Generic[_T]):
    """A table from objects, compared by identity and held weakly, to values."""

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
