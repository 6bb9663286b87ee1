"""Ends that the user decides: a stopping rule, one step at a time, and by the error."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_solvers.krylov.cg import CG

from .conftest import PSD, N
from .counting import traced_solve

pytestmark = pytest.mark.xdist_group("CG")


def system(rng):
    q = np.linalg.qr(rng.normal(size=(N, N)))[0]
    a = (q * np.linspace(1, 50, N)) @ q.T
    return (a + a.T) / 2, rng.normal(size=N)


@pytest.mark.parametrize("kind", [lxs.CG, lxs.GMRES, lxs.LSMR, lxs.LSQR])
def test_rule(rng, run, kind):
    """It sees ‖r‖, x and the number of steps, in the user's units; it ends in a status
    of its own, unless the residual passes too. GMRES asks at the end of a cycle."""
    a, b = system(rng)
    b, seen = 1e6 * b, []
    more = {"restart": 5} if kind is lxs.GMRES else {}

    def rule(size, x, step):
        jax.debug.callback(lambda *given: seen.append(given), size, x, step)
        return (step >= 5) & (size > 0)

    end = run(kind(1e-9, 0.0, **more), a, b, PSD, stop=rule)
    jax.effects_barrier()
    assert (end.result, end.steps) == ("stopped", 5)
    size, x, _ = next(given for given in seen if given[2] == 5)
    np.testing.assert_allclose(x, end.x)
    np.testing.assert_allclose(size, np.linalg.norm(b - a @ x), rtol=1e-6)
    more |= {"criterion": "two_norm"}
    passes = kind(1.01 * float(size) / np.linalg.norm(b), 0.0, **more)
    end = run(passes, a, b, PSD, stop=rule)
    assert (end.result, end.steps) == ("successful", 5)
    operator = lo.MatrixLinearOperator(jnp.eye(N), PSD)
    with pytest.raises(ValueError, match="'stop'.*function"):
        traced_solve(kind(1e-6), operator, {"stop": 3})


def test_rule_is_for_this_vector_alone():
    """Solves for derivatives, with other vectors, do not heed it."""
    operator = lo.MatrixLinearOperator(jnp.eye(3), PSD)
    options = {"stop": lambda size, x, step: True}
    for method in (CG(1e-6).transpose, CG(1e-6).conj):
        state = CG(1e-6).init(operator, options)
        assert "stop" not in method(state, options)[1]


@pytest.mark.parametrize("kind", [lxs.CG, lxs.MINRES, lxs.SYMMLQ])
def test_step_by_step(rng, kind):
    """All steps give what a solve gives; fewer of them, what a solve with that many
    does; and inside a loop of JAX's."""
    a, b = (jnp.asarray(z) for z in system(rng))
    operator, solver = lo.MatrixLinearOperator(a, PSD), kind(1e-9, 0.0)
    iteration = lxs.step_by_step(operator, b, solver)
    at, sizes = iteration.start(), []
    while at.running:
        at = iteration.step(at)
        sizes.append(float(iteration.residual_norm(at)))
    end = iteration.finish(at)
    state = solver.init(operator, {})
    x, _, stats = solver.compute(state, b, {})
    np.testing.assert_array_equal(end.value, x)
    np.testing.assert_array_equal(iteration.value(at), x)
    assert end.status == "successful"
    assert end.stats["num_steps"] == stats["num_steps"] == at.num_steps
    np.testing.assert_allclose(sizes[-1], np.linalg.norm(b - a @ x), rtol=1e-6)
    assert iteration.step(at).num_steps == at.num_steps

    @jax.jit
    def early():
        some = jax.lax.while_loop(
            lambda at: at.num_steps < 4,
            lambda at: iteration.step(at),
            iteration.start(),
        )
        return iteration.finish(some)

    end = early()
    assert end.status == "stopped"
    x, *_ = kind(0.0, 0.0, max_steps=4).compute(state, b, {})
    np.testing.assert_allclose(end.value, x, rtol=1e-12)
    with pytest.raises(ValueError, match="step_by_step.*GMRES"):
        lxs.step_by_step(operator, b, lxs.GMRES(1e-6))


def test_by_the_error(rng, run):
    """‖x - A⁻¹ b‖_A ≤ rtol ‖A⁻¹ b‖_A, at which the residual may be larger; and no
    sooner than need be. In far fewer steps than there are unknowns: after as many, the
    error drops to rounding at once, and the residual is then not the recurred one."""
    n = 200
    for values in (np.geomspace(0.02, 1, n), np.linspace(1, 3, n)):
        q = np.linalg.qr(rng.normal(size=(n, n)))[0]
        a = (q * values) @ q.T
        a, b = (a + a.T) / 2, rng.normal(size=n)
        exact = np.linalg.solve(a, b)

        def size(v, a=a):
            return np.sqrt(v @ a @ v)

        for rtol in (1e-2, 1e-5):
            solver = CG(rtol, 0.0, criterion="energy_norm", error_delay=4)
            x, result, steps, stats = run(solver, a, b, PSD)
            assert result == "successful"
            assert size(x - exact) <= rtol * size(exact)
            assert stats["energy_error"] <= rtol * size(exact)
            sooner = CG(0.0, 0.0, max_steps=steps - 6)
            assert size(run(sooner, a, b, PSD).x - exact) > 0.1 * rtol * size(exact)
    with pytest.raises(ValueError, match="criterion.*MINRES"):
        lxs.MINRES(1e-6, criterion="energy_norm")
