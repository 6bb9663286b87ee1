"""Preconditioners of other libraries for JAX, on the problems of `preconditioners.py`.

    python benchmarks/peer_preconditioners.py [SIZE]

Runs in an environment of its own that has amjax, solvax and pyamg, and not ours, and
prints rows for the tables there. A library that is not installed is left out.
"""

import importlib.util
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyamg  # pyright: ignore[reportMissingImports]

jax.config.update("jax_enable_x64", True)
RUNS = 5


def least(call: Any) -> float:
    """Milliseconds of CPU, all threads."""
    jax.block_until_ready(call())
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        jax.block_until_ready(call())
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def amjax_row(unknowns: int) -> None:
    """CG of JAX with a cycle of amjax, of pyamg's hierarchy."""
    import amjax  # pyright: ignore[reportMissingImports]
    from jax.experimental.sparse import BCSR

    k = round(unknowns**0.5)
    matrix = pyamg.gallery.poisson((k, k), format="csr")
    A: Any = BCSR.from_scipy_sparse(matrix)
    b = jnp.asarray(np.random.default_rng(0).standard_normal(k * k))
    hierarchy = pyamg.smoothed_aggregation_solver(matrix)
    smoother = ("jacobi", {"iterations": 2, "omega": 0.67})
    theirs = amjax.MultilevelSolver.from_pyamg(
        hierarchy, presmoother=smoother, postsmoother=smoother
    )
    M = theirs.aspreconditioner()

    def solve(b: Any, steps: int) -> Any:
        return jax.scipy.sparse.linalg.cg(
            lambda x: A @ x, b, tol=1e-8, M=M, maxiter=steps
        )[0]

    solve = jax.jit(solve, static_argnums=1)
    start = time.process_time()
    x = jax.block_until_ready(solve(b, 100))
    compiled = time.process_time() - start
    steps = next(
        m
        for m in range(5, 101)
        if np.linalg.norm(b - matrix @ solve(b, m)) <= 1.001e-8 * np.linalg.norm(b)
    )
    assert np.linalg.norm(b - matrix @ x) <= 1e-7 * np.linalg.norm(b)
    took = least(lambda: solve(b, 100))
    print(f"| amjax, JAX's `cg` | {steps} | {took:.3g} | {compiled:.1f} s to compile |")


def solvax_row(n: int = 5000) -> None:
    """Its Nyström preconditioner on the kernel matrix with noise."""
    import solvax  # pyright: ignore[reportMissingImports]

    t = np.random.default_rng(0).uniform(size=(n, 2))
    squares = ((t[:, None] - t) ** 2).sum(-1)
    K = jnp.asarray(np.exp(-squares / 0.5))
    b = jnp.asarray(np.random.default_rng(1).standard_normal(n))
    M = solvax.nystrom_preconditioner(
        lambda v: K @ v, n, 40, jax.random.key(0), mu=1e-2
    )
    got = solvax.pcg(lambda v: K @ v + 1e-2 * v, b, precond=M, rtol=1e-8)
    names = [
        name for name in ("num_steps", "iterations", "steps") if hasattr(got, name)
    ]
    print(f"| solvax, `nystrom_preconditioner` of rank 40 | {getattr(got, names[0])} |")


if __name__ == "__main__":
    if importlib.util.find_spec("amjax"):
        amjax_row(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
    if importlib.util.find_spec("solvax"):
        solvax_row()
