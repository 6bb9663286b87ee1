"""Sparse products and sparse solves of other libraries for JAX, as JSON, for the tables
of `sparse.py` and `sparse_direct.py`.

    python benchmarks/peer_sparse.py products|systems [PATTERN] [--large] [--cpu]

Runs in an environment of its own, which has splineax, solvax or klujax (splineax brings
a klujax that is not the other one: install one of them), and not ours. What is not
installed is left out; what fails is named.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from sparse_matrices import LARGE, PRODUCTS, SYSTEMS

Figures = dict[str, dict[str, dict[str, float]]]  # matrix, participant, case


def of_peers(arguments: list[str], kind: str, pattern: str) -> Figures:
    """What peers take, each `--peer PYTHON` among the arguments in its turn."""
    out: Figures = {}
    pythons = [y for x, y in zip(arguments, arguments[1:]) if x == "--peer"]
    flags = [x for x in arguments if x == "--large"] + ["--cpu"]
    alone = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    for python in pythons:
        command = [python, str(Path(__file__)), kind, pattern, *flags]
        done = subprocess.run(
            command, env=alone, stdout=subprocess.PIPE, text=True, check=True
        )
        for name, found in json.loads(done.stdout.splitlines()[-1]).items():
            out.setdefault(name, {}).update(found)
    return out


def least(fn: Callable[[int], Any], repeats: int = 7) -> float:
    """Milliseconds of the fastest of several runs, each with a number of its own."""
    clock = time.process_time if "--cpu" in sys.argv else time.perf_counter
    jax.block_until_ready(fn(repeats))
    times = []
    for k in range(repeats):
        start = clock()
        jax.block_until_ready(fn(k))
        times.append(clock() - start)
    return 1e3 * min(times)


def check(A: Any, x: Any, b: np.ndarray) -> None:
    size = np.max(np.abs(b)) + np.max(np.abs(A) @ np.abs(x))
    assert np.max(np.abs(A @ np.asarray(x) - b)) <= 1e-10 * size


def splineax_products(A: Any, x: Any) -> dict[str, float]:
    import splineax  # pyright: ignore[reportMissingImports]
    from jax.experimental import sparse

    matrix = sparse.BCSR.from_scipy_sparse(sp.csr_matrix(A))
    operator = splineax.BCSRLinearOperator(matrix)
    several = x.ndim == 2
    times = jax.jit(
        lambda x: (jax.vmap(operator.mv, 1, 1) if several else operator.mv)(x)
    )
    return {"product": least(lambda _: times(x))}


def solvax_products(A: Any, x: Any) -> dict[str, float]:
    import solvax  # pyright: ignore[reportMissingImports]

    pattern = solvax.CsrPattern(A.indptr, A.indices, A.shape)
    values = jnp.asarray(A.data)
    times = jax.jit(lambda values, x: solvax.csr_matvec(pattern, values, x))
    return {"product": least(lambda _: times(values, x))}


def splineax_systems(A: Any, b: np.ndarray) -> dict[str, float]:
    import splineax  # pyright: ignore[reportMissingImports]
    from jax.experimental import sparse

    matrix, solver = sparse.BCSR.from_scipy_sparse(sp.csr_matrix(A)), splineax.KLU()

    def operator(scale: float) -> Any:
        arrays = scale * matrix.data, matrix.indices, matrix.indptr
        return splineax.BCSRLinearOperator(sparse.BCSR(arrays, shape=matrix.shape))

    @jax.jit
    def solve(k: Any) -> Any:
        return splineax.linear_solve(operator(2.5 + k), b, solver)[0].value

    solution, state = splineax.linear_solve(operator(1.0), b, solver)
    check(A, solution.value, b)
    vector = jax.jit(lambda b: solver.compute(state, b, {})[0])
    return {
        "new values": least(lambda k: solve(float(k))),
        "vector": least(lambda k: vector(b + k)),
    }


def solvax_systems(A: Any, b: np.ndarray) -> dict[str, float]:
    import solvax  # pyright: ignore[reportMissingImports]

    pattern = solvax.CsrPattern(A.indptr, A.indices, A.shape)
    values, many = jnp.asarray(A.data), jnp.stack(16 * [jnp.asarray(b)], axis=1)
    solve = jax.jit(lambda values, b: solvax.sparse_solve(pattern, values, b))
    check(A, solve(values, b), b)

    def gradient(values: Any) -> Any:
        return jax.value_and_grad(lambda v: jnp.sum(jnp.abs(solve(v, b)) ** 2))(values)

    compiled = jax.jit(gradient)
    return {
        "new values": least(lambda k: solve((21 + k) * values, b)),
        "vector": least(lambda k: solve(values, b + k)),
        "16 vectors": least(lambda k: solve(values, many + k)),
        "gradient": least(lambda k: compiled((41 + k) * values)),
    }


def klujax_systems(A: Any, b: np.ndarray) -> dict[str, float]:
    import klujax  # pyright: ignore[reportMissingImports]

    coordinates = A.tocoo().coords
    i, j = (jnp.asarray(x, jnp.int32) for x in coordinates)
    values, many = jnp.asarray(A.data), jnp.stack(16 * [jnp.asarray(b)], axis=1)
    solve = jax.jit(klujax.solve)
    check(A, solve(i, j, values, jnp.asarray(b)), b)
    return {
        "new values": least(lambda k: solve(i, j, (2 + k) * values, jnp.asarray(b))),
        "16 vectors": least(lambda k: solve(i, j, values, many + k)),
    }


PARTICIPANTS = {
    "products": {"splineax": splineax_products, "solvax": solvax_products},
    "systems": {
        "splineax": splineax_systems,
        "solvax": solvax_systems,
        "klujax": klujax_systems,
    },
}


def main(kind: str, pattern: str = "") -> None:
    jax.config.update("jax_enable_x64", True)
    matrices = PRODUCTS if kind == "products" else SYSTEMS
    matrices = matrices | (LARGE if "--large" in sys.argv else {})
    out: Figures = {}
    for name, make in matrices.items():
        if not re.search(pattern, name):
            continue
        A = make()
        b = np.random.default_rng(0).standard_normal(A.shape[1]).astype(A.dtype)
        for who, cases in PARTICIPANTS[kind].items():
            if importlib.util.find_spec(who) is None:
                continue
            if who == "klujax" and importlib.util.find_spec("splineax"):
                continue  # it is splineax's own
            try:
                found: Any = cases(A, b)
                if kind == "products":
                    many = cases(A, np.stack(16 * [b], axis=1))
                    found["16 vectors"] = many["product"]
            except Exception as error:  # what a peer cannot do, is said
                print(f"{who}, {name}: {error!r:.200}", file=sys.stderr)
                continue
            out.setdefault(name, {})[who] = found
    print(json.dumps(out))


if __name__ == "__main__":
    main(*(x for x in sys.argv[1:] if not x.startswith("--")))
