"""Preconditioners compared with pyamg and SciPy: Markdown tables.

    python benchmarks/preconditioners.py [TABLE]... [SIZE]... [--write JSON]

TABLE is amg, elasticity, incomplete, kernel or problems; without one all are printed.
SIZE is the number of unknowns of the table amg (100000). Iterations are exact. Times
are the least of several runs, and, but for those of the table problems, of CPU in all
threads, which depend less on what else the machine does. Everything is compiled and in
float64, to a relative residual of 1e-8. With `--write` the convergence in the table
problems is kept in a file, which `docs/pictures/preconditioners.py` draws.
`peer_preconditioners.py` runs others.
"""

import argparse
import json
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
    """Milliseconds of CPU of each, all threads, the least of several runs in turn."""
    times = {name: np.inf for name in calls}
    for call in calls.values():
        jax.block_until_ready(call())
    for _ in range(RUNS):
        for name, call in calls.items():
            start = time.process_time()
            jax.block_until_ready(call())
            times[name] = min(times[name], time.process_time() - start)
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


def spilu_steps(matrix: Any, rhs: Any) -> tuple[int, float, float]:
    """Iterations of SciPy's BiCGStab with its incomplete LU factors, which are not
    symmetric, and milliseconds of CPU of the solve and of the set-up."""
    from scipy.sparse.linalg import LinearOperator, bicgstab, spilu

    start = time.process_time()
    factors = spilu(matrix.tocsc(), drop_tol=1e-3, fill_factor=5)
    set_up = time.process_time() - start
    M, count = LinearOperator(matrix.shape, factors.solve), [0]

    def counted(_: Any) -> None:
        count[0] += 1

    start = time.process_time()
    bicgstab(matrix, rhs, rtol=1e-8, maxiter=2000, M=M, callback=counted)
    return count[0], 1e3 * (time.process_time() - start), 1e3 * set_up


def amg(unknowns: int = 100_000) -> None:
    """CG with AMG and pyamg's own accelerated solve, with the same hierarchy."""
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
    if unknowns <= 200_000:
        row("SciPy, `bicgstab` with `spilu`", *spilu_steps(matrix, rhs))
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


def elasticity(k: int = 100) -> None:
    """Plane linear elasticity: with the rigid body modes and without."""
    matrix, modes = pyamg.gallery.linear_elasticity((k, k))
    A = lx.SparseLinearOperator.from_scipy(scipy.sparse.csr_matrix(matrix), PSD)
    b = jnp.asarray(np.random.default_rng(0).standard_normal(A.in_size()))
    print(f"\nPlane elasticity, {A.in_size()} unknowns\n")
    row("preconditioner", "steps")
    row(*2 * ["---"])
    for name, recipe in (
        ("`Jacobi()`", lx.Jacobi()),
        ("`AMG()`", lx.AMG()),
        ("`AMG(block_size=2)`", lx.AMG(block_size=2)),
        (
            "`AMG(block_size=2, near_null_space=modes)`",
            lx.AMG(block_size=2, near_null_space=modes),
        ),
    ):
        row(name, steps(cg(recipe), A, b))
    theirs = pyamg.smoothed_aggregation_solver(matrix, B=modes)
    residuals: list[float] = []
    theirs.solve(np.asarray(b), tol=1e-8, accel="cg", residuals=residuals)
    row("pyamg with the modes, `accel='cg'`", len(residuals) - 1)


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


def stencil(k: int, diffusion: Any, wind: Any) -> Any:
    """-∇·(c ∇u) + w·∇u on a square of k by k points: five points, upwind.

    Args:
        k: points a side.
        diffusion: c of the edges along both axes, as a function of their middles.
        wind: w, constant.
    """
    h = 1 / (k + 1)
    index = np.arange(k * k).reshape(k, k)
    rows, columns, values = [], [], []
    diagonal = np.zeros((k, k))
    t = h * np.arange(1, k + 1)
    x, y = np.meshgrid(t, t, indexing="ij")
    for axis in (0, 1):
        for step in (-1, 1):
            at = [x, y]
            at[axis] = at[axis] + step * h / 2
            c = diffusion(axis, *at) / h**2 + max(-step * wind[axis], 0) / h
            diagonal += c
            near = np.roll(index, -step, axis)
            edge = np.moveaxis(np.ones((k, k), bool), axis, 0)
            edge[-1 if step > 0 else 0] = False
            inside = np.moveaxis(edge, 0, axis)
            rows.append(index[inside])
            columns.append(near[inside])
            values.append(-c[inside])
    rows, columns, values = (
        np.concatenate([*part, last])
        for part, last in (
            (rows, index.ravel()),
            (columns, index.ravel()),
            (values, diagonal.ravel()),
        )
    )
    shape = (k * k, k * k)
    return scipy.sparse.csr_matrix((h**2 * values, (rows, columns)), shape=shape)


