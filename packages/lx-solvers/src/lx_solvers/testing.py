"""The laws of linear solvers, as a test suite that any solver can inherit.

Name a factory, and the classes of problems that the solver claims; pytest finds the
rest.

```python
from lx_solvers.testing import SolverLaws

class TestMySolver(SolverLaws):
    problems = ("square", "tall", "indefinite")

    def make(self, dtype):
        return MySolver(rtol=self.tolerance(dtype))
```

Laws of values run for every dtype, on every class; laws of programs (batches, pytrees,
sizes) for one dtype. What a solver does not claim is not asked. The truth comes from
NumPy, in at least twice single precision. Without pytest, `SolverLaws.check()` runs all
laws.
"""

import inspect
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree
from lx_operators import (
    AbstractLinearOperator,
    MatrixLinearOperator,
    PyTreeLinearOperator,
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
    tridiagonal_tag,
    upper_triangular_tag,
)

from ._solution import RESULTS
from ._solver import AbstractLinearSolver

__all__ = ["PROBLEMS", "ProblemClass", "SolverLaws", "backward_error"]

Matrix = np.ndarray
Draw = Callable[..., np.ndarray]


class ProblemClass(NamedTuple):
    """A family of systems A x = b, of which a solver may claim to solve each.

    `matrix(draw, m, n)` is a member: any size must do, `draw(*shape)` gives normal
    variates, and the condition number of what is not zero should be at most 10. At the
    edge of the class and beyond, of the same structure and square or of the given
    shape: `harsh(draw, m, n)`, badly conditioned matrices, and `singular(draw, m, n)`,
    whose rank is deficient in any precision. They may be solved or reported, but not be
    called solved when they are not.
    """

    name: str
    shape: tuple[int, int]
    """[m, n]; of a square class no other shape is asked."""
    matrix: Callable[[Draw, int, int], Matrix]
    harsh: Callable[[Draw, int, int], dict[str, Matrix]]
    singular: Callable[[Draw, int, int], dict[str, Matrix]]
    tags: Any = ()
    deficient: bool = False
    """Members are not of full rank."""
    consistent: bool = False
    """Only vectors b in the range of A are asked."""


# Families


def _spectral(draw: Draw, m: int, n: int, values: Any) -> Matrix:
    """U diag(values) Vᴴ."""
    k = min(m, n)
    U, V = np.linalg.qr(draw(m, k))[0], np.linalg.qr(draw(n, k))[0]
    return (U * np.asarray(values)) @ V.conj().T


def _hermitian(draw: Draw, n: int, values: Any) -> Matrix:
    """W diag(values) Wᴴ."""
    W = np.linalg.qr(draw(n, n))[0]
    A = (W * np.asarray(values)) @ W.conj().T
    return (A + A.conj().T) / 2


