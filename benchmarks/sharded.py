"""Sharded sparse solves on devices and processes of this machine: the tables of the
guide *Many devices, many hosts*.

    python benchmarks/sharded.py [--k 40] [--memory 100 [--whole]] [--parts]

The problem is -Δu on k³ points, seven entries a row, in blocks by recursive bisection.
`--memory k` measures the bytes per unknown of each solver on one device instead, the
pattern made from the rows of the device, or with `--whole` from the whole one.
`--parts` measures what a model of a step needs: the time per unknown, and that of a
message between two processes.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

SOLVED = 1e-8


def laplacian(k: int) -> tuple[Any, Any]:
    """The pattern, and its values."""
    import lineax as lx
    import numpy as np

    unit = np.eye(3, dtype=int)
    offsets: Any = [(0, 0, 0), *map(tuple, (*unit, *-unit))]
    pattern = lx.SparsityPattern.from_stencil(offsets, (k, k, k))
    diagonal = np.asarray(pattern.rows) == np.asarray(pattern.columns)
    return pattern, np.where(diagonal, 6.0, -1.0)


def laplacian_rows(k: int, start: int, stop: int) -> tuple[Any, Any, Any]:
    """The rows, columns and values of the entries of some rows."""
    import numpy as np

    row = np.arange(start, stop, dtype=np.int32)
    entries = [(row, row, np.full(row.size, 6.0))]
    for stride in (1, k, k * k):
        at = row // stride % k  # the coordinate along one axis
        for step, inside in [(-stride, at > 0), (stride, at < k - 1)]:
            i = row[inside]
            entries.append((i, i + np.int32(step), np.full(i.size, -1.0)))
    rows, columns, values = map(np.concatenate, zip(*entries))
    return rows, columns, values


def seconds(run: Any, *arguments: Any, runs: int = 3) -> float:
    """The shortest of some runs."""
    import jax

    jax.block_until_ready(run(*arguments))
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        jax.block_until_ready(run(*arguments))
        best = min(best, time.perf_counter() - start)
    return best


def worker(k: int, devices: int, processes: int, process: int, address: str) -> None:
    """One line for each mesh: of one process, of 1, 2, 4 … devices."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    count = devices // processes
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
    import jax

    jax.config.update("jax_enable_x64", True)
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, processes, process)
    sizes = [devices] if processes > 1 else [1, 2, 4, 8]
    for p in sizes:
        out = on_mesh(k, p)
        if process == 0:
            print(json.dumps({"processes": processes, "devices": p, **out}), flush=True)


def on_mesh(k: int, p: int) -> dict[str, Any]:
    import jax
    import lineax as lx
    import numpy as np

    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:p]), ("rows",), axis_types=auto)
    pattern, values = laplacian(k)
    sharded = lx.ShardedSparsityPattern(pattern, mesh, order="bisection", overlap=1)
    A = lx.ShardedSparseLinearOperator(
        sharded.assemble(values), sharded, lx.positive_semidefinite_tag
    )
    b = sharded.distribute(np.random.default_rng(0).normal(size=k**3))
    out: dict[str, Any] = {"bytes": A.bytes_received}
    out["product"] = seconds(jax.jit(lambda A, b: A.mv(b)), A, b)
    cases = [
        ("plain", None, False),
        ("at once", None, True),
        ("Jacobi", lx.Jacobi(), False),
        ("Schwarz, 0", lx.AdditiveSchwarz(), False),
        ("Schwarz, 1", lx.AdditiveSchwarz(1), False),
        ("two levels", lx.AdditiveSchwarz(1, coarse=8), False),
    ]
    for name, M, single in cases:

        def solve(A: Any, b: Any, rtol: Any, M: Any = M, single: bool = single) -> Any:
            solver = lx.CG(
                rtol,
                0.0,
                criterion="two_norm",
                preconditioner=M,
                single_reduction=single,
            )
            return lx.linear_solve(A, b, solver, throw=False)

        run = jax.jit(solve)
        solution = run(A, b, SOLVED)
        assert bool(solution.successful), name
        out[name] = steps = int(solution.stats["num_steps"])
        out[f"{name} step"] = (
            seconds(lambda *a, f=run: f(*a).value, A, b, SOLVED) / steps
        )
    return out


