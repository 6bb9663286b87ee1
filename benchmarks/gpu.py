"""On a GPU (or, at small size, on a CPU): Markdown tables.

    python benchmarks/gpu.py [--small] [--peer PYTHON] [--only PATTERN] [--write FILE]

Each row has the time of ours, of JAX alone, and of CuPy if that is installed; with
`--peer`, also that of another `lineax`, such as the published one, which is run by the
interpreter of its environment. `--small` runs all at sizes that a CPU takes a minute
for, to see that it works.
"""

import argparse
import datetime
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import measure

measure.configure(asynchronous=True)  # JAX's default

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import jax.scipy.linalg as jsl  # noqa: E402
import lineax as lx  # noqa: E402
import numpy as np  # noqa: E402

PSD = lx.positive_semidefinite_tag
STEPS = 50
Row = tuple[str, str, Callable[[], float]]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--peer", help="the interpreter of another lineax")
    parser.add_argument("--only", default="", help="a pattern of names of rows")
    parser.add_argument("--write", help="the file to write, instead of printing")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def launches() -> list[str]:
    """Kernels a step, which are the same at every size."""
    import raw_cases
    from kernels import loops

    n = 50
    A, b = jax.ShapeDtypeStruct((n, n), float), jax.ShapeDtypeStruct((n,), float)
    lines = [
        "| method | kernels a pass | conditionals | kernels in their branches "
        "| textbook loop | its products |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    textbook = {"CG": (raw_cases.cg, 1), "BiCGStab": (raw_cases.bicgstab, 2)}
    textbook |= {"GMRES": (raw_cases.gmres, 1), "MINRES": (minres, 1)}
    textbook |= {"LSMR": (lsmr, 2)}
    for name, (solver, tags) in krylov(1e-8, 0.0).items():
        body = loops(jax.jit(solved(solver, tags)).lower(A, b).compile())[0]
        method, products = textbook[name]

        def bare(A: Any, b: Any, method: Callable = method) -> Any:
            transposed = (lambda y: y @ A,) if method is lsmr else ()
            return method(lambda x: A @ x, *transposed, b)

        bare_body = loops(jax.jit(bare).lower(A, b).compile())
        most = max(loop.kernels for loop in bare_body if loop.kernels)
        lines.append(
            f"| `{name}` | {body.kernels} | {body.conditionals} | {body.branches} "
            f"| {most} | {products} |"
        )
    return lines


def krylov(rtol: float, atol: float, **more: Any) -> dict[str, tuple[Any, Any]]:
    return {
        "CG": (lx.CG(rtol, atol, **more), PSD),
        "BiCGStab": (lx.BiCGStab(rtol, atol, **more), ()),
        "MINRES": (lx.MINRES(rtol, atol, **more), lx.hermitian_tag),
        "GMRES": (lx.GMRES(rtol, atol, **more), ()),
        "LSMR": (lx.LSMR(rtol, atol, **more), ()),
    }


def timed(fn: Callable, *args: Any, each: int = 1) -> Callable[[], float]:
    return lambda: measure.running(fn, *args) / each


def solved(solver: Any, tags: Any = ()) -> Callable:
    def solve(A: Any, b: Any) -> Any:
        operator = lx.MatrixLinearOperator(A, tags)
        return lx.linear_solve(operator, b, solver, throw=False).value

    return solve


def direct(small: bool) -> Iterator[Row]:
    """One system, dense."""
    cases = {
        "LU": (lx.LU(), (), jnp.linalg.solve, "solve"),
        "Cholesky": (
            lx.Cholesky(),
            PSD,
            lambda A, b: jsl.cho_solve(jsl.cho_factor(A), b),
            None,
        ),
        "QR": (lx.QR(), (), lambda A, b: jnp.linalg.lstsq(A, b)[0], "lstsq"),
        "SVD": (lx.SVD(), (), lambda A, b: jnp.linalg.lstsq(A, b)[0], "lstsq"),
    }
    for n in (50, 200) if small else (50, 200, 1000, 4000):
        for name, (solver, tags, bare, cupy) in cases.items():
            row = f"{name}, n = {n}"
            A, b = map(jnp.asarray, measure.definite(n))
            yield row, "lineax", timed(solved(solver, tags), A, b)
            yield row, "JAX", timed(bare, A, b)
            if cupy:
                yield row, "CuPy", partial(with_cupy, cupy, A, b)


def batches(small: bool) -> Iterator[Row]:
    """Many systems at once."""
    sizes = ((1000, 3), (100, 8), (10, 64))
    for count, n in sizes if small else ((100_000, 3), (10_000, 8), (1000, 64)):
        row = f"LU, {count} of n = {n}"
        A, b = map(jnp.asarray, measure.definite(n, count))
        batch = jax.vmap(solved(lx.LU()))
        yield row, "lineax", timed(batch, A, b)
        bare = jax.vmap(jnp.linalg.solve)
        yield row, "JAX", timed(bare, A, b)
        yield row, "CuPy", partial(with_cupy, "solve", A, b[..., None])


def steps(small: bool) -> Iterator[Row]:
    """The time of a step, of a stencil and of a diagonal operator, and the time to
    stream the vectors that a textbook loop reads and writes."""
    for n in (10_000,) if small else (1_000_000, 10_000_000):
        side = round(n**0.5)
        u = jnp.sin(jnp.arange(side * side, dtype=float)).reshape(side, side)
        for name, (solver, tags) in krylov(0.0, 0.0, max_steps=STEPS).items():

            def solve(b: Any, solver: Any = solver, tags: Any = tags) -> Any:
                structure = jax.ShapeDtypeStruct(b.shape, b.dtype)
                A = lx.FunctionLinearOperator(measure.laplacian, structure, tags)
                return lx.linear_solve(A, b, solver, throw=False).value

            row = f"{name}, a step, n = {side * side}"
            yield row, "lineax", timed(solve, u, each=STEPS)
            if name == "CG":
                yield row, "textbook", partial(bare_step, u)
                yield row, "streaming", partial(streamed, u)


def bare_step(u: Any) -> float:
    def solve(b: Any) -> Any:
        def step(_: Any, s: Any) -> Any:
            x, r, p, ρ = s
            q = measure.laplacian(p)
            α = ρ / jnp.vdot(p, q)
            x, r = x + α * p, r - α * q
            new = jnp.vdot(r, r)
            return x, r, r + new / ρ * p, new

        return jax.lax.fori_loop(0, STEPS, step, (b * 0, b, b, jnp.vdot(b, b)))[0]

    return measure.running(solve, u) / STEPS


def streamed(u: Any) -> float:
    """Ten vectors, which is what a step of CG reads and writes."""
    return 5 * measure.running(lambda v: v * 1.5 + 1.0, u)


def sparse(small: bool) -> Iterator[Row]:
    """A product with the five-point Laplacian, and a solve with a preconditioner."""
    import scipy.sparse
    from jax.experimental.sparse import BCSR

    sp: Any = scipy.sparse
    side = 50 if small else 1000
    line = sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], (side, side))
    matrix = sp.kronsum(line, line).tocsr()
    x = jnp.ones(side * side)
    if hasattr(lx, "SparseLinearOperator"):
        A = lx.SparseLinearOperator.from_scipy(matrix, tags=PSD)
        row = f"sparse product, n = {side * side}"
        yield row, "lineax", timed(lambda A, x: A.mv(x), A, x)
        arrays = matrix.data, matrix.indices, matrix.indptr
        arrays: Any = tuple(map(jnp.asarray, arrays))
        bare = BCSR(arrays, shape=matrix.shape)
        yield row, "JAX", timed(lambda A, x: A @ x, bare, x)
        for name in ("Jacobi", "AMG"):
            if hasattr(lx, name):
                M = getattr(lx, name)()
                M = M.setup(A)
                solver = lx.CG(1e-6, 0.0, preconditioner=M)

                def solve(A: Any, x: Any, solver: Any = solver) -> Any:
                    return lx.linear_solve(A, x, solver, throw=False).value

                row = f"CG with {name}, n = {side * side}"
                yield row, "lineax", timed(solve, A, x)


