"""How A x = b is computed: direct and iterative solvers, forward only.

A solver is imported when it is first named.
"""

from typing import TYPE_CHECKING

from lx_operators.internal import attach

if TYPE_CHECKING:
    from ._auto import AutoLinearSolver
    from ._export import export_checks
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

__getattr__, __dir__ = attach(
    __name__,
    {
        "._auto": ["AutoLinearSolver"],
        "._export": ["export_checks"],
        "._solution": ["RESULTS", "Solution"],
        "._solver": ["AbstractLinearSolver"],
        ".direct.banded": ["Banded"],
        ".direct.block_diagonal": ["BlockDiagonal"],
        ".direct.block_elimination": ["BlockElimination"],
        ".direct.block_tridiagonal": ["BlockTridiagonal"],
        ".direct.cholesky": ["Cholesky"],
        ".direct.circulant": ["Circulant"],
        ".direct.circulant_preconditioner": ["circulant_preconditioner"],
        ".direct.diagonal": ["Diagonal"],
        ".direct.eigh": ["Eigh"],
        ".direct.kronecker": ["Kronecker"],
        ".direct.kronecker_eigh": ["KroneckerEigh"],
        ".direct.lu": ["LU"],
        ".direct.permutation": ["Permutation"],
        ".direct.pivoted_qr": ["PivotedQR"],
        ".direct.qr": ["QR"],
        ".direct.svd": ["SVD"],
        ".direct.sylvester": ["Sylvester"],
        ".direct.toeplitz": ["Toeplitz"],
        ".direct.triangular": ["Triangular"],
        ".direct.tridiagonal": ["Tridiagonal"],
        ".direct.woodbury": ["Woodbury"],
        ".krylov.bicgstab": ["BiCGStab"],
        ".krylov.cg": ["CG"],
        ".krylov.fgmres": ["FGMRES"],
        ".krylov.gmres": ["GMRES"],
        ".krylov.lsmr": ["LSMR"],
        ".krylov.lsqr": ["LSQR"],
        ".krylov.minres": ["MINRES"],
        ".wrappers.normal": ["Normal", "NormalCG"],
        ".wrappers.refined": ["Refined"],
    },
)

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
    "export_checks",
]
