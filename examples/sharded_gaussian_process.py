"""A Gaussian process on many devices, without its covariance matrix.

The n points are divided among the devices. In a product K v the blocks of points and of
v travel around a ring, and each device computes its rows of the kernel from the block
that it holds: n / p × n / p numbers at a time, and never n × n. `PivotedCholesky` takes
`rank` products with unit vectors. Value and gradient of y ᵀ K⁻¹ y are compared with
those of a dense matrix. Without an accelerator, eight devices are made of one CPU.
"""

import os

os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

jax.config.update("jax_enable_x64", True)
ROWS = PartitionSpec("rows")


def kernel(x, y, length):
    """A squared exponential, [m, n] of points [m, d] and [n, d]."""
    apart = jnp.sum((x[:, None] - y[None, :]) ** 2, axis=2)
    return jnp.exp(-apart / (2 * length**2))


class RingKernel(lx.AbstractLinearOperator):
    """K + σ² I of points [n, d] that are sharded by rows."""

    points: Array
    length: Array
    noise: Array
    mesh: Mesh = eqx.field(static=True)

    def mv(self, vector):
        p = self.mesh.size
        around = [(i, (i + 1) % p) for i in range(p)]

        def local(x, v, length):
            def step(_, carried):
                total, block = carried
                y, w = block
                total = total + kernel(x, y, length) @ w
                return total, jax.lax.ppermute(block, "rows", around)

            total, _ = jax.lax.fori_loop(0, p, step, (jnp.zeros_like(v), (x, v)))
            return total

        specs = (ROWS, ROWS, PartitionSpec())
        product = jax.shard_map(local, mesh=self.mesh, in_specs=specs, out_specs=ROWS)
        return product(self.points, vector, self.length) + self.noise**2 * vector

    def as_matrix(self):
        eye = jnp.eye(self.points.shape[0])
        return kernel(self.points, self.points, self.length) + self.noise**2 * eye

    def transpose(self):
        return self

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.points.shape[:1], self.points.dtype)

    def out_structure(self):
        return self.in_structure()


@lx.is_symmetric.register
@lx.is_positive_semidefinite.register
def _(operator: RingKernel):
    return True


@lx.diagonal.register
def _(operator: RingKernel):
    return jnp.ones_like(operator.points[:, 0]) + operator.noise**2


@jax.jit
@jax.value_and_grad
def misfit(theta, points, y):
    """y ᵀ (K + σ² I)⁻¹ y."""
    solver = lx.CG(
        1e-10, 0.0, preconditioner=lx.PivotedCholesky(50, shift=theta["noise"] ** 2)
    )
    K = RingKernel(points, theta["length"], theta["noise"], MESH)
    return y @ lx.linear_solve(K, y, solver, throw=False).value


@jax.jit
@jax.value_and_grad
def dense(theta, points, y):
    eye = jnp.eye(y.size)
    K = kernel(points, points, theta["length"]) + theta["noise"] ** 2 * eye
    return y @ jnp.linalg.solve(K, y)


MESH = jax.make_mesh((jax.device_count(),), ("rows",), axis_types=(AxisType.Auto,))

if __name__ == "__main__":
    n = 128 * MESH.size
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (n, 2))
    y = np.sin(6 * x[:, 0]) * np.cos(5 * x[:, 1]) + 0.1 * rng.normal(size=n)
    theta = {"length": jnp.asarray(0.3), "noise": jnp.asarray(0.1)}

    sharding = NamedSharding(MESH, ROWS)
    points, values = jax.device_put(x, sharding), jax.device_put(y, sharding)
    value, gradient = misfit(theta, points, values)
    truth, slope = dense(theta, x, y)
    print(f"{n} points on {MESH.size} devices")
    print(f"misfit {value:.6f}, dense {truth:.6f}")
    for name in theta:
        print(f"its derivative by {name} {gradient[name]:.6f}, dense {slope[name]:.6f}")
        np.testing.assert_allclose(gradient[name], slope[name], rtol=1e-6)
    np.testing.assert_allclose(value, truth, rtol=1e-8)