def _problems() -> Any:
    """Names, operators, preconditioners and solvers of five problems."""
    k, patches = 48, 12
    grid = np.arange(k) // (k // patches)
    subdomain = (patches * grid[:, None] + grid).ravel()
    W = np.eye(patches**2)[subdomain]

    def jumps(axis: int, x: Any, y: Any) -> Any:
        return np.where((np.floor(4 * x) + np.floor(4 * y)) % 2 < 1, 1.0, 1000.0)

    def anisotropic(axis: int, x: Any, y: Any) -> Any:
        return np.full_like(x, 1.0 if axis else 0.01)

    def constant(axis: int, x: Any, y: Any) -> Any:
        return np.ones_like(x)

    def recipes(size: int, blocks: Any, vectors: Any, **near: Any) -> dict[str, Any]:
        return {
            "none": None,
            "Jacobi": lx.Jacobi(),
            "BlockJacobi": lx.BlockJacobi(size),
            "Chebyshev": lx.Chebyshev(4, scaled=True),
            "SSOR": lx.SSOR(),
            "IncompleteCholesky": lx.IncompleteCholesky(),
            "Deflation": lx.Deflation(blocks=blocks),
            "TwoLevel": lx.TwoLevel(vectors, lx.Chebyshev(3, ratio=8.0, scaled=True)),
            "Additive": lx.Additive(lx.Deflation(blocks=blocks), lx.BlockJacobi(size)),
            "AMG": lx.AMG(**near),
        }

    definite = recipes(k, subdomain, W)
    for name, c in (("Poisson with jumps", jumps), ("anisotropic", anisotropic)):
        matrix = stencil(k, c, (0.0, 0.0))
        yield name, lx.SparseLinearOperator.from_scipy(matrix, PSD), definite
    matrix = stencil(k, constant, (40.0, 20.0))
    flow = {
        "none": None,
        "Jacobi": lx.Jacobi(),
        "BlockJacobi": lx.BlockJacobi(k),
        "GaussSeidel": lx.GaussSeidel(),
        "SSOR": lx.SSOR(),
        "IncompleteLU": lx.IncompleteLU(),
        "Deflation": lx.Deflation(blocks=subdomain),
        "TwoLevel": lx.TwoLevel(W, lx.GaussSeidel()),
        "Multiplicative": lx.Multiplicative(lx.GaussSeidel(), lx.BlockJacobi(k)),
        "AMG": lx.AMG(smoother=lx.GaussSeidel()),
    }
    A = lx.SparseLinearOperator.from_scipy(matrix)
    yield "convection-diffusion", A, flow
    k, patches = 32, 8
    matrix, modes = pyamg.gallery.linear_elasticity((k, k))
    grid = np.arange(k) // (k // patches)
    subdomain = np.repeat((patches * grid[:, None] + grid).ravel(), 2)
    subdomain = 2 * subdomain + np.tile([0, 1], k * k)
    local = np.concatenate(
        [mode[:, None] * np.eye(patches**2)[subdomain // 2] for mode in modes.T], axis=1
    )
    near = dict(block_size=2, near_null_space=modes)
    A = lx.SparseLinearOperator.from_scipy(scipy.sparse.csr_matrix(matrix), PSD)
    yield "elasticity", A, recipes(2, subdomain, local, **near)
    n, noise = 1500, 1e-2
    t = np.random.default_rng(0).uniform(size=(n, 2))
    t = t[np.argsort(np.floor(8 * t[:, 0]) * 8 + np.floor(8 * t[:, 1]))]
    squares = ((t[:, None] - t) ** 2).sum(-1)
    K = np.exp(-squares / 0.1) + noise * np.eye(n)
    cells = np.floor(8 * t[:, 0]).astype(int) * 8 + np.floor(8 * t[:, 1]).astype(int)
    yield (
        "kernel with noise",
        lx.MatrixLinearOperator(jnp.asarray(K), PSD),
        {
            "none": None,
            "Jacobi": lx.Jacobi(),
            "BlockJacobi": lx.BlockJacobi(100),
            "Chebyshev": lx.Chebyshev(4),
            "Deflation": lx.Deflation(blocks=cells),
            "TwoLevel": lx.TwoLevel(np.eye(64)[cells], lx.Chebyshev(3)),
            "Additive": lx.Additive(lx.Deflation(blocks=cells), lx.BlockJacobi(100)),
            "PivotedCholesky": lx.PivotedCholesky(60, noise),
            "Nystrom": lx.Nystrom(60, noise),
            "Nystrom, adaptive": lx.Nystrom(shift=noise),
        },
    )


def problems(path: str | None) -> None:
    """Ten preconditioners on each of five problems."""
    kept = {}
    for name, A, recipes in _problems():
        kind: Any = lx.CG if lx.is_positive_semidefinite(A) else lx.GMRES
        more: Any = {} if kind is lx.CG else {"restart": 60}
        solver = kind(1e-8, 0.0, criterion="two_norm", max_steps=400, **more)
        b = jnp.asarray(np.random.default_rng(0).standard_normal(A.in_size()))
        comparison = lx.compare(A, b, recipes, solver)
        print(f"\n{name}, {A.in_size()} unknowns, `{kind.__name__}`\n")
        row("preconditioner", "steps", "host, ms", "set-up, ms", "solve, ms", "status")
        row(*6 * ["---"])
        kept[name] = {}
        for each in comparison.trials:
            times = (1e3 * t for t in (each.host, each.init, each.compute))
            row(f"`{each.name}`", each.steps, *times, each.status)
            r = each.residuals
            history = [float(f"{x:.2e}") for x in r / r[0]] if r.size else []
            kept[name][each.name] = history
    if path is not None:
        with open(path, "w") as file:
            json.dump(kept, file, separators=(",", ":"))
            file.write("\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*")
    parser.add_argument("--write")
    given = parser.parse_args()
    wanted = [word for word in given.tables if not word.isdigit()]
    if not wanted or "amg" in wanted:
        sizes = [int(word) for word in given.tables if word.isdigit()] or [100_000]
        for size in sizes:
            amg(size)
    for table in (elasticity, incomplete, kernel):
        if not wanted or table.__name__ in wanted:
            table()
    if not wanted or "problems" in wanted:
        problems(given.write)
