"""Names for the packages that build on this one, beyond the public ones."""

from ._auto import chosen, has_trace
from ._checks import is_zero
from ._gaussian import inverse_diagonal_of, root_of
from ._memory import matrix_free
from ._projection import annihilated, leaves_no_residual
from ._results import NAMES, code, judged, succeeded
from ._scaling import largest, power_of_two, reciprocal_scale
from ._slogdet import slogdet_of, trace_of
from .direct._sequence import after
from .direct.identity import Identity, solver_for
from .krylov import internal as krylov
from .wrappers._doubled import residual

__all__ = [
    "Identity",
    "NAMES",
    "after",
    "annihilated",
    "chosen",
    "code",
    "has_trace",
    "inverse_diagonal_of",
    "is_zero",
    "judged",
    "krylov",
    "largest",
    "leaves_no_residual",
    "matrix_free",
    "power_of_two",
    "reciprocal_scale",
    "residual",
    "root_of",
    "slogdet_of",
    "solver_for",
    "succeeded",
    "trace_of",
]
