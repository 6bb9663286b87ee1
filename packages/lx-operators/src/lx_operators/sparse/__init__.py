"""Sparse matrices: where their entries are, and operators that hold these alone.

What finds patterns needs SciPy's sparse matrices, which are slow to import: it is
imported when it is first used.
"""

from typing import TYPE_CHECKING

from .._lazy import attach

if TYPE_CHECKING:
    from .compression import (
        coloured as coloured,
        compress as compress,
        lack as lack,
    )
    from .detection import jacobian_sparsity as jacobian_sparsity

__getattr__, __dir__, __all__ = attach(__name__)
