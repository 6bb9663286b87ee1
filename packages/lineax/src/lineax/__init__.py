"""Linear solves and least squares in JAX: the whole API under one name.

`lineax` is a drop-in for code written against the published `lineax` 0.1.1. It has no
code of its own: operators live in `lx_operators`, solvers in `lx_solvers`,
`linear_solve` in `lx_autodiff`. What a program never names is not imported.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lx_autodiff import *  # noqa: F403  # pyright: ignore
    from lx_operators import *  # noqa: F403  # pyright: ignore
    from lx_solvers import *  # noqa: F403  # pyright: ignore

    from . import internal as internal

__version__ = "0.2.0"

_PACKAGES = ("lx_operators", "lx_solvers", "lx_autodiff")


def __getattr__(name: str) -> Any:
    """A public name, from the package that defines it, when it is first asked for."""
    if name == "internal":
        return import_module(".internal", __name__)
    if name == "__all__":
        return sorted({"internal", *_public()})
    if not name.startswith("_"):
        for package in map(import_module, _PACKAGES):
            if name in package.__all__:
                return globals().setdefault(name, getattr(package, name))
    text = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(text, name=name, obj=sys.modules[__name__])


def _public() -> set[str]:
    return {name for package in _PACKAGES for name in import_module(package).__all__}


def __dir__() -> list[str]:
    return sorted({*globals(), "internal", *_public()})
