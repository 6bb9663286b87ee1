"""-∇·(κ∇u) = 1 on a square and on a cube, zero on the border, by linear finite
elements; and the derivative of the mean of u with respect to κ in each element.

The mesh gives the pattern, once. Assembly is a sum over the elements, in JAX, of the
values alone; the sparse solver finds the analysis again by the pattern. The derivative
is checked against finite differences.
"""

import itertools
import math

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np

jax.config.update("jax_enable_x64", True)


def mesh(*sizes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and simplices of a box: each cell is cut along the paths from its lowest
    to its highest corner (Kuhn's triangulation)."""
    axes = [np.linspace(0, 1, n + 1) for n in sizes]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(sizes))
    number = np.arange(len(points)).reshape([n + 1 for n in sizes])
    corner = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1)
    corner = corner.reshape(-1, len(sizes))
    simplices = []
    for order in itertools.permutations(range(len(sizes))):
        path, vertices = corner.copy(), [number[tuple(corner.T)]]
        for axis in order:
            path[:, axis] += 1
            vertices.append(number[tuple(path.T)])
        simplices.append(np.stack(vertices, -1))
    return points, np.concatenate(simplices)


def problem(*sizes: int):
    """From κ in each element to the mean of u."""
    points, simplices = mesh(*sizes)
    d = points.shape[1]
    inner = np.all((points > 0) & (points < 1), axis=1)
    unknown = np.where(inner, np.cumsum(inner) - 1, -1)[simplices]
    n = int(inner.sum())
    # where the entries of each element's matrix go, except those of the border
    rows, columns = (
        np.broadcast_to(unknown[..., None], (*unknown.shape, d + 1)),
        np.broadcast_to(unknown[:, None], (*unknown.shape, d + 1)),
    )
    kept = (rows >= 0) & (columns >= 0)
    pattern = lx.SparsityPattern.from_coo(rows[kept], columns[kept], (n, n))
    # The same entry from several elements is summed.
    edges = points[simplices[:, 1:]] - points[simplices[:, :1]]  # [elements, d, d]
    volume = np.abs(np.linalg.det(edges)) / math.factorial(d)
    reference = np.concatenate((-np.ones((1, d)), np.eye(d)))
    gradients = np.einsum("ai,eji->eaj", reference, np.linalg.inv(edges))
    element = np.einsum("e,eai,ebi->eab", volume, gradients, gradients)
    load = np.zeros(n)
    weight = np.broadcast_to(volume[:, None] / (d + 1), unknown.shape)
    np.add.at(load, unknown[unknown >= 0], weight[unknown >= 0])
    matrices, f, which = jnp.asarray(element), jnp.asarray(load), np.nonzero(kept)

    @jax.jit
    def mean(kappa):
        values = pattern.assemble((kappa[:, None, None] * matrices)[which])
        tags = lx.positive_semidefinite_tag
        K = lx.SparseLinearOperator(values, pattern, tags)
        u = lx.linear_solve(K, f, lx.SparseCholesky(), throw=False).value
        return f @ u

    return mean, len(simplices), n


if __name__ == "__main__":
    for sizes in ((24, 24), (8, 8, 8)):
        mean, elements, n = problem(*sizes)
        kappa = jnp.exp(jnp.sin(jnp.arange(float(elements))))
        value, slope = jax.value_and_grad(mean)(kappa)
        # K is linear in κ, so the mean is homogeneous of degree -1
        assert np.isclose(slope @ kappa, -value)
        way, step = jnp.cos(jnp.arange(float(elements))), 1e-5
        difference = mean(kappa + step * way) - mean(kappa - step * way)
        error = abs(slope @ way / (difference / (2 * step)) - 1)
        assert error < 1e-6
        print(
            f"{len(sizes)}-D, {elements} elements, {n} unknowns: the mean of u is "
            f"{value:.5f}; its slope differs from a difference by {error:.0e}"
        )
