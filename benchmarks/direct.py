"""The direct solvers compared with the core of their work alone: Markdown tables.

    python benchmarks/direct.py [rank] [checks] [vectors] [tiny]

Without arguments all tables. All is compiled and in float64. The competitors of a row
are called in turn, so that what else the machine does falls on all of them alike; times
are the least, ratios those of the least times.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

jax.config.update("jax_enable_x64", True)

DEFINITE = lx.positive_semidefinite_tag
SECONDS = 2.0  # a row


def solve(solver: lx.AbstractLinearSolver, tags: Any = ()) -> Callable:
    """Factorise and solve for one vector."""

    def fn(matrix, vector):
        operator = lx.MatrixLinearOperator(matrix, tags)
        solution = lx.linear_solve(operator, vector, solver, throw=False)
        return solution.value, solution.result

    return fn


def solve_many(solver: lx.AbstractLinearSolver, tags: Any = ()) -> Callable:
    """Factorise once and solve for many vectors."""
    return jax.vmap(solve(solver, tags), (None, 0))


def substitute(T, b, **kwargs):
    return jax.lax.linalg.triangular_solve(T, b[:, None], left_side=True, **kwargs)[
        :, 0
    ]


def bare_lu(A, b):
    lu, _, permutation = jax.lax.linalg.lu(A)
    y = substitute(lu, b[permutation], lower=True, unit_diagonal=True)
    return substitute(lu, y)


def bare_qr(A, b):
    h, taus = jnp.linalg.qr(A, mode="raw")
    c = jax.lax.linalg.ormqr(h.T, taus, b[:, None], left=True, transpose=True)
    return substitute(h.T, c[:, 0])


def bare_cholesky(A, b):
    L = jax.lax.linalg.cholesky(A, symmetrize_input=False)
    return substitute(L, substitute(L, b, lower=True), lower=True, transpose_a=True)


def least_times(fns: dict[str, Callable], *args) -> dict[str, float]:
    compiled = {k: jax.jit(fn).lower(*args).compile() for k, fn in fns.items()}
    best = dict.fromkeys(fns, float("inf"))
    rounds, until = 0, time.perf_counter() + SECONDS
    while rounds < 5 or time.perf_counter() < until:
        rounds += 1
        for name, fn in compiled.items():
            start = time.perf_counter()
            jax.block_until_ready(fn(*args))
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def table(title: str, base: str, rows: dict[str, dict[str, float]]) -> None:
    names = list(next(iter(rows.values())))
    print(f"\n### {title}\n")
    print("| |", *(f"{name} |" for name in names))
    print("|---|", *("---:|" for _ in names))
    for row, times in rows.items():
        cells = (f"{1e3 * t:.3g} ms ({t / times[base]:.2f}) |" for t in times.values())
        print(f"| {row} |", *cells, flush=True)


def draw(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def rank() -> None:
    """Rank-deficient least squares."""
    fns = {"SVD": solve(lx.SVD()), "PivotedQR": solve(lx.PivotedQR())}
    low = draw(500, 400) @ draw(400, 500)
    rows = {"n = 500": least_times(fns, low, draw(500))}
    low = draw(1000, 50, 40) @ draw(1000, 40, 50)
    fns = {k: jax.vmap(fn) for k, fn in fns.items()}
    rows["1000 of n = 50"] = least_times(fns, low, draw(1000, 50))
    table("Rank-deficient least squares", "SVD", rows)


def checks() -> None:
    """The cost of checks for one vector, relative to bare factors and substitutions."""
    for name, bare, solver, tags in (
        ("LU", bare_lu, lx.LU(), ()),
        ("QR", bare_qr, lx.QR(), ()),
        ("Cholesky", bare_cholesky, lx.Cholesky(), DEFINITE),
    ):
        fns, rows = {"bare": bare, name: solve(solver, tags)}, {}
        for n in (100, 200, 500, 1000):
            A = draw(n, n) if name != "Cholesky" else draw(n, n) @ draw(n, n).T
            A = A + n * np.eye(n)
            rows[f"n = {n}"] = least_times(fns, A, draw(n))
        table(f"{name} and its checks", "bare", rows)


def vectors() -> None:
    """500 right-hand sides."""
    A = draw(500, 500)
    A = A @ A.T / 500 + np.eye(500)
    fns = {"jnp": lambda A, B: jnp.linalg.solve(A, B.T).T}
    for solver, tags in (
        (lx.LU(), ()),
        (lx.QR(), ()),
        (lx.Cholesky(), DEFINITE),
        (lx.PivotedQR(), ()),
        (lx.SVD(), ()),
        (lx.Eigh(), DEFINITE),
    ):
        fns[type(solver).__name__] = solve_many(solver, tags)
    rows = {"n = 500": least_times(fns, A, draw(500, 500))}
    table("500 right-hand sides", "jnp", rows)


def tiny() -> None:
    """Batches of tiny systems."""
    fns = {"jnp": jax.vmap(jnp.linalg.solve), "LU": jax.vmap(solve(lx.LU()))}
    rows = {}
    for n in (2, 3, 4, 6, 8):
        rows[f"n = {n}"] = least_times(fns, draw(100_000, n, n), draw(100_000, n))
    table("100 000 systems", "jnp", rows)


TABLES = {"rank": rank, "checks": checks, "vectors": vectors, "tiny": tiny}

if __name__ == "__main__":
    for name in sys.argv[1:] or TABLES:
        TABLES[name]()