def with_cupy(name: str, *args: Any) -> float:
    import cupy  # pyright: ignore[reportMissingImports]

    fn, args = getattr(cupy.linalg, name), tuple(map(cupy.asarray, map(np.array, args)))
    more = {"rcond": None} if name == "lstsq" else {}

    def run() -> list:
        fn(*args, **more)
        cupy.cuda.Device().synchronize()
        return []

    return measure.calling(run)


def minres(A: Callable, b: Any) -> Any:
    """Paige and Saunders 1975, doi:10.1137/0712047."""
    β = jnp.linalg.norm(b)

    def step(s: Any) -> Any:
        x, v_old, v, d_old, d, β, c, sn, δ, ε, φ, k = s
        w = A(v)
        α = jnp.vdot(v, w)
        w = w - α * v - β * v_old
        new = jnp.linalg.norm(w)
        δ, γ = c * δ + sn * α, sn * δ - c * α
        ρ = jnp.hypot(γ, new)
        d_old, d = d, (v - δ * d - ε * d_old) / ρ
        ε, δ, c, sn = sn * new, -c * new, γ / ρ, new / ρ
        x = x + c * φ * d
        return x, v, w / new, d_old, d, new, c, sn, δ, ε, sn * φ, k + 1

    zero, one = jnp.zeros((), b.dtype), jnp.ones((), b.dtype)
    start = b * 0, b * 0, b / β, b * 0, b * 0, zero, -one, zero, zero, zero, β, 0
    limit = 1e-8 * β
    return jax.lax.while_loop(
        lambda s: (s[-2] > limit) & (s[-1] < 10 * b.size), step, start
    )[0]


