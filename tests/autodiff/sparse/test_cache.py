"""What is kept on the host: found by content, bounded, made again, shared by threads
and processes."""

import pickle
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
import pytest
from lx_autodiff import linear_solve

SOLVER = lx.SparseLU("superlu")


def operators(count, n=30, seed=0):
    """Matrices of one pattern."""
    random = np.random.default_rng(seed)
    mask = (random.random((n, n)) < 0.1) | np.eye(n, dtype=bool)
    pattern = lxo.SparsityPattern.from_dense(mask)
    diagonal = np.asarray(pattern.rows == pattern.columns)
    return [
        lxo.SparseLinearOperator(
            random.standard_normal(pattern.size) + 5 * diagonal, pattern
        )
        for _ in range(count)
    ]


def check(operator, solution, b):
    wanted = np.linalg.solve(operator.as_matrix(), b)
    np.testing.assert_allclose(solution.value, wanted, rtol=1e-10)


def test_new_values_share_the_analysis():
    for operator in operators(3):
        linear_solve(operator, jnp.ones(30), SOLVER)
    info = lx.sparse_cache.info()
    assert info.items == 4 and info.misses == 4  # one analysis, three matrices
    linear_solve(operator, 2 * jnp.ones(30), SOLVER)
    assert lx.sparse_cache.info().misses == 4


def test_content_counts_not_identity():
    (operator,), (again,) = operators(1), operators(1)
    linear_solve(operator, jnp.ones(30), SOLVER)
    misses = lx.sparse_cache.info().misses
    linear_solve(again, jnp.ones(30), SOLVER)
    assert lx.sparse_cache.info().misses == misses
    one_off = lxo.SparseLinearOperator(again.values.at[3].add(1e-14), again.pattern)
    linear_solve(one_off, jnp.ones(30), SOLVER)
    assert lx.sparse_cache.info().misses > misses


def test_factors_are_rebuilt():
    (operator,) = operators(1)
    state = SOLVER.init(operator, {})
    lx.sparse_cache.clear()
    solution = linear_solve(operator, jnp.arange(30.0), SOLVER, state=state)
    check(operator, solution, np.arange(30.0))
    assert lx.sparse_cache.info().misses


def test_bounded():
    """A thousand matrices of many patterns: never more than the bound, and every
    solution right."""
    lx.sparse_cache.resize(100_000)
    most = 0
    solve = jax.jit(lambda A, b: linear_solve(A, b, SOLVER, throw=False).value)
    for seed in range(20):
        for operator in operators(50, seed=seed, n=12):
            x = solve(operator, jnp.ones(12))
            most = max(most, lx.sparse_cache.info().bytes)
        np.testing.assert_allclose(operator.as_matrix() @ x, np.ones(12), atol=1e-8)
    info = lx.sparse_cache.info()
    assert most <= 100_000 and info.dropped > 100 and info.bytes <= info.max_bytes
    lx.sparse_cache.resize(0)
    assert lx.sparse_cache.info().items <= 1  # the newest


def test_bad_bound():
    with pytest.raises(ValueError, match="max_bytes"):
        lx.sparse_cache.resize(-1)


def test_threads():
    """Eight threads on few matrices, with a cache too small for all of them."""
    lx.sparse_cache.resize(60_000)
    made = operators(6)
    wanted = [np.linalg.solve(A.as_matrix(), np.ones(30)) for A in made]
    solve = jax.jit(lambda A, b: linear_solve(A, b, SOLVER, throw=False).value)
    solve(made[0], jnp.ones(30))
    wrong = []

    def work(k):
        for i in range(20):
            x = solve(made[(i + k) % 6], jnp.ones(30))
            if not np.allclose(x, wanted[(i + k) % 6], rtol=1e-10):
                wrong.append((k, i))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


OTHER = """
import pickle, sys
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import lx_solvers as lx
from lx_autodiff import linear_solve
operator, state = pickle.load(open(sys.argv[1], "rb"))
mine = lx.SparseLU("superlu").init(operator, {})
assert (mine.digest == state.digest).all()
lx.sparse_cache.clear()
solution = linear_solve(operator, jnp.ones(30), lx.SparseLU("superlu"), state=state)
print(*map(repr, solution.value.tolist()))
"""


