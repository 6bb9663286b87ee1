"""A load that lasts: solves from several threads, with faults, all rechecked.

    hatch run soak [--minutes 20] [--threads 3] [--write]

First each program is compiled. Then the threads solve, and each result is compared with
NumPy's or SciPy's. Once in a while the main thread injects a fault. Memory, arrays and
compilations are counted; the command fails if a result is wrong, if memory grows, if
anything is compiled again, or if a fault is not reported or leaves damage.
"""

import argparse
import collections
import os
import platform
import random
import signal
import threading
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.monitoring
import jax.numpy as jnp
import lineax as lx
import numpy as np
from soak_cases import Case, cases, error, patterns

jax.config.update("jax_enable_x64", True)
PAGE = Path(__file__).parents[1] / "docs" / "evidence" / "load.md"
PSD = lx.positive_semidefinite_tag
GROWTH = 1.05  # of the resident memory, which is said to be flat
CACHE = 32 * 2**20  # bytes for sparse factors, so that some are dropped
compiled = collections.Counter()


def _count(event: str, duration_secs: float, **_: Any) -> None:
    compiled[event] += 1


jax.monitoring.register_event_duration_secs_listener(_count)


class Sample(NamedTuple):
    minutes: float
    resident: int
    arrays: int
    cached: int
    compilations: int
    solves: int


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def compilations() -> int:
    return compiled["/jax/core/compile/backend_compile_duration"]


class Load:
    """Threads that solve until they are told to stop."""

    def __init__(self, known: list[Case]):
        self.cases, self.stop = known, threading.Event()
        self.solves = collections.Counter()
        self.worst = collections.defaultdict(float)
        self.failures: list[str] = []
        self.lock = threading.Lock()

    def once(self, case: Case, rng: np.random.Generator) -> None:
        try:
            found = case.run(rng)
            wrong = not found <= case.tolerance
            said = f"{case.name}: error {found:.1e}"
        except Exception as failure:
            found, wrong, said = np.inf, True, f"{case.name}: {failure!r}"
        with self.lock:
            self.solves[case.name] += 1
            self.worst[case.name] = max(self.worst[case.name], found)
            if wrong:
                self.failures.append(said)
                print(said, flush=True)

    def work(self, seed: int) -> None:
        rng, choose = np.random.default_rng(seed), random.Random(seed)
        while not self.stop.is_set():
            self.once(choose.choice(self.cases), rng)


# Faults: each returns what was seen, and raises if that is not as it must be.


def _stencil(x: Any) -> Any:
    padded = jnp.pad(x, 1)
    return 3 * x - padded[:-2] - padded[2:]


STRUCTURE = jax.ShapeDtypeStruct((64,), np.float64)
MATRIX = 3 * np.eye(64) - np.eye(64, k=1) - np.eye(64, k=-1)
RIGHT = np.sin(np.arange(64.0))


@jax.jit
def _plain(b: Any) -> Any:
    operator = lx.FunctionLinearOperator(_stencil, STRUCTURE, PSD)
    return lx.linear_solve(operator, b, lx.CG(1e-12, 0.0), throw=False).value


def check_plain() -> None:
    assert error(_plain(RIGHT), np.linalg.solve(MATRIX, RIGHT)) < 1e-10


class Injected(Exception):
    pass


calls = 0


def _raising(x: Any) -> Any:
    global calls
    calls += 1
    if calls % 5 == 0:
        raise Injected("injected into a product")
    return x


@jax.jit
def _with_callback(b: Any) -> Any:
    def product(x: Any) -> Any:
        return _stencil(jax.pure_callback(_raising, STRUCTURE, x))

    operator = lx.FunctionLinearOperator(product, STRUCTURE, PSD)
    return lx.linear_solve(operator, b, lx.CG(1e-12, 0.0), throw=False).value


def callback_raises() -> str:
    try:
        jax.block_until_ready(_with_callback(RIGHT))
    except Exception as failure:
        assert "injected into a product" in str(failure), failure
        said = f"`{type(failure).__name__}` with the callback's message"
    else:
        raise AssertionError("no error")
    check_plain()
    return said


def interrupted() -> str:
    # a shell that starts this in the background has it ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    end = time.monotonic() + 30
    try:
        while time.monotonic() < end:
            check_plain()
    except KeyboardInterrupt:
        check_plain()
        return "`KeyboardInterrupt`"
    raise AssertionError("not interrupted")


ROWS, COLUMNS, _ = patterns(1, 200)[0]
PATTERN = lx.SparsityPattern(ROWS, COLUMNS, (200, 200))


def _sparse(values: Any, b: Any) -> Any:
    operator = lx.SparseLinearOperator(values, PATTERN)
    return lx.linear_solve(operator, b, lx.SparseLU()).value


