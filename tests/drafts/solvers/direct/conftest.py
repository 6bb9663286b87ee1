"""The laws of every direct solver, and how to run one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import MatrixLinearOperator
from lx_solvers import RESULTS

FACTORISATIONS = {"lu", "cholesky", "geqrf", "geqp3", "qr", "svd", "eigh"}


def pytest_generate_tests(metafunc):
    """The laws are tested in all dtypes, the rest in the narrowest and the widest."""
    if "dtype" in metafunc.fixturenames:
        names = ["float32", "complex128"]
        if metafunc.function.__name__ == "test_laws":
            names += ["float64", "complex64"]
        metafunc.parametrize("dtype", [np.dtype(name) for name in names], ids=names)


@pytest.fixture
def draw():
    """Normal variates, the same in every run."""
    generator = np.random.default_rng(7)

    def draw(dtype, *shape):
        x = generator.normal(size=shape)
        if np.issubdtype(dtype, np.complexfloating):
            x = x + 1j * generator.normal(size=shape)
        return x.astype(dtype)

    return draw


@eqx.filter_jit
def _run(solver, operator, vector):
    state = solver.init(operator, {})
    x, result, stats = solver.compute(state, vector, {})
    return x, result, {k: jnp.asarray(v) for k, v in stats.items()}


@pytest.fixture
def run():
    """A solve: the solution, the name of the result, the statistics."""
    names = ("successful", "singular", "unstable", "nonfinite_input")
    names = {RESULTS[getattr(RESULTS, name)]: name for name in names}

    def run(solver, matrix, vector, tags=()):
        operator = MatrixLinearOperator(jnp.asarray(matrix), tags)
        x, result, stats = _run(solver, operator, jnp.asarray(vector))
        return np.asarray(x), names[RESULTS[result]], stats

    return run


@pytest.fixture
def backward_error():
    """‖b - Ax‖ / (‖A‖‖x‖ + ‖b‖) in maximum norm, in units of the dtype's eps; computed
    in extended precision, and after scaling all to order one."""

    def backward_error(matrix, x, b):
        eps = np.finfo(matrix.dtype).eps
        A, x, b = (np.asarray(a).astype(np.clongdouble) for a in (matrix, x, b))
        size = abs(A).sum(1).max() * abs(x).max() + abs(b).max()
        return float(abs(b - A @ x).max() / size / eps)

    return backward_error


def primitives(jaxpr):
    """All primitives in a jaxpr, as often as they stand there."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(value):
                yield from primitives(getattr(value, "jaxpr", value))


def _is_jaxpr(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


@pytest.fixture
def factorisations():
    """The names of the factorisations that a function makes."""

    def factorisations(fn, *args):
        names = primitives(jax.make_jaxpr(fn)(*args).jaxpr)
        return [name for name in names if name in FACTORISATIONS]

    return factorisations


VIEWS = {
    "A": lambda solver, state: state,
    "Aᵀ": lambda solver, state: solver.transpose(state, {})[0],
    "Ā": lambda solver, state: solver.conj(state, {})[0],
    "Aᴴ": lambda solver, state: solver.conj(solver.transpose(state, {})[0], {})[0],
    "(Aᵀ)ᵀ": lambda solver, state: solver.transpose(solver.transpose(state, {})[0], {})[
        0
    ],
}
MATRICES = {
    "A": lambda A: A,
    "Aᵀ": lambda A: A.T,
    "Ā": lambda A: A.conj(),
    "Aᴴ": lambda A: A.conj().T,
    "(Aᵀ)ᵀ": lambda A: A,
}


@pytest.fixture
def obeys_laws(draw, factorisations):
    """Every law of a direct solver on one matrix, against its pseudoinverse."""

    def check(solver, matrix, tags=(), truth=None, tolerance=2000):
        dtype, m = matrix.dtype, len(matrix)
        limit = tolerance * np.finfo(dtype).eps
        wide = np.complex128 if np.iscomplexobj(matrix) else np.float64
        truth = truth or (lambda A: np.linalg.pinv(A, rcond=1e3 * np.finfo(dtype).eps))
        operator = MatrixLinearOperator(jnp.asarray(matrix), tags)
        state = eqx.filter_jit(solver.init)(operator, {})

        def close(got, A, b):
            wanted = truth(A.astype(wide)) @ b.astype(wide)
            assert got.dtype == dtype
            scale = abs(wanted).max(initial=0) or 1
            assert abs(np.asarray(got) - wanted).max(initial=0) <= limit * scale

        def all_views(state, vectors):
            return {
                name: solver.compute(view(solver, state), vectors[name], {})[:2]
                for name, view in VIEWS.items()
            }

        vectors = {
            k: draw(dtype, change(matrix).shape[0]) for k, change in MATRICES.items()
        }
        for name, (x, result) in eqx.filter_jit(all_views)(state, vectors).items():
            assert result == RESULTS.successful, f"{name}: {RESULTS[result]}"
            close(x, MATRICES[name](matrix), vectors[name])
        # none of them factorises again
        assert not factorisations(lambda s, v: all_views(s, v)["Aᴴ"][0], state, vectors)

        # many vectors: one factorisation, of one matrix
        vectors = draw(dtype, 3, m)

        def many(operator, vectors):
            state = solver.init(operator, {})
            return jax.vmap(lambda b: solver.compute(state, b, {})[0])(vectors)

        once = factorisations(lambda op: solver.init(op, {}), operator)
        assert factorisations(many, operator, vectors) == once
        for x, b in zip(eqx.filter_jit(many)(operator, jnp.asarray(vectors)), vectors):
            close(x, matrix, b)

        # many operators
        def one(matrix, b):
            operator = MatrixLinearOperator(matrix, tags)
            return solver.compute(solver.init(operator, {}), b, {})[0]

        batch = jnp.stack([jnp.asarray(matrix), 2 * jnp.asarray(matrix)])
        if "unit_diagonal" not in repr(tags):
            for x, A, b in zip(
                jax.jit(jax.vmap(one))(batch, vectors[:2]), batch, vectors
            ):
                close(x, np.asarray(A), b)

    return check
