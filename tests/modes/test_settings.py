"""One member of each family in the modes that are settings of a process; all of them
run under strict promotion in the rest of the suite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import jax
import lineax as lx
from lx_autodiff.testing import PROBLEMS, check_derivatives
from lx_operators.testing import OperatorLaws
from lx_solvers.testing import SolverLaws


class Leaf(OperatorLaws):
    dtypes = ("float32", "complex64")

    def make(self, dtype, key):
        return lx.MatrixLinearOperator(jax.random.normal(key, (3, 3), dtype))


class Composite(Leaf):
    def make(self, dtype, key):
        matrix = super().make(dtype, key)
        return matrix @ lx.DiagonalLinearOperator(matrix.matrix[0]) + matrix


class Direct(SolverLaws):
    problems = ("square",)
    dtypes = ("float32", "complex64")

    def make(self, dtype):
        return lx.LU()


class Iterative(Direct):
    problems = ("definite",)

    def tolerance(self, dtype):
        return 3e-4

    def make(self, dtype):
        return lx.CG(self.tolerance(dtype), 0.0)


for laws in (Leaf, Composite, Direct, Iterative):
    laws().check()
    print(laws.__name__)
if jax.config.jax_enable_x64:
    for solver, problem in ((lx.LU(), "square"), (lx.QR(), "tall")):
        laws = ("value", "jvp", "vjp")
        check_derivatives(solver, PROBLEMS[problem], "complex128", laws=laws)
        print("Derivatives")
"""

MODES = {
    "standard promotion": {
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_DTYPE_PROMOTION": "standard",
        "JAX_NUMPY_RANK_PROMOTION": "allow",
    },
    "x64 off": {"JAX_ENABLE_X64": "0"},
}


@pytest.mark.parametrize("mode", MODES)
def test_laws(mode):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | MODES[mode],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = ["Leaf", "Composite", "Direct", "Iterative"]
    wanted += ["Derivatives"] * 2 * (mode != "x64 off")
    assert done.stdout.split() == wanted
