"""A sparse 3-D Poisson problem with jumping coefficients on four processes.

-∇·c∇u = 1 on k³ cells, u zero outside, with c = 1000 in a cube in the middle. The rows
of the sparse matrix are divided among the processes; each has factors of its own rows
(additive Schwarz), and exchanges only the values that its rows need from others. The
gradient of the compliance ∑u with respect to all c is checked by a difference.

`python examples/many_processes_poisson.py` starts four processes on this machine. On a
cluster, start the file once per process, with the coordinator's address and the number
of the process.
"""

import os
import socket
import subprocess
import sys

PROCESSES, K = 4, 16


def launch():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, f"localhost:{port}"]
    running = [subprocess.Popen([*command, str(i)]) for i in range(PROCESSES)]
    sys.exit(max(process.wait() for process in running))


def cells():
    """The faces between cells (i, j), as two arrays; and the cells at the boundary."""
    import numpy as np

    number = np.arange(K**3).reshape(K, K, K)
    first = [np.delete(number, -1, axis).reshape(-1) for axis in range(3)]
    second = [np.delete(number, 0, axis).reshape(-1) for axis in range(3)]
    ends = [
        np.take(number, end, axis).reshape(-1) for axis in range(3) for end in (0, -1)
    ]
    return np.concatenate(first), np.concatenate(second), np.concatenate(ends)


def main(coordinator: str, process: int):
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp
    import lineax as lx
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, PROCESSES, process)
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((jax.device_count(),), ("rows",), axis_types=auto)

    i, j, ends = cells()
    rows, columns = (
        np.concatenate([i, j, i, j, ends]),
        np.concatenate([j, i, i, j, ends]),
    )
    whole = lx.SparsityPattern(rows, columns, (K**3, K**3))
    pattern = lx.ShardedSparsityPattern(whole, mesh, order="bisection", overlap=1)

    def operator(c, whole, pattern):
        between = 2 * c[i] * c[j] / (c[i] + c[j])
        values = jnp.concatenate([-between, -between, between, between, c[ends]])
        values = pattern.assemble(whole.assemble(values))
        return lx.ShardedSparseLinearOperator(
            values, pattern, lx.positive_semidefinite_tag
        )

    solver = lx.CG(
        1e-10,
        0.0,
        preconditioner=lx.AdditiveSchwarz(1, coarse=2),
        single_reduction=True,
    )

    @jax.jit
    @jax.value_and_grad
    def compliance(logarithm, whole, pattern, load):
        A = operator(jnp.exp(logarithm), whole, pattern)
        return jnp.sum(lx.linear_solve(A, load, solver, throw=False).value)

    inside = np.indices((K, K, K)) // (K // 4)
    cube = np.all((inside == 1) | (inside == 2), axis=0).reshape(-1)
    logarithm = np.where(cube, np.log(1000.0), 0.0)
    load = pattern.distribute(np.ones(K**3))
    value, gradient = compliance(logarithm, whole, pattern, load)

    direction, step = np.sin(np.arange(K**3)), 1e-4
    further, _ = compliance(logarithm + step * direction, whole, pattern, load)
    back, _ = compliance(logarithm - step * direction, whole, pattern, load)
    slope, difference = gradient @ direction, (further - back) / (2 * step)
    if process == 0:
        print(f"{pattern} on {PROCESSES} processes")
        print(f"compliance {value:.9f}")
        print(f"its slope  {slope:.9f}, by a difference {difference:.9f}")
    np.testing.assert_allclose(slope, difference, rtol=1e-5)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        launch()
    main(sys.argv[1], int(sys.argv[2]))
