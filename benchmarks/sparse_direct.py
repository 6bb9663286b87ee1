"""Sparse direct solvers and SciPy: the first solve, new values on a known pattern,
another vector, 16 vectors, a gradient, a batch of small systems.

    python benchmarks/sparse_direct.py [PATTERN] [--large] [--cpu] [--peer PYTHON]…

Figures are milliseconds, the least of several runs, of CPU time (all threads together)
with `--cpu`, which other processes disturb less; what is compiled is compiled
beforehand. The last rows are MiB: on the host, of analysis and factors; and on the
device, of the state. Every solution is checked. rslab has a column where it is
installed; splineax, solvax and klujax where an environment that has them is named
(`peer_sparse.py`).
"""

import importlib.util
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse.linalg as spla
from peer_sparse import of_peers
from sparse_matrices import LARGE, SYSTEMS, circuit

jax.config.update("jax_enable_x64", True)
CASES = (
    "first",
    "new values",
    "vector",
    "16 vectors",
    "gradient",
    "MiB on the host",
    "MiB of the state",
)


def least(fn: Callable[[int], Any], repeats: int = 5) -> float:
    """Milliseconds of the fastest of several runs, each with a number of its own."""
    clock = time.process_time if "--cpu" in sys.argv else time.perf_counter
    times = []
    for k in range(repeats):
        start = clock()
        jax.block_until_ready(fn(k))
        times.append(clock() - start)
    return 1e3 * min(times)


def scipy_cases(A: Any, b: np.ndarray) -> dict[str, float]:
    A = A.tocsc()
    lu = spla.splu(A)
    B = np.stack(16 * [b], axis=1)
    return {
        "first": least(lambda k: spla.spsolve((1 + k) * A, b)),
        "new values": least(lambda k: spla.spsolve((1 + k) * A, b)),
        "vector": least(lambda k: lu.solve(b + k)),
        "16 vectors": least(lambda k: lu.solve(B + k)),
    }


def our_cases(A: Any, b: np.ndarray, solver: Any) -> dict[str, float]:
    operator = lx.SparseLinearOperator.from_scipy(A)
    pattern = operator.pattern
    vector, many = jnp.asarray(b), jnp.stack(16 * [jnp.asarray(b)], axis=1)

    @jax.jit
    def solve(values, b):
        A = lx.SparseLinearOperator(values, pattern)
        return lx.linear_solve(A, b, solver, throw=False).value

    @jax.jit
    def gradient(values, b):
        return jax.value_and_grad(lambda v: jnp.sum(jnp.abs(solve(v, b)) ** 2))(values)

    @jax.jit
    def again(state, b):
        return lx.linear_solve(operator, b, solver, state=state, throw=False).value

    @jax.jit
    def columns(state, B):
        options = {"state": state, "throw": False, "rhs_axis": 1}
        return lx.linear_solve(operator, B, solver, **options).value

    def first(k):
        lx.sparse_cache.clear()
        return solve((1 + k) * operator.values, vector)

    x = solve(operator.values, vector)
    residual = np.max(np.abs(A @ np.asarray(x) - b))
    assert residual <= 1e-8 * np.max(np.abs(b)), residual
    lx.sparse_cache.clear()
    state = lx.linear_solve(operator, vector, solver).state
    on_host = lx.sparse_cache.info().bytes
    arrays = [x for x in jax.tree.leaves(state) if hasattr(x, "nbytes")]
    jax.block_until_ready((again(state, vector), columns(state, many)))
    jax.block_until_ready(gradient(operator.values, vector))
    return {
        "first": least(first),
        "new values": least(lambda k: solve((9 + k) * operator.values, vector)),
        "vector": least(lambda k: again(state, vector + k)),
        "16 vectors": least(lambda k: columns(state, many + k)),
        "gradient": least(lambda k: gradient((19 + k) * operator.values, vector)),
        "MiB on the host": on_host / 2**20,
        "MiB of the state": sum(x.nbytes for x in arrays) / 2**20,
    }


def batch(count: int = 64, n: int = 100) -> dict[str, float]:
    """Milliseconds for each of many small systems of one pattern."""
    A = circuit(n)
    operator = lx.SparseLinearOperator.from_scipy(A)
    pattern, b = operator.pattern, jnp.ones(n)

    def solve(values):
        A = lx.SparseLinearOperator(values, pattern)
        return lx.linear_solve(A, b, lx.SparseLU(), throw=False).value

    many = jax.jit(jax.vmap(solve))
    scales = jnp.arange(1.0, count + 1)[:, None]
    many(scales * operator.values)
    ours = least(lambda k: many((scales + k) * operator.values)) / count
    matrices = [float(s) * A.tocsc() for s in range(1, count + 1)]
    host = least(lambda k: [spla.splu(M).solve(np.ones(n)) for M in matrices]) / count
    return {"ours": ours, "SciPy in a loop": host}


def main() -> None:
    words = [y for x, y in zip(sys.argv, sys.argv[1:]) if x != "--peer"]
    pattern = next((x for x in words if not x.startswith("--")), "")
    matrices = SYSTEMS | (LARGE if "--large" in sys.argv else {})
    has_rslab = importlib.util.find_spec("rslab") is not None
    participants = {
        "SciPy": scipy_cases,
        "SuperLU": lambda A, b: our_cases(A, b, lx.SparseLU("superlu")),
    }
    if has_rslab:
        participants["rslab"] = lambda A, b: our_cases(A, b, lx.SparseLU("rslab"))
    peers = of_peers(sys.argv, "systems", pattern)
    others = sorted({who for found in peers.values() for who in found})
    print("| matrix | case | " + " | ".join([*participants, *others]) + " |")
    print("|---" * (2 + len(participants) + len(others)) + "|")
    for name, make in matrices.items():
        if not re.search(pattern, name):
            continue
        A = make()
        b = np.random.default_rng(0).standard_normal(A.shape[0]).astype(A.dtype)
        figures = [cases(A, b) for cases in participants.values()]
        figures += [peers.get(name, {}).get(who, {}) for who in others]
        for case in CASES:
            cells = (f"{f[case]:.3g}" if case in f else "" for f in figures)
            print(f"| {name} | {case} | " + " | ".join(cells) + " |", flush=True)
    if re.search(pattern, "batch"):
        for who, figure in batch().items():
            print(f"64 systems of 100 unknowns, each: {who} {figure:.3g} ms")


if __name__ == "__main__":
    main()
