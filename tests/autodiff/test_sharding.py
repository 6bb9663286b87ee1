"""Many devices and several processes, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"


def run(script: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.xdist_group("processes")
def test_eight_devices():
    """Automatic and explicit sharding, and `shard_map`: dense and matrix-free."""
    out = run(HERE / "processes" / "sharded.py")
    # 3 cases on a mesh of each kind; a batch; the other functions on an explicit mesh;
    # 3 cases on each of 8 devices under `shard_map`; 9 more solvers and derivatives
    assert out.count(" ok") == 2 * 3 + 1 + 2 + 2 * 3 * 8 + 2 * 9


@pytest.mark.xdist_group("processes")
def test_checked_types_and_raised_errors():
    """The defaults of `shard_map` and of `linear_solve` together: value and gradient of
    13 solvers; a batch; a shared operator; shared vectors; and a failure."""
    out = run(HERE / "processes" / "checked.py")
    solvers = 13 if jax.__version_info__ >= (0, 8) else 11
    assert out.count(" ok") == solvers + 6


@pytest.mark.xdist_group("processes")
def test_two_processes():
    """A sharded Poisson problem, solved and differentiated over two processes; the
    script compares both with a closed form."""
    assert "its derivative" in run(EXAMPLES / "distributed_poisson.py")
