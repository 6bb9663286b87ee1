"""Each preconditioner obeys the laws."""

import lineax as lx
from lx_solvers.testing import PreconditionerLaws

SYMMETRIC = ("definite", "negative definite")


class TestJacobi(PreconditionerLaws):
    problems = ("square", *SYMMETRIC)

    def make(self, dtype):
        return lx.Jacobi()


class TestJacobiAbsolute(PreconditionerLaws):
    problems = ("indefinite",)
    dtypes = ("float32", "complex128")

    def make(self, dtype):
        return lx.Jacobi(absolute=True)


class TestSolver(PreconditionerLaws):
    """A direct solver as preconditioner."""

    problems = ("square", "definite")

    def make(self, dtype):
        return _Adapted(lx.AutoLinearSolver(well_posed=True))


def _Adapted(solver):
    return lx.GMRES(preconditioner=solver).preconditioner


class TestChebyshev(PreconditionerLaws):
    problems = SYMMETRIC

    def make(self, dtype):
        return lx.Chebyshev(3)


class TestChebyshevScaled(PreconditionerLaws):
    problems = SYMMETRIC
    dtypes = ("float32", "complex128")

    def make(self, dtype):
        return lx.Chebyshev(2, scaled=True)


class TestNystrom(PreconditionerLaws):
    problems = ("definite",)

    def make(self, dtype):
        return lx.Nystrom(3)


class TestPivotedCholesky(PreconditionerLaws):
    problems = ("definite",)

    def make(self, dtype):
        return lx.PivotedCholesky(3)
