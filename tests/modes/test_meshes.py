"""Every operator and every solver on eight devices: batches sharded on an explicit
mesh, and `shard_map` as it is by default.

CI runs one member of each family; all of them run with `--all-members`. One process
runs all that is asked for, and a test tells of each case.
"""

import inspect
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import lineax as lx
import pytest
from lx_operators import AbstractLinearOperator

from tests.modes.members import FAMILIES, OPERATORS, SOLVERS
from tests.modes.test_export import matrix

ROOT = Path(__file__).parents[2]
MEMBERS = {"operator": OPERATORS, "solver": SOLVERS, "derivative": SOLVERS}
NO_DERIVATIVE = {"Permutation"}  # of integers

# Where JAX stands in the way, whose error says so: `jax.vmap(lambda i: x[i])` of an `i`
# that is sharded explicitly, and an `x` that is not in the batch.
NOT_IN_JAX = {"explicit-operator-Permutation": "out sharding could not be resolved"}
CASES = [
    f"{mesh}-{about}-{name}"
    for mesh in ("explicit", "shard_map")
    for about, members in MEMBERS.items()
    for name in members
    if not (about == "derivative" and name in NO_DERIVATIVE)
]


def _in_ci(case):
    _, about, name = case.split("-", 2)
    return name in FAMILIES["operator" if about == "operator" else "solver"]


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        every = metafunc.config.getoption("--all-members")
        metafunc.parametrize("case", [c for c in CASES if every or _in_ci(c)])


@pytest.fixture(scope="module")
def outcomes(request):
    """What became of each case that is to run."""
    items = [item for item in request.session.items if hasattr(item, "callspec")]
    given = [item.callspec.params for item in items if item.path == request.path]
    cases = [params["case"] for params in given]
    command = [sys.executable, "-m", "tests.modes.processes.meshes", *cases]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    lines = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    return lines | {case: done.stderr for case in cases if case not in lines}


@pytest.mark.xdist_group("meshes")
def test_meshes(case, outcomes):
    known = case in NOT_IN_JAX and NOT_IN_JAX[case] in outcomes[case]
    assert known or outcomes[case] == "ok"


def test_every_operator_is_here():
    public = [getattr(lx, name) for name in dir(lx)]
    kinds = {
        kind
        for kind in public
        if inspect.isclass(kind)
        and issubclass(kind, AbstractLinearOperator)
        and not inspect.isabstract(kind)
    }
    made = {type(make(jnp.asarray(matrix(4)))) for make in OPERATORS.values()}
    # which is about a mesh of its own: tests/sharded
    assert kinds - {lx.ShardedSparseLinearOperator} <= made
