"""What structure buys: one Poisson problem, in five kinds of operator.

    python benchmarks/structure.py --write

times -Δu + u = 1 on a k × k grid, factorisation or set-up included, and with `--write`
keeps the times in `docs/data/structure.json` and draws `docs/assets/structure.svg`, the
picture of the README. The home page draws the same times.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse as sp
from structured import best

jax.config.update("jax_enable_x64", True)
ROOT = Path(__file__).parents[1]
PSD = lx.positive_semidefinite_tag


def difference(k):
    """-u'' on k points, zero outside, and half of u."""
    ones = np.ones(k)
    offsets: Any = [-1, 0, 1]
    return sp.diags_array([-ones[1:], 2.5 * ones, -ones[1:]], offsets=offsets)


def grid(k):
    return sp.csr_array(sp.kronsum(difference(k), difference(k)))


def dense(k):
    return lx.MatrixLinearOperator(jnp.asarray(grid(k).toarray()), PSD), lx.Cholesky()


def banded(k):
    A = grid(k).todia()
    bands = np.zeros((2 * k + 1, k * k))
    bands[k - A.offsets] = A.data
    return lx.BandedLinearOperator(jnp.asarray(bands), k, k), lx.Banded()


def sparse(k):
    return lx.SparseLinearOperator.from_scipy(grid(k), PSD), lx.SparseCholesky()


def multigrid(k):
    solver = lx.CG(rtol=1e-8, atol=0.0, preconditioner=lx.AMG())
    return lx.SparseLinearOperator.from_scipy(grid(k), PSD), solver


def kronecker(k):
    off = -jnp.ones(k - 1)
    part = lx.TridiagonalLinearOperator(2.5 * jnp.ones(k), off, off)
    part = lx.TaggedLinearOperator(part, PSD)
    return lx.KroneckerSumLinearOperator(part, part), lx.KroneckerEigh()


# Each kind, and its largest grid.
KINDS = {
    "dense: Cholesky": (dense, 64),
    "banded: Banded": (banded, 90),
    "sparse: SparseCholesky": (sparse, 512),
    "sparse: CG with AMG": (multigrid, 512),
    "Kronecker sum: KroneckerEigh": (kronecker, 1024),
}


def measure():
    times = {}
    for name, (kind, largest) in KINDS.items():
        times[name] = []
        for k in (16, 32, 64, 90, 128, 256, 512, 1024):
            if k > largest:
                break
            operator, solver = kind(k)
            shape = jax.tree.leaves(operator.out_structure())[0].shape
            b = jnp.ones(shape)

            def solve(operator=operator, b=b, solver=solver):
                lx.sparse_cache.clear()  # factors of the run before
                return lx.linear_solve(operator, b, solver, throw=False)

            assert solve().successful, (name, k)
            times[name].append([k * k, best(lambda: solve().value, seconds=0.3)])
            print(f"{name:30} n = {k * k:8}  {times[name][-1][1]:.2e} s", flush=True)
    return times


if __name__ == "__main__":
    times = measure()
    if "--write" in sys.argv:
        data = json.dumps(times, indent=1).replace("\n   ", " ").replace("\n  ]", " ]")
        (ROOT / "docs" / "data" / "structure.json").write_text(data + "\n")
        runpy.run_path(str(ROOT / "docs" / "standalone.py"))["write"]("structure")
