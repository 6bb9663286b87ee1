"""How every participant is timed, and the problems that they all solve.

A participant is a script that prints JSON, `{column: {case: figure}}`, for the cases
whose names match a pattern. Names agree between participants, so that `run.py` can
compare figures. Figures are seconds; of cases that begin with "memory", MiB;
of those that begin with "kernels", numbers of them.
"""

import functools
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Case = tuple[str, Callable[[], float]]


def configure(asynchronous: bool = False) -> None:
    """JAX in float64, and what is timed in the caller's thread; to be called first.

    By default JAX hands a program to another thread, and waits for it, where XLA counts
    a thousand operations or more in it, library calls left out (`overheads.py`). For a
    small solve that takes longer than the solve, and is a matter of the program that it
    is a part of.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_enable_async_dispatch", asynchronous)


def main(columns: Callable[[], dict[str, Iterator[Case]]]) -> None:
    """Run the cases that match the pattern given on the command line."""
    patterns = [x for x in sys.argv[1:] if not x.startswith("--")]
    pattern = re.compile(patterns[0] if patterns else "")
    figures: dict[str, dict[str, float]] = {}
    for column, cases in columns().items():
        figures[column] = {}
        for name, figure in cases:
            if not pattern.search(name):
                continue
            print(f"  {column}: {name}", file=sys.stderr, flush=True)
            try:
                figures[column][name] = figure()
            except Exception as error:  # a peer that cannot: its cell stays empty
                print(f"    {type(error).__name__}: {error}"[:200], file=sys.stderr)
            clear()
    json.dump(figures, sys.stdout)


def clear() -> None:
    """What one case compiled is not kept for the next."""
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


# Times


def compiling(fn: Callable, *args) -> float:
    """Seconds to trace, lower and compile: the less of two from cold caches."""
    return _cold(lambda: jitted(fn).lower(*args).compile())


def tracing(fn: Callable, *args) -> float:
    """Those of them that are spent before XLA."""
    return _cold(lambda: jitted(fn).lower(*args))


def _cold(fn: Callable) -> float:
    import jax

    jax.jit(lambda x: x + 1).lower(1.0).compile()  # set-up is no part of it
    times = []
    for _ in range(2):
        jax.clear_caches()
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return min(times)


def kernels(fn: Callable, *args) -> float:
    """How many kernels the compiled program has, not counting library calls: XLA's
    fusions. To these the rest of the compile time is nearly proportional."""
    return jitted(fn).lower(*args).compile().as_text().count(" fusion(")


def jitted(fn: Callable) -> Any:
    import jax

    return jax.jit(fn)


# of a compile: all of it, the part before XLA, and what that of XLA goes with
COMPILES = {"compile": compiling, "trace": tracing, "kernels": kernels}


def running(fn: Callable, *args, seconds: float = 0.5) -> float:
    """The median time of `fn(*args)`, compiled."""
    return calling(jitted(fn).lower(*args).compile(), *args, seconds=seconds)


def calling(fn: Callable, *args, seconds: float = 0.5, least: int = 3) -> float:
    """The median time of `fn(*args)` as it is, after a first call; of what takes long,
    the time of one."""
    wait = sys.modules["jax"].block_until_ready if "jax" in sys.modules else list

    def once() -> float:
        start = time.perf_counter()
        wait([fn(*args)])
        return time.perf_counter() - start

    if once() > 4 * seconds:
        least = 1
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < until:
        times.append(once())
    return statistics.median(times)


# Problems, in float64

SIZES = (4, 50, 500, 2000)
RIGHT_HAND_SIDES = 500
MIDDLE = (10, 20, 50, 100)
BATCHES = (100, 1000)
TINY = {n: 100_000 for n in (2, 3, 4, 6, 8)}
BATCHED = (*((n, k) for k in BATCHES for n in MIDDLE), *TINY.items())
DEFICIENT = (1000, 50)
GRID = 1000
STEPS = 50


@functools.cache
def definite(
    n: int, *batch: int, lower: bool = False, band: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Well-conditioned definite matrices, or a triangle or the band of them, and
    vectors."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*batch, n, n))
    matrix = x @ x.swapaxes(-1, -2) / n + np.eye(n)
    if lower or band:
        matrix = np.tril(matrix)
    if band:
        matrix = np.triu(matrix + np.tril(matrix, -1).swapaxes(-1, -2), -1)
    return matrix, rng.standard_normal((*batch, n))


@functools.cache
def right_hand_sides(n: int = 500, k: int = RIGHT_HAND_SIDES):
    """A matrix, and k vectors as columns."""
    return definite(n)[0], np.random.default_rng(1).standard_normal((n, k))


@functools.cache
def deficient(n: int, *batch: int) -> tuple[np.ndarray, np.ndarray]:
    """Square matrices of rank n // 2, and vectors out of their range."""
    rng = np.random.default_rng(2)
    left, right = rng.standard_normal((2, *batch, n, n // 2))
    return left @ right.swapaxes(-1, -2), rng.standard_normal((*batch, n))


@functools.cache
def load() -> np.ndarray:
    """The right-hand side of Poisson's equation on a grid."""
    return np.random.default_rng(3).standard_normal((GRID, GRID))


def arrays(problem: Callable, *args) -> list:
    """A problem's arrays, as JAX's."""
    import jax.numpy as jnp

    return [jnp.asarray(x) for x in problem(*args)]


def laplacian(u):
    """Five points, zero boundary values; of a JAX array."""
    import jax.numpy as jnp

    v = jnp.pad(u, 1)
    around = v[2:, 1:-1] + v[:-2, 1:-1] + v[1:-1, 2:] + v[1:-1, :-2]
    return 4 * u - around


def peak_memory() -> float:
    """The largest resident set of this process so far, in MiB."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
