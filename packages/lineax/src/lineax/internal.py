"""What third-party solvers need to go between pytrees and flat vectors, the norms, and
the solve primitive."""

from lx_autodiff.internal import linear_solve_p
from lx_operators.internal import (
    PackedStructures,
    complex_to_real_dtype,
    default_floating_dtype,
    max_norm,
    pack_structures,
    ravel_vector,
    rms_norm,
    sum_squares,
    transpose_packed_structures,
    tree_dot,
    two_norm,
    unravel_solution,
)

__all__ = [
    "PackedStructures",
    "complex_to_real_dtype",
    "default_floating_dtype",
    "linear_solve_p",
    "max_norm",
    "pack_structures",
    "ravel_vector",
    "rms_norm",
    "sum_squares",
    "transpose_packed_structures",
    "tree_dot",
    "two_norm",
    "unravel_solution",
]
