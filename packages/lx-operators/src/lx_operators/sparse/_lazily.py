"""Functions that find and use the patterns of Jacobians, imported when they are first
used: they need SciPy's sparse matrices, which take longer to import than all of the
operators.
"""

from typing import TYPE_CHECKING

from .._lazy_imports import attach

if TYPE_CHECKING:
    from .compression import (
        coloured as coloured,
        compress as compress,
        lack as lack,
    )
    from .detection import jacobian_sparsity as jacobian_sparsity
    from .patterned import PatternedLinearOperator as PatternedLinearOperator
    from .questions import asymmetry as asymmetry

__getattr__, __dir__, __all__ = attach(__name__)