def lsmr(A: Callable, AT: Callable, b: Any) -> Any:
    """Fong and Saunders 2011, doi:10.1137/10079687X."""
    β = jnp.linalg.norm(b)
    u = b / β
    v = AT(u)
    α = jnp.linalg.norm(v)
    v = v / α

    def step(s: Any) -> Any:
        x, u, v, h, h_bar, α, α_bar, ζ_bar, ρ_old, ρ_bar, c_bar, s_bar, k = s
        u = A(v) - α * u
        β = jnp.linalg.norm(u)
        u = u / β
        v = AT(u) - β * v
        α = jnp.linalg.norm(v)
        v = v / α
        ρ = jnp.hypot(α_bar, β)
        c, sn = α_bar / ρ, β / ρ
        θ, α_bar = sn * α, c * α
        θ_bar, last = s_bar * ρ, ρ_bar
        ρ_bar = jnp.hypot(c_bar * ρ, θ)
        c_bar, s_bar = c_bar * ρ / ρ_bar, θ / ρ_bar
        ζ, ζ_bar = c_bar * ζ_bar, -s_bar * ζ_bar
        h_bar = h - θ_bar * ρ / (ρ_old * last) * h_bar
        x = x + ζ / (ρ * ρ_bar) * h_bar
        h = v - θ / ρ * h
        return x, u, v, h, h_bar, α, α_bar, ζ_bar, ρ, ρ_bar, c_bar, s_bar, k + 1

    zero, one = jnp.zeros((), b.dtype), jnp.ones((), b.dtype)
    start = (v * 0, u, v, v, v * 0, α, α, α * β, one, one, one, zero, 0)
    limit = 1e-8 * α * β
    return jax.lax.while_loop(
        lambda s: (jnp.abs(s[7]) > limit) & (s[-1] < 10 * b.size), step, start
    )[0]


TABLES = {
    "Direct solvers": direct,
    "Batches": batches,
    "Steps of Krylov methods": steps,
    "Sparse": sparse,
}


def figures(small: bool, pattern: str) -> dict[str, dict[str, dict[str, float]]]:
    """Seconds, by table, row and column."""
    out: dict[str, dict[str, dict[str, float]]] = {}
    for title, rows in TABLES.items():
        for row, column, figure in rows(small):
            if not re.search(pattern, row):
                continue
            print(f"  {row}: {column}", file=sys.stderr, flush=True)
            try:
                out.setdefault(title, {}).setdefault(row, {})[column] = figure()
            except Exception as error:  # one that cannot: its cell stays empty
                print(f"    {type(error).__name__}: {error}"[:200], file=sys.stderr)
            measure.clear()
    return out


def table(rows: dict[str, dict[str, float]]) -> list[str]:
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, row in rows.items():
        cells = (f"{row[c] * 1e3:.3f} ms" if c in row else "" for c in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    chosen = options()
    found = figures(chosen.small, chosen.only)
    if chosen.json:
        json.dump(found, sys.stdout)
        return
    if chosen.peer:
        command = [chosen.peer, __file__, "--json", "--only", chosen.only or "."]
        command += ["--small"] * chosen.small
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        for title, rows in json.loads(done.stdout).items():
            for row, cells in rows.items():
                if "lineax" in cells:
                    found[title][row]["other lineax"] = cells["lineax"]
    device = jax.devices()[0].device_kind
    lines = [f"{device}, JAX {jax.__version__}, {datetime.date.today()}.", ""]
    lines += ["### Kernels of a step", "", *launches(), ""]
    for title, rows in found.items():
        lines += [f"### {title}", "", *table(rows), ""]
    text = "\n".join(lines)
    if chosen.write:
        with open(chosen.write, "w") as file:
            file.write(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
