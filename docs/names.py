"""The names of `lineax` for the API pages: it takes them from the packages below at run
time, which a reader of its source does not see."""

from typing import Any

import griffe
import lx_autodiff
import lx_operators
import lx_solvers


class Names(griffe.Extension):
    """Adds each public name of the packages below to `lineax`."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        if pkg.name != "lineax":
            return
        for package in (lx_operators, lx_solvers, lx_autodiff):
            for name in package.__all__:
                target = f"{package.__name__}.{name}"
                pkg.set_member(name, griffe.Alias(name, target, parent=pkg))
