"""Performance profiles of Krylov methods over the gallery of test matrices.

    python benchmarks/profiles.py

computes them (some minutes), writes the pictures to `docs/evidence/profiles` and the
figures to `docs/evidence/profiles/figures.json`, and prints a table.

Dolan and Moré 2002, doi:10.1007/s101070100263: for each system, how much more products,
or time, a method takes than the best one; and for each factor, the part of the systems
on which a method stays within it. A method that does not reach the tolerance is never
within. A system counts if some method solves it.
"""

import json
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

import lineax as lx  # noqa: E402

from tests.gallery.matrices import GALLERY, vector  # noqa: E402

TOL = 1e-8
OUT = Path(__file__).parents[1] / "docs" / "evidence" / "profiles"
PSD, HERMITIAN = lx.positive_semidefinite_tag, lx.hermitian_tag
aims: dict[str, Any] = dict(rtol=TOL, atol=0.0, criterion="two_norm")
# name -> the solver, what the operator is tagged as, products a step
METHODS = {
    "CG": (lx.CG(**aims), PSD, 1),
    "MINRES": (lx.MINRES(**aims), HERMITIAN, 1),
    "SYMMLQ": (lx.SYMMLQ(**aims), HERMITIAN, 1),
    "MINRESQLP": (lx.MINRESQLP(**aims), HERMITIAN, 1),
    "BiCGStab": (lx.BiCGStab(**aims), (), 1),
    "BiCGStab(ell=2)": (lx.BiCGStab(**aims, ell=2), (), 1),
    "IDR": (lx.IDR(**aims), (), 1),
    "GMRES": (lx.GMRES(**aims), (), 1),
    "GCRODR": (lx.GCRODR(**aims), (), 1),
    "LSMR": (lx.LSMR(**aims), (), 2),
}
CLASSES = {
    "definite": ("CG", "MINRES", "SYMMLQ", "MINRESQLP", "BiCGStab", "GMRES", "LSMR"),
    "indefinite": ("MINRES", "SYMMLQ", "MINRESQLP", "BiCGStab(ell=2)", "IDR", "GMRES",
                   "LSMR"),
    "general": ("BiCGStab", "BiCGStab(ell=2)", "IDR", "GMRES", "GCRODR", "LSMR"),
}  # fmt: skip


def kind(entry):
    if "definite" in entry.true:
        return "definite"
    return "indefinite" if "hermitian" in entry.true else "general"


def grids():
    """Systems of more unknowns than the gallery's."""
    m = 16
    one = 2 * np.eye(m) - np.eye(m, k=1) - np.eye(m, k=-1)
    plane = np.kron(one, np.eye(m)) + np.kron(np.eye(m), one)
    skew = np.kron(np.eye(m, k=1) - np.eye(m, k=-1), np.eye(m))
    rng = np.random.default_rng(0)
    middle = np.diag(1 + 9 * rng.random(m * m))
    yield "definite", plane
    yield "definite", middle @ plane @ middle
    for shift in (0.3, 1.1, 2.2):
        yield "indefinite", plane - shift * np.eye(m * m)
    for size in (0.1, 0.5, 2.0):
        yield "general", plane + size * skew
        yield "general", middle @ (plane + size * skew)
    yield "general", 0.1 * np.eye(m * m) + skew


def systems():
    rng = np.random.default_rng(1)
    for entry in GALLERY:
        if entry.kind in ("tall", "wide", "deficient", "singular, inconsistent"):
            continue
        if "large" not in entry.true:
            a = entry.matrix()
            yield kind(entry), a, vector(entry, a)
    for which, a in grids():
        yield which, a, rng.normal(size=len(a))


@eqx.filter_jit
def solve(a, b, solver, tags):
    operator = lx.MatrixLinearOperator(a, tags)
    state = solver.init(operator, {})
    x, result, stats = solver.compute(state, b, {})
    return x, result == lx.RESULTS.successful, stats["num_steps"]


def measured(a, b, name):
    """Products, and seconds; ∞ if the residual does not pass."""
    solver, tags, each = METHODS[name]
    given = jnp.asarray(a), jnp.asarray(b), solver, tags
    x, good, steps = jax.block_until_ready(solve(*given))
    left = np.linalg.norm(b - a @ np.asarray(x))
    if not good or not left <= 2 * TOL * np.linalg.norm(b):
        return np.inf, np.inf
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        jax.block_until_ready(solve(*given))
        times.append(time.perf_counter() - begun)
    return float(max(each * int(steps), 1)), min(times)


def ratios(costs):
    """[systems, methods]: each cost relative to the least of its system."""
    costs = np.array(costs)
    costs = costs[np.isfinite(costs).any(1)]
    return costs / costs.min(1, keepdims=True)


def draw(which, what, table, names):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "profiles"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    factors = np.geomspace(1, 20, 200)
    for i, name in enumerate(names):
        part = (table[:, i][:, None] <= factors[None]).mean(0)
        k = list(METHODS).index(name)  # a method looks alike in all pictures
        look: Any = dict(color=f"C{k}", linestyle="-" if k % 2 else "--")
        axes.step(factors, part, label=name, where="post", linewidth=1.5, **look)
    axes.set(xscale="log", ylim=(0, 1.02), xlim=(1, 20), ylabel="part of the systems")
    axes.set_xlabel(f"{what}, relative to the least")
    axes.set_title(f"{which}, {len(table)} systems")
    axes.set_xticks([1, 2, 5, 10, 20], ["1", "2", "5", "10", "20"])
    axes.legend(fontsize="x-small", loc="lower right")
    figure.savefig(OUT / f"{which}-{what}.svg", metadata={"Date": None})


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    costs = {which: [] for which in CLASSES}
    for which, a, b in systems():
        costs[which].append([measured(a, b, name) for name in CLASSES[which]])
    figures = {}
    for which, names in CLASSES.items():
        figures[which] = {name: {} for name in names}
        for k, what in enumerate(("products", "time")):
            table = ratios([[pair[k] for pair in row] for row in costs[which]])
            draw(which, what, table, names)
            for i, name in enumerate(names):
                figures[which][name][what] = {
                    "best": round(float((table[:, i] <= 1.0001).mean()), 2),
                    "within 2": round(float((table[:, i] <= 2).mean()), 2),
                    "solved": round(float(np.isfinite(table[:, i]).mean()), 2),
                }
    (OUT / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    for which, names in figures.items():
        print(f"\n| {which} | solved | fewest products | within 2 | within 2 (time) |")
        print("|---|--:|--:|--:|--:|")
        for name, each in names.items():
            p, t = each["products"], each["time"]
            print(f"| `{name}` | {p['solved']:.0%} | {p['best']:.0%} | "
                  f"{p['within 2']:.0%} | {t['within 2']:.0%} |")  # fmt: skip


if __name__ == "__main__":
    main()
