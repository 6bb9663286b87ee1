"""The solvers that are chosen automatically, and what they ask of an operator, each
imported when the choice comes to it."""

from typing import TYPE_CHECKING

from lx_operators.internal import attach

if TYPE_CHECKING:
    from .direct.banded import Banded as Banded
    from .direct.block_diagonal import (
        BlockDiagonal as BlockDiagonal,
        full_rank_possible as full_rank_possible,
    )
    from .direct.block_elimination import (
        BlockElimination as BlockElimination,
        eliminable as eliminable,
    )
    from .direct.block_tridiagonal import BlockTridiagonal as BlockTridiagonal
    from .direct.cholesky import Cholesky as Cholesky
    from .direct.circulant import Circulant as Circulant
    from .direct.diagonal import Diagonal as Diagonal
    from .direct.kronecker import (
        Kronecker as Kronecker,
        of_one_kind as of_one_kind,
    )
    from .direct.kronecker_eigh import (
        KroneckerEigh as KroneckerEigh,
        hermitian_factors as hermitian_factors,
    )
    from .direct.lu import LU as LU
    from .direct.permutation import Permutation as Permutation
    from .direct.pivoted_qr import PivotedQR as PivotedQR
    from .direct.qr import QR as QR
    from .direct.sylvester import Sylvester as Sylvester
    from .direct.toeplitz import Toeplitz as Toeplitz
    from .direct.triangular import Triangular as Triangular
    from .direct.tridiagonal import Tridiagonal as Tridiagonal
    from .direct.woodbury import Woodbury as Woodbury
    from .sparse._backends import has_rslab as has_rslab
    from .sparse._matrix import is_sparse as is_sparse
    from .sparse.cholesky import SparseCholesky as SparseCholesky
    from .sparse.ldl import SparseLDL as SparseLDL
    from .sparse.least_squares import SparseLeastSquares as SparseLeastSquares
    from .sparse.lu import SparseLU as SparseLU

__getattr__, __dir__, __all__ = attach(__name__)
