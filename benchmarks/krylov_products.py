"""Products with the operator until the true residual is within 1e-8 of b, by our
methods and by those of SciPy and solvax, where these have them.

    python benchmarks/krylov_products.py

Products are counted one by one, checks and starts included; for sequences, those of
all systems together. For many right-hand sides, the steps of all are counted. Each
method runs with the same memory. A `*` says that the true residual is not within the
tolerance.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg as spla

jax.config.update("jax_enable_x64", True)

import lineax as lx  # noqa: E402

try:
    import solvax  # pyright: ignore[reportMissingImports]
except ImportError:
    solvax = None

TOL = 1e-8
counted = 0


def count(*_):
    global counted
    counted += 1


def products(solve) -> tuple[int, np.ndarray]:
    global counted
    counted = 0
    x = solve()
    jax.effects_barrier()
    return counted, np.asarray(x)


def ours(a, b, solver, tags=(), options=None):
    matrix = jnp.asarray(a)

    def fn(x):
        jax.debug.callback(count)
        return matrix @ x

    structure = jax.ShapeDtypeStruct(b.shape, b.dtype)
    operator = lx.FunctionLinearOperator(fn, structure, tags)
    options = {} if options is None else options
    state = solver.init(operator, options)
    x, _, stats = solver.compute(state, jnp.asarray(b), {})
    return x, solver.updated(state, stats) if hasattr(solver, "updated") else None


class _Counted:
    """A matrix as SciPy takes it, whose products are counted."""

    def __init__(self, a):
        self.a, self.shape, self.dtype = a, a.shape, a.dtype

    def matvec(self, x):
        count()
        return self.a @ x


def theirs(a, b, solve, **more):
    operator: Any = spla.aslinearoperator(_Counted(a))
    return solve(operator, b, rtol=TOL, atol=0.0, **more)[0]


def poisson(m):
    one = 2 * np.eye(m) - np.eye(m, k=1) - np.eye(m, k=-1)
    return np.kron(one, np.eye(m)) + np.kron(np.eye(m), one)


def convection(m, w):
    one = 2 * np.eye(m) - np.eye(m, k=1) - np.eye(m, k=-1)
    skew = w * (np.eye(m, k=1) - np.eye(m, k=-1))
    return np.kron(one + skew, np.eye(m)) + np.kron(np.eye(m), one + skew / 2)


def told(a, b, x):
    return "" if np.linalg.norm(b - a @ x) <= 1.001 * TOL * np.linalg.norm(b) else "*"


def single():
    rng = np.random.default_rng(0)
    aims: dict[str, Any] = dict(rtol=TOL, atol=0.0, criterion="two_norm")
    psd, hermitian = lx.positive_semidefinite_tag, lx.hermitian_tag
    shifted = poisson(20) - 1.3 * np.eye(400)
    systems = {
        "Poisson, 2-D": poisson(20),
        "Poisson - 1.3 I": shifted,
        "convection, weak": convection(20, 0.1),
        "convection, strong": convection(20, 0.8),
    }
    methods = [
        ("CG", lx.CG(**aims), psd, spla.cg, {}, (0,)),
        ("CG(stabilise_every=None)", lx.CG(**aims, stabilise_every=None), psd, spla.cg,
         {}, (0,)),
        ("MINRES", lx.MINRES(**aims), hermitian, None, {}, (0, 1)),
        ("SYMMLQ", lx.SYMMLQ(**aims), hermitian, None, {}, (0, 1)),
        ("BiCGStab", lx.BiCGStab(**aims), (), spla.bicgstab, {}, (0, 2, 3)),
        ("GMRES", lx.GMRES(**aims), (), spla.gmres, {"restart": 20}, (0, 2, 3)),
        ("GCRODR", lx.GCRODR(**aims, restart=25, recycle=5), (), spla.gcrotmk,
         {"m": 20, "k": 5}, (0, 2, 3)),
    ]  # fmt: skip
    print("| method | system | ours | SciPy |\n|---|---|--:|--:|")
    for name, solver, tags, peer, more, which in methods:
        for i in which:
            system, a = list(systems.items())[i]
            b = rng.normal(size=len(a))
            mine, x = products(lambda: ours(a, b, solver, tags)[0])  # noqa: B023
            row = f"| `{name}` | {system} | {mine}{told(a, b, x)} | "
            if name == "MINRES":
                row += _minres(a, b)
            elif peer is not None:
                other, x = products(lambda: theirs(a, b, peer, **more))  # noqa: B023
                row += f"{other}{told(a, b, x)}"
            print(row + " |", flush=True)


def _minres(a, b):
    """SciPy's MINRES, whose tolerance is another, when its residual passes."""
    for k in range(1, 2 * len(b)):
        x = spla.minres(a, b, rtol=0.0, maxiter=k)[0]
        if np.linalg.norm(b - a @ x) <= TOL * np.linalg.norm(b):
            return str(k)
    return "*"