def test_another_process(tmp_path):
    """A pickled state solves where its factors have never been, and equal matrices have
    equal digests there."""
    (operator,) = operators(1)
    state = SOLVER.init(operator, {})
    path = tmp_path / "state"
    path.write_bytes(pickle.dumps((operator, state)))
    done = subprocess.run(
        [sys.executable, "-c", OTHER, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    here = linear_solve(operator, jnp.ones(30), SOLVER, state=state).value
    assert [float(x) for x in done.stdout.split()] == here.tolist()


SHARDED = """
import os
os.environ["JAX_NUM_CPU_DEVICES"] = "2"
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
from jax.sharding import AxisType, PartitionSpec
from lx_autodiff import linear_solve

A = np.stack([4 * np.eye(5) + (1 + k) * np.eye(5, k=1) for k in range(2)])
pattern = lxo.SparsityPattern.from_dense(A[0])
values = jnp.asarray(A[:, pattern.rows, pattern.columns])

def solve(values, b):
    A = lxo.SparseLinearOperator(values[0], pattern)
    return linear_solve(A, b[0], lx.SparseLU("superlu"), throw=False).value[None]

def both(values, b):
    return solve(values, b), jax.grad(lambda v: jnp.sum(solve(v, b)))(values)

spec = PartitionSpec("i")
mesh = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,))
both = jax.shard_map(both, mesh=mesh, in_specs=(spec, spec), out_specs=spec)
x, gradient = jax.jit(both)(values, jnp.ones((2, 5)))
for k in range(2):
    wanted = np.linalg.solve(A[k], np.ones(5))
    np.testing.assert_allclose(x[k], wanted, rtol=1e-12)
    adjoint = np.linalg.solve(A[k].T, np.ones(5))
    wanted = -adjoint[pattern.rows] * wanted[pattern.columns]
    np.testing.assert_allclose(gradient[k], wanted, rtol=1e-12)
"""


def test_each_device_its_own_system():
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_programs():
    """A state goes through `scan`, `cond`, `checkpoint` and copies."""
    (operator,) = operators(1)
    state = SOLVER.init(operator, {})
    inverse = np.linalg.inv(operator.as_matrix())

    def step(x, _):
        return linear_solve(operator, x, SOLVER, state=state).value, None

    @jax.jit
    def run(x):
        x, _ = jax.lax.scan(jax.checkpoint(step), x, length=3)
        return jax.lax.cond(x[0] > 1e9, lambda x: x, lambda x: step(x, None)[0], x)

    wanted = np.linalg.matrix_power(inverse, 4)
    np.testing.assert_allclose(run(jnp.ones(30)), wanted @ np.ones(30), rtol=1e-10)
    gradient = jax.grad(lambda x: run(x).sum())(jnp.ones(30))
    np.testing.assert_allclose(gradient, wanted.T @ np.ones(30), rtol=1e-10)


def test_batches_of_batches():
    """Vectors and values in nested batches, in any order of axes."""
    made = operators(6)
    values = jnp.stack([A.values for A in made]).reshape(2, 3, -1)
    pattern = made[0].pattern
    vectors = jnp.asarray(np.random.default_rng(1).standard_normal((4, 30, 3)))

    def one(values, b):
        A = lxo.SparseLinearOperator(values, pattern)
        return linear_solve(A, b, SOLVER, throw=False).value

    over_vectors = jax.vmap(one, (None, 0))
    over_both = jax.vmap(over_vectors, (0, 2), 1)  # [4, 3, 30]
    nested = jax.jit(jax.vmap(over_both, (0, None)))
    x = nested(values, vectors)
    for i in range(2):
        for j in range(3):
            A = made[3 * i + j].as_matrix()
            wanted = np.linalg.solve(A, np.asarray(vectors[:, :, j]).T).T
            np.testing.assert_allclose(x[i, :, j], wanted, rtol=1e-9)
