"""A sharded Poisson problem over several processes, solved and differentiated.

Start it by hand, once per process, or let it start two processes on this machine:
`python examples/distributed_poisson.py`. Each process has four CPU devices; the grid is
sharded by rows over all eight, and no process ever holds all of it.
"""

import os
import socket
import subprocess
import sys

PROCESSES, DEVICES, N = 2, 4, 64


def launch():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, f"localhost:{port}"]
    running = [subprocess.Popen([*command, str(i)]) for i in range(PROCESSES)]
    sys.exit(max(process.wait() for process in running))


def main(coordinator: str, process: int):
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_NUM_CPU_DEVICES"] = str(DEVICES)
    import jax
    import jax.numpy as jnp
    import lineax as lx
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec

    jax.config.update("jax_enable_x64", True)
    jax.distributed.initialize(coordinator, PROCESSES, process)
    mesh = jax.make_mesh(
        (PROCESSES * DEVICES,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,)
    )
    by_rows = NamedSharding(mesh, PartitionSpec("rows", None))

    def poisson(shift):
        """-Δu + shift·u on an N × N grid, zero outside."""

        def stencil(u):
            padded = jnp.pad(u, 1)
            vertical = padded[:-2, 1:-1] + padded[2:, 1:-1]
            horizontal = padded[1:-1, :-2] + padded[1:-1, 2:]
            return (4 + shift) * u - vertical - horizontal

        structure = jax.ShapeDtypeStruct((N, N), jnp.float64)
        return lx.FunctionLinearOperator(
            stencil, structure, lx.positive_semidefinite_tag
        )

    def mean_solution(shift, load):
        solver = lx.CG(rtol=1e-10, atol=1e-10)
        u = lx.linear_solve(poisson(shift), load, solver, throw=False).value
        return jnp.mean(u), u

    load = jax.jit(lambda: jnp.ones((N, N)), out_shardings=by_rows)()
    run = jax.jit(jax.value_and_grad(mean_solution, has_aux=True))
    (mean, u), gradient = run(jnp.asarray(0.1), load)
    assert len(u.addressable_shards) == DEVICES

    # The truth: the stencil is diagonal in the basis of sines.
    k = np.arange(1, N + 1)
    values = 2 - 2 * np.cos(k * np.pi / (N + 1))
    values = values[:, None] + values[None, :] + 0.1
    sines = np.sqrt(2 / (N + 1)) * np.sin(np.outer(k, k) * np.pi / (N + 1))
    weights = np.outer(sines.sum(0), sines.sum(0)) ** 2 / N**2
    truth, slope = np.sum(weights / values), -np.sum(weights / values**2)
    if process == 0:
        print(
            f"{N * N} unknowns on {jax.device_count()} devices, {PROCESSES} processes"
        )
        print(f"mean of the solution  {mean:.12f}   truth {truth:.12f}")
        print(f"its derivative       {gradient:.12f}   truth {slope:.12f}")
    np.testing.assert_allclose([mean, gradient], [truth, slope], rtol=1e-8)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        launch()
    main(sys.argv[1], int(sys.argv[2]))
