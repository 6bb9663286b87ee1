"""How time and memory grow with the number of unknowns.

    python benchmarks/scaling.py                 every solver: half an hour
    python benchmarks/scaling.py --only "LU|CG"  those that match
    python benchmarks/scaling.py --write         also `docs/evidence/scaling.md`
    python benchmarks/scaling.py --keep FILE     go on from what was measured before

Each solver runs in a process of its own, from small to large. The time is the least
of a compiled solve, factorisation or set-up included (of a Krylov method, of one step).
The memory is what the process holds at its peak beyond what it held before the first
problem, the problem included. The exponent p of time ~ nᵖ is fitted to the three
largest sizes, that of memory to the two largest.
"""

import argparse
import json
import math
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse as sp
from structured import best

jax.config.update("jax_enable_x64", True)
PAGE = Path(__file__).parents[1] / "docs" / "evidence" / "scaling.md"
PSD = lx.positive_semidefinite_tag
STEPS = 20


class Series(NamedTuple):
    """A solver on ever larger problems, and the exponents that theory has for it."""

    group: str
    problem: Callable[[int], tuple[lx.AbstractLinearOperator, Any]]
    solver: lx.AbstractLinearSolver
    sizes: tuple[int, ...]
    time: float
    memory: float
    steps: int = 1


def vector(*shape: int):
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape))


def definite(n):
    x = np.random.default_rng(0).standard_normal((n, n))
    return lx.MatrixLinearOperator(jnp.asarray(x + x.T + 4 * n**0.5 * np.eye(n)), PSD)


def square(n):
    return lx.MatrixLinearOperator(definite(n).matrix), vector(n)


def semidefinite(n):
    return definite(n), vector(n)


def lower(n):
    matrix = jnp.tril(definite(n).matrix)
    return lx.MatrixLinearOperator(matrix, lx.lower_triangular_tag), vector(n)


def diagonal(n):
    return lx.DiagonalLinearOperator(2 + jnp.abs(vector(n))), vector(n)


def tridiagonal(n):
    off = -jnp.ones(n - 1)
    return lx.TridiagonalLinearOperator(2.5 * jnp.ones(n), off, off), vector(n)


def pentadiagonal(n):
    bands = jnp.tile(jnp.asarray([[-1.0], [-1.0], [5.0], [-1.0], [-1.0]]), (1, n))
    return lx.BandedLinearOperator(bands, 2, 2), vector(n)


def toeplitz(n):
    column = 0.5 ** jnp.arange(n)
    return lx.TaggedLinearOperator(lx.ToeplitzLinearOperator(column), PSD), vector(n)


def circulant(n):
    return lx.CirculantLinearOperator(0.5 ** jnp.arange(n)), vector(n)


def kronecker(n):
    k = math.isqrt(n)
    part = definite(k)
    operator = lx.KroneckerLinearOperator(part, part)
    return operator, jnp.ones(jax.tree.leaves(operator.out_structure())[0].shape)


def side(n: int) -> int:
    return round(n**0.5)


def stencil(u):
    """-Δu + u/10, zero outside the grid."""
    v = jnp.pad(u, 1)
    around = v[2:, 1:-1] + v[:-2, 1:-1] + v[1:-1, 2:] + v[1:-1, :-2]
    return 4.1 * u - around


def matrix_free(n):
    structure = jax.ShapeDtypeStruct((side(n), side(n)), jnp.float64)
    operator = lx.FunctionLinearOperator(stencil, structure, PSD)
    return operator, vector(*structure.shape)


def sparse(n):
    ones = np.ones(side(n))
    offsets: Any = (-1, 0, 1)
    line: Any = sp.diags_array([-ones[1:], 2.05 * ones, -ones[1:]], offsets=offsets)
    matrix = sp.csr_array(sp.kronsum(line, line))
    operator = lx.SparseLinearOperator.from_scipy(matrix, PSD)
    return operator, vector(operator.out_size())


