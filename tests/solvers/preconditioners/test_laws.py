"""Each preconditioner obeys the laws."""

from importlib.util import find_spec

import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers.testing import PROBLEMS, PreconditionerLaws

needs_pyamg = pytest.mark.skipif(find_spec("pyamg") is None, reason="needs pyamg")
N = 9
RING = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
RING = np.minimum(RING, N - RING) <= 2  # a few colours, and fill to drop


def _sparse(name, tags=(), sign=1):
    pattern = lo.SparsityPattern.from_dense(RING)

    def matrix(draw, m, n):
        A = np.where(RING, draw(n, n), 0) / 8 + 2 * np.eye(n)
        return sign * (A + A.conj().T) / 2 if tags else A

    def operator(matrix, tags):
        return lo.SparseLinearOperator.from_dense(matrix, tags, pattern=pattern)

    return PROBLEMS["square"]._replace(
        name=name,
        shape=(N, N),
        matrix=matrix,
        tags=tags,
        operator=operator,
        pytrees=False,
    )


PSD, NSD = lo.positive_semidefinite_tag, lo.negative_semidefinite_tag
SPARSE = _sparse("sparse")
SPARSE_DEFINITE = (
    _sparse("sparse definite", PSD),
    _sparse("sparse negative definite", NSD, -1),
)
SYMMETRIC = ("definite", "negative definite")


class TestJacobi(PreconditionerLaws):
    problems = ("square", *SYMMETRIC)

    def make(self, dtype):
        return lxs.Jacobi()


class TestJacobiAbsolute(PreconditionerLaws):
    problems = ("indefinite",)
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.Jacobi(absolute=True)


class TestSolver(PreconditionerLaws):
    """A direct solver as preconditioner."""

    problems = ("square", "definite")
    dtypes = ("complex128",)

    def make(self, dtype):
        return _Adapted(lxs.AutoLinearSolver(well_posed=True))


def _Adapted(solver):
    return lxs.GMRES(preconditioner=solver).preconditioner


class TestChebyshev(PreconditionerLaws):
    problems = SYMMETRIC

    def make(self, dtype):
        return lxs.Chebyshev(3)


class TestChebyshevScaled(PreconditionerLaws):
    problems = ("negative definite",)
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.Chebyshev(2, scaled=True)


class TestNystrom(PreconditionerLaws):
    problems = ("definite",)

    def make(self, dtype):
        return lxs.Nystrom(3)


class TestPivotedCholesky(PreconditionerLaws):
    problems = ("definite",)

    def make(self, dtype):
        return lxs.PivotedCholesky(3)


class TestSSOR(PreconditionerLaws):
    problems = (SPARSE, SPARSE_DEFINITE[1])
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.SSOR(1.2)


class TestGaussSeidel(PreconditionerLaws):
    problems = (SPARSE,)
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.GaussSeidel()


class TestIncompleteLU(PreconditionerLaws):
    problems = (SPARSE,)
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.IncompleteLU(0.5)


class TestIncompleteCholesky(PreconditionerLaws):
    problems = SPARSE_DEFINITE

    def make(self, dtype):
        return lxs.IncompleteCholesky(shift=0.01)


@needs_pyamg
class TestAMG(PreconditionerLaws):
    problems = SPARSE_DEFINITE[:1]
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.AMG(max_coarse=2)


@needs_pyamg
class TestAMGNonsymmetric(PreconditionerLaws):
    problems = (SPARSE,)
    dtypes = ("float64",)

    def make(self, dtype):
        return lxs.AMG(max_coarse=2, smoother=lxs.GaussSeidel(), cycle="F")


def _halved(structure):
    """Every other unknown, interpolated."""

    def interpolate(u):
        return jnp.repeat(u, 2)[: structure.shape[0]]

    size = (structure.shape[0] + 1) // 2
    return lo.FunctionLinearOperator(interpolate, jnp.zeros(size, structure.dtype))


class TestMultigrid(PreconditionerLaws):
    problems = (PROBLEMS["definite"]._replace(pytrees=False),)
    dtypes = ("complex128",)

    def make(self, dtype):
        P = _halved(jnp.zeros(6, dtype))
        levels = [P, _halved(P.in_structure())]
        return lxs.Multigrid(levels, smoother=lxs.Jacobi(0.5), cycle="W")


class TestBlockJacobi(PreconditionerLaws):
    problems = ("square", *SYMMETRIC, SPARSE)
    dtypes = ("float32", "complex128")

    def make(self, dtype):
        return lxs.BlockJacobi(size=4)


W = np.linalg.qr(np.vander(np.linspace(-1, 1, 6), 2))[0]


class TestDeflation(PreconditionerLaws):
    problems = ("square", "definite")
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.Deflation(jnp.asarray(W, dtype), inner=lxs.Jacobi())


class TestTwoLevel(PreconditionerLaws):
    problems = ("negative definite",)
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.TwoLevel(jnp.asarray(W, dtype), lxs.Chebyshev(2))


class TestAdditive(PreconditionerLaws):
    problems = ("square", "negative definite")
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.Additive(lxs.Jacobi(), lxs.BlockJacobi(size=3))


class TestMultiplicative(PreconditionerLaws):
    problems = ("square",)
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.Multiplicative(lxs.LU(), lxs.Jacobi(0.5), lxs.BlockJacobi(size=3))


class TestMultiplicativeSymmetric(PreconditionerLaws):
    problems = ("definite",)
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.Multiplicative(lxs.Jacobi(0.4), lxs.Chebyshev(2), symmetric=True)


def _saddle(matrix, tags):
    """Four and two unknowns, the second block zero."""
    A = lo.MatrixLinearOperator(matrix[:4, :4], PSD)
    B = lo.MatrixLinearOperator(matrix[4:, :4])
    return lo.BlockLinearOperator([[A, B.H], [B, None]])


def _saddle_matrix(draw, m, n):
    A = draw(n, n)
    return A @ A.conj().T + n * np.eye(n)


SADDLE = PROBLEMS["square"]._replace(
    name="saddle point", matrix=_saddle_matrix, operator=_saddle, pytrees=False
)


class TestSchurComplement(PreconditionerLaws):
    problems = (SADDLE,)
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.SchurComplement(lxs.Jacobi(), form="diagonal")


class TestSchurComplementFull(PreconditionerLaws):
    problems = (SADDLE,)
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.SchurComplement(lxs.Jacobi(), form="full")


def _two_by_two(matrix, tags):
    blocks = np.s_[:4], np.s_[4:]
    rows = [[lo.MatrixLinearOperator(matrix[i, j]) for j in blocks] for i in blocks]
    return lo.BlockLinearOperator(rows)


class TestBlockTriangular(PreconditionerLaws):
    problems = (SADDLE._replace(name="blocks", operator=_two_by_two),)
    dtypes = ("complex128",)

    def make(self, dtype):
        return lxs.BlockTriangular([lxs.LU(), lxs.Jacobi()], upper=True)
