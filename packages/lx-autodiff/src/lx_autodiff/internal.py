"""What is built on beyond the public names."""

from ._primitive import linear_solve_p

__all__ = ["linear_solve_p"]
