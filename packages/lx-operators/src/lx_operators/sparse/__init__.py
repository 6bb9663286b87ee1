"""Sparse matrices: where their entries are, and operators that hold these alone."""

from . import laid_out as _laid_out  # noqa: F401
