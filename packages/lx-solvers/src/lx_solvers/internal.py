"""Names for the packages that build on this one, beyond the public ones."""

from typing import TYPE_CHECKING

from lx_operators.internal import attach

from .krylov import internal as krylov  # noqa: F401

if TYPE_CHECKING:
    from ._auto import (
        chosen as chosen,
        has_trace as has_trace,
    )
    from ._checks import is_zero as is_zero
    from ._gaussian import (
        inverse_diagonal_of as inverse_diagonal_of,
        root_of as root_of,
    )
    from ._memory import matrix_free as matrix_free
    from ._projection import (
        annihilated as annihilated,
        leaves_no_residual as leaves_no_residual,
    )
    from ._results import (
        NAMES as NAMES,
        code as code,
        judged as judged,
        succeeded as succeeded,
    )
    from ._scaling import (
        largest as largest,
        power_of_two as power_of_two,
        reciprocal_scale as reciprocal_scale,
    )
    from ._sequence import after as after
    from ._slogdet import (
        slogdet_of as slogdet_of,
        trace_of as trace_of,
    )
    from ._solution import short as short
    from .direct.identity import (
        Identity as Identity,
        solver_for as solver_for,
    )
    from .krylov._stability import C as C
    from .wrappers._doubled import residual as residual

__getattr__, __dir__, __all__ = attach(__name__)
