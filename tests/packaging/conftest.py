"""Wheels of the four packages, and fresh environments to install them in."""

import os
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# From the ground up: a floor imports only from floors before it.
FLOORS = ("lx-operators", "lx-solvers", "lx-autodiff", "lineax")


def _run(*command: str | Path, cwd: Path = ROOT, **env: str) -> str:
    """Standard output of a command; its error output is shown if it fails. JAX is as
    its user has it: what tests/conftest.py sets is not passed on."""
    inherited = {k: v for k, v in os.environ.items() if not k.endswith("_PROMOTION")}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    line = " ".join(str(part) for part in command)
    assert result.returncode == 0, f"{line}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="session")
def run() -> Callable[..., str]:
    return _run


@pytest.fixture(scope="session")
def floors() -> tuple[str, ...]:
    return FLOORS


@pytest.fixture(scope="session", params=FLOORS)
def package(request: pytest.FixtureRequest) -> str:
    """Each package in turn."""
    return request.param


@pytest.fixture(scope="session")
def projects() -> dict[str, dict]:
    """The `[project]` table of each package, with the version that its module gives."""
    tables = {}
    for name in FLOORS:
        place = ROOT / "packages" / name
        tables[name] = tomllib.loads((place / "pyproject.toml").read_text())["project"]
        source = (place / "src" / name.replace("-", "_") / "__init__.py").read_text()
        (version,) = re.findall(r'^__version__ = "(.*)"$', source, re.MULTILINE)
        tables[name]["version"] = version
    return tables


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each package, built from its sdist, as an index would have it."""
    made = {}
    for name in FLOORS:
        place = tmp_path_factory.mktemp(name)
        build = (sys.executable, "-m", "hatchling", "build", "-d", place, "-t")
        _run(*build, "sdist", cwd=ROOT / "packages" / name)
        (sdist,) = place.glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            archive.extractall(place, filter="data")
        _run(*build, "wheel", cwd=place / sdist.name.removesuffix(".tar.gz"))
        (made[name],) = place.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def environment(
    wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Callable[[str], str]]:
    """Makes an environment with the named requirements, and runs a program in it.

    What is ours comes from the wheels and the rest from the index. Only what is asked
    for, or asked for by what is, gets installed.
    """

    import uv  # here, as other tests need none of it

    def make(*requirements: str) -> Callable[[str], str]:
        place = tmp_path_factory.mktemp("environment")
        ours = place / "ours.txt"
        ours.write_text("".join(f"{n} @ {w.as_uri()}\n" for n, w in wheels.items()))
        _run(uv.find_uv_bin(), "venv", "--quiet", "-p", sys.executable, place / "venv")
        binaries = "Scripts" if os.name == "nt" else "bin"
        python = place / "venv" / binaries / "python"
        install = (uv.find_uv_bin(), "pip", "install", "--quiet", "-p", python)
        _run(*install, "--constraint", ours, *requirements)
        # -I: neither the working directory nor the user's packages are seen
        return lambda program: _run(python, "-I", "-c", program, cwd=place)

    return make
