"""The README, followed word by word in an environment with nothing but Python.

What it says to type in a console is typed there, in a copy of the repository; its
Python then runs in a directory of its own, where only what was installed is found.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import python, same, stated, tutorial

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"

# One worker builds the wheels and fills the environments.
pytestmark = pytest.mark.xdist_group("packaging")


def _commands() -> list[str]:
    blocks = [text for kind, text in tutorial(README) if kind == "console"]
    return [line for block in blocks for line in block.splitlines() if line]


def test_commands():
    """All four packages are installed by one line, and as wheels by two."""
    install, build, wheels, check = _commands()
    folders = [f"./packages/{path.name}" for path in (ROOT / "packages").iterdir()]
    assert sorted(install.split()[2:]) == sorted(folders)
    assert sorted(build.split()[5:]) == sorted(folders)
    assert wheels == "pip install dist/*.whl"
    assert check.startswith("python -c ")


def test_install_page():
    """The install page has the README's lines."""
    page = (ROOT / "docs" / "start" / "install.md").read_text()
    for command in _commands():
        assert command in page, command


@pytest.mark.skipif(os.name == "nt", reason="commands of a POSIX shell")
def test_readme(run, tmp_path):
    """Wheels are built and installed as it says, and its Python prints what it says."""
    import uv  # here, as other tests need none of it

    clone, elsewhere = tmp_path / "clone", tmp_path / "elsewhere"
    shutil.copytree(ROOT / "packages", clone / "packages")
    elsewhere.mkdir()
    venv = tmp_path / "venv"
    run(uv.find_uv_bin(), "venv", "--quiet", "--seed", "-p", sys.executable, venv)
    path = {"PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": ""}
    _, build, install, check = _commands()
    run("sh", "-c", f"{build} --quiet", cwd=clone, **path)
    # uv, which installs from its cache what pip would download again
    fast = install.replace("pip install", f"{uv.find_uv_bin()} pip install --quiet")
    run("sh", "-c", fast, cwd=clone, VIRTUAL_ENV=str(venv), **path)
    shutil.rmtree(clone)
    versions = run("sh", "-c", check, cwd=elsewhere, **path)
    assert re.search(r"^lineax +0\.[2-9]", versions, re.MULTILINE)

    code = "\n".join(code for _, code in python(README))
    printed = run(venv / "bin" / "python", "-I", "-c", code, cwd=elsewhere)
    shown = [stated(line) for line in code.splitlines() if "print(" in line]
    assert same(printed, " ".join(filter(None, shown))), printed