def measured(k: int, devices: int, processes: int) -> list[dict[str, Any]]:
    """What the workers say; `k=0` measures the parts of a step."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    given = map(str, (k, devices, processes))
    command = [sys.executable, __file__, "--worker", *given]
    running = [
        subprocess.Popen([*command, str(i), address], stdout=subprocess.PIPE, text=True)
        for i in range(processes)
    ]
    said = [process.communicate()[0] for process in running]
    assert not any(process.returncode for process in running), said
    return [json.loads(line) for line in said[0].splitlines() if line.startswith("{")]


def table(k: int) -> None:
    names = ("plain", "at once", "Jacobi", "Schwarz, 0", "Schwarz, 1", "two levels")
    print(f"{k**3} unknowns, on {os.cpu_count()} cores\n")
    print("| processes × devices | bytes |", " | ".join(names), end=" ")
    print("| product ms |", " | ".join(f"step ms, {name}" for name in names), "|")
    print("|---|" + "--:|" * (2 + 2 * len(names)))
    for devices, processes in [(8, 1), (2, 2), (4, 4)]:
        for out in measured(k, devices, processes):
            cells = [out["bytes"], *(out[name] for name in names)]
            times = (out["product"], *(out[f"{name} step"] for name in names))
            cells += [f"{1e3 * t:.2f}" for t in times]
            name = f"{processes} × {out['devices'] // processes}"
            print(f"| {name} |", " | ".join(map(str, cells)), "|", flush=True)


def parts(process: int, address: str) -> None:
    """The shortest of many short runs, which other load disturbs least."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp
    import lineax as lx
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, 2, process)
    auto, spec = (jax.sharding.AxisType.Auto,), jax.sharding.PartitionSpec("rows")
    mesh = jax.make_mesh((2,), ("rows",), axis_types=auto)
    sharding = jax.sharding.NamedSharding(mesh, spec)

    def spread(n: int) -> Any:
        return jax.make_array_from_callback(
            (2 * n,), sharding, lambda at: np.zeros(2 * n)[at]
        )

    def mapped(fn: Any) -> Any:
        return jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=spec, out_specs=spec))

    both = [(0, 1), (1, 0)]
    swap = mapped(lambda x: jax.lax.ppermute(x, "rows", both))
    total = mapped(lambda x: x + jax.lax.psum(jnp.sum(x), "rows"))
    out = {"sum": seconds(total, spread(1), runs=400)}
    for n in (1, 1000, 100_000):
        out[f"message of {8 * n} bytes"] = seconds(swap, spread(n), runs=200)
    k = 24
    pattern, values = laplacian(k)
    alone = jax.sharding.Mesh(np.array(jax.local_devices()), ("rows",), axis_types=auto)
    A = lx.ShardedSparseLinearOperator.from_operator(
        lx.SparseLinearOperator(values, pattern, lx.positive_semidefinite_tag), alone
    )
    b = A.pattern.distribute(np.ones(k**3))
    found = {"product": seconds(jax.jit(lambda A, b: A.mv(b)), A, b, runs=400)}
    for single in (False, True):
        solver = lx.CG(0.0, 0.0, max_steps=10, single_reduction=single)
        run = jax.jit(
            lambda A, b, s=solver: lx.linear_solve(A, b, s, throw=False).value
        )
        name = "step, single_reduction" if single else "step"
        found[name] = seconds(run, A, b, runs=100) / 10
    out |= {f"{name}, ns per unknown": 1e9 * t / k**3 for name, t in found.items()}
    if process == 0:
        print(json.dumps(out), flush=True)


def memory(k: int, whole: bool) -> None:
    """Bytes per unknown: of the operator, and of what a solve allocates besides."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    import resource

    import jax
    import lineax as lx
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((1,), ("rows",), axis_types=auto)
    start = time.perf_counter()
    n = k**3
    if whole:
        pattern, values = laplacian(k)
        sharded = lx.ShardedSparsityPattern(pattern, mesh)
        values = sharded.assemble(values)
        del pattern
    else:
        sharded = lx.ShardedSparsityPattern.from_callback(
            (n, n), mesh, lambda *rows: laplacian_rows(k, *rows)[:2]
        )
        values = sharded.assemble(lambda *rows: laplacian_rows(k, *rows)[2])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{n} unknowns: made in {time.perf_counter() - start:.0f} s, ", end="")
    print(f"at a peak of {peak / n:.0f} bytes per unknown of the process")
    A = lx.ShardedSparseLinearOperator(values, sharded, lx.positive_semidefinite_tag)
    held = sum(x.nbytes for x in jax.tree.leaves(A))
    print(f"the operator holds {held / n:.0f}\n")
    b = sharded.distribute(np.random.default_rng(0).normal(size=n))
    print("| solver | bytes per unknown | steps | seconds |\n|---|--:|--:|--:|")
    for name, solver in {
        "CG": lx.CG(SOLVED, 0.0, criterion="two_norm"),
        "CG, single_reduction": lx.CG(
            SOLVED, 0.0, criterion="two_norm", single_reduction=True
        ),
        "MINRES": lx.MINRES(SOLVED, 0.0, criterion="two_norm"),
        "BiCGStab": lx.BiCGStab(SOLVED, 0.0, criterion="two_norm"),
        "LSMR": lx.LSMR(SOLVED, 0.0, criterion="two_norm"),
        "GMRES(20)": lx.GMRES(SOLVED, 0.0, criterion="two_norm", restart=20),
    }.items():

        def solve(A: Any, b: Any, solver: Any = solver) -> Any:
            return lx.linear_solve(A, b, solver, throw=False)

        compiled = jax.jit(solve).lower(A, b).compile()
        found: Any = compiled.memory_analysis()
        own = found.temp_size_in_bytes + found.output_size_in_bytes + b.nbytes
        steps, taken = "", ""
        if name == "CG":
            start = time.perf_counter()
            solution = jax.block_until_ready(compiled(A, b))
            assert bool(solution.successful)
            steps, taken = int(solution.stats["num_steps"]), time.perf_counter() - start
            taken = f"{taken:.1f}"
        print(f"| {name} | {own / n:.0f} | {steps} | {taken} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"\nthe process' peak in the end: {peak / n:.0f} bytes per unknown")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--k", type=int, default=40)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--worker", nargs=5, default=None)
    options = parser.parse_args()
    if options.worker:
        *numbers, address = options.worker
        k, devices, processes, process = map(int, numbers)
        if k == 0:
            parts(process, address)
            return
        worker(k, devices, processes, process, address)
    elif options.parts:
        print(json.dumps(measured(0, 2, 2)[0], indent=1))
    elif options.memory:
        memory(options.memory, options.whole)
    else:
        table(options.k)


if __name__ == "__main__":
    main()
