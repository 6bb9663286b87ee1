"""Sparse matrices: where their entries are, and operators that hold these alone."""

from . import algebra as _algebra  # noqa: F401
