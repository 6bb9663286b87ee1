"""`setup`: a solver's work on the host, before anything is compiled."""

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
import scipy.sparse as sp
from lx_solvers.internal import slogdet_of

RNG = np.random.default_rng(3)
M = RNG.standard_normal((3, 3)) + 4 * np.eye(3)
B = RNG.standard_normal(3)
SEEN = []  # what each call of `setup` was given: values, or None for a tracer


class Ordered(lxs.AbstractLinearSolver):
    """Sorts the rows by their first element on the host, and asks for that order."""

    order: jax.Array | None = None

    def setup(self, operator):
        matrix = operator.as_matrix()
        if isinstance(matrix, jax.core.Tracer):
            SEEN.append(None)
            return self
        SEEN.append(np.asarray(matrix))
        return Ordered(jnp.asarray(np.argsort(SEEN[-1][:, 0])))

    def init(self, operator, options):
        if self.order is None:
            raise ValueError("not set up")
        inner = lxo.MatrixLinearOperator(operator.as_matrix()[self.order])
        return self.order, lxs.LU().init(inner, {})

    def compute(self, state, vector, options):
        order, inner = state
        return lxs.LU().compute(inner, vector[order], options)

    def transpose(self, state, options):
        raise NotImplementedError

    def conj(self, state, options):
        return state, options

    def assume_full_rank(self):
        return True


@slogdet_of.register
def _(state: tuple):
    order, inner = state
    sign, logabsdet = slogdet_of(inner)
    turns = jnp.linalg.det(jnp.eye(3, dtype=sign.dtype)[order])
    return sign * jnp.round(turns), logabsdet


@pytest.fixture(autouse=True)
def _none_seen():
    SEEN.clear()


def solve(matrix, vector=B, **kwargs):
    operator = lxo.MatrixLinearOperator(jnp.asarray(matrix))
    return lxa.linear_solve(operator, jnp.asarray(vector), Ordered(), **kwargs)


def test_eager_calls_see_values_once():
    solution = solve(M)
    np.testing.assert_allclose(solution.value, np.linalg.solve(M, B))
    assert len(SEEN) == 1
    np.testing.assert_array_equal(SEEN[0], M)


def test_a_state_is_not_set_up_again():
    state = solve(M).state
    again = solve(M, 2 * B, state=state)
    np.testing.assert_allclose(again.value, 2 * np.linalg.solve(M, B))
    assert len(SEEN) == 1


def test_eager_derivatives_see_values():
    def loss(matrix):
        return solve(matrix).value.sum()

    _, tangent = jax.jvp(loss, (jnp.asarray(M),), (jnp.ones((3, 3)),))
    inverse = np.linalg.inv(M)
    truth = -(inverse @ np.ones((3, 3)) @ inverse @ B).sum()
    np.testing.assert_allclose(tangent, truth)
    np.testing.assert_array_equal(SEEN[0], M)


def test_traced_values_arrive_as_tracers():
    with pytest.raises(ValueError, match="not set up"):
        jax.jit(lambda matrix: solve(matrix).value)(jnp.asarray(M))
    assert SEEN == [None]


def test_what_is_closed_over_has_values_within_jit():
    operator = lxo.MatrixLinearOperator(jnp.asarray(M))
    x = jax.jit(lambda b: lxa.linear_solve(operator, b, Ordered()).value)(B)
    np.testing.assert_allclose(x, np.linalg.solve(M, B))


def test_invert_and_slogdet():
    operator = lxo.MatrixLinearOperator(jnp.asarray(M))
    inverse = lxa.invert(operator, Ordered())
    for b in np.eye(3):
        np.testing.assert_allclose(inverse.mv(jnp.asarray(b)), np.linalg.solve(M, b))
    assert len(SEEN) == 1
    sign, log = lxa.slogdet(operator, Ordered())
    np.testing.assert_allclose((sign, log), np.linalg.slogdet(M))
    assert len(SEEN) == 2


def test_implicit():
    def residual(x, b):
        return jnp.asarray(M) @ x - b

    root = lxa.implicit(residual, lambda b: jnp.linalg.solve(M, b), Ordered())
    b = jnp.asarray(B)
    _, tangent = jax.jvp(root, (b,), (b,))
    np.testing.assert_allclose(tangent, np.linalg.solve(M, B))


def test_the_adjoint_solver_is_set_up_with_the_transpose():
    def loss(b):
        operator = lxo.MatrixLinearOperator(jnp.asarray(M))
        x = lxa.linear_solve(operator, b, lxs.LU(), adjoint_solver=Ordered()).value
        return x.sum()

    gradient = jax.grad(loss)(jnp.asarray(B))
    np.testing.assert_allclose(gradient, np.linalg.solve(M.T, np.ones(3)))
    assert len(SEEN) == 1
    np.testing.assert_array_equal(SEEN[0], M.T)


class Scale(eqx.Module):
    """A preconditioner that counts its set-ups."""

    count: int = 0

    def setup(self, operator):
        return Scale(self.count + 1)


class WithPreconditioner(lxs.AbstractLinearSolver):
    """LU, with a field that is set up and must carry no tangent."""

    preconditioner: eqx.Module

    def init(self, operator, options):
        if isinstance(self.preconditioner, Scale):
            assert self.preconditioner.count == 1
        return lxs.LU().init(operator, options)

    def compute(self, state, vector, options):
        return lxs.LU().compute(state, vector, options)

    def transpose(self, state, options):
        return lxs.LU().transpose(state, options)

    def conj(self, state, options):
        return lxs.LU().conj(state, options)

    def assume_full_rank(self):
        return True


def test_a_preconditioner_is_set_up():
    operator = lxo.MatrixLinearOperator(jnp.asarray(M))
    solver = WithPreconditioner(Scale())
    x = lxa.linear_solve(operator, jnp.asarray(B), solver).value
    np.testing.assert_allclose(x, np.linalg.solve(M, B))


class Array(eqx.Module):
    array: jax.Array

    def setup(self, operator):
        return self


def test_a_preconditioner_carries_no_tangent():
    operator = lxo.MatrixLinearOperator(jnp.asarray(M))

    def loss(factor):
        solver = WithPreconditioner(Array(factor))
        return lxa.linear_solve(operator, jnp.asarray(B), solver).value.sum()

    assert jax.grad(loss)(2.0) == 0


@pytest.mark.parametrize("recipe", [lxs.AMG(max_coarse=20), lxs.AutoPreconditioner()])
def test_other_values_are_not_compiled_again(recipe):
    """A set-up from other values of one pattern differs in arrays alone, also where
    there are many levels: what is static would be a part of the compiled solve."""
    grid = sp.kronsum(*[sp.diags_array([2.1] * 40) - sp.eye_array(40, k=1)] * 2)
    pattern = lxo.SparsityPattern.from_scipy(grid + grid.T)
    solver = lxs.CG(1e-6, 0.0, preconditioner=recipe)
    values = jnp.asarray((grid + grid.T).tocsr().data)

    def static(values):
        tag = lxo.positive_semidefinite_tag
        ready = solver.setup(lxo.SparseLinearOperator(values, pattern, tag))
        return eqx.partition(ready, eqx.is_array)[1]

    noise = 1 + 1e-3 * RNG.random(values.shape)
    assert static(values) == static(values * noise)
