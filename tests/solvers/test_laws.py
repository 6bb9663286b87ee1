"""Every solver obeys the laws of solvers on every class of problems that it claims."""

import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
import pytest
from lx_solvers.testing import PROBLEMS, SolverLaws

FULL_RANK = ("square", "tall", "wide")
ANY_RANK = ("square", "deficient", "tall", "deficient tall", "deficient wide")


class Laws(SolverLaws):
    """The laws, and a promise of ours: what was wrong with the input is said."""

    def test_nonfinite_vector(self, dtype):
        subject = self._subject(dtype)
        for problem in subject.problems:
            (A,) = subject.members(problem, 1)
            state = subject.init(problem, A)
            for bad in (np.nan, np.inf):
                b = np.append(subject.vectors(problem, A)[0][:-1], bad).astype(dtype)
                _, failure = subject.solve(state, b)
                assert failure == lx.RESULTS[lx.RESULTS.nonfinite_input]


class DirectLaws(Laws):
    """The narrowest dtype and the widest."""

    dtypes = ("float32", "complex128")


class IterativeLaws(Laws):
    """Solvers are asked for half the digits."""

    dtypes = ("float32", "complex128")

    def tolerance(self, dtype):
        return float(np.finfo(dtype).eps) ** 0.5


class TestLU(DirectLaws):
    dtypes = ("float32", "float64", "complex64", "complex128")
    problems = ("square",)

    def make(self, dtype):
        return lx.LU()


class TestQR(DirectLaws):
    problems = FULL_RANK

    def make(self, dtype):
        return lx.QR()


class TestPivotedQR(DirectLaws):
    problems = ANY_RANK

    def make(self, dtype):
        return lx.PivotedQR()


class TestSVD(DirectLaws):
    problems = ANY_RANK

    def make(self, dtype):
        return lx.SVD()


class TestCholesky(DirectLaws):
    problems = ("definite", "negative definite")

    def make(self, dtype):
        return lx.Cholesky()


class TestEigh(DirectLaws):
    problems = ("indefinite", "deficient indefinite")

    def make(self, dtype):
        return lx.Eigh()


class TestDiagonal(DirectLaws):
    problems = ("diagonal", "deficient diagonal")

    def make(self, dtype):
        return lx.Diagonal()


class TestDiagonalWellPosed(DirectLaws):
    problems = ("diagonal",)

    def make(self, dtype):
        return lx.Diagonal(well_posed=True)


class TestTriangular(DirectLaws):
    problems = ("lower", "upper")

    def make(self, dtype):
        return lx.Triangular()


class TestTridiagonal(DirectLaws):
    problems = ("tridiagonal",)

    def make(self, dtype):
        return lx.Tridiagonal()


class TestCG(IterativeLaws):
    problems = ("definite", "negative definite", "semidefinite, consistent")

    def make(self, dtype):
        return lx.CG(self.tolerance(dtype), 0.0)


class TestBlockCG(IterativeLaws):
    dtypes = ("complex128",)
    problems = ("definite",)

    def make(self, dtype):
        return lx.BlockCG(self.tolerance(dtype), 0.0)


class TestBiCGStab(IterativeLaws):
    problems = ("square",)

    def make(self, dtype):
        return lx.BiCGStab(self.tolerance(dtype), 0.0)


class TestBiCGStabOfDegree(IterativeLaws):
    dtypes = ("complex128",)
    problems = ("square",)

    def make(self, dtype):
        return lx.BiCGStab(self.tolerance(dtype), 0.0, ell=2)


class TestIDR(IterativeLaws):
    problems = ("square",)

    def make(self, dtype):
        return lx.IDR(self.tolerance(dtype), 0.0)


class TestCOCG(IterativeLaws):
    problems = ("complex symmetric",)

    def make(self, dtype):
        return lx.COCG(self.tolerance(dtype), 0.0)


class TestSYMMLQ(IterativeLaws):
    problems = ("indefinite", "deficient indefinite, consistent")

    def make(self, dtype):
        return lx.SYMMLQ(self.tolerance(dtype), 0.0)


class TestBlockGMRES(IterativeLaws):
    dtypes = ("complex128",)
    problems = ("square",)

    def make(self, dtype):
        return lx.BlockGMRES(self.tolerance(dtype), 0.0)


class TestGCRODR(IterativeLaws):
    problems = ("square",)

    def make(self, dtype):
        return lx.GCRODR(self.tolerance(dtype), 0.0, restart=8, recycle=2)


class TestDeflatedCG(IterativeLaws):
    problems = ("definite", "negative definite")

    def make(self, dtype):
        return lx.DeflatedCG(self.tolerance(dtype), 0.0, recycle=2, directions=4)


class TestGMRES(IterativeLaws):
    problems = ("square",)

    def make(self, dtype):
        return lx.GMRES(self.tolerance(dtype), 0.0)


class TestFGMRES(IterativeLaws):
    dtypes = ("complex128",)
    problems = ("square",)

    def make(self, dtype):
        return lx.FGMRES(self.tolerance(dtype), 0.0)


class TestMINRES(IterativeLaws):
    problems = ("indefinite", "deficient indefinite, consistent")

    def make(self, dtype):
        return lx.MINRES(self.tolerance(dtype), 0.0)


class TestMINRESQLP(IterativeLaws):
    problems = ("deficient indefinite",)

    def make(self, dtype):
        return lx.MINRESQLP(self.tolerance(dtype), 0.0)


class TestLSMR(IterativeLaws):
    problems = ("deficient", "tall", "deficient tall")

    def make(self, dtype):
        return lx.LSMR(self.tolerance(dtype), 0.0)


class TestLSQR(IterativeLaws):
    problems = ("wide", "deficient wide")

    def make(self, dtype):
        return lx.LSQR(self.tolerance(dtype), 0.0)


