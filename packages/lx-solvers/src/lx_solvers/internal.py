"""What the floors above build on, beyond the public names."""

from ._auto import chosen, has_trace
from ._projection import annihilated
from ._results import code, judged, succeeded
from ._slogdet import slogdet_of, trace_of
from .direct._sequence import after
from .wrappers._doubled import residual

__all__ = [
    "after",
    "annihilated",
    "chosen",
    "code",
    "has_trace",
    "judged",
    "residual",
    "slogdet_of",
    "succeeded",
    "trace_of",
]
