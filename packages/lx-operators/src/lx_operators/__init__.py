"""Linear operators between pytrees: what A is, without a solver.

The common operators, and all that operators are asked, are imported with the package;
structured operators are when they are first named.
"""

from typing import TYPE_CHECKING

from . import _fallbacks as _fallbacks
from ._functions import conj, diagonal, linearise, materialise, tridiagonal
from ._lazy import attach
from ._operator import AbstractLinearOperator
from ._properties import (
    has_unit_diagonal,
    is_diagonal,
    is_hermitian,
    is_lower_triangular,
    is_negative_semidefinite,
    is_nonsingular,
    is_positive_semidefinite,
    is_symmetric,
    is_tridiagonal,
    is_upper_triangular,
)
from ._tags import (
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    negative_semidefinite_tag,
    nonsingular_tag,
    positive_semidefinite_tag,
    symmetric_tag,
    transpose_tags,
    transpose_tags_rules,
    tridiagonal_tag,
    unit_diagonal_tag,
    upper_triangular_tag,
)
from .composites import gram as gram
from .composites import mirrored as mirrored
from .composites.add import AddLinearOperator
from .composites.compose import ComposedLinearOperator
from .composites.scale import DivLinearOperator, MulLinearOperator, NegLinearOperator
from .composites.tagged import TaggedLinearOperator
from .leaves.diagonal import DiagonalLinearOperator
from .leaves.function import FunctionLinearOperator
from .leaves.identity import IdentityLinearOperator
from .leaves.pytree import PyTreeLinearOperator
from .leaves.tridiagonal import TridiagonalLinearOperator

if TYPE_CHECKING:
    from ._verify import verify
    from .composites.block import BlockLinearOperator
    from .composites.block_diagonal import BlockDiagonalLinearOperator
    from .composites.kronecker import KroneckerLinearOperator
    from .composites.kronecker_sum import KroneckerSumLinearOperator
    from .composites.low_rank_update import LowRankUpdateLinearOperator
    from .composites.stacked import StackedLinearOperator
    from .composites.tangent import TangentLinearOperator
    from .leaves.banded import BandedLinearOperator
    from .leaves.block_tridiagonal import BlockTridiagonalLinearOperator
    from .leaves.circulant import CirculantLinearOperator
    from .leaves.jacobian import JacobianLinearOperator
    from .leaves.matrix import MatrixLinearOperator
    from .leaves.permutation import PermutationLinearOperator
    from .leaves.toeplitz import ToeplitzLinearOperator
    from .leaves.zero import ZeroLinearOperator

__getattr__, __dir__ = attach(
    __name__,
    {
        "._verify": ["verify"],
        ".composites.kronecker": ["KroneckerLinearOperator"],
        ".composites.kronecker_sum": ["KroneckerSumLinearOperator"],
        ".composites.low_rank_update": ["LowRankUpdateLinearOperator"],
        ".composites.tangent": ["TangentLinearOperator"],
        ".leaves.banded": ["BandedLinearOperator"],
        ".composites.block": ["BlockLinearOperator"],
        ".composites.block_diagonal": ["BlockDiagonalLinearOperator"],
        ".leaves.block_tridiagonal": ["BlockTridiagonalLinearOperator"],
        ".leaves.circulant": ["CirculantLinearOperator"],
        ".leaves.jacobian": ["JacobianLinearOperator"],
        ".leaves.matrix": ["MatrixLinearOperator"],
        ".leaves.permutation": ["PermutationLinearOperator"],
        ".composites.stacked": ["StackedLinearOperator"],
        ".leaves.toeplitz": ["ToeplitzLinearOperator"],
        ".leaves.zero": ["ZeroLinearOperator"],
    },
)

__version__ = "0.1.0"

__all__ = [
    "AbstractLinearOperator",
    "AddLinearOperator",
    "BandedLinearOperator",
    "BlockDiagonalLinearOperator",
    "BlockLinearOperator",
    "BlockTridiagonalLinearOperator",
    "CirculantLinearOperator",
    "ComposedLinearOperator",
    "DiagonalLinearOperator",
    "DivLinearOperator",
    "FunctionLinearOperator",
    "IdentityLinearOperator",
    "JacobianLinearOperator",
    "KroneckerLinearOperator",
    "KroneckerSumLinearOperator",
    "LowRankUpdateLinearOperator",
    "MatrixLinearOperator",
    "MulLinearOperator",
    "NegLinearOperator",
    "PermutationLinearOperator",
    "PyTreeLinearOperator",
    "StackedLinearOperator",
    "TaggedLinearOperator",
    "TangentLinearOperator",
    "ToeplitzLinearOperator",
    "TridiagonalLinearOperator",
    "ZeroLinearOperator",
    "conj",
    "diagonal",
    "diagonal_tag",
    "has_unit_diagonal",
    "hermitian_tag",
    "is_diagonal",
    "is_hermitian",
    "is_lower_triangular",
    "is_negative_semidefinite",
    "is_nonsingular",
    "is_positive_semidefinite",
    "is_symmetric",
    "is_tridiagonal",
    "is_upper_triangular",
    "linearise",
    "lower_triangular_tag",
    "materialise",
    "negative_semidefinite_tag",
    "nonsingular_tag",
    "positive_semidefinite_tag",
    "symmetric_tag",
    "transpose_tags",
    "transpose_tags_rules",
    "tridiagonal",
    "tridiagonal_tag",
    "unit_diagonal_tag",
    "upper_triangular_tag",
    "verify",
]
