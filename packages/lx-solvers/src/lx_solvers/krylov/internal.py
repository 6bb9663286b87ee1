"""What authors of Krylov methods build on: `lx_solvers.internal.krylov`."""

from typing import TYPE_CHECKING

from lx_operators.internal import attach

if TYPE_CHECKING:
    from .._scaling import (
        dot as dot,
        norm2 as norm2,
        real_dot as real_dot,
    )
    from ..preconditioners._adapted import as_preconditioner as as_preconditioner
    from ._driver import (
        KrylovState as KrylovState,
        conjugated_state as conjugated_state,
        iteration as iteration,
        prepare as prepare,
        solve as solve,
        transposed_state as transposed_state,
    )
    from ._options import effective as effective
    from ._phases import Exit as Exit
    from ._recurrence import (
        Pass as Pass,
        Recurrence as Recurrence,
        Step as Step,
    )
    from ._scalars import (
        times as times,
        together as together,
        where as where,
    )
    from ._shifted import (
        check_family as check_family,
        shifted_family as shifted_family,
    )
    from ._spaces import Space as Space
    from ._stability import backward_error as backward_error
    from ._tolerances import (
        Norm as Norm,
        check_aims as check_aims,
        takes_rtol_and_atol as takes_rtol_and_atol,
    )

__getattr__, __dir__, __all__ = attach(__name__)
