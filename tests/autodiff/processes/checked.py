"""`linear_solve` as it is by default inside `shard_map` as it is by default.

Four devices; a process of its own. Prints a line for each check.
"""

import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
from jax.sharding import AxisType, PartitionSpec

jax.config.update("jax_enable_x64", True)

SPEC = PartitionSpec("i")
TIGHT = {"rtol": 1e-12, "atol": 1e-12}
SOLVERS = [
    lxs.LU(),
    lxs.QR(),
    lxs.Cholesky(),
    lxs.SVD(),
    lxs.PivotedQR(),
    lxs.Eigh(),
    lxs.AutoLinearSolver(well_posed=True),
    lxs.CG(**TIGHT),
    lxs.GMRES(**TIGHT),
    lxs.BiCGStab(**TIGHT),
    lxs.MINRES(**TIGHT),
    lxs.LSMR(**TIGHT),
    lxs.Normal(lxs.Cholesky()),
]
X = np.random.default_rng(0).standard_normal((4, 3, 3))
A = X @ X.transpose(0, 2, 1) + 3 * np.eye(3)
B = np.arange(12.0).reshape(4, 3) + 1


def mesh_of(axis_type):
    return jax.make_mesh((4,), ("i",), axis_types=(axis_type,))


def solve(matrix, vector, solver):
    operator = lxo.MatrixLinearOperator(matrix, lxo.positive_semidefinite_tag)
    return lxa.linear_solve(operator, vector, solver).value


def everything(matrix, vector, solver):
    def loss(matrix, vector):
        return jnp.sum(solve(matrix, vector, solver) ** 2)

    gradient = jax.grad(loss, (0, 1))(matrix, vector)
    return solve(matrix, vector, solver), gradient


def shards(fn, mesh, in_specs=(SPEC, SPEC)):
    return jax.jit(jax.shard_map(fn, mesh=mesh, in_specs=in_specs, out_specs=SPEC))


def compare(name, ours, truth):
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(np.asarray(x), y, rtol=1e-8)
    print(name, "ok")


x = np.linalg.solve(A, B[..., None])[..., 0]
y = np.linalg.solve(A, 2 * x[..., None])[..., 0]
TRUTH = x, (-y[:, :, None] * x[:, None, :], y)

for solver in SOLVERS:

    def shard(matrix, vector, solver=solver):
        out = everything(matrix[0], vector[0], solver)
        return jax.tree.map(lambda x: x[None], out)

    def symmetric(out):
        value, (matrix, vector) = out
        return value, (matrix + matrix.transpose(0, 2, 1), vector)

    ours = shards(shard, mesh_of(AxisType.Auto))(A, B)
    compare(repr(solver), symmetric(ours), symmetric(TRUTH))

# of a batch on each device, and of an operator that all devices share
batch = jax.vmap(lambda matrix, vector: everything(matrix, vector, lxs.LU()))
compare("a batch", shards(batch, mesh_of(AxisType.Auto))(A, B), TRUTH)


def shared(matrix, vector):
    return solve(matrix, vector[0], lxs.LU())[None]


ours = shards(shared, mesh_of(AxisType.Auto), (PartitionSpec(), SPEC))(A[0], B)
compare("a shared operator", ours, np.linalg.solve(A[0], B.T).T)

# a batch of vectors that all devices share
for solver in lxs.CG(**TIGHT), lxs.GMRES(**TIGHT), lxs.LSMR(**TIGHT):

    def columns(matrix, vectors, solver=solver):
        return jax.vmap(lambda b: solve(matrix[0], b, solver))(vectors)[None]

    ours = shards(columns, mesh_of(AxisType.Auto), (SPEC, PartitionSpec()))(A, B)
    wanted = np.linalg.solve(A, B.T).transpose(0, 2, 1)
    compare(f"shared vectors, {solver!r}", ours, wanted)

# one singular operator among them raises
try:
    singular = A.copy()
    singular[2] = 1
    alone = shards(
        lambda a, b: solve(a[0], b[0], lxs.LU())[None], mesh_of(AxisType.Auto)
    )
    jax.block_until_ready(alone(singular, B))
except Exception as error:
    assert "singular" in str(error), error
    print("a failure raises", "ok")
    sys.stdout.flush()
    os._exit(
        0
    )  # at a usual exit JAX waits for the failed computation, and raises again
