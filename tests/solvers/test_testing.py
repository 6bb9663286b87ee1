"""The conformance suite finds what is wrong with a solver, and says which law."""

import dataclasses
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import lx_operators
import lx_solvers as lx
import numpy as np
import pytest
from lx_solvers.testing import PROBLEMS, ProblemClass, SolverLaws, backward_error


class Right(lx.AbstractLinearSolver):
    """A solver to be spoilt, one method at a time."""

    inner: lx.AbstractLinearSolver = dataclasses.field(default_factory=lx.LU)

    def init(self, operator, options):
        return self.inner.init(operator, options)

    def compute(self, state, vector, options):
        return self.inner.compute(state, vector, options)

    def transpose(self, state, options):
        return self.inner.transpose(state, options)

    def conj(self, state, options):
        return self.inner.conj(state, options)

    def assume_full_rank(self):
        return self.inner.assume_full_rank()


class WrongTranspose(Right):
    def transpose(self, state, options):
        return self.inner.conj(*self.inner.transpose(state, options))


class WrongConj(Right):
    def conj(self, state, options):
        return state, options


class FalseSuccess(Right):
    def compute(self, state, vector, options):
        x, _, stats = self.inner.compute(state, vector, options)
        return jnp.nan_to_num(x), lx.RESULTS.successful, stats


class SteppedTooFew(Right):
    """Fine where it converges fast, and calls the rest solved too."""

    inner: lx.AbstractLinearSolver = dataclasses.field(
        default_factory=lambda: lx.GMRES(0.0, 0.0, max_steps=3)
    )


class IgnoresScale(Right):
    def compute(self, state, vector, options):
        x, result, stats = self.inner.compute(state, vector, options)
        return jnp.where(jnp.linalg.norm(vector) < 1e-12, 0, x), result, stats


class IgnoresNaN(Right):
    def compute(self, state, vector, options):
        return self.inner.compute(state, jnp.nan_to_num(vector), options)


class FailsTogether(Right):
    """All of a batch share the fate of the worst."""

    def compute(self, state, vector, options):
        x, result, stats = self.inner.compute(state, vector, options)
        return _spread(x), result, stats


@jax.custom_batching.custom_vmap
def _spread(x):
    return x


@_spread.def_vmap
def _(size, batched, x):
    bad = ~jnp.isfinite(x).all()
    return jnp.where(bad, jnp.nan, x), True


class Flat(Right):
    def compute(self, state, vector, options):
        x, result, stats = self.inner.compute(state, vector, options)
        leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(x)]
        return jnp.concatenate(leaves), result, stats


class Narrow(Right):
    def compute(self, state, vector, options):
        x, result, stats = self.inner.compute(state, vector, options)
        return jax.tree.map(lambda leaf: leaf.astype("complex64"), x), result, stats


class NotEmpty(Right):
    def init(self, operator, options):
        jnp.max(jnp.abs(operator.as_matrix()))
        return self.inner.init(operator, options)


class Concrete(Right):
    """Looks at values while it is traced."""

    def compute(self, state, vector, options):
        if float(jnp.max(jnp.abs(vector))) == 0:
            return vector, lx.RESULTS.successful, {}
        return self.inner.compute(state, vector, options)


class Remembers(Right):
    """Carries on from where the last solve ended."""

    def compute(self, state, vector, options):
        x, result, stats = self.inner.compute(state, vector, options)
        count = jax.pure_callback(_count, jax.ShapeDtypeStruct((), "float64"))
        return x * (1 + 1e-3 * count), result, stats


_solves = []


def _count():
    _solves.append(0)
    return np.asarray(len(_solves), "float64")


class SomeSolution(Right):
    """It gives a solution that is not the one of least norm."""

    inner: lx.AbstractLinearSolver = dataclasses.field(default_factory=lx.PivotedQR)

    def compute(self, state, vector, options):
        x, result, stats = self.inner.compute(state, vector, options)
        return x + 1e-3, result, stats