def _values(k: int, deficient: bool) -> np.ndarray:
    values = np.linspace(3, 1, k)
    values[k - (k + 1) // 2 if deficient else k :] = 0
    return values


def _alternating(k: int) -> np.ndarray:
    return np.where(np.arange(k) % 2 == 0, 1, -1)


def _spectra(k: int) -> dict[str, np.ndarray]:
    """Singular values of badly conditioned matrices."""
    return {
        "condition 1e4": np.geomspace(1, 1e-4, k),
        "condition 1e7": np.geomspace(1, 1e-7, k),
        "condition 1e14": np.geomspace(1, 1e-14, k),
        "rank 1, rounded": np.arange(k) == 0,
    }


def _general(name: str, m: int, n: int, deficient: bool = False) -> ProblemClass:
    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        spectra = _spectra(min(m, n)).items()
        made = {name: _spectral(draw, m, n, values) for name, values in spectra}
        return made | {"graded": np.geomspace(1, 1e-12, m)[:, None] * draw(m, n)}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        outer = np.outer(np.arange(m) + 1, np.arange(n) - 2.0)
        return {"zero": 0 * outer, "outer product": outer}

    return ProblemClass(
        name,
        (m, n),
        lambda draw, m, n: _spectral(draw, m, n, _values(min(m, n), deficient)),
        harsh,
        singular,
        deficient=deficient,
    )


def _of_hermitian(
    name: str,
    signs: Callable[[int], Any],
    tags: Any,
    deficient: bool = False,
    consistent: bool = False,
) -> ProblemClass:
    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        spectra = _spectra(n).items()
        made = {k: _hermitian(draw, n, signs(n) * v) for k, v in spectra}
        scale = np.geomspace(1, 1e-6, n)
        graded = scale[:, None] * _hermitian(draw, n, signs(n) * _values(n, False))
        return made | {"graded": graded * scale}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        row = np.arange(n) - 2.0
        return {
            "zero": np.zeros((n, n)),
            "outer product": np.outer(row, signs(1) * row),
        }

    return ProblemClass(
        name,
        (6, 6),
        lambda draw, m, n: _hermitian(draw, n, signs(n) * _values(n, deficient)),
        harsh,
        singular,
        tags,
        deficient,
        consistent,
    )


def _masked(name: str, mask: Callable[[Matrix], Matrix], tags: Any) -> ProblemClass:
    """Off the diagonal at most half of what stands there."""

    def matrix(draw: Draw, m: int, n: int) -> Matrix:
        A = mask(draw(n, n))
        apart = A - np.diag(np.diagonal(A))
        apart /= max(2 * np.linalg.norm(apart), 1)
        return apart + np.diag(np.linspace(1, 2, n) * _alternating(n))

    def harsh(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        tiny = matrix(draw, m, n)
        tiny[n // 2, n // 2] = 1e-20
        graded = np.geomspace(1, 1e-12, n)[:, None] * matrix(draw, m, n)
        return {"tiny": tiny, "graded": graded}

    def singular(draw: Draw, m: int, n: int) -> dict[str, Matrix]:
        gap = matrix(draw, m, n)
        gap[n // 2] = 0
        return {"zero": 0 * gap, "zero row": gap}

    return ProblemClass(name, (6, 6), matrix, harsh, singular, tags)


def _deficient_diagonal(draw: Draw, m: int, n: int) -> Matrix:
    return np.diag(_alternating(n) * _values(n, True))


def _ones(n: int) -> int:
    return 1


def _minus(n: int) -> int:
    return -1


_tridiagonal = _masked(
    "tridiagonal", lambda A: np.triu(np.tril(A, 1), -1), tridiagonal_tag
)
_diagonal = _masked("diagonal", lambda A: np.diag(np.diagonal(A)), diagonal_tag)

PROBLEMS: dict[str, ProblemClass] = {
    problem.name: problem
    for problem in (
        _general("square", 6, 6),
        _general("tall", 7, 4),
        _general("wide", 4, 7),
        _general("deficient", 6, 6, deficient=True),
        _general("deficient tall", 7, 4, deficient=True),
        _general("deficient wide", 4, 7, deficient=True),
        _of_hermitian("definite", _ones, positive_semidefinite_tag),
        _of_hermitian("negative definite", _minus, negative_semidefinite_tag),
        _of_hermitian("indefinite", _alternating, hermitian_tag),
        _of_hermitian("semidefinite", _ones, positive_semidefinite_tag, True),
        _of_hermitian(
            "semidefinite, consistent", _ones, positive_semidefinite_tag, True, True
        ),
        _of_hermitian("deficient indefinite", _alternating, hermitian_tag, True),
        _of_hermitian(
            "deficient indefinite, consistent", _alternating, hermitian_tag, True, True
        ),
        _diagonal,
        _diagonal._replace(
            name="deficient diagonal", matrix=_deficient_diagonal, deficient=True
        ),
        _tridiagonal,
        _masked("lower", np.tril, lower_triangular_tag),
        _masked("upper", np.triu, upper_triangular_tag),
    )
}
"""The classes of problems, by name."""


# Truth


def backward_error(matrix: Any, x: Any, b: Any) -> float:
    """How far x is from being the exact solution of a system near A x = b, of the exact
    least-squares solution of a problem near min ‖A x - b‖: the smaller of the two.

    With r = b - A x, in 2-norms: ‖r‖ / (‖A‖‖x‖ + ‖b‖) (Rigal and Gaches 1967,
    doi:10.1145/321406.321416); and with ν = ‖r‖ / ‖x‖ the estimate
    ‖(AᴴA + ν²I)^(-1/2) Aᴴr‖ / (‖A‖‖x‖) of Karlson and Waldén (1997,
    doi:10.1007/BF02510356). Computed by NumPy, the residual in extended precision, and
    at any scale.

    Args:
        matrix: A, of any shape.
        x, b: vectors.

    Returns:
        The error; infinite if x is not finite.

    ```python
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]])
    b = np.array([5.0, 6.0])
    lx_solvers.testing.backward_error(matrix, np.linalg.solve(matrix, b), b)
    ```
    """
    A, x, b = (np.asarray(z).astype(np.clongdouble) for z in (matrix, x, b))
    if not (np.isfinite(x).all() and np.isfinite(A).all()):
        return float("inf")
    if 0 in A.shape:
        return 0.0
    size = np.max(np.abs(A)) or np.longdouble(1)
    A, b = A / size, b / size  # what follows is of the size of one
    unit = max(np.max(np.abs(x)), np.max(np.abs(b))) or np.longdouble(1)
    x, b = x / unit, b / unit
    r = b - A @ x
    U, σ, _ = np.linalg.svd(A.astype(np.complex128), full_matrices=False)
    of_x, of_r = _norm(x), _norm(r)
    as_system = _ratio(of_r, σ[0] * of_x + _norm(b))
    # σ / √(σ² + ν²), with ν = ‖r‖ / ‖x‖ multiplied out
    weights = [_ratio(s * of_x, np.hypot(s * of_x, of_r)) for s in σ]
    within = weights * np.abs(U.conj().T @ (r / (of_r or 1)).astype(np.complex128))
    return min(as_system, _ratio(of_r * _norm(within), σ[0] * of_x))


def _norm(x: np.ndarray) -> Any:
    size = np.max(np.abs(x), initial=0)
    return size * np.sqrt(np.sum(np.abs(x / size) ** 2)) if size > 0 else size


def _ratio(a: Any, b: Any) -> float:
    return float(a / b) if a > 0 and b > 0 else float(a > 0)


def _pseudoinverse(A: Matrix) -> Matrix:
    """Of a matrix whose condition, apart from zeros, is at most a thousand."""
    wide = np.complex128 if np.iscomplexobj(A) else np.float64
    if 0 in A.shape:
        return A.T.astype(wide)
    return np.linalg.pinv(A.astype(wide), rcond=1e-4)


# Laws


class SolverLaws:
    """The laws that every linear solver obeys. Subclass it, and define `make`.

    Class attributes, to be overridden:

    - `problems`: what the solver claims to solve: names of `PROBLEMS`, or one's own.
    - `dtypes`: what it is tested in; those of 64 bits only while x64 is enabled. Laws
      of programs run in the last of them.
    - `any_scale`: whether it solves with A at any scale; if not, only b is scaled.
    - `seed`: of all random numbers.

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
        """What relative residual success promises: by default a hundred roundings. As
        the condition numbers are at most 10, the solution may be off by ten times
        that."""
        return 100 * float(jnp.finfo(dtype).eps)

    def check(self) -> None:
        """Run all laws for all dtypes, without pytest.

        Raises:
            AssertionError: naming every law that fails.
        """
        failures = []
        for name in sorted(name for name in dir(self) if name.startswith("test_")):
            law = getattr(self, name)
            dtypes = self._dtypes() if _takes_dtype(law) else [None]
            for dtype in dtypes:
                try:
                    law() if dtype is None else law(dtype)
                except Exception as error:
                    which = "" if dtype is None else f", {dtype}"
                    failures.append(f"{name.removeprefix('test_')}{which}: {error}")
        if failures:
            raise AssertionError("\n".join(failures))

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Tells pytest of the dtypes."""
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", self._dtypes())

    def _dtypes(self) -> list[str]:
        x64 = jnp.result_type(float) == jnp.float64
        return [dtype for dtype in self.dtypes if x64 or dtype in _SINGLE]

    def _subject(self, dtype: str | None = None) -> "_Subject":
        """The solver under test: made, and its programs compiled, once for each class
        and dtype."""
        dtype = self._dtypes()[-1] if dtype is None else dtype
        if (type(self), dtype) not in _MADE:
            _MADE[type(self), dtype] = _Subject(self, dtype)
        return _MADE[type(self), dtype]

    # What a solution is

    def test_solution(self, dtype):
        """x = A†b: the solution of a nonsingular system; else, of all least-squares
        solutions, the one of least norm. It has the operator's input structure."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            for A in subject.members(problem, 3):
                state = subject.init(problem, A)
                for b in subject.vectors(problem, A):
                    subject.solves(problem, state, A, b, "A x = b")

    def test_zero_vector(self, dtype):
        """b = 0 is solved by exactly 0."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            (A,) = subject.members(problem, 1)
            zero = np.zeros(len(A), dtype)
            x = subject.succeeds(problem, subject.init(problem, A), zero, "b = 0")
            subject.demand(problem, not x.any(), f"b = 0 is solved by {x}")

    def test_transpose(self, dtype):
        """The transposed state solves with Aᵀ; twice is nothing."""
        subject = self._subject(dtype)
        subject.view("Aᵀ", lambda A: A.T, "transpose")
        subject.view("(Aᵀ)ᵀ", lambda A: A, "transpose", "transpose")

    def test_conj(self, dtype):
        """The conjugated state solves with Ā, and, transposed, with Aᴴ; twice is
        nothing."""
        subject = self._subject(dtype)
        subject.view("conj(A)", lambda A: A.conj(), "conj")
        subject.view("conj(conj(A))", lambda A: A, "conj", "conj")
        subject.view("conj(Aᵀ)", lambda A: A.conj().T, "transpose", "conj")
        subject.view("conj(A)ᵀ", lambda A: A.conj().T, "conj", "transpose")

    def test_state_is_reused(self, dtype):
        """A state solves for one vector after the other, each as if it were the
        first."""
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
        """A and b multiplied by powers of two: so is the solution."""
        subject = self._subject(dtype)
        h = subject.half_range
        scales = [(0, h), (0, -h)]
        if self.any_scale:
            scales += [(h, 0), (-h, 0), (h, h), (-h, -h), (h, -h), (-h, h)]
        for problem in subject.problems:
            (A,) = subject.members(problem, 1)
            for p, q in scales:
                what = f"2^{p} A x = 2^{q} b"
                state = subject.init(problem, _times_power(A, p))
                for b in subject.vectors(problem, A):
                    x = subject.succeeds(problem, state, _times_power(b, q), what)
                    x = _times_power(x.astype(np.clongdouble), p - q)
                    subject.close(problem, x, _pseudoinverse(A) @ b, what)

    def test_rank(self, dtype):
        """Who claims operators of deficient rank does not assume full rank, as
        derivatives would be wrong."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            claims = problem.deficient and not problem.consistent
            assumes = subject.solver.assume_full_rank()
            subject.demand(problem, not (claims and assumes), "`assume_full_rank`")

    # That success is success

    def test_claims(self, dtype):
        """Of matrices at the edge of a class, what is called solved has a backward
        error, computed by NumPy, of at most √eps (or the tolerance), at any scale."""
        subject = self._subject(dtype)
        limit = max(float(jnp.finfo(dtype).eps) ** 0.5, self.tolerance(dtype))
        for problem in subject.problems:
            edges = subject.edges(problem, problem.harsh, problem.singular)
            for (name, A), p in itertools.product(edges.items(), subject.scales):
                A = _times_power(A, p)
                state = subject.init(problem, A)
                for b in subject.vectors(problem, A):
                    x, failure = subject.solve(state, b)
                    error = 0.0 if failure else backward_error(A, x, b)
                    what = f"{name}, times 2^{p}: successful, at a backward error of "
                    subject.demand(problem, error <= limit, f"{what}{error:.1e}")

    def test_singular(self, dtype):
        """An inconsistent singular system is not called solved, unless by A†b."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            for name, A in subject.edges(problem, problem.singular).items():
                b = subject.draws(2)(len(A)).astype(dtype)
                x, failure = subject.solve(subject.init(problem, A), b)
                wanted = _pseudoinverse(A) @ b
                if not failure:
                    what = f"{name}, which is singular, called solved: the solution"
                    subject.close(problem, x, wanted, what)

    def test_nonfinite(self, dtype):
        """A vector or an operator that is not finite ends in some failure."""
        subject = self._subject(dtype)
        for problem in subject.problems:
            (A,) = subject.members(problem, 1)
            b = subject.vectors(problem, A)[0]
            state = subject.init(problem, A)
            for bad in (np.nan, np.inf):
                _, failure = subject.solve(state, np.append(b[:-1], b.dtype.type(bad)))
                subject.demand(problem, failure, f"{bad} in b is called successful")
                spoilt = A.copy()
                spoilt[0, 0] = bad
                _, failure = subject.solve(subject.init(problem, spoilt), b)
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
            wanted = vectors @ _pseudoinverse(A).T
            subject.close(problem, xs, wanted, "the solutions for many vectors")

    def test_vmap_operators(self):
        """Many operators; a failure belongs to its own system."""
        subject = self._subject()
        for problem in subject.problems:
            matrices = np.stack(subject.members(problem, 3))
            vectors = np.stack([subject.vectors(problem, A)[0] for A in matrices])
            vectors[1, 0] = np.nan
            xs, fine = subject.each(problem.tags, matrices, vectors)
            wanted = [True, False, True]
            subject.equal(problem, fine.tolist(), wanted, "success, the second NaN,")
            for i in (0, 2):
                wanted = _pseudoinverse(matrices[i]) @ vectors[i]
                subject.close(problem, xs[i], wanted, "a solution of many operators")

    # What it takes

    def test_pytrees(self):
        """Pytrees in, pytrees out, an empty leaf among them."""
        subject = self._subject()
        for problem in subject.problems:
            subject.in_blocks(problem, jnp.dtype(subject.dtype))

    def test_mixed_dtypes(self):
        """Leaves of different precision, each in its own; as accurate as the least."""
        double = self._subject().dtype
        single = self._subject("complex64" if _is_complex(double) else "float32")
        for problem in single.problems:
            if not problem.deficient:  # what single precision rounds is of full rank
                single.in_blocks(problem, jnp.dtype(double))

    def test_small(self):
        """Systems with nothing, and with one unknown."""
        subject = self._subject()
        for problem in subject.problems:
            for m, n in _small(*problem.shape):
                A = problem.matrix(subject.draws(0), m, n).astype(subject.dtype)
                state = subject.init(problem, A)
                for b in subject.vectors(problem, A):
                    subject.solves(problem, state, A, b, f"{m} by {n}")


_MADE: dict[tuple[type, str], "_Subject"] = {}
_SINGLE = ("float16", "bfloat16", "float32", "complex64")
_Ready = tuple[Any, dict[str, Any]]


class _Subject:
    """A solver under test, its compiled programs, and how solutions are compared."""

    def __init__(self, laws: SolverLaws, dtype: str):
        self.solver, self.dtype = laws.make(dtype), dtype
        self.problems = [
            PROBLEMS[p] if isinstance(p, str) else p for p in laws.problems
        ]
        self.tolerance, self.seed = laws.tolerance(dtype), laws.seed
        # 2^h A, 2^-h b and the solution of 2^h A x = 2^-h b are all within range, and
        # so are their rounding errors
        info = jnp.finfo(dtype)
        self.half_range = (int(info.maxexp) - int(info.nmant)) // 2 - 8
        self.scales = (0, self.half_range, -self.half_range)
        self.traces = 0
        solver = self.solver

        def init(operator: AbstractLinearOperator) -> Any:
            self.traces += 1
            return solver.init(operator, {})

        def compute(state: Any, vector: PyTree[Array], options: dict) -> Any:
            self.traces += 1
            return solver.compute(state, vector, options)

        def many(state: Any, vectors: Array) -> tuple[Array, Array]:
            def one(vector: Array) -> tuple[Array, Array]:
                x, result, _ = solver.compute(state, vector, {})
                return x, result == RESULTS.successful

            return jax.vmap(one)(vectors)

        def each(tags: Any, matrices: Array, vectors: Array) -> tuple[Array, Array]:
            def one(matrix: Array, vector: Array) -> tuple[Array, Array]:
                state = solver.init(MatrixLinearOperator(matrix, tags), {})
                x, result, _ = solver.compute(state, vector, {})
                return x, result == RESULTS.successful

            return jax.vmap(one)(matrices, vectors)

        self._init, self._compute = eqx.filter_jit(init), eqx.filter_jit(compute)
        self._many, self._each = eqx.filter_jit(many), eqx.filter_jit(each)

    # Problems: the same ones whenever asked

    def draws(self, stream: int) -> Draw:
        random = np.random.default_rng((self.seed, stream))

        def draw(*shape: int) -> np.ndarray:
            real, imag = random.standard_normal((2, *shape))
            return real + 1j * imag if _is_complex(self.dtype) else real

        return draw

    def members(self, problem: ProblemClass, count: int) -> list[Matrix]:
        draw = self.draws(0)
        members = [problem.matrix(draw, *problem.shape) for _ in range(count)]
        return [A.astype(self.dtype) for A in members]

    def edges(self, problem: ProblemClass, *families: Callable) -> dict[str, Matrix]:
        draw, edges = self.draws(1), {}
        for family in families:
            edges |= family(draw, *problem.shape)
        return {name: A.astype(self.dtype) for name, A in edges.items()}

    def vectors(self, problem: ProblemClass, A: Matrix) -> list[np.ndarray]:
        """One in the range of A, and, where that is asked, one that is not."""
        draw, (m, n) = self.draws(2), A.shape
        anywhere = draw(m).astype(self.dtype)
        within = (A @ draw(n)).astype(self.dtype)
        return [within] if problem.consistent else [anywhere, within]

    # Programs; a state comes with its options

    def init(self, problem: ProblemClass, A: Matrix) -> _Ready:
        operator = MatrixLinearOperator(jnp.asarray(A), problem.tags)
        return self._init(operator), {}

    def solve(self, ready: _Ready, vector: PyTree[Any]) -> tuple[PyTree[Any], str]:
        """The solution, and how the solve failed: nothing if it did not."""
        state, options = ready
        x, result, _ = self._compute(state, jtu.tree_map(jnp.asarray, vector), options)
        return jtu.tree_map(np.asarray, x), RESULTS[result]

    def many(self, ready: _Ready, vectors: Any) -> tuple[np.ndarray, np.ndarray]:
        xs, fine = self._many(ready[0], jnp.asarray(vectors))
        return np.asarray(xs), np.asarray(fine)

    def each(self, tags: Any, *batch: Any) -> tuple[np.ndarray, np.ndarray]:
        xs, fine = self._each(tags, *map(jnp.asarray, batch))
        return np.asarray(xs), np.asarray(fine)

    # Demands

    def demand(self, problem: ProblemClass, holds: Any, what: str) -> None:
        if not holds:
            text = f"{self.solver!r} on {problem.name!r} ({self.dtype}): {what}"
            raise AssertionError(text)

    def equal(self, problem: ProblemClass, got: Any, wanted: Any, what: str) -> None:
        told = f"{what} is {got!r}, but should be {wanted!r}"
        self.demand(problem, got == wanted, told)

    def close(self, problem: ProblemClass, got: Any, wanted: Any, what: str) -> None:
        self.equal(problem, got.shape, wanted.shape, f"the shape of {what}")
        scale = float(np.max(np.abs(wanted), initial=0))
        error = float(np.max(np.abs(got - wanted), initial=0))
        told = f"{what} is off by {error:.1e}: {got}, but should be {wanted}"
        self.demand(problem, error <= 10 * self.tolerance * scale, told)

    def succeeds(
        self, problem: ProblemClass, ready: _Ready, b: np.ndarray, what: str
    ) -> np.ndarray:
        x, failure = self.solve(ready, b)
        self.demand(problem, not failure, f"{what} is not solved: {failure}")
        self.equal(problem, x.dtype, np.dtype(self.dtype), f"the dtype, for {what},")
        return x

    def solves(
        self, problem: ProblemClass, ready: _Ready, A: Matrix, b: np.ndarray, what: str
    ) -> None:
        x = self.succeeds(problem, ready, b, what)
        self.close(problem, x, _pseudoinverse(A) @ b, f"the solution of {what}")

    def view(self, name: str, of: Callable[[Matrix], Matrix], *steps: str) -> None:
        """The state that these steps lead to solves with this view of A."""
        for problem in self.problems:
            (A,) = self.members(problem, 1)
            ready = self.init(problem, A)
            for step in steps:
                ready = getattr(self.solver, step)(*ready)
            for b in self.vectors(problem, of(A)):
                self.solves(problem, ready, of(A), b, f"{name} x = b")

    def in_blocks(self, problem: ProblemClass, dtype: Any) -> None:
        """A member as a map of pytrees, in which one leaf has this dtype."""
        (A,) = self.members(problem, 1)
        outs, ins = (_parts(size, self.dtype, dtype) for size in A.shape)
        blocks = {
            i: {j: A[r, c].reshape(s.shape + t.shape) for j, (c, t) in ins.items()}
            for i, (r, s) in outs.items()
        }
        X, Y = ({k: s for k, (_, s) in parts.items()} for parts in (ins, outs))
        operator = PyTreeLinearOperator(blocks, Y, problem.tags, input_structure=X)
        ready = self._init(operator), {}
        for b in self.vectors(problem, A):
            vector = {k: b[r].reshape(s.shape).astype(s.dtype)
                      for k, (r, s) in outs.items()}  # fmt: skip
            x, failure = self.solve(ready, vector)
            self.demand(problem, not failure, f"pytrees are not solved: {failure}")
            given = jtu.tree_map(lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype), x)
            self.equal(problem, given, X, "the structure of the solution")
            x = np.concatenate([np.ravel(leaf) for leaf in jtu.tree_leaves(x)])
            self.close(problem, x, _pseudoinverse(A) @ b, "the solution, a pytree,")


def _parts(
    size: int, dtype: Any, other: Any
) -> dict[str, tuple[slice, jax.ShapeDtypeStruct]]:
    """Leaves, by what part of a flat vector they are: one number, nothing, the rest."""
    return {
        "a": (slice(0, 1), jax.ShapeDtypeStruct((), jnp.dtype(dtype))),
        "b": (slice(1, 1), jax.ShapeDtypeStruct((0, 2), jnp.dtype(dtype))),
        "c": (slice(1, size), jax.ShapeDtypeStruct((size - 1,), jnp.dtype(other))),
    }


def _is_complex(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.complexfloating))


def _times_power(A: np.ndarray, p: int) -> np.ndarray:
    """2^p A: exactly, where in range."""
    real: Any = np.finfo(A.dtype).dtype.type
    return A * real(2) ** real(p)


def _small(m: int, n: int) -> list[tuple[int, int]]:
    """The smallest shapes of this kind."""
    return [(0, 0), (1, 1)] if m == n else [(3, 0) if m > n else (0, 3)]


def _takes_dtype(law: Callable) -> bool:
    return "dtype" in inspect.signature(law).parameters
