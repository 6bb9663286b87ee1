"""Names for packages that build on this one, beyond the public ones."""

from . import _jvp as _jvp, _transpose as _transpose
from ._primitive import linear_solve_p

__all__ = ["linear_solve_p"]
