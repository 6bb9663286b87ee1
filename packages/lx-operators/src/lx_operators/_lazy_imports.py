"""Names that are imported when they are first used (PEP 562)."""

import ast
import importlib
import sys
from collections.abc import Callable
from typing import Any


def attach(
    module: str,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """A module's `__getattr__`, `__dir__` and `__all__`, from its own list of imports.

    A name is public if it is imported under its own name, as type checkers understand
    it (`from .file import Name as Name`). An import under `if TYPE_CHECKING:` is made
    at run time when the name is first used; the name is an ordinary attribute from then
    on.

    Equinox takes about a millisecond to build a class: a program pays only for the
    operators and solvers that it names.

    Args:
        module: its `__name__`.

    ```python
    if TYPE_CHECKING:
        from .krylov.cg import CG as CG

    __getattr__, __dir__, __all__ = attach(__name__)
    ```
    """
    this = sys.modules[module]
    public, files = _imports(module)

    def __getattr__(name: str) -> Any:
        if name not in files:
            text = f"module {module!r} has no attribute {name!r}"
            raise AttributeError(text, name=name, obj=this)
        value = getattr(importlib.import_module(files[name], this.__package__), name)
        setattr(this, name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(this), *files})

    return __getattr__, __dir__, public


def _imports(module: str) -> tuple[list[str], dict[str, str]]:
    """The public names, sorted, and the file of each name that is imported later."""
    loader: Any = sys.modules[module].__spec__.loader  # pyright: ignore
    public, files = [], {}
    for node in ast.parse(loader.get_source(module)).body:
        later = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for line in node.body if later else [node]:
            if not isinstance(line, ast.ImportFrom):
                continue
            names = [x.name for x in line.names if x.asname == x.name]
            names = [name for name in names if not name.startswith("_")]
            public += names
            if later:
                file = "." * line.level + (line.module or "")
                files |= dict.fromkeys(names, file)
    return sorted(public), files