DENSE = (10, 30, 100, 300, 1000, 2000, 4000)
LINEAR = (1_000, 10_000, 100_000, 1_000_000)
LONG = (*LINEAR, 10_000_000)
FIXED = {"rtol": 0.0, "atol": 0.0, "max_steps": STEPS}
SERIES = {
    "LU": Series("dense", square, lx.LU(), DENSE, 3, 2),
    "Cholesky": Series("dense", semidefinite, lx.Cholesky(), DENSE, 3, 2),
    "QR": Series("dense", square, lx.QR(), DENSE, 3, 2),
    "PivotedQR": Series("dense", square, lx.PivotedQR(), DENSE[:-2], 3, 2),
    "SVD": Series("dense", square, lx.SVD(), DENSE[:-2], 3, 2),
    "Eigh": Series("dense", semidefinite, lx.Eigh(), DENSE[:-2], 3, 2),
    "Triangular": Series("dense", lower, lx.Triangular(), DENSE, 2, 2),
    "Diagonal": Series("structured", diagonal, lx.Diagonal(), LONG, 1, 1),
    "Tridiagonal": Series("structured", tridiagonal, lx.Tridiagonal(), LINEAR, 1, 1),
    "Banded": Series("structured", pentadiagonal, lx.Banded(), LINEAR, 1, 1),
    "Circulant": Series("structured", circulant, lx.Circulant(), LINEAR, 1, 1),
    "Toeplitz": Series("structured", toeplitz, lx.Toeplitz(), DENSE, 2, 1),
    "Kronecker": Series(
        "structured", kronecker, lx.Kronecker(lx.Cholesky()), LINEAR, 1.5, 1
    ),
    "CG": Series("Krylov", matrix_free, lx.CG(**FIXED), LONG, 1, 1, STEPS),
    "MINRES": Series("Krylov", matrix_free, lx.MINRES(**FIXED), LONG, 1, 1, STEPS),
    "BiCGStab": Series("Krylov", matrix_free, lx.BiCGStab(**FIXED), LONG, 1, 1, STEPS),
    "GMRES": Series("Krylov", matrix_free, lx.GMRES(**FIXED), LONG, 1, 1, STEPS),
    "LSMR": Series("Krylov", matrix_free, lx.LSMR(**FIXED), LONG, 1, 1, STEPS),
    "CG with Jacobi": Series(
        "Krylov",
        sparse,
        lx.CG(**FIXED, preconditioner=lx.Jacobi()),
        LINEAR,
        1,
        1,
        STEPS,
    ),
    "CG with AMG": Series(
        "sparse", sparse, lx.CG(1e-8, 0.0, preconditioner=lx.AMG()), LINEAR, 1, 1
    ),
    "CG with IncompleteCholesky": Series(
        "sparse",
        sparse,
        lx.CG(1e-8, 0.0, preconditioner=lx.IncompleteCholesky()),
        LINEAR,
        1,
        1,
    ),
    "SparseCholesky": Series(
        "sparse", sparse, lx.SparseCholesky(), (*LINEAR[:3], 400_000), 1.5, 1
    ),
    "SparseLU": Series("sparse", sparse, lx.SparseLU(), (*LINEAR[:3], 400_000), 1.5, 1),
}
THEORY = """Theory: time and memory of dense factorisations n³ and n²; of nested
dissection on a plane grid n^1.5 and n log n; of a Kronecker product of two factors of
size √n, n^1.5 and n; of all else here n² or n (by FFT n log n)."""


