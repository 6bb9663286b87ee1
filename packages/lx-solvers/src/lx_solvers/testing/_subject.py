"""A solver under test."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, PyTreeLinearOperator
from lx_operators.internal import (
    PackedStructures,
    pack_structures,
    transpose_packed_structures,
)

from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from ._problems import Draw, Matrix, ProblemClass
from ._truth import pseudoinverse

_Build = Callable[[Any, Any], AbstractLinearOperator]


class _Ready(NamedTuple):
    """A state and its options, and the structures of what it solves."""

    problem: ProblemClass
    state: Any
    options: dict[str, Any]
    packed: PackedStructures


class Subject:
    """A solver under test, its compiled programs, and comparisons of solutions.

    Vectors here are flat NumPy arrays; the solver's are pytrees of the operator's
    structures.
    """

    def __init__(
        self,
        solver: AbstractLinearSolver,
        problems: Iterable[ProblemClass],
        dtype: str,
        tolerance: float,
        seed: int,
    ):
        self.solver, self.problems, self.dtype = solver, tuple(problems), dtype
        self.tolerance, self.seed = tolerance, seed
        # 2^h A, 2^-h b and the solution of 2^h A x = 2^-h b are all within range, and
        # so are their rounding errors
        info = jnp.finfo(dtype)
        self.half_range = (int(info.maxexp) - int(info.nmant)) // 2 - 8
        self.scales = (0, self.half_range, -self.half_range)
        self.traces = 0

        def init(build: _Build, matrix: Any, tags: Any) -> tuple:
            self.traces += 1
            operator = build(matrix, tags)
            return solver.init(operator, {}), {}, pack_structures(operator)

        def compute(state: Any, vector: PyTree[Array], options: dict) -> Any:
            self.traces += 1
            return solver.compute(state, vector, options)

        def many(state: Any, vectors: PyTree[Array]) -> tuple[PyTree[Array], Array]:
            def one(vector: PyTree[Array]) -> tuple[PyTree[Array], Array]:
                x, result, _ = solver.compute(state, vector, {})
                return x, result == RESULTS.successful

            return jax.vmap(one)(vectors)

        def each(
            build: _Build, matrices: Array, tags: Any, vectors: PyTree[Array]
        ) -> tuple[PyTree[Array], Array]:
            def one(
                matrix: Array, vector: PyTree[Array]
            ) -> tuple[PyTree[Array], Array]:
                state = solver.init(build(matrix, tags), {})
                x, result, _ = solver.compute(state, vector, {})
                return x, result == RESULTS.successful

            return jax.vmap(one)(matrices, vectors)

        self._init, self._compute = eqx.filter_jit(init), eqx.filter_jit(compute)
        self._many, self._each = eqx.filter_jit(many), eqx.filter_jit(each)

    # Problems: the same on every call

    def draws(self, stream: int) -> Draw:
        random = np.random.default_rng((self.seed, stream))

        def draw(*shape: int) -> np.ndarray:
            real, imag = random.standard_normal((2, *shape))
            return real + 1j * imag if is_complex(self.dtype) else real

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
        """A vector in the range of A and, if asked for, one outside it."""
        draw, (m, n) = self.draws(2), A.shape
        anywhere = draw(m).astype(self.dtype)
        within = (A @ draw(n)).astype(self.dtype)
        return [within] if problem.consistent else [anywhere, within]

    # Programs

    def init(self, problem: ProblemClass, A: Matrix) -> _Ready:
        return self._ready(problem, problem.operator, jnp.asarray(A))

    def _ready(self, problem: ProblemClass, build: _Build, matrix: Any) -> _Ready:
        return _Ready(problem, *self._init(build, matrix, problem.tags))

    def turned(self, ready: _Ready, step: str) -> _Ready:
        """The transposed, or the conjugated, state."""
        state, options = getattr(self.solver, step)(ready.state, ready.options)
        turn = step == "transpose"
        packed = transpose_packed_structures(ready.packed) if turn else ready.packed
        return ready._replace(state=state, options=options, packed=packed)

    def solve(self, ready: _Ready, b: np.ndarray) -> tuple[np.ndarray, str]:
        """The solution, and the name of the failure; empty if there was none."""
        vector = _unravel(b, ready.packed.out_structure.thaw())
        x, result, _ = self._compute(ready.state, vector, ready.options)
        return self._ravel(ready.problem, x, ready.packed), RESULTS[result]

    def many(self, ready: _Ready, vectors: Matrix) -> tuple[Matrix, np.ndarray]:
        structure = ready.packed.out_structure.thaw()
        xs, fine = self._many(ready.state, _unravel(vectors, structure))
        xs = self._ravel(ready.problem, xs, ready.packed, len(vectors))
        return xs, np.asarray(fine)

    def each(
        self, problem: ProblemClass, matrices: np.ndarray, vectors: Matrix
    ) -> tuple[Matrix, np.ndarray]:
        packed = pack_structures(_shaped(problem, matrices[0]))
        vector = _unravel(vectors, packed.out_structure.thaw())
        batch = jnp.asarray(matrices), problem.tags, vector
        xs, fine = self._each(problem.operator, *batch)
        return self._ravel(problem, xs, packed, len(vectors)), np.asarray(fine)

    def has_numbers(self, problem: ProblemClass, A: Matrix) -> bool:
        """Whether an operator has free elements: a permutation has none."""
        arrays = jtu.tree_leaves(_shaped(problem, A))
        return any(jnp.issubdtype(array.dtype, jnp.inexact) for array in arrays)

    def spoilt(self, problem: ProblemClass, A: Matrix, bad: float) -> Matrix:
        """A with NaN or infinity in its first element; everywhere, if the operator does
        not read that one."""
        first, everywhere = A.copy(), np.full_like(A, bad)
        first[0, 0] = bad

        @jax.jit  # where an operator cannot refuse NaN
        def arrays(matrix: Array) -> list[Array]:
            leaves = jtu.tree_leaves(problem.operator(matrix, problem.tags))
            return list(filter(eqx.is_inexact_array, leaves))

        read = not all(np.all(np.isfinite(array)) for array in arrays(first))
        return first if read else everywhere

    def _ravel(
        self,
        problem: ProblemClass,
        x: PyTree[Array],
        packed: PackedStructures,
        *batch: int,
    ) -> np.ndarray:
        """A solution, or a batch of solutions, raveled after checking its structure."""
        given = jtu.tree_map(lambda v: _shape(v.shape, v.dtype), x)
        wanted = jtu.tree_map(
            lambda s: _shape((*batch, *s.shape), s.dtype), packed.in_structure.thaw()
        )
        self.equal(problem, given, wanted, "the structure of the solution")
        leaves = [
            np.asarray(leaf).reshape(*batch, math.prod(leaf.shape[len(batch) :]))
            for leaf in jtu.tree_leaves(x)
        ]
        return np.concatenate(leaves, axis=-1)

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
        self.close(problem, x, pseudoinverse(A) @ b, f"the solution of {what}")

    def view(self, name: str, of: Callable[[Matrix], Matrix], *steps: str) -> None:
        """The state after these steps solves with this view of A."""
        for problem in self.problems:
            (A,) = self.members(problem, 1)
            ready = self.init(problem, A)
            for step in steps:
                ready = self.turned(ready, step)
            for b in self.vectors(problem, of(A)):
                self.solves(problem, ready, of(A), b, f"{name} x = b")

    def in_blocks(self, problem: ProblemClass, dtype: Any) -> None:
        """A member as a map of pytrees, in which one leaf has this dtype."""
        (A,) = self.members(problem, 1)
        outs, ins = (_parts(size, self.dtype, dtype) for size in A.shape)
        blocks = {
            i: {j: jnp.asarray(A[r, c]).reshape(s.shape + t.shape)
                for j, (c, t) in ins.items()}
            for i, (r, s) in outs.items()
        }  # fmt: skip
        X, Y = ({k: s for k, (_, s) in parts.items()} for parts in (ins, outs))

        def build(blocks: Any, tags: Any) -> AbstractLinearOperator:
            return PyTreeLinearOperator(blocks, Y, tags, input_structure=X)

        ready = self._ready(problem, build, blocks)
        for b in self.vectors(problem, A):
            x, failure = self.solve(ready, b)
            self.demand(problem, not failure, f"pytrees are not solved: {failure}")
            self.close(problem, x, pseudoinverse(A) @ b, "the solution, a pytree,")


def _shaped(problem: ProblemClass, A: Matrix) -> AbstractLinearOperator:
    """The operator as shapes and dtypes only."""
    matrix = _shape(A.shape, A.dtype)
    return eqx.filter_eval_shape(problem.operator, matrix, problem.tags)


def _shape(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def _unravel(b: np.ndarray, structure: Any) -> PyTree[Array]:
    """One flat vector, or one in each row, as pytrees."""
    leaves, tree = jtu.tree_flatten(structure)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = np.split(b, ends[:-1], axis=-1)
    batch = b.shape[:-1]
    return tree.unflatten(
        jnp.asarray(part.reshape(batch + leaf.shape).astype(leaf.dtype))
        for part, leaf in zip(parts, leaves, strict=True)
    )


def _parts(
    size: int, dtype: Any, other: Any
) -> dict[str, tuple[slice, jax.ShapeDtypeStruct]]:
    """Leaves, as parts of a flat vector: one number, nothing, and the rest."""
    return {
        "a": (slice(0, 1), _shape((), dtype)),
        "b": (slice(1, 1), _shape((0, 2), dtype)),
        "c": (slice(1, size), _shape((size - 1,), other)),
    }


def is_complex(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.complexfloating))


def times_power(A: np.ndarray, p: int) -> np.ndarray:
    """2^p A: exactly, where in range."""
    real: Any = np.finfo(A.dtype).dtype.type
    return A * real(2) ** real(p)


def small(problem: ProblemClass) -> list[tuple[int, int]]:
    """The smallest shapes of this class."""
    m, n = problem.shape
    if m != n:
        return [(3, 0) if m > n else (0, 3)]
    return [(0, 0), (1, 1)] if problem.empty else [(1, 1)]
