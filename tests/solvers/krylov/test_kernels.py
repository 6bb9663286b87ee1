"""What a pass of a loop launches, as XLA compiles it for a CPU."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS

from .conftest import METHODS, N

sys.path.append(str(Path(__file__).parents[3] / "benchmarks"))
kernels = pytest.importorskip("kernels")

# with the test whether to go on; and conditionals, for which a GPU waits for the host
MOST = {"CG": (12, 1), "BiCGStab": (15, 1), "MINRES": (19, 1), "GMRES": (24, 2)}
MOST |= {"LSMR": (26, 1)}


@pytest.mark.parametrize("key", MOST)
def test_kernels_of_a_pass(key):
    """No more than there are today; another XLA may make two more or less."""
    method = METHODS[key]
    solver = method.make(1e-8, 0.0)

    def solve(a, b):
        operator = lo.MatrixLinearOperator(a, method.tags)
        return solver.compute(solver.init(operator, {}), b, {})[0]

    shapes = (jax.ShapeDtypeStruct(shape, np.float64) for shape in ((N, N), (N,)))
    (loop,) = kernels.loops(jax.jit(solve).lower(*shapes).compile())
    kernels_of, conditionals = MOST[key]
    assert loop.kernels <= kernels_of + 2
    assert loop.conditionals == conditionals


@pytest.mark.parametrize("key", MOST)
def test_branches_of_a_batch(key):
    """A batch compares residuals with tolerances, and adds up a cycle's solution, only
    where some member asks for it, and gets what each member gets alone."""
    method = METHODS[key]
    solver = method.make(1e-8, 0.0)

    def solve(a, b):
        operator = lo.MatrixLinearOperator(a, method.tags)
        x, result, stats = solver.compute(solver.init(operator, {}), b, {})
        return x, result == RESULTS.successful, stats["num_steps"]

    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, N, N)) / N**0.5
    a = a @ a.mT + np.array([1.0, 0.1, 10.0])[:, None, None] * np.eye(N)
    b = rng.normal(size=(3, N))
    compiled = jax.jit(jax.vmap(solve)).lower(a, b).compile()
    (loop,) = kernels.loops(compiled)
    assert loop.conditionals == MOST[key][1]
    for k, (x, good, steps) in enumerate(zip(*compiled(a, b), strict=True)):
        alone, succeeded, count = jax.jit(solve)(a[k], b[k])
        assert good and succeeded
        assert abs(steps - count) <= 1
        np.testing.assert_allclose(x, alone, rtol=1e-6, atol=1e-6)


def test_counts_what_runs():
    """Two kernels a pass, one in a branch, and one conditional, of a loop made so."""

    def step(x):
        x = jnp.sin(jax.lax.optimization_barrier(jnp.cos(x)))
        return jax.lax.cond(x[0] > 0.5, jnp.exp, lambda x: x, x)

    def loop(x):
        return jax.lax.while_loop(lambda x: x[1] > 0, step, x)

    compiled = jax.jit(loop).lower(jnp.ones(8)).compile()
    (found,) = kernels.loops(compiled)
    assert found.conditionals == 1
    assert found.branches == 1
    assert 2 <= found.kernels <= 5  # with the two predicates
