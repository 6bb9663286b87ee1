"""Operators and solvers on eight devices: a process of its own, as devices are asked
for at the start.

`python tests/modes/processes/meshes.py CASE…` writes a line `CASE<tab>ok` for each
case, or what went wrong in place of `ok`. A case is a mesh (`explicit`, `shard_map`),
what is tested (`operator`, `solver`, `derivative`), and its name, joined by hyphens.
"""

import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.modes.members import OPERATORS, SOLVERS
from tests.modes.test_export import matrix

BATCH = np.stack([(1 + i / 8) * matrix(4) for i in range(8)])
SPEC = PartitionSpec("i")


def ones(structure):
    return jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), structure)


def operator(name):
    """Products with the operator and with its transpose."""

    def products(A):
        made = OPERATORS[name](A)
        x, y = ones(made.in_structure()), ones(made.out_structure())
        return made.mv(x), made.T.mv(y)

    return products


def solver(name):
    """The solution, where a failure raises."""
    solver, make = SOLVERS[name]

    def solve(A):
        made = make(A)
        return lx.linear_solve(made, ones(made.out_structure()), solver).value

    return solve


def derivative(name):
    """The gradient of a function of the solution."""

    def loss(A):
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(solver(name)(A)))

    return jax.grad(loss, allow_int=True)


def explicit(fn):
    """A batch under `vmap`, sharded on an explicit mesh."""
    mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        batch = jax.device_put(BATCH, NamedSharding(mesh, SPEC))
        return jax.jit(jax.vmap(fn))(batch)


def shard_map(fn):
    """Each device has a member of the batch."""
    mesh = jax.make_mesh((8,), ("i",), axis_types=(AxisType.Auto,))

    def one(A):
        return jax.tree.map(lambda x: x[None], fn(A[0]))

    with jax.set_mesh(mesh):
        batch = jax.device_put(BATCH, NamedSharding(mesh, SPEC))
        mapped = jax.shard_map(one, mesh=mesh, in_specs=SPEC, out_specs=SPEC)
        return jax.jit(mapped)(batch)


def check(case):
    mesh, about, name = case.split("-", 2)
    fn = globals()[about](name)
    ours = globals()[mesh](fn)
    alone = jax.jit(fn)
    for i, A in enumerate(BATCH):
        wanted = jax.tree.leaves(alone(jnp.asarray(A)))
        got = [np.asarray(leaf)[i] for leaf in jax.tree.leaves(ours)]
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted):
            scale = np.max(np.abs(other), initial=1e-3)
            assert np.max(np.abs(one - other), initial=0) <= 1e-4 * scale, (one, other)


for case in sys.argv[1:]:
    try:
        check(case)
    except Exception as error:
        text = f"{type(error).__name__}: {error}".replace("\n", " ")
    else:
        text = "ok"
    print(case, text, sep="\t", flush=True)
