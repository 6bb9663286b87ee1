"""Each preconditioner obeys the laws."""

import jax.numpy as jnp
import lineax as lx
import numpy as np
from lx_solvers.testing import PROBLEMS, PreconditionerLaws

N = 9
RING = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
RING = np.minimum(RING, N - RING) <= 2  # a few colours, and fill to drop


def _sparse(name, tags=(), sign=1):
    pattern = lx.SparsityPattern.from_dense(RING)

    def matrix(draw, m, n):
        A = np.where(RING, draw(n, n), 0) / 8 + 2 * np.eye(n)
        return sign * (A + A.conj().T) / 2 if tags else A

    def operator(matrix, tags):
        return lx.SparseLinearOperator.from_dense(matrix, tags, pattern=pattern)

    return PROBLEMS["square"]._replace(
        name=name,
        shape=(N, N),
        matrix=matrix,
        tags=tags,
        operator=operator,
        pytrees=False,
    )


PSD, NSD = lx.positive_semidefinite_tag, lx.negative_semidefinite_tag
SPARSE = _sparse("sparse")
SPARSE_DEFINITE = (
    _sparse("sparse definite", PSD),
    _sparse("sparse negative definite", NSD, -1),
)
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


class TestSSOR(PreconditionerLaws):
    problems = (SPARSE, *SPARSE_DEFINITE)
    dtypes = ("float32", "complex128")

    def make(self, dtype):
        return lx.SSOR(1.2)


class TestGaussSeidel(PreconditionerLaws):
    problems = (SPARSE,)

    def make(self, dtype):
        return lx.GaussSeidel()


class TestIncompleteLU(PreconditionerLaws):
    problems = (SPARSE,)
    dtypes = ("float32", "complex128")

    def make(self, dtype):
        return lx.IncompleteLU(0.5)


class TestIncompleteCholesky(PreconditionerLaws):
    problems = SPARSE_DEFINITE

    def make(self, dtype):
        return lx.IncompleteCholesky(shift=0.01)


class TestAMG(PreconditionerLaws):
    problems = SPARSE_DEFINITE[:1]
    dtypes = ("float64", "complex128")

    def make(self, dtype):
        return lx.AMG(max_coarse=2)


class TestAMGNonsymmetric(PreconditionerLaws):
    problems = (SPARSE,)
    dtypes = ("float64",)

    def make(self, dtype):
        return lx.AMG(max_coarse=2, smoother=lx.GaussSeidel(), cycle="F")


def _halved(structure):
    """Every other unknown, interpolated."""

    def interpolate(u):
        return jnp.repeat(u, 2)[: structure.shape[0]]

    size = (structure.shape[0] + 1) // 2
    return lx.FunctionLinearOperator(interpolate, jnp.zeros(size, structure.dtype))


class TestMultigrid(PreconditionerLaws):
    problems = (PROBLEMS["definite"]._replace(pytrees=False),)

    def make(self, dtype):
        P = _halved(jnp.zeros(6, dtype))
        return lx.Multigrid([P, _halved(P.in_structure())], cycle="W")
