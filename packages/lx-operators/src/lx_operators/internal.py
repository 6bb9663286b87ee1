"""Names for the other packages and for third-party solvers, beyond the public ones:
pytrees as flat vectors, norms, dtypes, promotion."""

from typing import TYPE_CHECKING

from ._bands import diagonal_of as diagonal_of, shifted_rows as shifted_rows
from ._blocks import (
    Grid as Grid,
    block_diagonal as block_diagonal,
    block_grid as block_grid,
    block_shapes as block_shapes,
    block_tridiagonal as block_tridiagonal,
    map_grid as map_grid,
)
from ._functions import (
    adjoint_product as adjoint_product,
    bands as bands,
    bandwidths as bandwidths,
)
from ._lazy_imports import attach as attach
from ._memory import (
    FORMED_PER_HELD as FORMED_PER_HELD,
    MAX_BYTES as MAX_BYTES,
    check_matrix as check_matrix,
    describe_matrix as describe_matrix,
    elements as elements,
    gib as gib,
    matrix_bytes as matrix_bytes,
)
from ._norms import (
    max_norm as max_norm,
    rms_norm as rms_norm,
    sum_squares as sum_squares,
    tree_dot as tree_dot,
    two_norm as two_norm,
)
from ._printing import summary as summary, type_name as type_name
from ._promotion import (
    apply_linear as apply_linear,
    conform as conform,
    strict_promotion as strict_promotion,
)
from ._properties import known as known
from ._provenance import (
    Reflection as Reflection,
    remember as remember,
    same as same,
)
from ._simplify import (
    PRODUCTS as PRODUCTS,
    Rewrite as Rewrite,
    unwrapped as unwrapped,
)
from ._structures import (
    Frozen as Frozen,
    PackedStructures as PackedStructures,
    Structure as Structure,
    cast as cast,
    common_dtype as common_dtype,
    complex_to_real_dtype as complex_to_real_dtype,
    default_floating_dtype as default_floating_dtype,
    describe as describe,
    freeze as freeze,
    is_real as is_real,
    pack_structures as pack_structures,
    promote_types as promote_types,
    ravel as ravel,
    ravel_vector as ravel_vector,
    same_shapes as same_shapes,
    size_of as size_of,
    sparse_hint as sparse_hint,
    structure_of as structure_of,
    transpose_packed_structures as transpose_packed_structures,
    unravel as unravel,
    unravel_solution as unravel_solution,
)
from ._tags import (
    as_tags as as_tags,
    inverse_tags as inverse_tags,
    self_adjoint_tags as self_adjoint_tags,
)
from ._tensor import columns as columns
from ._varying import (
    as_when_lowered as as_when_lowered,
    manual_axes as manual_axes,
    types_on_mesh as types_on_mesh,
    vary as vary,
    varying_axes as varying_axes,
)
from .composites.gram import as_product as as_product
from .composites.promoted import promoted as promoted
from .composites.scale import (
    scaled as scaled,
    signed as signed,
)

if TYPE_CHECKING:
    from .composites.block import (
        sides as sides,
        square_diagonal as square_diagonal,
    )
    from .sparse.as_sparse import (
        as_sparse as as_sparse,
        multiplied_out as multiplied_out,
    )
    from .testing._running import (
        available_dtypes as available_dtypes,
        run_laws as run_laws,
    )

bare = unwrapped

__getattr__, __dir__, __all__ = attach(__name__)
