"""One of several processes that solve together.

    python many.py PART FOLDER DEVICES COUNT PROCESS ADDRESS

DEVICES are those of all COUNT processes. Results are written to the folder, for
`test_processes.py`.
"""

import os
import sys
import types
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = str(int(sys.argv[3]) // int(sys.argv[4]))

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse.linalg as spla
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from problems import poisson

PART, FOLDER, ADDRESS = sys.argv[1], Path(sys.argv[2]), sys.argv[6]
DEVICES, COUNT, PROCESS = map(int, sys.argv[3:6])
jax.config.update("jax_enable_x64", True)
if COUNT > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(ADDRESS, COUNT, PROCESS, heartbeat_timeout_seconds=5)

PSD = lx.positive_semidefinite_tag
MESH = jax.make_mesh((DEVICES,), ("rows",), axis_types=(AxisType.Auto,))
A = poisson(6, 100.0)
MATRIX = lx.SparseLinearOperator.from_scipy(A)
S = lx.ShardedSparseLinearOperator.from_operator(
    MATRIX, MESH, order="bisection", overlap=1, tags=PSD
)
RHS = np.random.default_rng(0).normal(size=A.shape[0])
B = S.pattern.distribute(RHS)


def own_rows():
    """A pattern of which each process is asked for the rows of its own devices alone:
    the same lists as from the whole one, and so the same products."""
    order = everywhere(S.pattern.rows).reshape(-1)
    order = order[order >= 0]
    M = A[order][:, order]
    asked = []

    def entries(start, stop):
        asked.append(start)
        i, j = M[start:stop].tocoo().coords
        return i + start, j

    own = lx.ShardedSparsityPattern.from_callback(M.shape, MESH, entries, overlap=1)
    whole = lx.ShardedSparsityPattern(M, MESH, overlap=1)
    q = own.blocks[0]
    assert asked == [q * d for d in range(DEVICES) if d * COUNT // DEVICES == PROCESS]
    lists = ("local", "halo", "overlap", "rows")
    for x, y in zip(*([getattr(P, name) for name in lists] for P in (own, whole))):
        same = jax.tree.map(np.array_equal, everywhere(x), everywhere(y))
        assert all(jax.tree.leaves(same)), same
    values = own.assemble(lambda start, stop: M[start:stop].data)
    operator = lx.ShardedSparseLinearOperator(values, own, PSD)
    b = own.distribute(lambda start, stop: RHS[order[start:stop]])
    solver = lx.CG(1e-10, 1e-10, preconditioner=lx.AdditiveSchwarz(1))
    x = jax.jit(lambda A, b: lx.linear_solve(A, b, solver, throw=False).value)(
        operator, b
    )
    truth = spla.spsolve(A.tocsc(), RHS)[order]
    np.testing.assert_allclose(own.collect(x), truth, rtol=1e-7)


def everywhere(tree):
    """Sharded arrays as NumPy's, on each process all of them."""
    whole = NamedSharding(MESH, PartitionSpec())
    replicate = jax.jit(lambda tree: tree, out_shardings=whole)
    return jax.tree.map(np.asarray, replicate(tree))


class Bar:
    """In place of tqdm's: says on which process it is shown."""

    n = 0

    def __init__(self, **options):
        (FOLDER / f"bar{COUNT}of{PROCESS}").touch()

    def update(self, steps):
        self.n += steps

    def set_postfix_str(self, text, refresh):
        assert text.startswith("residual ")

    def close(self):
        assert self.n == 20, self.n


def progress():
    """Shown on process 0."""
    tqdm: Any = types.ModuleType("tqdm.auto")
    tqdm.tqdm = Bar
    sys.modules["tqdm"] = sys.modules["tqdm.auto"] = tqdm
    solver = lx.CG(0.0, 0.0, max_steps=20, preconditioner=lx.Jacobi(), progress=True)
    run = jax.jit(lambda *a: lx.linear_solve(*a, solver, throw=False).value)
    jax.block_until_ready(run(S, B))
    jax.effects_barrier()


def solve():
    """Iterates after some steps, histories, solutions, gradients, error bounds."""
    solvers = {
        "CG": lx.CG(0.0, 0.0, max_steps=20, preconditioner=lx.Jacobi(), history=True),
        "Schwarz": lx.CG(
            1e-10, 1e-10, preconditioner=lx.AdditiveSchwarz(1, coarse=2), history=True
        ),
    }
    out = {}
    for name, solver in solvers.items():

        def value(values, B, pattern, solver=solver):
            operator = lx.ShardedSparseLinearOperator(values, pattern, PSD)
            solution = lx.linear_solve(operator, B, solver, throw=False)
            x = solution.value
            steps = solution.stats["num_steps"]
            return jnp.sum(x**2), (x, steps, solution.stats["residuals"])

        step = jax.jit(jax.grad(value, has_aux=True))
        gradient, (x, steps, residuals) = step(S.values, B, S.pattern)
        assert len(x.addressable_shards) == DEVICES // COUNT
        gradient, x, steps, residuals = everywhere((gradient, x, steps, residuals))
        out |= {
            f"{name} gradient": gradient,
            f"{name} x": x,
            f"{name} steps": steps,
            f"{name} residuals": residuals[: steps + 1],
        }
    if PROCESS == 0:
        np.savez(FOLDER / f"solve{COUNT}.npz", **out)
    x = np.asarray(S.pattern.collect(jnp.asarray(out["Schwarz x"])))
    np.testing.assert_allclose(x, spla.spsolve(A.tocsc(), RHS), rtol=1e-7)
    if COUNT > 1:
        own_rows()
    save()
    progress()


def save():
    """The iterate after ten steps: each process saves its own part."""
    x = steps(10, None)
    parts = {str(s.index[0].start or 0): s.data for s in x.addressable_shards}
    np.savez(FOLDER / f"x{COUNT}of{PROCESS}.npz", **parts)


def resume():
    """The solution from what four processes saved, by another number of them."""
    parts = {}
    for file in FOLDER.glob("x4of*.npz"):
        parts |= {int(start): part for start, part in np.load(file).items()}

    def read(at):
        return parts[at[0].start or 0]

    x = jax.make_array_from_callback(B.shape, B.sharding, read)

    def left(x):
        return np.linalg.norm(everywhere(B - S.mv(x)))

    before, after = left(x), left(steps(20, x))
    if PROCESS == 0:
        np.savez(FOLDER / "resumed.npz", x=everywhere(x), before=before, after=after)


def steps(count, y0):
    solver = lx.CG(1e-10, 1e-10, max_steps=count, preconditioner=lx.Jacobi())
    options = {} if y0 is None else {"y0": y0}
    run = jax.jit(lambda *a: lx.linear_solve(*a, solver, options=options, throw=False))
    return run(S, B).value


def differ():
    """What is not the same on every process is refused on each of them."""
    M, shape, pattern = MATRIX.to_scipy(), MATRIX.shape, MATRIX.pattern
    order = np.roll(np.arange(A.shape[0]), PROCESS)
    own = lx.ShardedSparsityPattern.from_callback

    def entries(start, stop):
        i, j = M[start:stop].tocoo().coords
        return i + start, j

    def fails_on_one(start, stop):
        if PROCESS:
            raise OSError("the file is gone")
        return entries(start, stop)

    def typed(start, stop):
        return np.ones(stop - start, np.float32 if PROCESS else np.float64)

    for says, call in [
        ("the pattern and its order", lambda: own_order(pattern, order)),
        ("`values`", lambda: S.pattern.assemble(MATRIX.values * (1 + PROCESS))),
        ("`vector`", lambda: S.pattern.distribute(RHS + PROCESS)),
        ("`shape`", lambda: own((shape[0], shape[1] + PROCESS), MESH, entries)),
        ("the file is gone", lambda: own(shape, MESH, fails_on_one)),
        ("dtype", lambda: S.pattern.distribute(typed)),
    ]:
        try:
            call()
        except (ValueError, OSError) as error:
            assert says in str(error), error
        else:
            raise AssertionError(says)
    # each may have a mesh and data of its own
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("rows",))
    alone = lx.ShardedSparsityPattern(pattern, mesh)
    x = alone.distribute(RHS + PROCESS)
    np.testing.assert_array_equal(alone.collect(x), RHS + PROCESS)


def own_order(pattern, order):
    return lx.ShardedSparsityPattern(pattern, MESH, order=order)


def die():
    """Solves without end: until a process is killed."""
    solver = lx.CG(0.0, 0.0, max_steps=2000)
    run = jax.jit(lambda *a: lx.linear_solve(*a, solver, throw=False).value)
    jax.block_until_ready(run(S, B))
    (FOLDER / f"running{PROCESS}").touch()
    while True:
        jax.block_until_ready(run(S, B))


if __name__ == "__main__":
    {"solve": solve, "resume": resume, "differ": differ, "die": die}[PART]()
