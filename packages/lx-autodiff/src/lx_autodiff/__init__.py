"""Solving as a differentiable operation."""

from typing import TYPE_CHECKING

from lx_operators.internal import attach

if TYPE_CHECKING:
    from ._cond import cond as cond
    from ._error_bounds import (
        ErrorBounds as ErrorBounds,
        error_bounds as error_bounds,
    )
    from ._implicit import implicit as implicit
    from ._inverse_diagonal import inverse_diagonal as inverse_diagonal
    from ._invert import (
        InverseLinearOperator as InverseLinearOperator,
        invert as invert,
    )
    from ._linear_solve import linear_solve as linear_solve
    from ._sample_gaussian import sample_gaussian as sample_gaussian
    from ._shifted_solve import shifted_solve as shifted_solve
    from ._slogdet import (
        logdet as logdet,
        slogdet as slogdet,
    )

__getattr__, __dir__, __all__ = attach(__name__)

__version__ = "0.1.0"
