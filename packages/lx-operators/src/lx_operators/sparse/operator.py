"""The sparse operators with all that is known of them: importing them from here
registers their forms and their algebra."""

from . import (
    algebra as _algebra,  # noqa: F401
    questions as _questions,  # noqa: F401
)
from .blocks import BlockSparseLinearOperator as BlockSparseLinearOperator
from .diagonals import SparseDiagonalsLinearOperator as SparseDiagonalsLinearOperator
from .entries import SparseLinearOperator as SparseLinearOperator
from .sharded import ShardedSparseLinearOperator as ShardedSparseLinearOperator
