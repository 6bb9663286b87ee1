"""Preconditioners beside pyamg and SciPy: Markdown tables.

    python benchmarks/preconditioners.py [amg SIZE] [incomplete] [kernel]

Without arguments all tables. Steps are exact, times are the least of several runs,
those of one table in turn, so that what else the machine does falls on all alike.
Everything is compiled and in float64, to a relative residual of 1e-8.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pyamg
import scipy.sparse

jax.config.update("jax_enable_x64", True)

PSD = lx.positive_semidefinite_tag
RUNS = 5


def least(**calls: Callable) -> dict[str, float]:
    """Milliseconds of each, the least of several runs in turn."""
    times = {name: np.inf for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(RUNS):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[name] = min(times[name], time.perf_counter() - start)
    return {name: 1e3 * seconds for name, seconds in times.items()}


def poisson(k: int) -> tuple[Any, lx.SparseLinearOperator]:
    matrix = scipy.sparse.csr_matrix(pyamg.gallery.poisson((k, k), format="csr"))
    return matrix, lx.SparseLinearOperator.from_scipy(matrix, PSD)


def cg(recipe: Any) -> lx.CG:
    return lx.CG(1e-8, 0.0, criterion="two_norm", preconditioner=recipe)


init = eqx.filter_jit(lambda solver, A: solver.init(A, {}))
compute = eqx.filter_jit(lambda solver, state, b: solver.compute(state, b, {}))


def steps(solver: lx.AbstractLinearSolver, A: Any, b: Any) -> int:
    solver = solver.setup(A)
    _, result, stats = compute(solver, init(solver, A), b)
    assert result == lx.RESULTS.successful
    return int(stats["num_steps"])


def row(*cells: Any) -> None:
    shown = (f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells)
    print("| " + " | ".join(shown) + " |")


def amg(unknowns: int = 100_000) -> None:
    """CG with AMG beside pyamg's own accelerated solve, of the same hierarchy."""
    k = round(unknowns**0.5)
    matrix, A = poisson(k)
    rhs = np.random.default_rng(0).standard_normal(k * k)
    b = jnp.asarray(rhs)
    solver = cg(lx.AMG().setup(A))
    theirs = pyamg.smoothed_aggregation_solver(matrix)

    def solved_by_pyamg() -> tuple[Any, int]:
        residuals: list[float] = []
        x = theirs.solve(rhs, tol=1e-8, accel="cg", residuals=residuals)
        return x, len(residuals) - 1

    start = time.process_time()
    state = init(solver, A)
    _, _, stats = jax.block_until_ready(compute(solver, state, b))
    compiled = time.process_time() - start
    one = eqx.filter_jit(lambda state, r: state.preconditioner.mv(r))
    product = eqx.filter_jit(lambda A, x: A.mv(x))
    laid_out = eqx.filter_jit(lx.linearise)(A)
    times = least(
        solve=lambda: compute(solver, state, b),
        pyamg=lambda: solved_by_pyamg()[0],
        again=lambda: init(solver, A),
        setup=lambda: pyamg.smoothed_aggregation_solver(matrix) and 0,
        cycle=lambda: one(state, b),
        product=lambda: product(laid_out, b),
    )
    print(f"\n2-D Poisson, {k * k} unknowns\n")
    row("", "steps", "solve, ms", "set-up, ms")
    row(*4 * ["---"])
    steps = int(stats["num_steps"])
    row("`CG(AMG())`, set up again", steps, times["solve"], times["again"])
    row("pyamg, `accel='cg'`", solved_by_pyamg()[1], times["pyamg"], times["setup"])
    ratios = times["solve"] / times["pyamg"], times["again"] / times["setup"]
    row("ratio", "", *ratios)
    print(
        f"\nTo compile and run once: {compiled:.1f} s of a core. A cycle: "
        f"{times['cycle']:.3g} ms; a product: {times['product']:.3g} ms."
    )


def incomplete() -> None:
    """Multicolour preconditioners, with the cost of one application in products."""
    _, A = poisson(300)
    b = jnp.ones(A.in_size())
    laid_out = eqx.filter_jit(lx.linearise)(A)
    apply = eqx.filter_jit(lambda A, x: A.mv(x))
    print("\n2-D Poisson, 90000 unknowns\n")
    row("preconditioner", "steps", "one application, in products")
    row(*3 * ["---"])
    for recipe in (
        lx.Jacobi(),
        lx.Chebyshev(4),
        lx.SSOR(),
        lx.IncompleteCholesky(),
        lx.IncompleteCholesky(0.9),
    ):
        ready: Any = recipe.setup(A)
        M = eqx.filter_jit(lambda recipe, A: recipe.as_operator(A))(ready, A)
        times = least(M=lambda M=M: apply(M, b), A=lambda: apply(laid_out, b))
        row(f"`{recipe!r}`", steps(cg(ready), A, b), times["M"] / times["A"])


def kernel(n: int = 5000) -> None:
    """Gaussian kernel matrices with noise."""
    t = np.random.default_rng(0).uniform(size=(n, 2))
    squares = ((t[:, None] - t) ** 2).sum(-1)
    A = lx.MatrixLinearOperator(
        jnp.asarray(np.exp(-squares / 0.5) + 1e-2 * np.eye(n)), PSD
    )
    b = jnp.asarray(np.random.default_rng(1).standard_normal(n))
    print(f"\nGaussian kernel with noise, n = {n}\n")
    row("preconditioner", "steps")
    row(*2 * ["---"])
    for recipe in (None, lx.Nystrom(40, 1e-2), lx.PivotedCholesky(40, 1e-2)):
        row(f"`{recipe!r}`", steps(cg(recipe), A, b))


if __name__ == "__main__":
    wanted = sys.argv[1:]
    if not wanted or "amg" in wanted:
        sizes = [int(word) for word in wanted if word.isdigit()] or [100_000]
        for size in sizes:
            amg(size)
    if not wanted or "incomplete" in wanted:
        incomplete()
    if not wanted or "kernel" in wanted:
        kernel()
