"""Equinox enumerations whose items have a name and raise when used as a condition."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.core
import jax.tree_util as jtu
import numpy as np


class _Example(eqx.Enumeration):
    item = ""


_PlainItem: Any = type(_Example.item)


class Item(_PlainItem):
    """An item of an enumeration: one, or under `vmap` an array of them."""

    @property
    def name(self) -> Any:
        """The name, as a string; an array of strings under `vmap`.

        Raises:
            ValueError: inside `jit` or another trace, where the item is unknown.
        """
        names = self._names()
        if names is None:
            raise ValueError(
                "a result has no name inside `jit` or another transformation, where "
                "its value is not known yet. Return it and read its name outside, or "
                "compare it there: `solution.successful`, "
                "`result == RESULTS.successful`."
            )
        return names if names.ndim else str(names)

    def _names(self) -> np.ndarray | None:
        (number,) = jtu.tree_leaves(self)
        if isinstance(number, jax.core.Tracer):
            return None
        return np.asarray(self._enumeration._names)[np.asarray(number)]

    def __bool__(self) -> bool:
        raise ValueError(
            "a result has no truth value, as a failure would count as true as well. "
            "Ask `solution.successful`, or `result == RESULTS.successful`: a boolean "
            "array."
        )

    def text(self) -> str:
        """The name or names as readable text."""
        (number,) = jtu.tree_leaves(self)
        if not isinstance(number, jax.Array | np.ndarray):  # a shape, an axis
            return f"<{type(number).__name__}>"
        names = self._names()
        if names is None:
            return "<traced>"
        return np.array2string(
            names, threshold=8, separator=", ", formatter={"all": str}
        )

    def __repr__(self) -> str:
        text, enumeration = self.text(), self._enumeration.__qualname__
        return f"{enumeration}{text if text.startswith('[') else '.' + text}"


def _item(enumeration: Any, item: Any) -> Item:
    (number,) = jtu.tree_leaves(item)
    return Item(number, enumeration)


_Plain: Any = type(eqx.Enumeration)


class _Meta(_Plain):
    """Gives every item of the enumerations that descend from it the one type `Item`."""

    def __new__(cls, name, bases, namespace):
        own = [key for key in namespace if not key.startswith("__")]
        made = super().__new__(cls, name, bases, namespace)
        inherited = [key for base in bases for key in getattr(base, "_names", ())]
        plain = {key: _Plain.__getattr__(made, key) for key in inherited + own}
        items = {key: _item(made, item) for key, item in plain.items()}
        for key, item in items.items():
            setattr(made, key, item)
        numbers = {int(jtu.tree_leaves(item)[0]): key for key, item in items.items()}
        made._names = tuple(numbers[i] for i in range(len(numbers)))
        return made


if TYPE_CHECKING:
    Enumeration = eqx.Enumeration
else:

    class Enumeration(eqx.Enumeration, metaclass=_Meta):
        """An `equinox.Enumeration` of named items."""

    def _where(cls, pred, a, b):
        return _item(cls, eqx.Enumeration.where.__func__(cls, pred, a, b))

    def _promote(cls, item):
        return _item(cls, eqx.Enumeration.promote.__func__(cls, item))

    # Equinox takes these names in a class body for items
    Enumeration.where = classmethod(_where)
    Enumeration.promote = classmethod(_promote)
