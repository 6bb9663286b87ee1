"""What the floors above build on, beyond the public names."""

from ._annihilated import annihilated
from ._auto import chosen, has_trace
from ._results import code, judged, succeeded
from ._slogdet import slogdet_of, trace_of
from .direct._dense import largest, power_of_two
from .direct._order import after
from .wrappers._doubled import residual

__all__ = [
    "after",
    "annihilated",
    "chosen",
    "code",
    "has_trace",
    "judged",
    "largest",
    "power_of_two",
    "residual",
    "slogdet_of",
    "succeeded",
    "trace_of",
]
