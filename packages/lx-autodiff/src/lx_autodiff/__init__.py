"""Solving as a differentiable operation."""

from typing import TYPE_CHECKING

from lx_operators.internal import attach

if TYPE_CHECKING:
    from ._error_bounds import ErrorBounds, error_bounds
    from ._implicit import implicit
    from ._invert import InverseLinearOperator, invert
    from ._linear_solve import linear_solve
    from ._slogdet import logdet, slogdet

__getattr__, __dir__ = attach(
    __name__,
    {
        "._error_bounds": ["ErrorBounds", "error_bounds"],
        "._implicit": ["implicit"],
        "._invert": ["InverseLinearOperator", "invert"],
        "._linear_solve": ["linear_solve"],
        "._slogdet": ["logdet", "slogdet"],
    },
)

__version__ = "0.1.0"

__all__ = [
    "ErrorBounds",
    "error_bounds",
    "InverseLinearOperator",
    "implicit",
    "invert",
    "linear_solve",
    "logdet",
    "slogdet",
]
