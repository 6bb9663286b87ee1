"""How A x = b is computed: direct and iterative solvers, forward only."""

from ._auto import AutoLinearSolver
from ._solution import RESULTS, Solution
from ._solver import AbstractLinearSolver
from .direct.banded import Banded
from .direct.block_diagonal import BlockDiagonal
from .direct.block_elimination import BlockElimination
from .direct.block_tridiagonal import BlockTridiagonal
from .direct.cholesky import Cholesky
from .direct.circulant import Circulant
from .direct.circulant_preconditioner import circulant_preconditioner
from .direct.diagonal import Diagonal
from .direct.eigh import Eigh
from .direct.kronecker import Kronecker
from .direct.kronecker_eigh import KroneckerEigh
from .direct.lu import LU
from .direct.permutation import Permutation
from .direct.pivoted_qr import PivotedQR
from .direct.qr import QR
from .direct.svd import SVD
from .direct.sylvester import Sylvester
from .direct.toeplitz import Toeplitz
from .direct.triangular import Triangular
from .direct.tridiagonal import Tridiagonal
from .direct.woodbury import Woodbury
from .krylov.bicgstab import BiCGStab
from .krylov.cg import CG
from .krylov.fgmres import FGMRES
from .krylov.gmres import GMRES
from .krylov.lsmr import LSMR
from .krylov.lsqr import LSQR
from .krylov.minres import MINRES
from .wrappers.normal import Normal, NormalCG
from .wrappers.refined import Refined

__version__ = "0.1.0"

__all__ = [
    "CG",
    "FGMRES",
    "GMRES",
    "LSMR",
    "LSQR",
    "LU",
    "MINRES",
    "QR",
    "RESULTS",
    "SVD",
    "AbstractLinearSolver",
    "AutoLinearSolver",
    "Banded",
    "BiCGStab",
    "BlockDiagonal",
    "BlockElimination",
    "BlockTridiagonal",
    "Cholesky",
    "Circulant",
    "Diagonal",
    "Eigh",
    "Kronecker",
    "KroneckerEigh",
    "Normal",
    "NormalCG",
    "Permutation",
    "PivotedQR",
    "Refined",
    "Solution",
    "Sylvester",
    "Toeplitz",
    "Triangular",
    "Tridiagonal",
    "Woodbury",
    "circulant_preconditioner",
]
