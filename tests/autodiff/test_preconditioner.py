"""What iterative solvers make of `preconditioner=`."""

from importlib.util import find_spec
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest

N = 16
PSD = lo.positive_semidefinite_tag
SQUARE = [lxs.CG, lxs.BiCGStab, lxs.GMRES, lxs.FGMRES, lxs.MINRES]
ALL = [*SQUARE, lxs.LSMR, lxs.LSQR]
each = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
some = pytest.mark.parametrize("kind", [lxs.CG, lxs.GMRES, lxs.LSMR])
each_square = pytest.mark.parametrize("kind", SQUARE, ids=lambda kind: kind.__name__)


@pytest.fixture
def draw():
    return np.random.default_rng(7).standard_normal


@pytest.fixture
def scaled(draw):
    """A definite matrix of a condition number that Jacobi cures, and a vector."""
    S = np.diag(10.0 ** np.linspace(-2, 2, N))
    A = 4 * np.eye(N) + 0.2 * draw((N, N))
    return jnp.asarray(S @ (A + A.T) @ S), jnp.asarray(draw(N))


def solve(A, b, solver, tags=PSD, **given):
    return lxa.linear_solve(lo.MatrixLinearOperator(A, tags), b, solver, **given)


@each
def test_solution(kind, scaled):
    """Fewer steps, and the solution."""
    A, b = scaled
    solution = solve(A, b, kind(1e-9, 0.0, preconditioner=lxs.Jacobi()))
    if kind not in (lxs.LSMR, lxs.LSQR):  # κ² for these
        limit = 20 if kind is lxs.BiCGStab else 14
        assert solution.stats["num_steps"] <= limit
        plain = solve(A, b, kind(1e-9, 0.0, max_steps=limit), throw=False)
        assert plain.status == "max_steps_reached"
    wanted = np.linalg.solve(A, b)
    np.testing.assert_allclose(solution.value, wanted, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", [lxs.CG, lxs.GMRES])
def test_same_as_the_operator_in_options(kind, scaled):
    """The keyword does what the operator in `options` does, and that wins."""
    A, b = scaled
    d = jnp.diagonal(A)
    jacobi = lo.TaggedLinearOperator(lo.DiagonalLinearOperator(1 / d), PSD)
    identity = lo.IdentityLinearOperator(jax.ShapeDtypeStruct((N,), A.dtype))

    def steps(solver, M=None):
        options = {} if M is None else {"preconditioner": M}
        return int(solve(A, b, solver, options=options, throw=False).stats["num_steps"])

    ours = kind(1e-9, 0.0, preconditioner=lxs.Jacobi())
    assert steps(ours) == steps(kind(1e-9, 0.0), jacobi)
    assert steps(ours, identity) == steps(kind(1e-9, 0.0), identity)


@some
def test_state_is_reused(kind, scaled):
    A, b = scaled
    solver = kind(1e-9, 0.0, preconditioner=lxs.Jacobi())
    operator = lo.MatrixLinearOperator(A, PSD)
    state = eqx.filter_jit(solver.init)(operator, {})
    first = lxa.linear_solve(operator, b, solver, state=state)
    wanted = lxa.linear_solve(operator, b, solver)
    np.testing.assert_array_equal(first.value, wanted.value)


@pytest.mark.parametrize(
    "kind", [lxs.CG, lxs.GMRES, lxs.LSMR], ids=lambda k: k.__name__
)
def test_derivatives(kind, scaled):
    """Those of the solution, by preconditioned solves; none by the preconditioner."""
    A, b = scaled
    solver = kind(1e-11, 0.0, preconditioner=lxs.Jacobi())

    def loss(A, b):
        return jnp.sum(jnp.sin(solve(A, b, solver).value))

    dA, db = jax.grad(loss, argnums=(0, 1))(A, b)
    x = np.linalg.solve(A, b)
    λ = np.linalg.solve(A.T, np.cos(x))
    np.testing.assert_allclose(db, λ, rtol=1e-5, atol=1e-6 * abs(λ).max())
    outer = -np.outer(λ, x)
    np.testing.assert_allclose(dA, outer, rtol=1e-4, atol=1e-6 * abs(outer).max())


@pytest.mark.parametrize("kind", [lxs.BiCGStab, lxs.GMRES], ids=lambda k: k.__name__)
def test_transposed_and_conjugated(kind, draw):
    """The adjoint's solves are preconditioned as well: by Mᵀ and M̄ they take a step."""
    A = jnp.asarray(np.eye(N) + draw((N, N)) + 1j * draw((N, N)))
    b = jnp.asarray(draw(N) + 0j)
    solver = kind(1e-9, 0.0, preconditioner=lxs.LU())
    state = solver.init(lo.MatrixLinearOperator(A), {})
    views = {
        "T": (A.T, solver.transpose(state, {})),
        "conj": (A.conj(), solver.conj(state, {})),
        "H": (A.conj().T, solver.conj(*solver.transpose(state, {}))),
    }
    for B, (state, options) in views.values():
        x, _, stats = solver.compute(state, b, options)
        assert stats["num_steps"] <= 2
        np.testing.assert_allclose(x, np.linalg.solve(B, b), rtol=1e-8)


def test_negative_definite(scaled):
    A, b = scaled
    solver = lxs.CG(1e-9, 0.0, preconditioner=lxs.Jacobi())
    negative = solve(-A, b, solver, lo.negative_semidefinite_tag)
    positive = solve(A, b, solver)
    assert negative.stats["num_steps"] == positive.stats["num_steps"]
    np.testing.assert_allclose(negative.value, -positive.value, rtol=1e-12)


def test_normal_equations(draw):
    """The inner solver's preconditioner is that of AᴴA; transposed too."""
    A = jnp.asarray(draw((30, 12)) * 10.0 ** np.linspace(-3, 3, 12))
    b = jnp.asarray(draw(30))
    solver = lxs.Normal(lxs.CG(1e-10, 0.0, preconditioner=lxs.Jacobi()))
    solution = solve(A, b, solver, ())
    wanted = np.linalg.lstsq(A, b)[0]
    np.testing.assert_allclose(solution.value, wanted, rtol=1e-4)
    plain = lxs.Normal(lxs.CG(1e-10, 0.0, max_steps=30))
    assert solution.stats["num_steps"] < 30
    assert solve(A, b, plain, (), throw=False).status == "max_steps_reached"
    db = jax.grad(lambda b: solve(A, b, solver, ()).value.sum())(b)
    np.testing.assert_allclose(db, np.linalg.pinv(A).sum(0), rtol=1e-4)


def test_least_squares(draw):
    """Columns of one length: the scaling goes."""
    A = jnp.asarray(draw((30, 12)) * 10.0 ** np.linspace(-3, 3, 12))
    b = jnp.asarray(draw(30))
    solution = solve(A, b, lxs.LSMR(1e-10, 0.0, preconditioner=lxs.Jacobi()), ())
    assert solution.stats["num_steps"] < 40
    np.testing.assert_allclose(solution.value, np.linalg.lstsq(A, b)[0], rtol=1e-6)


@each_square
def test_direct_solver(kind, scaled):
    """A factorisation solves in a step or two."""
    A, b = scaled
    solution = solve(A, b, kind(1e-9, 0.0, preconditioner=lxs.Cholesky()))
    assert solution.stats["num_steps"] <= 2
    np.testing.assert_allclose(solution.value, np.linalg.solve(A, b), rtol=1e-8)


def test_iterative_solver(scaled):
    """With FGMRES alone; a few steps of it do."""
    A, b = scaled
    inner = lxs.CG(1e-2, 0.0, max_steps=4, preconditioner=lxs.Jacobi())
    solution = solve(A, b, lxs.FGMRES(1e-9, 0.0, preconditioner=inner))
    assert solution.stats["num_steps"] < 8
    np.testing.assert_allclose(solution.value, np.linalg.solve(A, b), rtol=1e-6)
    for kind in (lxs.CG, lxs.GMRES, lxs.MINRES, lxs.BiCGStab):
        with pytest.raises(ValueError, match="`FGMRES`"):
            solve(A, b, kind(preconditioner=inner))


@pytest.mark.parametrize("kind", [lxs.BiCGStab, lxs.GMRES, lxs.FGMRES])
@pytest.mark.parametrize("recipe", [lxs.Jacobi(), lxs.LU()], ids=repr)
def test_failure_has_a_name(kind, recipe):
    """A preconditioner that divides by zero ends the solve, and is not left out."""
    A = jnp.array([[0.0, 0.0], [1.0, 2.0]])
    solution = solve(A, jnp.ones(2), kind(preconditioner=recipe), (), throw=False)
    assert solution.status == "preconditioner_failed"


def test_iterative_failure_has_a_name():
    A = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    inner = lxs.BiCGStab(1e-2, 0.0)
    solver = lxs.FGMRES(preconditioner=inner)
    solution = solve(A, jnp.ones(2), solver, (), throw=False)
    assert solution.status == "preconditioner_failed"


def test_nonfinite_operator_and_vector(scaled):
    A, b = scaled
    solver = lxs.CG(preconditioner=lxs.Jacobi())
    broken = A.at[0, 0].set(jnp.nan)
    assert solve(broken, b, solver, throw=False).status == "nonfinite_input"
    b = b.at[0].set(jnp.inf)
    assert solve(A, b, solver, throw=False).status == "nonfinite_input"


def test_many_operators(scaled):
    A, b = scaled
    batch = jnp.stack([A, A + jnp.eye(N), 2 * A])
    solver = lxs.CG(1e-10, 0.0, preconditioner=lxs.Jacobi())
    xs = jax.vmap(lambda A: solve(A, b, solver).value)(batch)
    for A, x in zip(batch, xs):
        np.testing.assert_allclose(x, np.linalg.solve(A, b), rtol=1e-6)


class Reciprocal(lxs.AbstractPreconditioner):
    """The reciprocal diagonal; one tag, or none."""

    tag: Any = eqx.field(static=True)

    def init(self, operator, options):
        return 1 / lo.diagonal(operator)

    def apply(self, state, vector):
        return state * vector

    def transpose(self, state, options):
        return state, options

    def conj(self, state, options):
        return state.conj(), options

    def tags(self, operator):
        return self.tag


def test_one_tag_of_a_recipe(scaled):
    """Need not be in a set, also where recipes are combined."""
    A, b = scaled
    recipe = Reciprocal(PSD)
    deflated = lxs.Deflation(jnp.eye(N, 2), inner=recipe)
    for M in (recipe, lxs.Additive(recipe, recipe), deflated):
        assert solve(A, b, lxs.CG(1e-9, 0.0, preconditioner=M)).successful
    with pytest.raises(ValueError, match=r"got Reciprocal\(.*its method `tags`"):
        solve(A, b, lxs.CG(preconditioner=Reciprocal(())))


def test_bad_arguments(scaled):
    A, b = scaled
    operator = lo.MatrixLinearOperator(A, PSD)
    with pytest.raises(ValueError, match="belongs in `options="):
        lxs.CG(preconditioner=operator)
    with pytest.raises(ValueError, match=r"Make an instance: `Jacobi\(...\)`"):
        lxs.CG(preconditioner=lxs.Jacobi)
    with pytest.raises(ValueError, match=r"`Additive\(first, second\)`"):
        lxs.CG(preconditioner=[lxs.Jacobi(), lxs.Jacobi()])
    with pytest.raises(ValueError, match="must be known to be semidefinite"):
        lxs.CG(preconditioner=lxs.Jacobi()).init(lo.MatrixLinearOperator(A), {})
    with pytest.raises(ValueError, match="damping or a preconditioner"):
        solve(A, b, lxs.LSMR(damp=1.0, preconditioner=lxs.Jacobi()))
    with pytest.raises(ValueError, match="no such form"):
        solve(A[:, :3], b, lxs.LSQR(preconditioner=lxs.LU()), ())
    wide = lo.MatrixLinearOperator(A[:3])
    with pytest.raises(ValueError, match="square"):
        lxs.Jacobi().as_operator(wide)
    solver = lxs.LSMR(preconditioner=lxs.Jacobi())
    with pytest.raises(ValueError, match="no transposed solve"):
        solver.transpose(solver.init(wide, {}), {})


def test_no_derivative_of_the_recipe(scaled):
    """Arrays in a preconditioner are constants."""
    A, b = scaled

    class Diagonal(lxs.AbstractPreconditioner):
        inverse: jax.Array

        def init(self, operator, options):
            return self.inverse

        def apply(self, state, vector):
            return state * vector

        def transpose(self, state, options):
            return state, options

        def conj(self, state, options):
            return state, options

        def tags(self, operator):
            return frozenset((PSD,))

    def loss(d):
        solver = lxs.CG(1e-9, 0.0, preconditioner=Diagonal(1 / d))
        return jnp.sum(solve(A, b, solver).value)

    d = jnp.diagonal(A)
    value, slope = jax.value_and_grad(loss)(d)
    np.testing.assert_allclose(value, np.linalg.solve(A, b).sum(), rtol=1e-6)
    assert not np.any(slope)

    def moving(solver):
        return jnp.sum(solve(A, b, solver).value)

    solver = lxs.CG(1e-9, 0.0, preconditioner=Diagonal(1 / d))
    slope = eqx.filter_grad(moving)(solver)
    assert not np.any(slope.preconditioner.inverse)


@pytest.mark.skipif(find_spec("pyamg") is None, reason="needs pyamg")
def test_work_on_the_host(draw):
    """Parts of parts are set up before `linear_solve` compiles, smoothers and blocks
    included, and serve new values under `jit`."""
    n = 24
    A = np.diag(np.full(n, 2.0)) - np.eye(n, k=1) - np.eye(n, k=-1)
    sparse = lo.SparseLinearOperator.from_dense(jnp.asarray(A), PSD)
    b = jnp.asarray(draw(n))
    amg = lxs.AMG(smoother=lxs.SSOR(), max_coarse=4)
    solver = lxs.CG(1e-10, 0.0, preconditioner=amg)
    x = lxa.linear_solve(sparse, b, solver).value
    np.testing.assert_allclose(A @ x, b, atol=1e-8)

    ready = lxs.CG(1e-10, 0.0, preconditioner=amg.setup(sparse))
    later = jax.jit(
        lambda values: (
            lxa.linear_solve(
                lo.SparseLinearOperator(values, sparse.pattern, PSD), b, ready
            ).value
        )
    )
    np.testing.assert_allclose(later(4 * sparse.values), x / 4, rtol=1e-6)

    B = lo.MatrixLinearOperator(jnp.asarray(draw((3, n))))
    saddle = lo.BlockLinearOperator([[sparse, B.T], [B, None]])
    schur = lxs.SchurComplement(amg, form="diagonal")
    solver = lxs.MINRES(1e-10, 0.0, preconditioner=schur)
    vector = b, jnp.ones(3)
    x, y = lxa.linear_solve(saddle, vector, solver).value
    whole = np.linalg.solve(saddle.as_matrix(), np.concatenate(vector))
    np.testing.assert_allclose(np.concatenate([x, y]), whole, atol=1e-6)


def test_state_of_what_was_set_up(draw):
    """A state is reused without the work on the host."""
    A = np.diag(np.full(9, 2.0)) - np.eye(9, k=1) - np.eye(9, k=-1)
    sparse = lo.SparseLinearOperator.from_dense(jnp.asarray(A), PSD)
    b = jnp.asarray(draw(9))
    solver = lxs.CG(1e-10, 0.0, preconditioner=lxs.SSOR())
    first = lxa.linear_solve(sparse, b, solver)
    again = lxa.linear_solve(sparse, 2 * b, solver, state=first.state)
    np.testing.assert_allclose(again.value, 2 * first.value, rtol=1e-12)
