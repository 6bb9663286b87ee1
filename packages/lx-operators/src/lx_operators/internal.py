"""What the floors above, and third-party solvers, build on beyond the public names:
pytrees as flat vectors, norms, dtypes, promotion."""

from typing import TYPE_CHECKING

from ._blocks import (
    Grid,
    block_diagonal,
    block_grid,
    block_shapes,
    block_tridiagonal,
    map_grid,
)
from ._functions import adjoint_product, bands, bandwidths
from ._laws import available_dtypes, run_laws
from ._lazy import attach
from ._norms import max_norm, rms_norm, sum_squares, tree_dot, two_norm
from ._printing import summary
from ._promotion import conform, strict_promotion
from ._properties import known
from ._provenance import Reflection, remember, same
from ._simplify import PRODUCTS, Rewrite, unwrapped
from ._skewed import skewed
from ._structures import (
    Frozen,
    PackedStructures,
    Structure,
    cast,
    common_dtype,
    complex_to_real_dtype,
    default_floating_dtype,
    describe,
    freeze,
    is_real,
    pack_structures,
    promote_types,
    ravel,
    ravel_vector,
    same_shapes,
    size_of,
    structure_of,
    transpose_packed_structures,
    unravel,
    unravel_solution,
)
from ._tags import inverse_tags
from ._tensor import columns
from ._varying import as_when_lowered, manual_axes, vary, varying_axes
from .composites.gram import as_product
from .composites.promoted import promoted
from .composites.scale import scaled, signed

if TYPE_CHECKING:
    from .composites.block import sides, square_diagonal

bare = unwrapped

__getattr__, __dir__ = attach(
    __name__,
    {
        ".composites.block": ["sides", "square_diagonal"],
    },
)

__all__ = [
    "PRODUCTS",
    "Rewrite",
    "as_when_lowered",
    "same",
    "Frozen",
    "Grid",
    "PackedStructures",
    "Reflection",
    "Structure",
    "adjoint_product",
    "as_product",
    "attach",
    "available_dtypes",
    "bands",
    "bandwidths",
    "block_diagonal",
    "block_grid",
    "block_shapes",
    "block_tridiagonal",
    "bare",
    "cast",
    "columns",
    "common_dtype",
    "complex_to_real_dtype",
    "conform",
    "default_floating_dtype",
    "describe",
    "freeze",
    "inverse_tags",
    "is_real",
    "known",
    "manual_axes",
    "map_grid",
    "max_norm",
    "pack_structures",
    "promote_types",
    "promoted",
    "ravel",
    "ravel_vector",
    "remember",
    "rms_norm",
    "run_laws",
    "same_shapes",
    "scaled",
    "sides",
    "signed",
    "size_of",
    "skewed",
    "square_diagonal",
    "strict_promotion",
    "structure_of",
    "sum_squares",
    "summary",
    "transpose_packed_structures",
    "tree_dot",
    "two_norm",
    "unravel",
    "unwrapped",
    "unravel_solution",
    "vary",
    "varying_axes",
]
