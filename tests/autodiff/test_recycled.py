"""Methods that keep a subspace from one system to the next."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers.krylov.cg import CG
from lx_solvers.krylov.deflated_cg import DeflatedCG
from lx_solvers.krylov.gcrodr import GCRODR
from lx_solvers.krylov.gmres import GMRES

PSD = lo.positive_semidefinite_tag
N, SYSTEMS = 60, 5
# name -> the method, the one without a memory, tags
KINDS = {
    "GCRODR": (GCRODR(1e-8, 0.0, restart=16, recycle=6), GMRES(1e-8, 0.0, restart=16)),
    "DeflatedCG": (DeflatedCG(1e-8, 0.0, recycle=6), CG(1e-8, 0.0)),
}
TAGS = {"GCRODR": (), "DeflatedCG": PSD}


def matrices(name, dtype=np.float64):
    """A slowly changing matrix with six small eigenvalues, and vectors."""
    rng = np.random.default_rng(3)

    def draw(*shape):
        x = rng.normal(size=shape)
        if np.issubdtype(dtype, np.complexfloating):
            x = x + 1j * rng.normal(size=shape)
        return x

    values = np.r_[np.geomspace(1e-3, 1e-2, 6), np.linspace(1, 2, N - 6)]
    q, _ = np.linalg.qr(draw(N, N))
    a = (q * values) @ q.conj().T
    change = np.diag(np.linspace(0, 1e-4, N))
    if name == "GCRODR":
        a = a + 0.1 * np.triu(draw(N, N), 1) / N**0.5
    steps = np.stack([a + k * change for k in range(SYSTEMS)])
    return steps.astype(dtype), draw(SYSTEMS, N).astype(dtype)


@eqx.filter_jit
def sequence(solver, a, b, tags):
    """By `scan`, each system with the subspace of the last one."""

    def operator(matrix):
        return lo.MatrixLinearOperator(matrix, tags)

    def step(state, given):
        matrix, vector = given
        options = {} if state is None else {"recycle": state}
        end = lxa.linear_solve(
            operator(matrix), vector, solver, options=options, throw=False
        )
        state = None if state is None else end.state
        return state, (end.value, end.result, end.stats["num_steps"])

    keeps = hasattr(solver, "updated")
    first = solver.init(operator(a[0]), {}) if keeps else None
    return jax.lax.scan(step, first, (a, b))[1]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_scan(name, dtype):
    """From the second system on, less than two thirds of the products of the same
    method that starts anew, and of the method without a memory; and as good."""
    (solver, other), tags = KINDS[name], TAGS[name]
    tol = 1e-3 if dtype == "float32" else 1e-8
    solver, other = (eqx.tree_at(lambda s: s.rtol, s, tol) for s in (solver, other))
    a, b = matrices(name, np.dtype(dtype))
    x, result, steps = sequence(solver, jnp.asarray(a), jnp.asarray(b), tags)
    assert (result == lxs.RESULTS.successful).all()
    left = np.abs(b - np.einsum("kij,kj->ki", a, x)).max(1)
    assert (left <= 2 * tol * np.abs(b).max(1)).all()
    _, _, alone = sequence(other, jnp.asarray(a), jnp.asarray(b), tags)
    steps, alone = np.asarray(steps), np.asarray(alone)
    products = steps[1:] + solver.recycle
    assert products.sum() < 2 / 3 * alone[1:].sum(), (products, alone)
    if name == "GCRODR":
        assert (products < 2 / 3 * steps[0]).all(), (products, steps[0])


@pytest.mark.parametrize("name", KINDS)
def test_state(name):
    """The state of a solution serves the same operator, at no product; carries no
    derivative; and stays as it was for many right-hand sides."""
    (solver, _), tags = KINDS[name], TAGS[name]
    a, b = (jnp.asarray(z) for z in matrices(name))
    operator = lo.MatrixLinearOperator(a[0], tags)

    def solve(b, **more):
        return lxa.linear_solve(operator, b, solver, throw=False, **more)

    first = solve(b[0])
    U, C = np.asarray(first.state.U), np.asarray(first.state.C)
    np.testing.assert_allclose(C, U @ a[0].T, atol=1e-9)
    np.testing.assert_allclose(C @ C.T, np.eye(6), atol=1e-9)
    again = solve(b[1], state=first.state)
    assert again.status == "successful"
    assert again.stats["num_steps"] < solve(b[1]).stats["num_steps"]
    vector = jax.lax.complex(b[1], b[2])
    with jax.numpy_dtype_promotion("standard"):
        both = lxa.linear_solve(operator, vector, solver, state=first.state)
    np.testing.assert_array_equal(both.state.U, U)  # of two solves: stays as it was
    many = solve(b, rhs_axis=0, state=first.state)
    assert (many.result == lxs.RESULTS.successful).all()
    np.testing.assert_array_equal(many.state.U, U)

    def loss(b):
        solution = solve(b, state=first.state)
        return jnp.sum(solution.value**2) + jnp.sum(solution.state.U) ** 2

    wanted = 2 * np.linalg.solve(a[0].T, np.linalg.solve(a[0], b[1]))
    np.testing.assert_allclose(
        jax.grad(loss)(b[1]), wanted, atol=1e-5 * abs(wanted).max()
    )


def test_adjoint_has_its_own_space():
    """None, unless the operator is symmetric or Hermitian, or one is given."""
    solver, _ = KINDS["GCRODR"]
    a, b = matrices("GCRODR")
    A, AT = a[0], a[0].T
    for tags, matrix, kept in (
        ((), A, False),
        (lo.symmetric_tag, (A + AT) / 2, True),
        (lo.hermitian_tag, (A + AT + 1j * (A - AT)) / 2, True),
    ):
        operator = lo.MatrixLinearOperator(jnp.asarray(matrix), tags)
        vector = jnp.asarray(b[0].astype(matrix.dtype))
        state = lxa.linear_solve(operator, vector, solver).state
        transposed, options = solver.transpose(state, {"recycle": state})
        assert options == {}
        assert bool(np.any(transposed.U)) == kept
        if kept:
            image = np.asarray(transposed.U) @ matrix  # rows
            np.testing.assert_allclose(transposed.C, image, atol=1e-8)
    operator, b = lo.MatrixLinearOperator(jnp.asarray(A)), jnp.asarray(b)
    left = lxa.linear_solve(operator.T, b[0], solver).state

    def loss(b):
        adjoint = {"recycle": left}
        x = lxa.linear_solve(operator, b, solver, adjoint_options=adjoint).value
        return jnp.sum(x**2)

    wanted = 2 * np.linalg.solve(AT, np.linalg.solve(A, b[1]))
    np.testing.assert_allclose(
        jax.grad(loss)(b[1]), wanted, atol=1e-5 * abs(wanted).max()
    )


@pytest.mark.parametrize("name", KINDS)
def test_hard_cases(name):
    """A vector in the image of the subspace, zeros, one unknown, a bad guess, a
    subspace of another operator, and a preconditioner."""
    (solver, _), tags = KINDS[name], TAGS[name]
    a, b = (jnp.asarray(z) for z in matrices(name))
    operator = lo.MatrixLinearOperator(a[0], tags)

    def solve(b, operator=operator, **more):
        return lxa.linear_solve(operator, b, solver, throw=False, **more)

    state = solve(b[0]).state
    end = solve(state.C[0], state=state)
    assert (end.status, int(end.stats["num_steps"])) == ("successful", 0)
    end = solve(0 * b[0], state=state)
    assert not end.value.any()
    end = solve(b[1], options={"y0": 1e30 * b[0]})
    assert end.status == "successful"
    far = lo.MatrixLinearOperator(jnp.eye(N), tags)
    end = solve(b[1], far, options={"recycle": state})
    np.testing.assert_allclose(end.value, b[1], atol=1e-7)
    one = lo.MatrixLinearOperator(jnp.full((1, 1), 4.0), tags)
    np.testing.assert_allclose(solve(jnp.ones(1), one).value, 0.25)
    singular = lo.MatrixLinearOperator(0 * a[0], tags)
    end = solve(b[0], singular, options={"recycle": state})
    assert end.status != "successful"
    with pytest.raises(ValueError, match="recycle.*another|recycle.*must be"):
        solver.init(operator, {"recycle": jnp.ones((6, N))})
    M = jnp.linalg.inv(a[1])
    M = lo.MatrixLinearOperator((M + M.T) / 2 if tags else M, tags)
    end = solve(b[0], options={"preconditioner": M, "recycle": state})
    assert end.status == "successful"
    assert end.stats["num_steps"] <= 4


def test_demands():
    with pytest.raises(ValueError, match="recycle.*GCRODR"):
        GCRODR(1e-6, restart=5, recycle=5)
    with pytest.raises(ValueError, match="recycle.*DeflatedCG"):
        DeflatedCG(1e-6, recycle=0)
    with pytest.raises(ValueError, match="positive_semidefinite_tag"):
        DeflatedCG(1e-6).init(lo.MatrixLinearOperator(jnp.eye(2)), {})
    small = GCRODR(1e-6, restart=4, recycle=2)
    state = small.init(lo.MatrixLinearOperator(jnp.eye(5)), {})
    with pytest.raises(ValueError, match="subspace of shape"):
        GCRODR(1e-6).init(lo.MatrixLinearOperator(jnp.eye(5)), {"recycle": state})


@pytest.mark.parametrize("name", KINDS)
def test_gradients_through_scan_in_batches(name):
    """Gradients of a sequence that keeps its subspaces, for the adjoint too, are those
    of dense solves, in `jit` of `vmap`."""
    rng, n, systems = np.random.default_rng(4), 8, 3
    tags = TAGS[name]
    solver = KINDS[name][0].__class__(1e-12, 0.0, recycle=2)
    a, change = rng.normal(size=(2, n, n)), rng.normal(size=(n, n))
    a = a @ a.transpose(0, 2, 1) + np.eye(n) if tags else a + 4 * np.eye(n)
    change = 0.1 * (change @ change.T if tags else change)
    b = rng.normal(size=(2, systems, n))

    def ours(a, b):
        def operator(k):
            return lo.MatrixLinearOperator(a + k * change, tags)

        start = lxa.linear_solve(operator(0), b[0], solver).state
        left = lxa.linear_solve(operator(0).T, b[0], solver).state

        def step(state, given):
            k, vector = given
            end = lxa.linear_solve(
                operator(k),
                vector,
                solver,
                options={"recycle": state},
                adjoint_options={"recycle": left},
                throw=False,
            )
            return end.state, jnp.sum(jnp.sin(end.value))

        return jnp.sum(
            jax.lax.scan(step, start, (jnp.arange(systems, dtype=float), b))[1]
        )

    def dense(a, b):
        each = lambda k, v: jnp.linalg.solve(a + k * change, v)  # noqa: E731
        return jnp.sum(jnp.sin(jax.vmap(each)(jnp.arange(systems, dtype=float), b)))

    def gradients(f):
        by_a, by_b = jax.jit(jax.vmap(jax.grad(f, (0, 1))))(*map(jnp.asarray, (a, b)))
        return (by_a + by_a.transpose(0, 2, 1) if tags else by_a), by_b

    for x, y in zip(gradients(ours), gradients(dense), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-8 * np.abs(y).max())
