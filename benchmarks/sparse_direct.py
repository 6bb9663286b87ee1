"""Sparse direct solvers beside SciPy: the first solve, new values on a known pattern,
another vector, 16 vectors, a gradient, a batch of small systems.

    python benchmarks/sparse_direct.py [PATTERN] [--large] [--cpu]

Figures are milliseconds, the least of several runs, of CPU time (all threads together)
with `--cpu`, which other processes disturb less; what is compiled is compiled
beforehand. The last rows are MiB: on the host, of analysis and factors; and on the
device, of the state. Every solution is checked. Columns of peers that are not installed
(`klujax`, rslab) stay empty.
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
import scipy.sparse as sp
import scipy.sparse.linalg as spla

jax.config.update("jax_enable_x64", True)


def grid(*sizes: int) -> Any:
    """The Laplacian of a rectangle or a box."""
    out: Any = sp.csr_array((1, 1))
    for n in sizes:
        ones = np.ones(n - 1)
        offsets: Any = [-1, 0, 1]
        chain = sp.diags_array([-ones, 2 * np.ones(n), -ones], offsets=offsets)
        out = sp.kron(out, sp.eye_array(n)) + sp.kron(sp.eye_array(out.shape[0]), chain)
    return sp.csr_array(out)


def power_law(n: int) -> Any:
    """A graph's Laplacian plus the identity; a few vertices have most of the edges."""
    random = np.random.default_rng(0)
    i = random.integers(0, n, 3 * n)
    j = (n * random.random(3 * n) ** 3).astype(int)
    W = sp.coo_array((np.ones(3 * n), (i, j)), (n, n)).tocsr()
    W = W + W.T
    return sp.csr_array(sp.diags_array(W.sum(axis=1) + 1) - W)


def circuit(n: int) -> Any:
    """Unsymmetric, three entries a row, most of them near the diagonal."""
    random = np.random.default_rng(0)
    i = random.integers(0, n, 2 * n)
    j = (i + random.integers(-20, 20, 2 * n)) % n
    j[::50] = random.integers(0, n, j[::50].size)
    A = sp.coo_array((random.standard_normal(2 * n), (i, j)), (n, n))
    return sp.csr_array(A.tocsr() + 4 * sp.eye_array(n))


def helmholtz(n: int) -> Any:
    return sp.csr_array(grid(n, n) - (0.4 - 0.1j) * sp.eye_array(n * n))


MATRICES: dict[str, Callable[[], Any]] = {
    "2-D Poisson 1e4": lambda: grid(100, 100),
    "3-D Poisson 8e3": lambda: grid(20, 20, 20),
    "power law 3e3": lambda: power_law(3000),
    "circuit 1e4": lambda: circuit(10_000),
    "Helmholtz 4e3, complex": lambda: helmholtz(64),
}
LARGE = {"2-D Poisson 1e5": lambda: grid(316, 316)}
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


def klujax_cases(A: Any, b: np.ndarray) -> dict[str, float]:
    import klujax  # pyright: ignore[reportMissingImports]

    A = A.tocoo()
    i, j = (jnp.asarray(x, jnp.int32) for x in A.coords)
    values, vector = jnp.asarray(A.data), jnp.asarray(b)
    solve = jax.jit(klujax.solve)
    solve(i, j, values, vector)
    cases = {
        "first": least(lambda k: solve(i, j, (1 + k) * values, vector)),
        "16 vectors": least(
            lambda k: solve(i, j, values, jnp.stack(16 * [vector + k], axis=1))
        ),
    }
    return cases | {"new values": cases["first"], "vector": cases["first"]}


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
    pattern = next((x for x in sys.argv[1:] if not x.startswith("--")), "")
    matrices = MATRICES | (LARGE if "--large" in sys.argv else {})
    has_rslab = importlib.util.find_spec("rslab") is not None
    participants = {
        "SciPy": scipy_cases,
        "SuperLU": lambda A, b: our_cases(A, b, lx.SparseLU("superlu")),
    }
    if has_rslab:
        participants["rslab"] = lambda A, b: our_cases(A, b, lx.SparseLU("rslab"))
    if importlib.util.find_spec("klujax") is not None:
        participants["klujax"] = klujax_cases
    print("| matrix | case | " + " | ".join(participants) + " |")
    print("|---" * (2 + len(participants)) + "|")
    for name, make in matrices.items():
        if not re.search(pattern, name):
            continue
        A = make()
        b = np.random.default_rng(0).standard_normal(A.shape[0]).astype(A.dtype)
        figures = [cases(A, b) for cases in participants.values()]
        for case in CASES:
            cells = (f"{f[case]:.3g}" if case in f else "" for f in figures)
            print(f"| {name} | {case} | " + " | ".join(cells) + " |", flush=True)
    if re.search(pattern, "batch"):
        for who, figure in batch().items():
            print(f"64 systems of 100 unknowns, each: {who} {figure:.3g} ms")


if __name__ == "__main__":
    main()