def sequences():
    rng = np.random.default_rng(1)
    n, count_ = 200, 8
    small = np.diag(np.r_[np.geomspace(1e-4, 1e-2, 5), np.linspace(1, 2, n - 5)])
    small = small + 0.02 * np.triu(rng.normal(size=(n, n)), 1)
    aims: dict[str, Any] = dict(rtol=TOL, atol=0.0, criterion="two_norm")
    print("\n| eight systems | `GCRODR` | `GMRES` | SciPy's `gcrotmk` | solvax |")
    print("|---|--:|--:|--:|--:|")
    systems = {"convection": convection(14, 0.1), "five small eigenvalues": small}
    for name, a in systems.items():
        n = len(a)
        change = 1e-3 * np.diag(np.arange(n) / n)
        family = [(a + k * change, rng.normal(size=n)) for k in range(count_)]
        row, state = [], None
        kept = lx.GCRODR(**aims, restart=38, recycle=8)
        for solver in (kept, lx.GMRES(**aims, restart=38)):
            total, state, flag = 0, None, ""
            for ak, b in family:
                given = None if state is None else {"recycle": state}
                ends = []
                done, x = products(
                    lambda: ends.append(ours(ak, b, solver, (), given)) or ends[0][0]  # noqa: B023
                )
                state = ends[0][1]
                total, flag = total + done, flag or told(ak, b, x)
            row.append(f"{total}{flag}")
        total, CU, flag = 0, [], ""
        for ak, b in family:
            more = dict(m=30, k=8, CU=CU, discard_C=True)
            done, x = products(lambda: theirs(ak, b, spla.gcrotmk, **more))  # noqa: B023
            total, flag = total + done, flag or told(ak, b, x)
        row.append(f"{total}{flag}")
        row.append(_solvax(family) if solvax is not None else "")
        print(f"| {name} | " + " | ".join(row) + " |", flush=True)


def _solvax(family):
    cells = []
    for strategy in ("fifo", "harmonic"):
        total, recycle, flag = 0, None, ""
        for ak, b in family:
            matrix = jnp.asarray(ak)

            def fn(x, matrix=matrix):
                jax.debug.callback(count)
                return matrix @ x

            ends = []

            def solve(fn=fn, b=b, recycle=recycle, ends=ends, strategy=strategy):
                end = solvax.gcrot(  # pyright: ignore
                    fn, jnp.asarray(b), m=30, k=8, rtol=TOL, recycle=recycle,
                    recycle_strategy=strategy,
                )  # fmt: skip
                ends.append(end)
                return end.x

            done, x = products(solve)
            recycle = ends[0].recycle
            total, flag = total + done, flag or told(ak, b, x)
        cells.append(f"{total}{flag} ({strategy})")
    return ", ".join(cells)


def blocks():
    """Steps of all columns together; `*` if a column was not solved."""
    rng = np.random.default_rng(2)
    n = 1000
    small = np.diag(np.r_[np.geomspace(1e-4, 1e-2, 5), np.linspace(1, 2, n - 5)])
    small = small + 0.3 / n**0.5 * np.triu(rng.normal(size=(n, n)), 1)
    aims: dict[str, Any] = dict(rtol=TOL, atol=0.0, criterion="two_norm")
    solvers = (
        lx.BlockGMRES(**aims),
        lx.GMRES(**aims),
        lx.GMRES(**aims, restart=300),
    )
    print("\n| columns | system | `BlockGMRES` | `GMRES` | `GMRES(restart=300)` |")
    print("|--:|---|--:|--:|--:|")
    systems = {"five small eigenvalues": small, "convection": convection(32, 0.1)}
    for name, a in systems.items():
        operator = lx.MatrixLinearOperator(jnp.asarray(a))
        for columns in (8, 16):
            B, row = rng.normal(size=(columns, len(a))), []
            for solver in solvers:
                given = operator, jnp.asarray(B), solver
                end = lx.linear_solve(*given, rhs_axis=0, throw=False)
                X = np.asarray(end.value)
                flag = "".join(told(a, b, x) for b, x in zip(B, X, strict=True))[:1]
                row.append(f"{int(np.sum(end.stats['num_steps']))}{flag}")
            print(f"| {columns} | {name} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    single()
    sequences()
    blocks()