def evicted() -> str:
    """The cache is cleared between the solution and its gradient, while others use it
    too."""
    rng = np.random.default_rng(compiled.total())
    values = np.where(ROWS == COLUMNS, 20.0, rng.normal(size=ROWS.size))
    b, w = rng.normal(size=(2, 200))
    x, pull = jax.vjp(_sparse, jnp.asarray(values), jnp.asarray(b))
    jax.block_until_ready(x)
    lx.sparse_cache.clear()
    g, gb = pull(jnp.asarray(w))
    A = np.zeros((200, 200))
    A[ROWS, COLUMNS] = values
    x, z = np.linalg.solve(A, b), np.linalg.solve(A.T, w)
    assert error(gb, z) < 1e-10
    assert error(g, -z[ROWS] * x[COLUMNS]) < 1e-10
    return "the right gradient"


def forked() -> str:
    """A child that solves with NumPy, and one that tries to solve with JAX."""
    said = []
    for what, use in [
        ("NumPy", lambda: np.linalg.solve(MATRIX, RIGHT)),
        ("JAX", check_plain),
    ]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            child = os.fork()
        if child == 0:
            signal.alarm(4)  # ends the child, also if it hangs
            code = 1
            try:
                use()
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        warned = any("fork" in str(each.message) for each in caught)
        assert warned, "no warning"
        code = os.waitstatus_to_exitcode(status)
        ends = {0: "works", -signal.SIGALRM: "hangs"}
        said.append(f"{what} {ends.get(code, f'ends with {code}')} in the child")
        assert what == "JAX" or code == 0, said
    check_plain()
    return "a warning; " + ", ".join(said) + "; the parent goes on"


FAULTS = {
    "a host callback raises in a product": callback_raises,
    "SIGINT in the main thread": interrupted,
    "the cache is cleared in the middle of a gradient": evicted,
    "`fork` after use": forked,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    lx.sparse_cache.resize(CACHE)
    load, seen = Load(list(cases())), collections.defaultdict(collections.Counter)
    start = time.monotonic()
    rng = np.random.default_rng(options.seed)
    for case in load.cases:
        load.once(case, rng)
    for name, fault in FAULTS.items():
        seen[name][fault()] += 1
    print(f"compiled in {time.monotonic() - start:.0f} s", flush=True)

    seeds = range(options.seed + 1, options.seed + 1 + options.threads)
    threads = [threading.Thread(target=load.work, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    start, samples, names = time.monotonic(), [], list(FAULTS)
    pause = min(10.0, 60 * options.minutes / 24)
    try:
        while (minutes := (time.monotonic() - start) / 60) < options.minutes:
            info = lx.sparse_cache.info()
            arrays, done = len(jax.live_arrays()), load.solves.total()
            samples.append(
                Sample(minutes, resident(), arrays, info.bytes, compilations(), done)
            )
            print(*samples[-1], flush=True)
            time.sleep(pause)
            name = names[len(samples) % len(names)]
            seen[name][FAULTS[name]()] += 1
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()

    quarter = max(1, len(samples) // 4)
    first = np.median([s.resident for s in samples[quarter : 2 * quarter]])
    last = np.median([s.resident for s in samples[-quarter:]])
    again = samples[-1].compilations - samples[quarter].compilations
    text = report(load, seen, samples, last / first, again, options.threads)
    print(text)
    assert not load.failures, load.failures[:10]
    assert again == 0, f"{again} programs were compiled again"
    assert last <= GROWTH * first, f"memory grew by a factor {last / first:.3f}"
    if options.write:
        PAGE.write_text(text)


def report(
    load: Load,
    seen: Any,
    samples: list[Sample],
    growth: float,
    again: int,
    threads: int,
) -> str:
    solves = load.solves.total()
    lines = [
        "# A load that lasts",
        "",
        f"`hatch run soak` ran {samples[-1].minutes:.0f} minutes on {os.cpu_count()} "
        f"cores with {threads} threads: {len(load.cases)} combinations of solver, "
        "transformation and sparsity pattern, with numbers drawn anew each time. "
        f"JAX {jax.__version__}, Python {platform.python_version()}.",
        "",
        f"- **{solves} solves, {len(load.failures)} wrong.** Each was compared with "
        "NumPy or SciPy: values, gradients, tangents and batches.",
        f"- **Memory: {growth:.3f}** is the median of the last quarter relative to "
        f"that of the second. More than {GROWTH} would fail.",
        f"- **{again} compilations** after the first quarter.",
        "",
        "| minutes | resident MB | arrays | cached MB | compilations | solves |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    step = max(1, (len(samples) - 1) // 8)
    for s in samples[::step]:
        lines.append(
            f"| {s.minutes:.1f} | {s.resident / 1e6:.0f} | {s.arrays} "
            f"| {s.cached / 1e6:.1f} | {s.compilations} | {s.solves} |"
        )
    lines += ["", "Faults, injected while the threads were solving:", ""]
    lines += ["| fault | times | what was seen |", "|---|--:|---|"]
    for name, counts in seen.items():
        for what, count in counts.items():
            lines.append(f"| {name} | {count} | {what} |")
    lines += [
        "",
        "After each fault the next solve is checked. Batches are solved by one thread "
        "at a time, because two batched LAPACK calls at once can hang in "
        "XLA: see [Batching](../guides/batching.md). A forked child must not use JAX: "
        'start processes by `multiprocessing.get_context("spawn")`.',
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
