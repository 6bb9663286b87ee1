"""What the floors above build on, beyond the public names."""

from ._annihilated import annihilated
from ._auto import chosen, has_trace
from ._results import all_finite, choose, code, succeeded
from ._slogdet import slogdet_of, trace_of
from .wrappers._doubled import residual

__all__ = [
    "all_finite",
    "annihilated",
    "choose",
    "chosen",
    "code",
    "has_trace",
    "residual",
    "slogdet_of",
    "succeeded",
    "trace_of",
]
