"""How A x = b is computed: direct and iterative solvers, forward only."""

from ._auto import AutoLinearSolver
from ._solution import RESULTS, Solution
from ._solver import AbstractLinearSolver
from .direct.cholesky import Cholesky
from .direct.diagonal import Diagonal
from .direct.eigh import Eigh
from .direct.lu import LU
from .direct.pivoted_qr import PivotedQR
from .direct.qr import QR
from .direct.svd import SVD
from .direct.triangular import Triangular
from .direct.tridiagonal import Tridiagonal
from .krylov.cg import CG

__version__ = "0.1.0"

__all__ = [
    "CG",
    "LU",
    "QR",
    "RESULTS",
    "SVD",
    "AbstractLinearSolver",
    "AutoLinearSolver",
    "Cholesky",
    "Diagonal",
    "Eigh",
    "PivotedQR",
    "Solution",
    "Triangular",
    "Tridiagonal",
]