def peak() -> float:
    """The largest resident set of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def points(series: Series) -> Iterator[tuple[int, float, float]]:
    """Unknowns, seconds, bytes."""
    jax.block_until_ready(lx.linear_solve(*square(3), lx.LU()).value)
    before = peak()
    for n in series.sizes:
        operator, b = series.problem(n)

        def solve(operator=operator, b=b):
            lx.sparse_cache.clear()  # factors of the run before
            return lx.linear_solve(operator, b, series.solver, throw=False).value

        seconds = best(solve, seconds=0.5) / series.steps
        yield operator.in_size(), seconds, peak() - before
        del operator, b, solve


def exponent(n: list[float], y: list[float]) -> float:
    """The slope of a line through the logarithms."""
    return float(np.polyfit(np.log(n), np.log(y), 1)[0])


def shown(seconds: float) -> str:
    unit, size = next((u for u in UNITS if seconds >= u[1]), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


def table(found: dict[str, list[list[float]]]) -> str:
    lines = ["| solver | n | time there | exponent | theory | bytes per unknown |"]
    lines[0] += " exponent | theory |"
    lines += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
    for name, each in found.items():
        series = SERIES[name]
        n, seconds, held = ([*column] for column in zip(*each))
        step = ", a step" if series.steps > 1 else ""
        p, q = exponent(n[-3:], seconds[-3:]), exponent(n[-2:], held[-2:])
        lines.append(
            f"| {name}{step} | {n[-1]:,} | {shown(seconds[-1])} | {p:.2f} | "
            f"{series.time:g} | {held[-1] / n[-1]:,.0f} | {q:.2f} | {series.memory:g} |"
        )
    return "\n".join(lines)


def pictures(found: dict[str, list[list[float]]], folder: Path) -> list[str]:
    """Time and memory against n, a picture a group."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "scaling", "svg.fonttype": "none"}
    import matplotlib.pyplot as plt

    grey, shown = "#808080", []  # readable on light and dark pages
    for group in dict.fromkeys(SERIES[name].group for name in found):
        figure, both = plt.subplots(1, 2, figsize=(9, 3.6))
        for axes, column, what in zip(both, (1, 2), ("seconds", "MiB")):
            for name, each in found.items():
                if SERIES[name].group != group:
                    continue
                unit = 2**20 if column == 2 else 1
                y = [
                    max(point[column] / unit, 1 if column == 2 else 0) for point in each
                ]
                axes.loglog([point[0] for point in each], y, marker="o", label=name)
            axes.set_xlabel("unknowns", color=grey)
            axes.set_ylabel(what, color=grey)
            axes.tick_params(colors=grey, which="both", labelsize=8)
            for spine in axes.spines.values():
                spine.set_color(grey)
        both[0].legend(fontsize=7)
        figure.tight_layout()
        name = f"scaling-{group.lower()}.svg"
        figure.savefig(folder / name, transparent=True, metadata={"Date": None})
        plt.close(figure)
        shown.append(f"![Time and memory against unknowns: {group}]({name})")
    return shown


HEADER = f"""# How time and memory grow

Made by `python benchmarks/scaling.py --write` on two CPU cores, in float64. Each solver
runs in a process of its own. The time is that of a compiled solve with its
factorisation or set-up; where the table says so, of one step of it. The memory is what
the process held at its peak beyond what it held before: with the problem, what was
needed to make it (a dense matrix: several of its size), and to compile. Exponents are
fitted to the three largest sizes, of memory to the two largest; where these are small,
the memory to compile hides that of the arrays. The iterative solvers of the last
picture solve to a residual of 1e-8.

{THEORY}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a pattern of solvers")
    parser.add_argument("--write", action="store_true", help="the page in the docs")
    parser.add_argument("--keep", type=Path, help="a file for the raw figures")
    parser.add_argument("--series", help="this one, in this process")
    args = parser.parse_args()
    if args.series:
        print(json.dumps([*points(SERIES[args.series])]))
        return
    found = {}
    if args.keep and args.keep.exists():
        found = json.loads(args.keep.read_text())
    for name in SERIES:
        if re.search(args.only, name) and name not in found:
            command = [sys.executable, __file__, "--series", name]
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True
            )
            found[name] = json.loads(done.stdout)
            print(table({name: found[name]}).splitlines()[-1], flush=True)
            if args.keep:
                args.keep.write_text(json.dumps(found))
    found = {name: found[name] for name in SERIES if name in found}
    if args.write:
        parts = [HEADER, *pictures(found, PAGE.parent), table(found)]
        PAGE.write_text("\n\n".join(part.strip() for part in parts) + "\n")


if __name__ == "__main__":
    main()
