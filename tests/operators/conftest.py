"""Programs in processes of their own, for what is set once in a process."""

import os
import subprocess
import sys
import textwrap

import pytest


@pytest.fixture
def run_program():
    """Run a program; what it asserts must hold."""

    def run(program: str, **environment: str) -> str:
        result = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    return run
