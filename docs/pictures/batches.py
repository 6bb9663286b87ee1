"""Time of a batch of 3 × 3 solves: one vmap, or a loop of NumPy."""

import time

import jax
import matplotlib.pyplot as plt
import numpy as np
from pages import run

page = run("jobs/batches.md")
matrices, vectors = page["matrices"], page["vectors"]
solve = jax.jit(jax.vmap(page["solve"]))


def least(fn):
    fn()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        jax.block_until_ready(fn())
        times.append(time.perf_counter() - start)
    return min(times)


def loop(A, b):
    return [np.linalg.solve(*pair) for pair in zip(A, b)]


sizes = [10, 100, 1000, 10_000]
numpys = [(np.asarray(matrices[:k]), np.asarray(vectors[:k])) for k in sizes]
ours = [least(lambda k=k: solve(matrices[:k], vectors[:k]).value) for k in sizes]
loops = [least(lambda pair=pair: loop(*pair)) for pair in numpys]
figure, axes = plt.subplots()
axes.loglog(sizes, ours, "o-", label="vmap")
axes.loglog(sizes, loops, "o-", label="loop of numpy.linalg.solve")
axes.set(xlabel="systems of three unknowns", ylabel="seconds")
axes.legend()
