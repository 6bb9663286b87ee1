"""Sharded sparse operators, solvers and preconditioners on eight devices, in a process
of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "processes"


@pytest.mark.xdist_group("processes")
@pytest.mark.parametrize("program", ["devices.py", "edges.py"])
def test_eight_devices(program):
    command = [sys.executable, str(FOLDER / program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = (FOLDER / program).read_text().count("\ndef test_")
    assert done.stdout.count(" ok") == checks
