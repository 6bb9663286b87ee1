"""Linear operators between pytrees: what A is, without a solver.

The common operators and all questions about operators are imported with the package;
structured operators are imported when they are first named.
"""

from typing import TYPE_CHECKING

from . import _fallbacks as _fallbacks
from ._functions import (
    conj as conj,
    diagonal as diagonal,
    linearise as linearise,
    materialise as materialise,
    tridiagonal as tridiagonal,
)
from ._lazy_imports import attach
from ._operator import AbstractLinearOperator as AbstractLinearOperator
from ._properties import (
    has_unit_diagonal as has_unit_diagonal,
    is_diagonal as is_diagonal,
    is_hermitian as is_hermitian,
    is_lower_triangular as is_lower_triangular,
    is_negative_semidefinite as is_negative_semidefinite,
    is_nonsingular as is_nonsingular,
    is_positive_semidefinite as is_positive_semidefinite,
    is_symmetric as is_symmetric,
    is_tridiagonal as is_tridiagonal,
    is_upper_triangular as is_upper_triangular,
)
from ._tags import (
    diagonal_tag as diagonal_tag,
    hermitian_tag as hermitian_tag,
    lower_triangular_tag as lower_triangular_tag,
    negative_semidefinite_tag as negative_semidefinite_tag,
    nonsingular_tag as nonsingular_tag,
    positive_semidefinite_tag as positive_semidefinite_tag,
    symmetric_tag as symmetric_tag,
    transpose_tags as transpose_tags,
    transpose_tags_rules as transpose_tags_rules,
    tridiagonal_tag as tridiagonal_tag,
    unit_diagonal_tag as unit_diagonal_tag,
    upper_triangular_tag as upper_triangular_tag,
)
from .composites import gram as _gram, mirrored as _mirrored  # noqa: F401
from .composites.add import AddLinearOperator as AddLinearOperator
from .composites.compose import ComposedLinearOperator as ComposedLinearOperator
from .composites.scale import (
    DivLinearOperator as DivLinearOperator,
    MulLinearOperator as MulLinearOperator,
    NegLinearOperator as NegLinearOperator,
)
from .composites.tagged import TaggedLinearOperator as TaggedLinearOperator
from .leaves.diagonal import DiagonalLinearOperator as DiagonalLinearOperator
from .leaves.function import FunctionLinearOperator as FunctionLinearOperator
from .leaves.identity import IdentityLinearOperator as IdentityLinearOperator
from .leaves.pytree import PyTreeLinearOperator as PyTreeLinearOperator
from .leaves.tridiagonal import TridiagonalLinearOperator as TridiagonalLinearOperator

if TYPE_CHECKING:
    from ._scipy import (
        aslinearoperator as aslinearoperator,
        to_scipy as to_scipy,
    )
    from .composites.block import BlockLinearOperator as BlockLinearOperator
    from .composites.block_diagonal import (
        BlockDiagonalLinearOperator as BlockDiagonalLinearOperator,
    )
    from .composites.kronecker import KroneckerLinearOperator as KroneckerLinearOperator
    from .composites.kronecker_sum import (
        KroneckerSumLinearOperator as KroneckerSumLinearOperator,
    )
    from .composites.low_rank_update import (
        LowRankUpdateLinearOperator as LowRankUpdateLinearOperator,
    )
    from .composites.stacked import StackedLinearOperator as StackedLinearOperator
    from .composites.tangent import TangentLinearOperator as TangentLinearOperator
    from .leaves.banded import BandedLinearOperator as BandedLinearOperator
    from .leaves.block_tridiagonal import (
        BlockTridiagonalLinearOperator as BlockTridiagonalLinearOperator,
    )
    from .leaves.circulant import CirculantLinearOperator as CirculantLinearOperator
    from .leaves.matrix import MatrixLinearOperator as MatrixLinearOperator
    from .leaves.permutation import (
        PermutationLinearOperator as PermutationLinearOperator,
    )
    from .leaves.toeplitz import ToeplitzLinearOperator as ToeplitzLinearOperator
    from .leaves.zero import ZeroLinearOperator as ZeroLinearOperator
    from .plot import plot_spectrum as plot_spectrum, spy as spy
    from .sparse.compression import (
        ColouredPattern as ColouredPattern,
        compress as compress,
    )
    from .sparse.detection import jacobian_sparsity as jacobian_sparsity
    from .sparse.jacobian import JacobianLinearOperator as JacobianLinearOperator
    from .sparse.operator import (
        BlockSparseLinearOperator as BlockSparseLinearOperator,
        ShardedSparseLinearOperator as ShardedSparseLinearOperator,
        SparseDiagonalsLinearOperator as SparseDiagonalsLinearOperator,
        SparseLinearOperator as SparseLinearOperator,
    )
    from .sparse.pattern import SparsityPattern as SparsityPattern
    from .sparse.sharded_pattern import (
        ShardedSparsityPattern as ShardedSparsityPattern,
    )
    from .verification.verify import verify as verify

__getattr__, __dir__, __all__ = attach(__name__)

__version__ = "0.1.0"