class TestNormalCG(IterativeLaws):
    problems = ("tall",)

    def make(self, dtype):
        return lx.Normal(lx.CG(self.tolerance(dtype), 0.0))


class TestNormalCholesky(DirectLaws):
    problems = ("wide",)

    def make(self, dtype):
        return lx.Normal(lx.Cholesky())


class TestRefinedLU(DirectLaws):
    dtypes = ("float32",)
    problems = ("square",)

    def make(self, dtype):
        return lx.Refined(lx.LU())


class TestRefinedQR(DirectLaws):
    dtypes = ("complex128",)
    problems = ("tall",)

    def make(self, dtype):
        return lx.Refined(lx.QR())


class TestAuto(DirectLaws):
    problems = ("square", "definite", "negative definite", "lower", "tridiagonal")

    def make(self, dtype):
        return lx.AutoLinearSolver(well_posed=True)


class TestAutoOfAnyRank(DirectLaws):
    problems = ("deficient", "deficient diagonal", "semidefinite")

    def make(self, dtype):
        return lx.AutoLinearSolver(well_posed=False)


class TestAutoOfFullRank(DirectLaws):
    problems = ("tall", "wide", "upper", "deficient diagonal")

    def make(self, dtype):
        return lx.AutoLinearSolver(well_posed=None)


# Operators that store a structure: the first class of problems in all dtypes, others in
# the narrowest and the widest


class TestStoredDiagonals(DirectLaws):
    problems = (
        PROBLEMS["diagonal"]._replace(
            operator=lambda A, _: lxo.DiagonalLinearOperator(jnp.diagonal(A)),
            pytrees=False,
        ),
    )

    def make(self, dtype):
        return lx.Diagonal()


class TestStoredTridiagonals(DirectLaws):
    problems = (
        PROBLEMS["tridiagonal"]._replace(
            operator=lambda A, _: lxo.TridiagonalLinearOperator(
                *(jnp.diagonal(A, k) for k in (0, -1, 1))
            ),
            pytrees=False,
            empty=False,
        ),
    )

    def make(self, dtype):
        return lx.Tridiagonal()


class TestBanded(Laws):
    problems = ("banded",)

    def make(self, dtype):
        return lx.Banded()


class TestBandedByTag(DirectLaws):
    problems = ("tridiagonal",)

    def make(self, dtype):
        return lx.Banded()


class TestBlockDiagonal(Laws):
    problems = ("block diagonal",)

    def make(self, dtype):
        return lx.BlockDiagonal(lx.AutoLinearSolver(well_posed=True))


class TestBlockDiagonalStacked(DirectLaws):
    problems = ("stacked",)

    def make(self, dtype):
        return lx.BlockDiagonal(lx.LU())


class TestBlockDiagonalOfAnyRank(DirectLaws):
    problems = ("deficient block diagonal",)

    def make(self, dtype):
        return lx.BlockDiagonal(lx.PivotedQR())


class TestBlockElimination(Laws):
    problems = ("blocks",)

    def make(self, dtype):
        return lx.BlockElimination(lx.AutoLinearSolver(well_posed=True))


class TestBlockEliminationOfKnown(DirectLaws):
    problems = ("definite blocks", "block lower triangular")

    def make(self, dtype):
        return lx.BlockElimination(lx.AutoLinearSolver(well_posed=True))


class TestBlockTridiagonal(Laws):
    problems = ("block tridiagonal",)

    def make(self, dtype):
        return lx.BlockTridiagonal()


class TestCyclicReduction(DirectLaws):
    problems = ("definite block tridiagonal",)

    def make(self, dtype):
        return lx.BlockTridiagonal(parallel=True)


class TestKronecker(Laws):
    problems = ("Kronecker",)

    def make(self, dtype):
        return lx.Kronecker(lx.LU())


class TestKroneckerOfFullRank(DirectLaws):
    problems = ("tall Kronecker", "wide Kronecker")

    def make(self, dtype):
        return lx.Kronecker(lx.QR())


class TestKroneckerOfAnyRank(DirectLaws):
    problems = ("deficient Kronecker",)

    def make(self, dtype):
        return lx.Kronecker(lx.PivotedQR())


class TestKroneckerEigh(Laws):
    problems = (
        "definite Kronecker",
        "Hermitian Kronecker sum",
        "deficient Hermitian Kronecker sum",
    )

    def make(self, dtype):
        return lx.KroneckerEigh()


class TestSylvester(Laws):
    problems = ("Kronecker sum",)

    def make(self, dtype):
        return lx.Sylvester()


class TestCirculant(Laws):
    problems = ("circulant", "deficient circulant")

    def make(self, dtype):
        return lx.Circulant()


class TestCirculantWellPosed(DirectLaws):
    problems = ("circulant",)

    def make(self, dtype):
        return lx.Circulant(well_posed=True)


class TestToeplitz(Laws):
    problems = ("Toeplitz",)

    def make(self, dtype):
        return lx.Toeplitz()


class TestToeplitzDefinite(DirectLaws):
    problems = ("definite Toeplitz",)

    def make(self, dtype):
        return lx.Toeplitz()


class TestWoodbury(Laws):
    problems = ("low-rank update",)

    def make(self, dtype):
        return lx.Woodbury(lx.Diagonal(well_posed=True))


class TestPermutation(Laws):
    problems = ("permutation",)

    def make(self, dtype):
        return lx.Permutation()


# with `--dist loadgroup`, one worker runs a class: it compiles each program once
for _laws in [laws for name, laws in list(vars().items()) if name.startswith("Test")]:
    _laws.pytestmark = [pytest.mark.xdist_group(_laws.__name__)]
