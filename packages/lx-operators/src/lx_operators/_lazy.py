"""Names that are imported when they are first asked for (PEP 562)."""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def attach(
    module: str, names: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A module's `__getattr__` and `__dir__`, by which names come from other files when
    first asked for. What was asked for once is an ordinary attribute.

    Equinox takes about a millisecond to build a class: a program is to pay for the
    operators and solvers that it names, and for no others.

    Args:
        module: its `__name__`.
        names: which names come from which file, absolute or relative to the package.

    ```python
    __getattr__, __dir__ = attach(__name__, {".krylov.cg": ["CG"]})
    ```
    """
    this = sys.modules[module]
    files = {name: file for file, found in names.items() for name in found}

    def __getattr__(name: str) -> Any:
        if name not in files:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(files[name], this.__package__), name)
        setattr(this, name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(this), *files})

    return __getattr__, __dir__
