"""Checks of operators, states and options, with errors that say what to do."""

import difflib
import sys
import warnings
from collections.abc import Collection
from typing import Any

from lx_operators import AbstractLinearOperator


def check_square(
    operator: AbstractLinearOperator, solver: str, other: str = "QR"
) -> None:
    """`solver` handles square operators only; `other` is one for others."""
    m, n = operator.out_size(), operator.in_size()
    if m != n:
        raise ValueError(
            f"`{solver}` solves square systems only, but the operator's matrix is {m} "
            f"by {n}: {operator!r}. For least-squares and minimum-norm solutions use "
            f"`{other}`, `LSMR` or `AutoLinearSolver(well_posed=None)`."
        )


def check_state(state: Any, kind: type | tuple[type, ...], solver: str) -> None:
    """A state must come from the same kind of solver."""
    if not isinstance(state, kind):
        raise ValueError(
            f"`state` must be what `{solver}.init` returned, but got a value of type "
            f"`{type(state).__name__}`. Pass the solver that made it, or make another: "
            "`state = solver.init(operator, options)`."
        )


def check_options(options: dict[str, Any], known: Collection[str], solver: str) -> None:
    """Warn, at trace time, of options that `solver` does not know.

    A warning, not an error: solvers made of solvers pass options through.
    """
    if not isinstance(options, dict):
        raise ValueError(
            f"`options` must be a dictionary, but got `{type(options).__name__}`."
        )
    for name in options:
        if name in known:
            continue
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        takes = ", ".join(map(repr, sorted(known))) or "no options"
        warnings.warn(
            f"`{solver}` ignores the option {name!r}; it takes {takes}.{hint}",
            UserWarning,
            stacklevel=_level_of_the_caller(),
        )


def _level_of_the_caller() -> int:
    """The `stacklevel` at which a warning names the line of the caller, and not one
    of this library or of those that call it back."""
    frame, level = sys._getframe(1), 1
    while frame.f_back and _module(frame) in _OURS:
        frame, level = frame.f_back, level + 1
    return level


def _module(frame: Any) -> str:
    """The package of its code; what `exec` runs may have none."""
    return frame.f_globals.get("__name__", "").partition(".")[0]


_OURS = ("lx_operators", "lx_solvers", "lx_autodiff", "jax", "equinox", "contextlib")


def is_zero(damp: Any) -> bool:
    """Whether `damp` is known to be zero (the value of an array is unknown)."""
    return isinstance(damp, bool | int | float) and damp == 0


def check_undamped(inner: Any, solver: str) -> None:
    """An inner solver must not have `damp`, as the outer solver's problem does not have
    it."""
    damp = getattr(inner, "damp", 0.0)
    if not is_zero(damp):
        raise ValueError(
            f"`{solver}` takes an inner solver without damping, but got {inner!r}. "
            "`QR`, `SVD`, `LSMR` and `Normal` have a `damp` of their own: use one of "
            "them with the whole operator."
        )