class FalseRank(Right):
    inner: lx.AbstractLinearSolver = dataclasses.field(default_factory=lx.PivotedQR)

    def assume_full_rank(self):
        return True


def _laws(kind, *problems_):
    class Laws(SolverLaws):
        problems = problems_ or ("square",)
        dtypes = ("complex128",)

        def make(self, dtype):
            return kind()

    return Laws()


SPOILT = [
    (WrongTranspose, "square", {"transpose"}),
    (WrongConj, "square", {"conj"}),
    (FalseSuccess, "square", {"singular", "nonfinite"}),
    (SteppedTooFew, "square", {"claims", "solution"}),
    (IgnoresScale, "square", {"scale"}),
    (IgnoresNaN, "square", {"nonfinite"}),
    (FailsTogether, "square", {"vmap_operators"}),
    (Flat, "square", {"pytrees", "mixed_dtypes"}),
    (Narrow, "square", {"solution", "pytrees"}),
    (NotEmpty, "square", {"small"}),
    (Concrete, "square", {"jit"}),
    (Remembers, "square", {"state_is_reused"}),
    (SomeSolution, "wide", {"solution", "zero_vector"}),
    (FalseRank, "deficient", {"rank"}),
    (lx.LU, "deficient", {"solution"}),
    (lx.QR, "deficient wide", {"solution", "vmap_vectors"}),
]


@pytest.mark.parametrize(
    ("kind", "problem", "laws"), SPOILT, ids=[kind.__name__ for kind, *_ in SPOILT]
)
def test_what_is_wrong_is_found(kind, problem, laws):
    """Only these laws are run: each must fail, and name the solver and the class."""
    suite = _laws(kind, problem)
    for name in laws:
        law = getattr(suite, f"test_{name}")
        takes_dtype = law.__code__.co_argcount > 1
        with pytest.raises(Exception) as caught:
            law("complex128") if takes_dtype else law()
        if caught.type is AssertionError:
            assert kind.__name__ in str(caught.value)
            assert repr(problem) in str(caught.value)


def test_right_is_right():
    _laws(Right).check()


def test_failures_are_named():
    with pytest.raises(AssertionError) as caught:
        _laws(WrongConj).check()
    failed = {line.split(",")[0] for line in str(caught.value).splitlines()}
    assert "conj" in failed and "transpose" not in failed


def test_needs_a_factory():
    with pytest.raises(AssertionError, match="NotImplementedError|solution"):
        SolverLaws().check()


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda p: p.name)
def test_an_operator_is_its_matrix(problem):
    """Read off a dense matrix and formed again, it is the same, also at the edges."""
    random = np.random.default_rng(0)

    def draw(*shape):
        return random.standard_normal(shape) + 1j * random.standard_normal(shape)

    matrices = {"member": problem.matrix(draw, *problem.shape)}
    matrices |= problem.harsh(draw, *problem.shape)
    matrices |= problem.singular(draw, *problem.shape)
    formed = jax.jit(lambda A: problem.operator(A, problem.tags).as_matrix())
    for name, A in matrices.items():
        got = formed(A.astype("complex128"))
        scale = np.abs(A).max()
        np.testing.assert_allclose(got, A, rtol=0, atol=1e-15 * scale, err_msg=name)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=lambda p: p.name)
