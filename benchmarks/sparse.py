"""Products of sparse matrices compared with SciPy's CSR and JAX's BCOO and BCSR.

    python benchmarks/sparse.py                 all matrices
    python benchmarks/sparse.py "2-D.*1e5"      those that match
    python benchmarks/sparse.py growth          how the cost grows from 1e4 to 1e6
    python benchmarks/sparse.py --peer PYTHON   with columns of other libraries

prints Markdown tables. "Prepared" is a product of `linearise(operator)`, as iterative
solvers have it; "in a loop" the same, one of twenty in one program, where nothing is
dispatched and no memory is allocated; "as it stands" a product of the operator itself.
Times are CPU time of all threads of this process, in ms, so that other programs on the
machine count little, and what several threads gain does not count. Participants take
turns within a round; the least of the rounds counts, and a ratio is the median of those
of each round.
"""

import re
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from jax.experimental import sparse as jsparse
from peer_sparse import of_peers
from sparse_matrices import PRODUCTS, laplacian

jax.config.update("jax_enable_x64", True)
ROUNDS, LOOP = 11, 20


def rounds(calls):
    """The CPU times of each call in ms, round by round."""
    for call in calls.values():
        jax.block_until_ready(call())
    times = {name: np.empty(ROUNDS) for name in calls}
    for k in range(ROUNDS):
        for name, call in calls.items():
            start = time.process_time()
            jax.block_until_ready(call())
            times[name][k] = 1e3 * (time.process_time() - start)
    return times


@jax.jit
def times(operator, x):
    return operator.mv(x) if x.ndim == 1 else jax.vmap(operator.mv, 1, 1)(x)


@jax.jit
def looped(operator, x):
    return jax.lax.fori_loop(0, LOOP, lambda _, x: times(operator, x), x)


@jax.jit
def at(matrix, x):
    return matrix @ x


def row(name, given_matrix, columns, theirs):
    matrix: Any = sp.csr_array(given_matrix / abs(given_matrix).sum(axis=1).max())
    operator = lx.SparseLinearOperator.from_scipy(matrix)
    prepared = jax.jit(lx.linearise)(operator)
    turned = jax.jit(lx.linearise)(operator.T)
    shape = (matrix.shape[1], columns)[: 1 + (columns > 1)]
    given = np.random.default_rng(0).normal(size=shape).astype(matrix.dtype)
    x = jnp.asarray(given)
    bcoo = jsparse.BCOO.from_scipy_sparse(sp.csr_matrix(matrix))
    bcsr = jsparse.BCSR.from_scipy_sparse(sp.csr_matrix(matrix))
    start = time.process_time()
    times.lower(prepared, x).compile()
    compiling = time.process_time() - start
    wanted = matrix @ given
    np.testing.assert_allclose(times(prepared, x), wanted, atol=1e-9)
    found = rounds(
        {
            "SciPy": lambda: matrix @ given,
            "prepared": lambda: times(prepared, x),
            "loop": lambda: looped(prepared, x),
            "transposed": lambda: times(turned, x),
            "stands": lambda: times(operator, x),
            "BCOO": lambda: at(bcoo, x),
            "BCSR": lambda: at(bcsr, x),
        }
    )
    found["loop"] /= LOOP
    keys = ("prepared", "loop", "transposed", "stands", "SciPy", "BCOO", "BCSR")
    cells = [f"{min(found[key]):.3g}" for key in keys]
    for key in ("prepared", "loop"):
        cells.append(f"{np.median(found[key] / found['SciPy']):.2f}")
    cells.append(f"{np.median(found['transposed'] / found['prepared']):.2f}")
    what = f"{name}, {columns} vectors" if columns > 1 else name
    cells = [
        what,
        str(matrix.nnz),
        operator.pattern.form,
        *cells,
        f"{compiling:.2f} s",
        *theirs,
    ]
    print(f"| {' | '.join(cells)} |")
    sys.stdout.flush()


def iterations():
    """CG on 2-D Poisson 1e6: the time of an iteration, and SciPy's."""
    matrix: Any = laplacian(1000, 2)
    operator = lx.SparseLinearOperator.from_scipy(matrix, lx.positive_semidefinite_tag)
    b = np.random.default_rng(0).normal(size=matrix.shape[0])
    right, found = jnp.asarray(b), {}
    for steps in (10, 60):
        solver = lx.CG(rtol=0.0, atol=0.0, max_steps=steps)
        solve = jax.jit(lambda A, b, s=solver: lx.linear_solve(A, b, s).value)
        ours = least(lambda s=solve: jax.block_until_ready(s(operator, right)))
        theirs = least(lambda k=steps: spla.cg(matrix, b, rtol=0, maxiter=k))
        found[steps] = np.array([ours, theirs])
    ours, theirs = 1e3 * (found[60] - found[10]) / 50
    print(
        f"\nCG on 2-D Poisson 1e6, per iteration: {ours:.3g} ms, SciPy {theirs:.3g} ms"
    )


def least(call, repeats=3):
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def growth():
    sizes, found = (100, 316, 1000), {}
    for n in sizes:
        operator = lx.SparseLinearOperator.from_scipy(laplacian(n, 2))
        x = jnp.ones(n * n)
        prepared = jax.jit(lx.linearise)(operator)
        calls = {
            "product": lambda A=prepared, x=x: times(A, x),
            "product, 16 vectors": lambda A=prepared, x=x: times(
                A, jnp.broadcast_to(x[:, None], (x.size, 16))
            ),
        }
        found[n] = {name: min(each) for name, each in rounds(calls).items()}
        matrix = laplacian(n, 2)
        found[n]["building the pattern"] = 1e3 * least(
            lambda matrix=matrix: lx.SparsityPattern.from_scipy(matrix), 2
        )
    print("| | 1e4 | 1e5 | 1e6 | exponent |\n|---|--:|--:|--:|--:|")
    for name in found[100]:
        cells = [found[n][name] for n in sizes]
        exponent = np.log(cells[2] / cells[0]) / np.log(100)
        print(
            f"| {name} | {' | '.join(f'{c:.3g} ms' for c in cells)} | {exponent:.2f} |"
        )


def main():
    words = [y for x, y in zip(sys.argv, sys.argv[1:]) if x != "--peer"]
    pattern = next((x for x in words if x != "--peer"), "")
    if pattern == "growth":
        return growth()
    peers = of_peers(sys.argv, "products", pattern)
    others = sorted({who for found in peers.values() for who in found})
    heads = ["matrix", "entries", "form", "prepared", "in a loop", "transposed"]
    heads += ["as it stands", "SciPy CSR", "BCOO", "BCSR", "prepared / SciPy"]
    heads += ["loop / SciPy", "transposed / prepared", "compile", *others]
    print(f"| {' | '.join(heads)} |")
    print("|---|--:|---|" + (11 + len(others)) * "--:|")
    for name, make in PRODUCTS.items():
        for columns in (1, 16):
            if re.search(pattern, name):
                case = "product" if columns == 1 else f"{columns} vectors"
                found = [peers.get(name, {}).get(who, {}) for who in others]
                theirs = [f"{f[case]:.3g}" if case in f else "" for f in found]
                row(name, make(), columns, theirs)
    if re.search(pattern, "CG"):
        iterations()


if __name__ == "__main__":
    main()
