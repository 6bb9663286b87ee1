"""Compile and run times of one environment's `lineax`, as JSON. Run by `run.py`.

Only names that the published `lineax` 0.1.1 has are used, so that the same file
measures both. Times are seconds; run times are medians of repeated calls after warm-up.
"""

import json
import statistics
import sys
import time

START = time.perf_counter()
import equinox as eqx  # noqa: E402, F401
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

BEFORE = time.perf_counter()
import lineax as lx  # noqa: E402

IMPORT = time.perf_counter() - BEFORE

jax.config.update("jax_enable_x64", True)

DEFINITE = lx.positive_semidefinite_tag
SOLVERS = {
    "LU": (lambda: lx.LU(), ()),
    "QR": (lambda: lx.QR(), ()),
    "SVD": (lambda: lx.SVD(), ()),
    "Cholesky": (lambda: lx.Cholesky(), DEFINITE),
    "CG": (lambda: lx.CG(1e-8, 1e-8), DEFINITE),
    "BiCGStab": (lambda: lx.BiCGStab(1e-8, 1e-8), ()),
    "GMRES": (lambda: lx.GMRES(1e-8, 1e-8), ()),
    "LSMR": (lambda: lx.LSMR(1e-8, 1e-8), ()),
}


def problem(n, k=None):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, n))
    matrix = jnp.asarray(x @ x.T / n + np.eye(n))
    return matrix, jnp.asarray(rng.standard_normal(n if k is None else (k, n)))


def value(solver, tags):
    def solve(matrix, vector):
        operator = lx.MatrixLinearOperator(matrix, tags)
        return lx.linear_solve(operator, vector, solver, throw=False).value

    return solve


def gradient(solver, tags):
    solve = value(solver, tags)
    return jax.grad(lambda a, b: jnp.sum(solve(a, b) ** 2), argnums=(0, 1))


def compiled(fn, *args):
    start = time.perf_counter()
    executable = jax.jit(fn).lower(*args).compile()
    return executable, time.perf_counter() - start


def running(call, *args, seconds=0.3):
    """The median time of `call(*args)`."""
    jax.block_until_ready(call(*args))
    times, until = [], time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < until:
        start = time.perf_counter()
        jax.block_until_ready(call(*args))
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure():
    out = {"import": IMPORT}
    compiled(jnp.linalg.solve, *problem(3))  # the first compilation pays for set-up
    for name, (make, tags) in SOLVERS.items():
        for kind, build in (("value", value), ("gradient", gradient)):
            fn = build(make(), tags)
            executable, seconds = compiled(fn, *problem(10))
            out[f"compile {name} {kind}"] = seconds
            for n in (50, 500):
                args = problem(n)
                executable, _ = compiled(fn, *args)
                out[f"run {name} {kind} n={n}"] = running(executable, *args)
    for name in ("LU", "QR"):
        make, tags = SOLVERS[name]
        args = problem(500, 500)
        many = jax.vmap(value(make(), tags), in_axes=(None, 0))
        executable, _ = compiled(many, *args)
        out[f"run {name} 500 right-hand sides"] = running(executable, *args)
    matrix, vector = problem(4)
    operator = lx.MatrixLinearOperator(matrix)
    out["eager LU n=4"] = running(lx.linear_solve, operator, vector, lx.LU())
    return out


if __name__ == "__main__":
    json.dump(measure(), sys.stdout)
