"""Storage and products of the methods that keep or share a space: as documented."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import lx_solvers as lxs
import numpy as np
import pytest

from .conftest import PSD, stable
from .counting import Counting

K = 3  # right-hand sides
# name -> the solver, tags, whether for many right-hand sides, vectors that it keeps
KINDS = {
    "GCRODR": lambda m, k: (
        lxs.GCRODR(1e-8, 0.0, restart=m, recycle=k),
        (),
        False,
        m + 2 * k + 5,
    ),
    "DeflatedCG": lambda m, k: (
        lxs.DeflatedCG(1e-8, 0.0, directions=m, recycle=k),
        PSD,
        False,
        2 * k + 2 * m + 5,
    ),
    "BlockCG": lambda m, k: (lxs.BlockCG(1e-8, 0.0), PSD, True, 5 * K),
    "BlockGMRES": lambda m, k: (
        lxs.BlockGMRES(1e-8, 0.0, restart=m),
        (),
        True,
        K * (m + 4),
    ),
}
every = pytest.mark.parametrize("kind", KINDS)


def loops(jaxpr):
    """All loops of a program, those inside of others too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            yield equation
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from loops(inner)


@every
@pytest.mark.parametrize(("m", "k"), [(12, 4), (9, 2)])
def test_storage(kind, m, k):
    """What the largest loop carries and closes over, and its product, is what the table
    of methods says; where a cycle is a loop inside of another, it is no more."""
    n = 10_000
    solver, tags, many, stored = KINDS[kind](m, k)
    structure = jax.ShapeDtypeStruct((n,), jnp.float64)
    operator = lo.FunctionLinearOperator(lambda x: 3 * x, structure, tags)
    state = solver.init(operator, {})

    def solve(b):
        return solver.compute(state, b, {})[0]

    if many:
        given = jax.ShapeDtypeStruct((K, n), jnp.float64)
        jaxpr = jax.make_jaxpr(jax.vmap(solve))(given)
    else:
        jaxpr = jax.make_jaxpr(solve)(structure)
    kept = []
    for loop in loops(jaxpr.jaxpr):
        inputs = loop.params["body_jaxpr"].jaxpr.invars
        kept.append(sum({id(v): v.aval.size for v in inputs}.values()) // n)
    products = K if many else 1
    assert max(kept) + products <= stored
    if kind != "GCRODR":
        assert max(kept) + products >= stored - 1


@every
def test_products(kind, rng):
    """A product a step, of all right-hand sides at once; one more for each cycle of
    those that have cycles; and at most three to begin and to check. A subspace from
    another system costs one product of all its vectors at once."""
    n, (solver, tags, many, _) = 32, KINDS[kind](8, 3)
    cycle = {"GCRODR": 8 - 3, "BlockGMRES": 8}.get(kind, np.inf)
    q = np.linalg.qr(rng.normal(size=(n, n)))[0]
    a = (q * np.geomspace(0.02, 1, n)) @ q.T
    b = jnp.asarray(rng.normal(size=(K, n)))
    tags = tags if isinstance(tags, tuple) else (tags,)
    operator = Counting(jnp.asarray((a + a.T) / 2), tags, [], [])

    def run(state, vector):
        operator.ran.clear()

        def solve(v):
            return solver.compute(state, v, {})

        x, result, stats = jax.jit(jax.vmap(solve) if many else solve)(vector)
        jax.effects_barrier()
        assert np.all(np.asarray(result == lxs.RESULTS.successful))
        steps, ran = int(np.max(stats["num_steps"])), len(operator.ran)
        assert steps < ran <= steps + np.ceil(steps / cycle) + 3
        return x, stats

    state = solver.init(operator, {})
    x, stats = run(state, b if many else b[0])
    np.testing.assert_allclose(a @ np.asarray(x).T, (b if many else b[0]).T, atol=1e-6)
    if many:
        return
    kept = solver.updated(state, stats)
    operator.ran.clear()
    fresh = solver.init(operator, {"recycle": kept})
    jax.effects_barrier()
    assert len(operator.ran) == 1
    run(fresh, b[1])


@pytest.mark.parametrize("kind", ["GCRODR", "DeflatedCG"])
def test_last_allowed_step(kind, rng):
    """A backward stable solution is a success where the method's own loop made all the
    steps that are allowed: its products say how large the operator is. Else it is
    not."""
    n, count = 16, 40
    limit = {"GCRODR": 17, "DeflatedCG": 60}[kind]
    more = {"GCRODR": {"restart": 20, "recycle": 3}}.get(kind, {"recycle": 3})
    solver = getattr(lxs, kind)(1e-15, 0.0, max_steps=limit, **more)
    tags = KINDS[kind](9, 2)[1]

    @jax.jit
    @jax.vmap
    def solve(a, b):
        operator = lo.MatrixLinearOperator(a, tags)
        x, result, stats = solver.compute(solver.init(operator, {}), b, {})
        return x, result == lxs.RESULTS.successful, stats["recycled_steps"]

    q = np.linalg.qr(rng.normal(size=(2, count, n, n)))[0]
    q[1] = q[0] if kind == "DeflatedCG" else q[1]
    sizes = np.stack([np.geomspace(1, 10**-c, n) for c in rng.uniform(1, 7, count)])
    a = q[0] * sizes[:, None] @ q[1].transpose(0, 2, 1)
    a = (a + a.transpose(0, 2, 1)) / 2 if kind == "DeflatedCG" else a
    b = rng.normal(size=(count, n))
    x, good, steps = map(np.asarray, solve(a, b))
    reached = np.array([stable(*each) for each in zip(a, x, b, strict=True)])
    at_the_end = (steps == limit) & reached
    assert at_the_end.sum() >= 5
    assert good[at_the_end].mean() > 0.9
    assert not (good & ~reached).any()