def test_problems_are_what_they_are_called(problem):
    """By NumPy: shape, rank, condition, structure."""
    random = np.random.default_rng(0)
    A = problem.matrix(lambda *shape: random.standard_normal(shape), *problem.shape)
    assert A.shape == problem.shape
    sizes = np.linalg.svd(A, compute_uv=False)
    zero = sizes < 1e-12
    assert zero.any() == problem.deficient
    assert sizes[0] / sizes[~zero][-1] <= 10
    tags = {repr(tag).removesuffix("_tag") for tag in np.ravel(problem.tags)}
    eigenvalues = np.linalg.eigvals(A) if A.shape[0] == A.shape[1] else None
    true = {
        "diagonal": np.array_equal(A, np.diag(np.diagonal(A))),
        "tridiagonal": np.array_equal(A, np.triu(np.tril(A, 1), -1)),
        "lower_triangular": np.array_equal(A, np.tril(A)),
        "upper_triangular": np.array_equal(A, np.triu(A)),
        "hermitian": eigenvalues is not None and np.array_equal(A, A.T),
        "symmetric": eigenvalues is not None and np.array_equal(A, A.T),
    }
    if eigenvalues is not None:
        true["positive_semidefinite"] = true["hermitian"] and eigenvalues.min() > -1e-12
        true["negative_semidefinite"] = true["hermitian"] and eigenvalues.max() < 1e-12
    assert all(true[tag] for tag in tags)


def test_class_without_multiples():
    """Its operator does not read the first element, and has no other scale."""

    def shear(draw, m, n):
        return np.eye(n) + np.triu(draw(n, n), 1) / n

    def none(draw, m, n):
        return {}

    def stored(A, tags):
        upper = jnp.triu(A, 1) + jnp.eye(len(A), dtype=A.dtype)
        return lx_operators.MatrixLinearOperator(upper, tags)

    class Laws(SolverLaws):
        problems = (
            ProblemClass(
                *("shear", (3, 3), shear, none, none),
                tags=lx_operators.upper_triangular_tag,
                operator=stored,
                multiples=False,
            ),
        )
        dtypes = ("float64",)

        def make(self, dtype):
            return lx.Triangular()

    Laws().check()


def test_backward_error():
    """Against the definition: the least norm of a perturbation that makes x exact."""
    A, b = np.array([[3.0, 0.0], [0.0, 4.0]]), np.array([3.0, 4.0])
    assert backward_error(A, np.ones(2), b) == 0
    # r = (0, 4 δ): ‖r‖ / (‖A‖‖x‖ + ‖b‖)
    x, δ = np.array([1.0, 1.0 + 1e-9]), 1e-9
    expected = 4 * δ / (4 * np.hypot(1, 1 + δ) + 5)
    assert backward_error(A, x, b) == pytest.approx(expected, rel=1e-6)
    for scale in (1e-300, 1e300):
        assert backward_error(scale * A, x / scale, b) == pytest.approx(expected)
    assert backward_error(A, np.array([np.nan, 1]), b) == np.inf


@pytest.mark.parametrize("size", [1e-10, 1e-5, 1e-1])
def test_backward_error_of_least_squares(size):
    """Waldén, Karlson and Sun's optimal one (1995, doi:10.1002/nla.1680020308), which
    is the least singular value of [A, ν(I - rrᴴ/‖r‖²)], up to a factor of √2."""
    random = np.random.default_rng(3)
    A, b = random.standard_normal((7, 3)), random.standard_normal(7)
    x = np.linalg.lstsq(A, b)[0] + size * random.standard_normal(3)
    r = b - A @ x
    ν = np.linalg.norm(r) / np.linalg.norm(x)
    away = np.eye(7) - np.outer(r, r) / (r @ r)
    least = np.linalg.svd(np.hstack([A, ν * away]), compute_uv=False)[-1]
    optimal = min(ν, least) / np.linalg.norm(A, 2)
    assert optimal / 1.5 <= backward_error(A, x, b) <= 1.5 * optimal


def test_works_without_pytest():
    program = """
        import sys
        sys.modules["pytest"] = None  # importing it is an error
        import lx_solvers as lx
        from lx_solvers.testing import SolverLaws

        class Laws(SolverLaws):
            problems = ("diagonal",)
            seen = []

            def make(self, dtype):
                self.seen.append(dtype)
                return lx.Diagonal()

        Laws().check()
        assert set(Laws.seen) == {"float32", "complex64"}  # x64 is off
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
