"""Sparse Jacobians: finding patterns, colouring them, compressing by them.

    python benchmarks/sparse_jacobians.py [--peer PYTHON]

prints Markdown tables. PYTHON is that of an environment with `asdex`, which is run on
the same functions in a process of its own.
"""

import argparse
import json
import math
import subprocess
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def five_point(n):
    """-Δu + u³ on a square grid."""
    k = round(n**0.5)

    def fn(u):
        v = jnp.pad(u.reshape(k, k), 1)
        near = v[:-2, 1:-1] + v[2:, 1:-1] + v[1:-1, :-2] + v[1:-1, 2:]
        return (4 * v[1:-1, 1:-1] - near).reshape(-1) + u**3

    return fn, k * k


def chain(n):
    """Gathered from two places nearby and scattered to a third, as on a mesh."""
    rng = np.random.default_rng(0)
    near = np.arange(n)[:, None] + rng.integers(-3, 4, (n, 3))
    near = np.clip(near, 0, n - 1)

    def fn(x):
        flux = jnp.sin(x[near[:, 0]]) * x[near[:, 1]]
        return x**2 + jnp.zeros_like(x).at[near[:, 2]].add(flux)

    return fn, n


def reactions(n):
    """Two fields on a line, which react and diffuse."""
    half = n // 2

    def fn(x):
        u, v = x[:half], x[half:]
        diffuse = lambda w: jnp.roll(w, 1) - 2 * w + jnp.roll(w, -1)  # noqa: E731
        rate = u**2 * v
        return jnp.concatenate([diffuse(u) + rate - u, diffuse(v) - rate])

    return fn, 2 * half


def recurrence(n):
    """A scan that hands on what it last saw."""

    def fn(x):
        return jax.lax.scan(lambda before, x: (x, x * before), x[0], x)[1]

    return fn, n


CASES = {
    "five-point stencil": (five_point, 40_000),
    "gather and scatter": (chain, 20_000),
    "reactions on a line": (reactions, 20_000),
    "scan": (recurrence, 10_000),
}


def timed(fn, *args, seconds=0.5):
    """The first time and the least of later ones, with the result."""
    times: list[float] = []
    out: Any = None
    while len(times) < 3 or (sum(times) < seconds and len(times) < 200):
        start = time.perf_counter()
        out = jax.block_until_ready(fn(*args))
        times.append(time.perf_counter() - start)
    return times[0], min(times[1:]), out


def theirs():
    """By asdex, as JSON."""
    import warnings

    import asdex  # pyright: ignore[reportMissingImports]

    warnings.simplefilter("ignore")
    found = {}
    for name, (case, n) in CASES.items():
        fn, n = case(n)
        try:
            first, again, pattern = timed(asdex.jacobian_sparsity, fn, jnp.zeros(n))
            _, colour, coloured = timed(asdex.jacobian_coloring_from_sparsity, pattern)
            size, count = pattern.rows.size, coloured.num_colors
            found[name] = [first, again, int(size), colour, int(count)]
        except Exception as error:  # what a peer cannot do, is said
            found[name] = f"{type(error).__name__}"
    print(json.dumps(found))


def ours(lx, case, n):
    """Of detection: the first time, later ones and entries; of colouring the time and
    the number; of a compressed Jacobian and of the products that it makes, one after
    the other and in one batch, the time."""
    from lx_operators.sparse.colouring import colour

    fn, n = case(n)
    with_args = lambda x, args: fn(x)  # noqa: E731
    first, again, pattern = timed(lx.jacobian_sparsity, with_args, jnp.zeros(n))
    _, colouring, found = timed(colour, pattern)
    coloured = lx.ColouredPattern(pattern)
    x = jax.random.normal(jax.random.key(0), (n,))

    @jax.jit
    def compressed(x, coloured):
        operator = lx.JacobianLinearOperator(with_args, x, sparsity=coloured)
        return lx.materialise(operator).values

    product = jax.jit(lambda x, v: jax.jvp(fn, (x,), (v,))[1])
    batch = jax.jit(jax.vmap(product, (None, 0)))
    _, values, _ = timed(compressed, x, coloured)
    _, one, _ = timed(product, x, x)
    _, many, _ = timed(batch, x, jnp.broadcast_to(x, (found.count, n)))
    return first, again, pattern.size, colouring, found.count, values, one, many


def main(peer):
    import lineax as lx

    other = {}
    if peer:
        command = [peer, __file__, "--as-peer"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        other = json.loads(done.stdout.splitlines()[-1])
    print(
        "| function, n | by | first, ms | again, ms | entries | coloured, ms | colours "
        "| compressed, ms | its products, ms: one by one | in one batch |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, (case, n) in CASES.items():
        row = ours(lx, case, n)
        first, again, size, colouring, count, values, one, many = row
        times = [f"{1e3 * t:.2f}" for t in (values, count * one, many)]
        cells = [f"{1e3 * first:.0f}", f"{1e3 * again:.0f}", size]
        cells += [f"{1e3 * colouring:.0f}", count, *times]
        print(f"| {name}, {n} | ours |", " | ".join(map(str, cells)), "|")
        theirs = other.get(name)
        if isinstance(theirs, str):
            print(f"| | asdex | {theirs} | | | | | | | |")
        elif theirs:
            first, again, size, colouring, count = theirs
            cells = [f"{1e3 * first:.0f}", f"{1e3 * again:.0f}", size]
            cells += [f"{1e3 * colouring:.0f}", count, "", "", ""]
            print("| | asdex |", " | ".join(map(str, cells)), "|")
    print(
        "\n| function | detection and colouring, ms: n = 1e4 | 1e5 | 1e6 | exponent |"
    )
    print("|---|--:|--:|--:|--:|")
    for name, (case, _) in CASES.items():
        times = []
        for n in (10_000, 100_000, 1_000_000):
            row = ours(lx, case, n)
            times.append(row[1] + row[3])
        power = math.log10(times[2] / times[0]) / 2
        cells = [f"{1e3 * t:.0f}" for t in times]
        print(f"| {name} |", " | ".join(cells), f"| {power:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer")
    parser.add_argument("--as-peer", action="store_true")
    given = parser.parse_args()
    theirs() if given.as_peer else main(given.peer)
