"""How A x = b is computed: direct and iterative solvers, forward only.

A solver is imported when it is first named.
"""

from typing import TYPE_CHECKING

from lx_operators.internal import attach

if TYPE_CHECKING:
    from ._auto import AutoLinearSolver as AutoLinearSolver
    from ._compare import compare as compare
    from ._export import export_checks as export_checks
    from ._plot import plot_convergence as plot_convergence
    from ._report import report as report
    from ._solution import (
        RESULTS as RESULTS,
        Solution as Solution,
    )
    from ._solver import AbstractLinearSolver as AbstractLinearSolver
    from ._versions import show_versions as show_versions
    from .direct.banded import Banded as Banded
    from .direct.block_diagonal import BlockDiagonal as BlockDiagonal
    from .direct.block_elimination import BlockElimination as BlockElimination
    from .direct.block_tridiagonal import BlockTridiagonal as BlockTridiagonal
    from .direct.cholesky import Cholesky as Cholesky
    from .direct.circulant import Circulant as Circulant
    from .direct.diagonal import Diagonal as Diagonal
    from .direct.eigh import Eigh as Eigh
    from .direct.kronecker import Kronecker as Kronecker
    from .direct.kronecker_eigh import KroneckerEigh as KroneckerEigh
    from .direct.lu import LU as LU
    from .direct.permutation import Permutation as Permutation
    from .direct.pivoted_qr import PivotedQR as PivotedQR
    from .direct.qr import QR as QR
    from .direct.svd import SVD as SVD
    from .direct.sylvester import Sylvester as Sylvester
    from .direct.toeplitz import Toeplitz as Toeplitz
    from .direct.triangular import Triangular as Triangular
    from .direct.tridiagonal import Tridiagonal as Tridiagonal
    from .direct.woodbury import Woodbury as Woodbury
    from .krylov._stepwise import (
        IterationState as IterationState,
        StepByStep as StepByStep,
        step_by_step as step_by_step,
    )
    from .krylov.bicgstab import BiCGStab as BiCGStab
    from .krylov.block_cg import BlockCG as BlockCG
    from .krylov.block_gmres import BlockGMRES as BlockGMRES
    from .krylov.cg import CG as CG
    from .krylov.cocg import COCG as COCG
    from .krylov.deflated_cg import DeflatedCG as DeflatedCG
    from .krylov.fgmres import FGMRES as FGMRES
    from .krylov.gcrodr import GCRODR as GCRODR
    from .krylov.gmres import GMRES as GMRES
    from .krylov.idr import IDR as IDR
    from .krylov.lsmr import LSMR as LSMR
    from .krylov.lsqr import LSQR as LSQR
    from .krylov.minres import MINRES as MINRES
    from .krylov.minresqlp import MINRESQLP as MINRESQLP
    from .krylov.symmlq import SYMMLQ as SYMMLQ
    from .preconditioners._preconditioner import (
        AbstractPreconditioner as AbstractPreconditioner,
    )
    from .preconditioners.additive_schwarz import AdditiveSchwarz as AdditiveSchwarz
    from .preconditioners.amg import AMG as AMG
    from .preconditioners.auto import AutoPreconditioner as AutoPreconditioner
    from .preconditioners.block_jacobi import BlockJacobi as BlockJacobi
    from .preconditioners.block_triangular import (
        BlockTriangular as BlockTriangular,
        SchurComplement as SchurComplement,
    )
    from .preconditioners.chebyshev import Chebyshev as Chebyshev
    from .preconditioners.circulant import (
        OptimalCirculant as OptimalCirculant,
        circulant_preconditioner as circulant_preconditioner,
    )
    from .preconditioners.combinations import (
        Additive as Additive,
        Multiplicative as Multiplicative,
        TwoLevel as TwoLevel,
    )
    from .preconditioners.deflation import Deflation as Deflation
    from .preconditioners.gauss_seidel import GaussSeidel as GaussSeidel
    from .preconditioners.incomplete_cholesky import (
        IncompleteCholesky as IncompleteCholesky,
    )
    from .preconditioners.incomplete_lu import IncompleteLU as IncompleteLU
    from .preconditioners.jacobi import Jacobi as Jacobi
    from .preconditioners.multigrid import Multigrid as Multigrid
    from .preconditioners.nystrom import Nystrom as Nystrom
    from .preconditioners.pivoted_cholesky import PivotedCholesky as PivotedCholesky
    from .preconditioners.ssor import SSOR as SSOR
    from .preconditioners.stale import StaleFactors as StaleFactors
    from .sparse._cache import sparse_cache as sparse_cache
    from .sparse._protocol import (
        NotDefiniteError as NotDefiniteError,
        SingularMatrixError as SingularMatrixError,
        SparseBackend as SparseBackend,
        SparseFactors as SparseFactors,
    )
    from .sparse.cholesky import SparseCholesky as SparseCholesky
    from .sparse.ldl import SparseLDL as SparseLDL
    from .sparse.least_squares import SparseLeastSquares as SparseLeastSquares
    from .sparse.lu import SparseLU as SparseLU
    from .wrappers.normal import (
        Normal as Normal,
        NormalCG as NormalCG,
    )
    from .wrappers.refined import Refined as Refined

__getattr__, __dir__, __all__ = attach(__name__)

__version__ = "0.1.0"
