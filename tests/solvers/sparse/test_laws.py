"""The sparse direct solvers obey the laws of solvers, with every backend."""

import importlib.util

import lx_solvers as lx
import numpy as np
import pytest
from lx_solvers.testing import SolverLaws

needs_rslab = pytest.mark.skipif(
    importlib.util.find_spec("rslab") is None, reason="rslab is not installed"
)


class Laws(SolverLaws):
    dtypes = ("float32", "complex128")
    backend = "superlu"

    def test_nonfinite_vector(self, dtype):
        subject = self._subject(dtype)
        for problem in subject.problems:
            (A,) = subject.members(problem, 1)
            state = subject.init(problem, A)
            for bad in (np.nan, np.inf):
                b = np.append(subject.vectors(problem, A)[0][:-1], bad).astype(dtype)
                _, failure = subject.solve(state, b)
                assert failure == lx.RESULTS[lx.RESULTS.nonfinite_input]


class TestSparseLU(Laws):
    problems = ("sparse",)

    def make(self, dtype):
        return lx.SparseLU(self.backend)


@needs_rslab
class TestSparseLUByRslab(TestSparseLU):
    dtypes = ("complex128",)
    backend = "rslab"


class TestSparseCholesky(Laws):
    problems = ("sparse definite", "sparse negative definite")

    def make(self, dtype):
        return lx.SparseCholesky(self.backend)


@needs_rslab
class TestSparseCholeskyByRslab(TestSparseCholesky):
    dtypes = ("complex128",)
    problems = ("sparse definite",)
    backend = "rslab"


@needs_rslab
class TestSparseLDL(Laws):
    problems = ("sparse indefinite", "sparse symmetric")

    def make(self, dtype):
        return lx.SparseLDL()


class TestSparseLeastSquares(Laws):
    problems = ("sparse tall", "sparse wide")

    def make(self, dtype):
        return lx.SparseLeastSquares(backend=self.backend)


@needs_rslab
class TestSparseLeastSquaresByRslab(TestSparseLeastSquares):
    dtypes = ("complex128",)
    backend = "rslab"
