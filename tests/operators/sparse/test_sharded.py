"""Rows of a sparse matrix over four devices, in a process of its own."""

import os
import subprocess
import sys
import textwrap

PROGRAM = """
import functools
import jax, jax.numpy as jnp, numpy as np, scipy.sparse as sp
import lx_operators as lx
from jax.sharding import Mesh, PartitionSpec as P

jax.config.update("jax_enable_x64", True)
mesh = Mesh(np.array(jax.devices()), ("rows",))
n, parts = 64, 4
line = sp.diags([-1.0, 2.5, -1.0], [-1, 0, 1], (8, 8))
A = sp.csr_array(sp.kronsum(line, line))
# each device has the rows of its part, padded to the same number of entries
blocks = [A[k * 16 : (k + 1) * 16].tocoo() for k in range(parts)]
size = max(block.nnz for block in blocks)
def padded(x):
    return np.concatenate([x, np.zeros(size - x.size, x.dtype)])
rows, columns, values = (
    np.stack([padded(x) for x in arrays])
    for arrays in zip(*((b.row, b.col, b.data) for b in blocks))
)

@functools.partial(
    jax.shard_map, mesh=mesh, in_specs=(P("rows"),) * 4, out_specs=P("rows")
)
def product(rows, columns, values, x):
    part = lx.SparseLinearOperator.from_coo(values[0], rows[0], columns[0], (16, n))
    return part.mv(jax.lax.all_gather(x, "rows", tiled=True))

x = np.cos(np.arange(n))
np.testing.assert_allclose(product(rows, columns, values, x), A @ x, atol=1e-12)

def loss(values, x):
    return jnp.sum(product(rows, columns, values, x) ** 2)

of_values, of_x = jax.jit(jax.grad(loss, (0, 1)))(values, x)
np.testing.assert_allclose(of_x, 2 * A.T @ (A @ x), atol=1e-12)
y = (A @ x).reshape(parts, 16)
wanted = [2 * y[k, r] * x[c] for k, (r, c) in enumerate(zip(rows, columns))]
np.testing.assert_allclose(of_values, wanted, atol=1e-12)

# a pattern that all devices share, and vectors that differ
whole = lx.SparseLinearOperator.from_scipy(A)

@functools.partial(jax.shard_map, mesh=mesh, in_specs=P(None, "rows"),
                   out_specs=P(None, "rows"))
def columns_of(X):
    return jax.vmap(lx.linearise(whole).mv, 1, 1)(X)

X = np.cos(np.arange(n * 8.0)).reshape(n, 8)
np.testing.assert_allclose(jax.jit(columns_of)(X), A @ X, atol=1e-12)
print("done")
"""


def test_rows_over_devices():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "4", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "done", done.stderr[-3000:]
