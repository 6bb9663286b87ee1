"""Overheads of running a program on a CPU: Markdown tables.

    python benchmarks/overheads.py

Ours and others alike pay it, each where a program passes a threshold of JAX's or XLA's.
"""

import resource
from collections.abc import Callable

import jax
import jax.numpy as jnp
import lineax as lx
import measure
import numpy as np

measure.configure(asynchronous=True)  # JAX's default

# the caller alone, where the system can tell
WHO = getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)

STEPS = 200
SIZES = (8, 9, 50)
# which stop at `STEPS` alone
SOLVERS = {
    "CG": lx.CG(0.0, 0.0, max_steps=STEPS),
    "BiCGStab": lx.BiCGStab(0.0, 0.0, max_steps=STEPS),
    "GMRES": lx.GMRES(0.0, 0.0, max_steps=STEPS),
    "MINRES": lx.MINRES(0.0, 0.0, max_steps=STEPS),
    "LSMR": lx.LSMR(0.0, 0.0, max_steps=STEPS),
}


def dispatch() -> None:
    """The same work, with one operation more."""
    print("### Handing a program to another thread\n")
    print("A call of LAPACK's QR, 50 by 50, and a vector that is doubled.\n")
    print("| operations that XLA counts | time | waits of the caller |")
    print("|---:|---:|---:|")
    matrix = jnp.asarray(measure.definite(50)[0])
    for size in (900, 1000, 1001, 1100):
        vector = jnp.ones(size)
        lowered = jax.jit(factorised_and_doubled).lower(matrix, vector)
        compiled = lowered.compile()
        operations = (compiled.cost_analysis() or {}).get("flops", 0)
        time, waits = calling(compiled, matrix, vector)
        print(f"| {operations:.0f} | {time * 1e6:.0f} µs | {waits:.2f} |", flush=True)


def factorised_and_doubled(matrix, vector):
    return jnp.linalg.qr(matrix, mode="raw"), 2 * vector


def calling(fn: Callable, *args) -> tuple[float, float]:
    """The time of a call, and how often this thread gave up its core for it."""
    measure.calling(fn, *args, seconds=0.1)
    count = 0
    before = resource.getrusage(WHO).ru_nvcsw

    def counted(*args):
        nonlocal count
        count += 1
        return fn(*args)

    time = measure.calling(counted, *args)
    waits = resource.getrusage(WHO).ru_nvcsw - before
    return time, waits / count


def steps() -> None:
    """The same loop with arrays of 512 bytes at the most, whose kernels XLA runs one
    after the other, and with longer ones, whose kernels it offers to its threads."""
    print("\n### A step of a loop\n")
    print("At n = 8 no array of the loop has more than 512 bytes, but GMRES's basis.\n")
    print("| |", *(f"n = {n} |" for n in SIZES))
    print("|---|", *("---:|" for _ in SIZES))
    for name, solver in SOLVERS.items():
        times = [measure.running(solve(solver), *problem(n)) / STEPS for n in SIZES]
        print(f"| {name} |", *(f"{x * 1e6:.2f} µs |" for x in times), flush=True)


def solve(solver: lx.AbstractLinearSolver) -> Callable:
    def fn(matrix, vector):
        operator = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
        return lx.linear_solve(operator, vector, solver, throw=False).value

    return fn


def problem(n: int) -> tuple[jax.Array, jax.Array]:
    """Definite, of condition 1000."""
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    matrix = q * np.geomspace(1, 1e-3, n) @ q.T
    return jnp.asarray(matrix), jnp.asarray(rng.standard_normal(n))


if __name__ == "__main__":
    dispatch()
    steps()
