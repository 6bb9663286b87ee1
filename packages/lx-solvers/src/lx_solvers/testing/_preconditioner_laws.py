"""The laws of preconditioners, each a test."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from lx_operators import (
    PyTreeLinearOperator,
    conj,
    is_hermitian,
    is_negative_semidefinite,
    is_positive_semidefinite,
    is_symmetric,
)
from lx_operators.internal import available_dtypes, ravel, run_laws, unravel

from ..preconditioners._preconditioner import AbstractPreconditioner
from ._problems import Matrix, ProblemClass
from ._structured import PROBLEMS


class PreconditionerLaws:
    """The laws that every preconditioner obeys. Subclass it, and define `make`.

    Class attributes, to be overridden:

    - `problems`: the square operators that it takes, as names of `PROBLEMS` or your own
      `ProblemClass`.
    - `dtypes`: the dtypes to test; 64-bit ones only while x64 is enabled. Laws of
      programs run in the last one.
    - `tolerance`: the number of roundings by which two computations of the same M may
      differ.
    - `seed`: the seed of all random numbers.

    ```python
    class TestJacobi(PreconditionerLaws):
        problems = ("definite",)
        dtypes = ("float32",)

        def make(self, dtype):
            return lx.Jacobi()

    TestJacobi().check()
    ```
    """

    problems: tuple[str | ProblemClass, ...] = ()
    dtypes: tuple[str, ...] = ("float32", "float64", "complex64", "complex128")
    tolerance: float = 1000
    seed: int = 0

    def make(self, dtype: str) -> AbstractPreconditioner:
        """The preconditioner, for operators of this dtype."""
        raise NotImplementedError

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

    def _subjects(self, dtype: str | None = None) -> list["_Subject"]:
        dtype = self._dtypes()[-1] if dtype is None else dtype
        key = type(self), dtype
        if key not in _MADE:
            problems = [PROBLEMS[p] if isinstance(p, str) else p for p in self.problems]
            tolerance = self.tolerance * float(jnp.finfo(dtype).eps)
            _MADE[key] = [
                _Subject(self.make(dtype), problem, dtype, tolerance, self.seed)
                for problem in problems
            ]
        return _MADE[key]

    def test_linear(self, dtype):
        """M is linear, and the same however often it is applied."""
        for subject in self._subjects(dtype):
            M, (r, s) = subject.operator(0), subject.vectors(2)
            whole = subject.applied(M, 3 * r + s)
            parts = 3 * subject.applied(M, r) + subject.applied(M, s)
            subject.close(whole, parts, "M (3 r + s)")
            subject.close(subject.applied(M, r), subject.matrix(M) @ r, "M r")
            again = subject.applied(M, r)
            subject.demand(np.array_equal(again, subject.applied(M, r)), "M r again")

    def test_transpose(self, dtype):
        """The transposed state is the state of Mᵀ; transposing twice changes
        nothing."""
        for subject in self._subjects(dtype):
            M = subject.operator(0)
            A = subject.matrix(M)
            subject.close(subject.matrix(M.T), A.T, "Mᵀ")
            subject.close(subject.matrix(M.T.T), A, "(Mᵀ)ᵀ")

    def test_conj(self, dtype):
        """The conjugated state is the state of M̄; conjugating twice changes
        nothing."""
        for subject in self._subjects(dtype):
            M = subject.operator(0)
            A = subject.matrix(M)
            subject.close(subject.matrix(conj(M)), A.conj(), "M̄")
            subject.close(subject.matrix(conj(conj(M))), A, "conj(M̄)")
            subject.close(subject.matrix(conj(M.T)), A.conj().T, "conj(Mᵀ)")
            subject.close(subject.matrix(conj(M).T), A.conj().T, "M̄ᵀ")

    def test_tags(self, dtype):
        """M keeps the promises of its tags: symmetric, Hermitian, definite."""
        for subject in self._subjects(dtype):
            M = subject.operator(0)
            A = subject.matrix(M)
            if is_symmetric(M):
                subject.close(A.T, A, "Mᵀ of a symmetric M")
            if is_hermitian(M):
                subject.close(A.conj().T, A, "Mᴴ of a Hermitian M")
            for question, sign in (
                (is_positive_semidefinite, 1),
                (is_negative_semidefinite, -1),
            ):
                if question(M):
                    eigenvalues = np.linalg.eigvalsh(sign * (A + A.conj().T))
                    least = eigenvalues.min() / eigenvalues.max()
                    what = f"a definite M has the eigenvalue {least:.1e}"
                    subject.demand(least > 0, what)

    def test_scale(self, dtype):
        """For 2ᵖ A it is 2⁻ᵖ M, or M if M has no scale: iterations stay the same, also
        where squares of elements overflow, or underflow to zero."""
        far = int(0.6 * jnp.finfo(dtype).maxexp)
        for subject in self._subjects(dtype):
            A = subject.matrix(subject.operator(0))
            for p in (-far, -20, 20, far):
                B = subject.matrix(subject.operator(0, 2.0**p))
                subject.demand(np.isfinite(B).all() and B.any(), f"M of 2^{p} A")
                B = B / 2.0 ** np.frexp(np.abs(B).max())[1]
                B = B * (np.linalg.norm(A) / np.linalg.norm(B))
                subject.close(B, A, f"M of 2^{p} A")

    def test_compiled_once(self):
        """Set up for other values of one pattern, it differs in arrays alone: what is
        static would be compiled into the solve, which was another program then."""
        for subject in self._subjects():
            first, second = (subject.static(each) for each in (0.0, 1e-3))
            subject.demand(first == second, "set up for other values, it is compiled")

    def test_jit(self):
        """Compiled and not, M is the same; a state goes through `jit`."""
        for subject in self._subjects()[:1]:
            M = subject.made(subject.matrices[0])
            r = jnp.asarray(subject.vectors(1)[0])
            flat = subject.flat(M.mv(subject.tree(r)))
            subject.close(flat, subject.applied(subject.operator(0), r), "M r")

    def test_vmap_operators(self):
        """Many operators at once, each with its own M."""
        for subject in self._subjects():
            r = subject.vectors(1)[0]
            for i in range(len(subject.matrices)):
                got, wanted = subject.batch[0][i], subject.operator(i)
                wanted = subject.applied(wanted, r)
                subject.close(got, wanted, f"M r of operator {i} of a batch")

    def test_vmap_failures(self):
        """Among many operators one with NaN fails, and no other."""
        for subject in self._subjects():
            failed = subject.batch[2] != 0
            what = (
                f"in a batch whose last operator is NaN, those that fail are {failed}"
            )
            subject.demand(failed[-1] and not failed[:-1].any(), what)

    def test_pytrees(self):
        """Operators between pytrees have the same M."""
        for subject in self._subjects():
            if subject.problem.pytrees and subject.pytrees:
                M = eqx.filter_jit(subject.made_of_blocks)(subject.matrices[0])
                wanted = subject.matrix(subject.operator(0))
                subject.close(subject.matrix(M), wanted, "M between pytrees")

    def test_no_derivative(self):
        """M is a constant, whichever arrays of A are differentiated."""
        for subject in self._subjects():
            tangents = subject.batch[1][: len(subject.matrices)]
            subject.demand(not tangents.any(), "M r has a tangent")

    def test_nonfinite(self):
        """For an operator with NaN, setting up reports a failure."""
        for subject in self._subjects():
            M = subject.operator(0, np.nan)
            subject.demand(int(M.verdict) != 0, "M of NaN is called sound")


_MADE: dict[Any, list["_Subject"]] = {}


class _Subject:
    """A preconditioner for one class of operators, and its compiled programs."""

    def __init__(
        self,
        recipe: AbstractPreconditioner,
        problem: ProblemClass,
        dtype: str,
        tolerance: float,
        seed: int,
    ):
        self.problem, self.dtype, self.tolerance = problem, dtype, tolerance
        self.random = np.random.default_rng(seed)
        n, _ = problem.shape
        self.n, self.seed = n, seed
        draw = self._draw
        self.matrices = [
            jnp.asarray(problem.matrix(draw, n, n).astype(dtype)) for _ in range(2)
        ]
        example = problem.operator(self.matrices[0], problem.tags)
        self.given, self.recipe = recipe, recipe.setup(example)
        self.structure = example.in_structure()
        self.pytrees = self.recipe is recipe
        self._make = eqx.filter_jit(self.made)
        self._matrix = eqx.filter_jit(lambda M: M.as_matrix())
        self._apply = eqx.filter_jit(lambda M, r: self.flat(M.mv(self.tree(r))))

    @functools.cached_property
    def batch(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """M r of several operators at once, its tangents where all of A moves, and the
        verdicts of the set-up. The last operator is NaN."""
        r = jnp.asarray(self.vectors(1)[0])

        def one(matrix: Any) -> Any:
            def z(A: Any) -> Any:
                M = self.made(A)
                return self.flat(M.mv(self.tree(r))), M.verdict

            value, tangent, verdict = jax.jvp(
                z, (matrix,), (jnp.ones_like(matrix),), has_aux=True
            )
            return value, tangent, verdict

        matrices = [*self.matrices, jnp.full_like(self.matrices[0], jnp.nan)]
        out = jax.jit(jax.vmap(one))(jnp.stack(matrices))
        return tuple(map(np.asarray, out))  # pyright: ignore

    def _draw(self, *shape: int) -> np.ndarray:
        real, imag = self.random.standard_normal((2, *shape))
        return real + 1j * imag if jnp.dtype(self.dtype).kind == "c" else real

    def vectors(self, count: int) -> list[np.ndarray]:
        self.random = np.random.default_rng((self.seed, 1))
        return [self._draw(self.n).astype(self.dtype) for _ in range(count)]

    def made(self, matrix: Any) -> Any:
        operator = self.problem.operator(matrix, self.problem.tags)
        return self.recipe.as_operator(operator)

    def made_of_blocks(self, matrix: Any) -> Any:
        k = max(self.n // 3, 1)
        rows = [matrix[:k], matrix[k:]]
        blocks = [[row[:, :k], row[:, k:]] for row in rows]
        structure = [jax.ShapeDtypeStruct((m,), self.dtype) for m in (k, self.n - k)]
        operator = PyTreeLinearOperator(blocks, structure, self.problem.tags)
        return self.recipe.as_operator(operator)

    def static(self, change: float) -> Any:
        """What is no array of the recipe that was set up for D A D, where D is near the
        identity: its tags are those of A."""
        d = jnp.asarray(1 + change * np.cos(np.arange(self.n)), self.dtype)
        matrix = d[:, None] * self.matrices[0] * d[None, :]
        operator = self.problem.operator(matrix, self.problem.tags)
        return eqx.partition(self.given.setup(operator), eqx.is_array)[1]

    def operator(self, i: int, factor: float = 1.0) -> Any:
        return self._make(jnp.asarray(factor, self.dtype) * self.matrices[i])

    def matrix(self, M: Any) -> Matrix:
        return np.asarray(self._matrix(M))

    def applied(self, M: Any, r: Any) -> np.ndarray:
        return np.asarray(self._apply(M, jnp.asarray(r)))

    def tree(self, r: Any) -> Any:
        return unravel(r, self.structure)

    def flat(self, tree: Any) -> Any:
        return ravel(tree)

    def close(self, got: Any, wanted: Any, what: str) -> None:
        got, wanted = np.asarray(got), np.asarray(wanted)
        size = np.abs(wanted).max()
        error = np.abs(got - wanted).max() / size
        self.demand(error <= self.tolerance, f"{what} is off by {error:.1e}")

    def demand(self, fine: Any, what: str) -> None:
        assert fine, f"{self.problem.name}: {what}"
