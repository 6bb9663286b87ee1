"""Sharded sparse operators, solvers and preconditioners on eight devices, in a process
of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "processes" / "devices.py"


@pytest.mark.xdist_group("processes")
def test_eight_devices():
    command = [sys.executable, str(PROGRAM)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    checks = PROGRAM.read_text().count("\ndef test_")
    assert done.stdout.count(" ok") == checks
