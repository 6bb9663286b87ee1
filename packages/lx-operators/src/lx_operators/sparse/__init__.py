"""Sparse matrices: where their entries are, and operators that hold these alone."""
