"""Solves on eight devices; a process of its own: devices are asked for at the start.

Prints a line for each check; fails at the first that does not hold.
"""

import itertools
import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

jax.config.update("jax_enable_x64", True)

RNG = np.random.default_rng(0)
N = 16
X = RNG.standard_normal((N, N))
A = X @ X.T + N * np.eye(N)
B = RNG.standard_normal(N)
ROWS = PartitionSpec("i", None)
SHARDED = PartitionSpec("i")

CG = lxs.CG(rtol=1e-12, atol=1e-12)


def dense(matrix, vector, solver):
    return lxo.MatrixLinearOperator(matrix, lxo.positive_semidefinite_tag)


def matrix_free(matrix, vector, solver):
    weights = jnp.diagonal(matrix)
    structure = jax.ShapeDtypeStruct(vector.shape, vector.dtype)
    return lxo.FunctionLinearOperator(
        lambda x: weights * x + 0.1 * (2 * x - jnp.roll(x, 1) - jnp.roll(x, -1)),
        structure,
        lxo.positive_semidefinite_tag,
    )


def diagonal_free(matrix, vector, solver):
    """Explicit sharding wants every operation unambiguous."""
    weights = jnp.arange(1.0, N + 1, out_sharding=SHARDED)
    return lxo.FunctionLinearOperator(
        lambda x: weights * x,
        jax.ShapeDtypeStruct(vector.shape, vector.dtype),
        lxo.positive_semidefinite_tag,
    )


def loss(matrix, vector, build, solver):
    operator = build(matrix, vector, solver)
    x = lxa.linear_solve(operator, vector, solver, throw=False).value
    return jnp.sum(x**2), x


def everything(matrix, vector, build, solver):
    """The solution, its gradient, and a tangent."""
    (_, x), gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        matrix, vector, build, solver
    )

    def only_value(matrix, vector):
        return loss(matrix, vector, build, solver)[0]

    _, tangent = jax.jvp(only_value, (matrix, vector), (matrix, vector))
    return x, gradient, tangent


def compare(name, ours, truth):
    for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(truth), strict=True):
        np.testing.assert_allclose(np.asarray(x), y, rtol=1e-9, atol=1e-12)
    print(name, "ok")


CASES = {
    "LU": (dense, lxs.LU()),
    "CG": (dense, CG),
    "matrix-free CG": (matrix_free, CG),
}
TOLERANCES = {"rtol": 1e-12, "atol": 1e-12}
LOOPS = {  # the other solvers with a loop or a branch
    "BiCGStab": lxs.BiCGStab(**TOLERANCES),
    "GMRES": lxs.GMRES(**TOLERANCES),
    "FGMRES": lxs.FGMRES(**TOLERANCES),
    "MINRES": lxs.MINRES(**TOLERANCES),
    "LSMR": lxs.LSMR(**TOLERANCES),
    "LSQR": lxs.LSQR(**TOLERANCES, damp=1e-9),
    "Normal": lxs.Normal(CG),
    "Refined": lxs.Refined(lxs.LU()),
    "PivotedQR": lxs.PivotedQR(),
}
KEY = jax.random.key(0)
OTHERS = {  # the other functions of an operator
    "invert": lambda A, b: lxa.invert(A, lxs.LU()).mv(b),
    "invert, transposed": lambda A, b: lxa.invert(A, lxs.LU()).T.mv(b),
    "slogdet": lambda A, b: lxa.slogdet(A, lxs.QR())[1],
    "inverse_diagonal": lambda A, b: lxa.inverse_diagonal(A, lxs.LU()),
    "sample_gaussian": lambda A, b: lxa.sample_gaussian(A, KEY, (2,), lxs.Cholesky()),
    "shifted_solve": lambda A, b: lxa.shifted_solve(A, b, jnp.arange(2.0), CG).value,
    "cond": lambda A, b: lxa.cond(A, lxs.Cholesky()),
    "error_bounds": lambda A, b: (
        lxa.error_bounds(A, b, lxa.linear_solve(A, b, lxs.LU()), lxs.LU()).forward_error
    ),
}


def others(matrix, vector):
    operator = dense(matrix, vector, None)
    return {name: fn(operator, vector) for name, fn in OTHERS.items()}


@jax.jit
@jax.grad
def gradient_of_others(matrix, vector):
    return sum(jnp.sum(jnp.sin(x)) for x in others(matrix, vector).values())


run = jax.jit(everything, static_argnums=(2, 3))
TRUTH = {
    name: jax.tree.map(np.asarray, run(A, B, *case)) for name, case in CASES.items()
}

