"""Solving as a differentiable operation."""

from . import _derivative as _derivative
from . import _transpose as _transpose
from ._error_bounds import ErrorBounds, error_bounds
from ._implicit import implicit
from ._invert import InverseLinearOperator, invert
from ._linear_solve import linear_solve
from ._slogdet import logdet, slogdet

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
