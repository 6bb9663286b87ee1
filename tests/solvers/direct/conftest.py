"""The laws of every direct solver, and how to run one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import MatrixLinearOperator
from lx_solvers import RESULTS
from lx_solvers._slogdet import slogdet_of

FACTORISATIONS = {"lu", "tiny_lu", "cholesky", "geqrf", "geqp3", "qr", "svd", "eigh"}


def pytest_generate_tests(metafunc):
    """The laws in one pair of dtypes, the rest in the other."""
    if "dtype" in metafunc.fixturenames:
        laws = "laws" in metafunc.function.__name__
        names = ["float64", "complex64"] if laws else ["float32", "complex128"]
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


@pytest.fixture
def slogdet():
    """Sign and log |det| by the factors of a matrix, and of its conjugate."""

    @eqx.filter_jit
    def both(solver, operator):
        state = solver.init(operator, {})
        return slogdet_of(state), slogdet_of(solver.conj(state, {})[0])

    def check(solver, matrix, tags=()):
        limit = 100 * max(len(matrix), 1) * np.finfo(matrix.dtype).eps
        got = both(solver, MatrixLinearOperator(jnp.asarray(matrix), tags))
        for (sign, logabs), A in zip(got, (matrix, matrix.conj())):
            wanted = np.linalg.slogdet(A)
            np.testing.assert_allclose(sign, wanted[0], rtol=0, atol=limit)
            np.testing.assert_allclose(logabs, wanted[1], rtol=limit, atol=limit)

    return check


def factorisations(jaxpr):
    """The factorisations in a jaxpr."""
    names = [equation.primitive.name for equation in equations(jaxpr)]
    return [name for name in names if name in FACTORISATIONS]


def equations(jaxpr):
    """All equations in a jaxpr, and in those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=_is_jaxpr):
            if _is_jaxpr(value):
                yield from equations(getattr(value, "jaxpr", value))


def _is_jaxpr(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def adjoint(solver, state):
    return solver.conj(solver.transpose(state, {})[0], {})[0]


# of a state, and of the matrix
VIEWS = {
    "A": (lambda solver, state: state, lambda A: A),
    "Aᵀ": (lambda solver, state: solver.transpose(state, {})[0], lambda A: A.T),
    "Ā": (lambda solver, state: solver.conj(state, {})[0], lambda A: A.conj()),
    "Aᴴ": (adjoint, lambda A: A.conj().T),
}


@pytest.fixture
def obeys_laws(draw):
    """Every law of a direct solver on one matrix, against its pseudoinverse."""

    def check(solver, matrix, tags=()):
        dtype, m = matrix.dtype, len(matrix)
        eps = np.finfo(dtype).eps
        wide = np.complex128 if np.iscomplexobj(matrix) else np.float64
        views = VIEWS if np.iscomplexobj(matrix) else {k: VIEWS[k] for k in ("A", "Aᵀ")}

        def close(law, got, A, b):
            wanted = np.linalg.pinv(A.astype(wide), rcond=1e3 * eps) @ b.astype(wide)
            assert got.dtype == dtype, law
            scale = abs(wanted).max(initial=0) or 1
            error = abs(np.asarray(got) - wanted).max(initial=0)
            assert error <= 2000 * eps * scale, law

        def init(matrix):
            return solver.init(MatrixLinearOperator(matrix, tags), {})

        def solve(state, b):
            return solver.compute(state, b, {})[:2]

        # one operator, and a batch of operators
        scales = (1, 1) if "unit_diagonal" in repr(tags) else (1, 2)
        batch = np.stack([scale * matrix for scale in scales]).astype(dtype)
        several = draw(dtype, 3, m)

        @jax.jit
        def first(matrix, batch, vectors):
            each = jax.vmap(lambda A, b: solve(init(A), b)[0])(batch, vectors)
            return init(matrix), each

        state, each = first(matrix, batch, several[:2])
        for x, A, b in zip(np.asarray(each), batch, several):
            close("a batch of operators", x, A, b)
        twice = solver.transpose(solver.transpose(state, {})[0], {})[0]
        assert jax.tree.structure(twice) == jax.tree.structure(state)

        # from its state: every view, and a batch of vectors; nothing factorises again
        @jax.jit
        def then(state, vectors, several):
            one = {k: solve(turn(solver, state), vectors[k])
                   for k, (turn, _) in views.items()}  # fmt: skip
            return one, jax.vmap(lambda b: solve(state, b)[0])(several)

        vectors = {k: draw(dtype, len(turn(matrix))) for k, (_, turn) in views.items()}
        traced = then.trace(state, vectors, several)
        assert not factorisations(traced.jaxpr.jaxpr)
        for equation in equations(traced.jaxpr.jaxpr):  # vectors are columns
            if equation.primitive.name in ("triangular_solve", "ormqr"):
                assert equation.invars[0].aval.ndim == 2
        one, many = traced.lower().compile()(state, vectors, several)
        for k, (x, result) in one.items():
            assert result == RESULTS.successful, f"{k}: {RESULTS[result]}"
            close(k, x, views[k][1](matrix), vectors[k])
        for x, b in zip(np.asarray(many), several):
            close("a batch of vectors", x, matrix, b)

    return check