for axis_type, (name, case) in itertools.product(
    (AxisType.Auto, AxisType.Explicit), CASES.items()
):
    mesh = jax.make_mesh((8,), ("i",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        matrix = jax.device_put(A, NamedSharding(mesh, ROWS))
        vector = jax.device_put(B, NamedSharding(mesh, SHARDED))
        explicit = axis_type == AxisType.Explicit
        if explicit and name == "matrix-free CG":
            x = run(matrix, vector, diagonal_free, CG)[0]
            compare(f"{axis_type} {name}", x, B / np.arange(1, N + 1))
        else:
            ours = run(matrix, vector, *case)
            compare(f"{axis_type} {name}", ours, TRUTH[name])
            x = ours[0]
        if explicit:
            assert jax.typeof(x).sharding.spec == SHARDED, jax.typeof(x)


def tridiagonal(main, vector):
    operator = lxo.TridiagonalLinearOperator(main, main[1:] / 3, main[1:] / 4)
    x = lxa.linear_solve(operator, vector, lxs.Tridiagonal(), throw=False).value
    return jnp.sum(x**2)


# a batch that is eliminated together on each device, without a message to another
mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Auto,))
batch = np.exp(RNG.standard_normal((2, 1024, N)) / 4)
bands = jax.device_put(batch, NamedSharding(mesh, PartitionSpec(None, "i", None)))
gradients = jax.jit(jax.vmap(jax.grad(tridiagonal, (0, 1))))
compiled = gradients.lower(*bands).compile()
compare("batch of Tridiagonal", compiled(*bands), gradients(*batch))
assert "all-" not in compiled.as_text()

mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Explicit,))
matrix = jax.device_put(A, NamedSharding(mesh, ROWS))
vector = jax.device_put(B, NamedSharding(mesh, SHARDED))
compare("others", others(matrix, vector), others(A, B))
with jax.set_mesh(mesh):
    gradient = gradient_of_others(matrix, vector)
compare("gradient of others", gradient, gradient_of_others(A, B))

for axis_type, (name, case) in itertools.product(
    (AxisType.Auto, AxisType.Explicit), CASES.items()
):
    # Under `shard_map` each device solves a system of its own.
    mesh = jax.make_mesh((8,), ("i",), axis_types=(axis_type,))
    with jax.set_mesh(mesh):
        scales = np.arange(1.0, 9.0)
        matrices = jax.device_put(
            scales[:, None, None] * A, NamedSharding(mesh, SHARDED)
        )
        vectors = jax.device_put(np.stack([B] * 8), NamedSharding(mesh, ROWS))

        def shard(matrix, vector, case=case):
            out = everything(matrix[0], vector[0], *case)
            return jax.tree.map(lambda x: x[None], out)

        mapped = jax.shard_map(shard, mesh=mesh, in_specs=SHARDED, out_specs=SHARDED)
        ours = jax.jit(mapped)(matrices, vectors)
        for i, scale in enumerate(scales):
            one = jax.tree.map(lambda x, i=i: np.asarray(x)[i], ours)
            truth = run(scale * A, B, *case)
            compare(f"shard_map {axis_type} {name} {i}", one, truth)

mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Auto,))
with jax.set_mesh(mesh):
    scales = np.arange(1.0, 9.0)
    matrices = jax.device_put(scales[:, None, None] * A, NamedSharding(mesh, SHARDED))
    vectors = jax.device_put(np.stack([B] * 8), NamedSharding(mesh, ROWS))

    def by_loops(matrix, vector):
        return {
            name: loss(matrix[0], vector[0], dense, solver)[1][None]
            for name, solver in LOOPS.items()
        }

    mapped = jax.shard_map(by_loops, mesh=mesh, in_specs=SHARDED, out_specs=SHARDED)
    ours = jax.jit(mapped)(matrices, vectors)
    for name, solver in LOOPS.items():
        truth = np.linalg.solve(A, B) / scales[:, None]
        compare(f"shard_map {name}", ours[name], truth)

        # the types of a derivative's loops are checked when they are traced
        def derivatives(matrix, vector, solver=solver):
            _, gradient, tangent = everything(matrix[0], vector[0], dense, solver)
            return jax.tree.map(lambda x: x[None], (gradient, tangent))

        mapped = jax.shard_map(
            derivatives, mesh=mesh, in_specs=SHARDED, out_specs=SHARDED
        )
        (matrix, vector), _ = jax.eval_shape(mapped, matrices, vectors)
        assert (matrix.shape, vector.shape) == (matrices.shape, vectors.shape)
        print(f"shard_map derivatives of {name} ok")
