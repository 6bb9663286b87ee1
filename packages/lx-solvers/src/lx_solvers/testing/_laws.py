"""The laws, each a test."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
from lx_operators.internal import available_dtypes, run_laws

from .._auto import chosen
from .._solver import AbstractLinearSolver
from ._problems import ProblemClass
from ._structured import PROBLEMS
from ._subject import Subject, is_complex, small, times_power
from ._truth import backward_error, pseudoinverse


class SolverLaws:
    """The laws that every linear solver obeys. Subclass it, and define `make`.

    Class attributes, to be overridden:

    - `problems`: the problems that the solver claims to solve, as names of `PROBLEMS`
      or your own `ProblemClass`.
    - `dtypes`: the dtypes to test; 64-bit ones only while x64 is enabled. Laws of
      programs run in the last one.
    - `any_scale`: whether it solves for A at any scale; if not, only b is scaled.
    - `seed`: the seed of all random numbers.

    A solver that takes tolerances must be made with relative ones, as otherwise it
    depends on the scale of b.

    ```python
    class TestLU(SolverLaws):
        problems = ("square", "definite")
        dtypes = ("float32",)

        def make(self, dtype):
            return lx.LU()

    TestLU().check()
    ```
    """

    problems: tuple[str | ProblemClass, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "float64", "complex64", "complex128")
    any_scale: bool = True
    seed: int = 0

    def make(self, dtype: str) -> AbstractLinearSolver:
        """The solver, with tolerances for this dtype."""
        raise NotImplementedError

    def tolerance(self, dtype: str) -> float:
        """The relative residual that success promises: by default a hundred roundings.
        As the condition numbers are at most 10, the error of the solution may be ten
        times that."""
        return 100 * float(jnp.finfo(dtype).eps)

    def check(self) -> None:
        """Run all laws for all dtypes, without pytest.

        Raises:
            AssertionError: naming every law that fails.
        """
        run_laws(self, self._dtypes())

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Tells pytest of the dtypes."""
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", self._dtypes())

    def _dtypes(self) -> list[str]:
        return available_dtypes(self.dtypes)

    def _subject(self, dtype: str | None = None) -> Subject:
        """The solver under test: made, and its programs compiled, once for each class
        and dtype."""
        dtype = self._dtypes()[-1] if dtype is None else dtype
        if (type(self), dtype) not in _MADE:
            problems = [PROBLEMS[p] if isinstance(p, str) else p for p in self.problems]
            _MADE[type(self), dtype] = Subject(
                self.make(dtype), problems, dtype, self.tolerance(dtype), self.seed
            )
        return _MADE[type(self), dtype]

    # What a solution is

    def test_solution(self, dtype):
        """x = A†b: the solution of a nonsingular system, or else the least-squares
        solution of least norm. It has the operator's input structure."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            for A in subject.members(problem, 3):
                state = subject.init(problem, A)
                for b in subject.vectors(problem, A):
                    subject.solves(problem, state, A, b, "A x = b")

    def test_zero_vector(self, dtype):
        """For b = 0 the solution is exactly 0."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            (A,) = subject.members(problem, 1)
            zero = np.zeros(len(A), dtype)
            x = subject.succeeds(problem, subject.init(problem, A), zero, "b = 0")
            subject.demand(problem, not x.any(), f"b = 0 is solved by {x}")

    def test_transpose(self, dtype):
        """The transposed state solves with Aᵀ; transposing twice changes nothing."""
        subject = self._subject(dtype)
        subject.view("Aᵀ", lambda A: A.T, "transpose")
        subject.view("(Aᵀ)ᵀ", lambda A: A, "transpose", "transpose")

    def test_conj(self, dtype):
        """The conjugated state solves with Ā, and, transposed, with Aᴴ; conjugating
        twice changes nothing."""
        subject = self._subject(dtype)
        subject.view("conj(A)", lambda A: A.conj(), "conj")
        subject.view("conj(conj(A))", lambda A: A, "conj", "conj")
        subject.view("conj(Aᵀ)", lambda A: A.conj().T, "transpose", "conj")
        subject.view("conj(A)ᵀ", lambda A: A.conj().T, "conj", "transpose")

    def test_state_is_reused(self, dtype):
        """A state solves for any number of vectors, each as if it were the first."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            (A,) = subject.members(problem, 1)
            state, b = subject.init(problem, A), subject.vectors(problem, A)[0]
            first = subject.succeeds(problem, state, b, "the first vector")
            subject.solves(problem, state, A, 3 * b, "the second vector")
            again = subject.succeeds(problem, state, b, "the first vector again")
            same = np.array_equal(first, again)
            subject.demand(problem, same, f"{first} at first, but later {again}")

    def test_scale(self, dtype):
        """If A and b are multiplied by powers of two, so is the solution."""
        subject = self._subject(dtype)
        h = subject.half_range
        vectors = [(0, h), (0, -h)]
        both = [(h, 0), (-h, 0), (h, h), (-h, -h), (h, -h), (-h, h)]
        for problem in subject.problems:
            (A,) = subject.members(problem, 1)
            scaled = self.any_scale and problem.multiples
            for p, q in vectors + both * scaled:
                what = f"2^{p} A x = 2^{q} b"
                state = subject.init(problem, times_power(A, p))
                for b in subject.vectors(problem, A):
                    x = subject.succeeds(problem, state, times_power(b, q), what)
                    x = times_power(x.astype(np.clongdouble), p - q)
                    subject.close(problem, x, pseudoinverse(A) @ b, what)

    def test_rank(self, dtype):
        """A solver that claims rank-deficient operators does not assume full rank, as
        derivatives would be wrong."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            claims = problem.deficient and not problem.consistent
            (A,) = subject.members(problem, 1)
            # derivatives ask the solver that was chosen
            solver = chosen(subject.solver, subject.init(problem, A).state)
            assumes = solver.assume_full_rank()
            subject.demand(problem, not (claims and assumes), "`assume_full_rank`")

    # Claims of success

    def test_claims(self, dtype):
        """For matrices at the edge of a class, at any scale: if a solve is called
        successful, its backward error, computed by NumPy, is at most √eps (or the
        tolerance)."""
        subject = self._subject(dtype)
        limit = max(float(jnp.finfo(dtype).eps) ** 0.5, self.tolerance(dtype))
        for problem in subject.problems:
            edges = subject.edges(problem, problem.harsh, problem.singular)
            scales = subject.scales if problem.multiples else (0,)
            for (name, A), p in itertools.product(edges.items(), scales):
                A = times_power(A, p)
                state = subject.init(problem, A)
                for b in subject.vectors(problem, A):
                    x, failure = subject.solve(state, b)
                    error = 0.0 if failure else backward_error(A, x, b)
                    what = f"{name}, times 2^{p}: successful, at a backward error of "
                    subject.demand(problem, error <= limit, f"{what}{error:.1e}")

    def test_singular(self, dtype):
        """An inconsistent singular system is called solved only if the solution is
        A†b."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            for name, A in subject.edges(problem, problem.singular).items():
                b = subject.draws(2)(len(A)).astype(dtype)
                x, failure = subject.solve(subject.init(problem, A), b)
                wanted = pseudoinverse(A) @ b
                if not failure:
                    what = f"{name}, which is singular, called solved: the solution"
                    subject.close(problem, x, wanted, what)

    def test_nonfinite(self, dtype):
        """A vector or an operator that is not finite leads to a failure."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            (A,) = subject.members(problem, 1)
            b = subject.vectors(problem, A)[0]
            sound = subject.init(problem, A)
            for bad in (np.nan, np.inf):
                _, failure = subject.solve(sound, np.append(b[:-1], b.dtype.type(bad)))
                subject.demand(problem, failure, f"{bad} in b is called successful")
                if not subject.has_numbers(problem, A):
                    continue
                state = subject.init(problem, subject.spoilt(problem, A, bad))
                _, failure = subject.solve(state, b)
                subject.demand(problem, failure, f"{bad} in A is called successful")

    # How it behaves under JAX's transformations

    def test_jit(self, dtype):
        """A compiled solve is compiled once, for all operators and vectors of one
        structure."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            traces = 0
            for A in subject.members(problem, 2):
                traces = subject.traces
                state = subject.init(problem, A)
                for b in subject.vectors(problem, A):
                    subject.solve(state, b)
            subject.equal(problem, subject.traces, traces, "the number of traces")

    def test_vmap_vectors(self):
        """Many vectors share a state."""
        subject = self._subject()
        for problem in subject.problems:
            (A,) = subject.members(problem, 1)
            vectors = np.stack(2 * subject.vectors(problem, A))
            xs, fine = subject.many(subject.init(problem, A), vectors)
            subject.demand(problem, fine.all(), f"of many vectors succeed {fine}")
            wanted = vectors @ pseudoinverse(A).T
            subject.close(problem, xs, wanted, "the solutions for many vectors")

    def test_vmap_operators(self):
        """Many operators; a failure belongs to its own system."""
        subject = self._subject()
        for problem in subject.problems:
            matrices = np.stack(subject.members(problem, 3))
            vectors = np.stack([subject.vectors(problem, A)[0] for A in matrices])
            vectors[1, 0] = np.nan
            xs, fine = subject.each(problem, matrices, vectors)
            wanted = [True, False, True]
            subject.equal(problem, fine.tolist(), wanted, "success, the second NaN,")
            for i in (0, 2):
                wanted = pseudoinverse(matrices[i]) @ vectors[i]
                subject.close(problem, xs[i], wanted, "a solution of many operators")

    # What it takes

    def test_pytrees(self):
        """Pytrees in and out, one leaf of which is empty."""
        subject = self._subject()
        for problem in subject.problems:
            if problem.pytrees:
                subject.in_blocks(problem, jnp.dtype(subject.dtype))

    def test_mixed_dtypes(self):
        """Leaves of different precisions keep them; the result is as accurate as the
        least precise."""
        double = self._subject().dtype
        single = self._subject("complex64" if is_complex(double) else "float32")
        for problem in single.problems:
            # a matrix rounded to single precision has full rank
            if problem.pytrees and not problem.deficient:
                single.in_blocks(problem, jnp.dtype(double))

    def test_small(self):
        """Systems with no unknown, and with one."""
        subject = self._subject()
        for problem in subject.problems:
            for m, n in small(problem):
                A = problem.matrix(subject.draws(0), m, n).astype(subject.dtype)
                state = subject.init(problem, A)
                for b in subject.vectors(problem, A):
                    subject.solves(problem, state, A, b, f"{m} by {n}")


_MADE: dict[tuple[type, str], Subject] = {}
