"""Every solver obeys the laws of solvers on every class of problems that it claims."""

import lx_solvers as lx
import numpy as np
import pytest
from lx_solvers.testing import SolverLaws

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


class TestBanded(DirectLaws):
    problems = ("tridiagonal",)

    def make(self, dtype):
        return lx.Banded()


class TestCG(IterativeLaws):
    problems = ("definite", "negative definite", "semidefinite, consistent")

    def make(self, dtype):
        return lx.CG(self.tolerance(dtype), 0.0)


class TestBiCGStab(IterativeLaws):
    problems = ("square",)

    def make(self, dtype):
        return lx.BiCGStab(self.tolerance(dtype), 0.0)


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


# with `--dist loadgroup`, one worker runs a class: it compiles each program once
for _laws in [laws for name, laws in list(vars().items()) if name.startswith("Test")]:
    _laws.pytestmark = [pytest.mark.xdist_group(_laws.__name__)]
