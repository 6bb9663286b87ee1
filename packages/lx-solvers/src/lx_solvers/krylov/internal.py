"""What authors of Krylov methods build on: `lx_solvers.internal.krylov`."""

from .._scaling import dot, norm2, real_dot
from ..preconditioners._adapted import as_preconditioner
from ._driver import (
    KrylovState,
    conjugated_state,
    iteration,
    prepare,
    solve,
    transposed_state,
)
from ._options import effective
from ._phases import Exit
from ._recurrence import Pass, Recurrence, Step
from ._scalars import times, together, where
from ._shifted import check_family, shifted_family
from ._spaces import Space
from ._stability import backward_error
from ._tolerances import Norm, check_aims, takes_rtol_and_atol

__all__ = [
    "Exit",
    "KrylovState",
    "Norm",
    "Pass",
    "Recurrence",
    "Space",
    "Step",
    "as_preconditioner",
    "backward_error",
    "check_aims",
    "check_family",
    "conjugated_state",
    "dot",
    "effective",
    "iteration",
    "norm2",
    "prepare",
    "real_dot",
    "shifted_family",
    "solve",
    "takes_rtol_and_atol",
    "times",
    "together",
    "transposed_state",
    "where",
]
