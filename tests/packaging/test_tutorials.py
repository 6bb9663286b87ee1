"""The tutorials, followed literally from an empty directory, with wheels."""

from pathlib import Path

import pytest

from tests.docs.blocks import same, stated, tutorial

ROOT = Path(__file__).parents[2]

# One worker builds the wheels and fills the environments.
pytestmark = pytest.mark.xdist_group("packaging")


@pytest.mark.parametrize(
    ("page", "package"), [("operator", "lx-operators"), ("solver", "lineax")]
)
def test_tutorial(page, package, environment, run, tmp_path):
    """Each file is written as shown, each command does what the page says. For tests,
    this package is installed, and pytest; for programs, all four."""
    requirements, python, commands = [package], None, 0
    for name, text in tutorial(ROOT / "docs" / "extend" / f"{page}.md"):
        if name != "console":
            with open(tmp_path / name, "a") as file:
                file.write(text)
            continue
        for command in text.splitlines():
            program, *arguments = command.split()
            if program == "pip":
                requirements += arguments[1:]
                continue
            if program == "python" and "lineax" not in requirements:
                requirements, python = [*requirements, "lineax"], None
            if python is None:
                find = environment(*requirements)
                python = find("import sys; print(sys.executable)").strip()
            module = ["-m", "pytest"] if program == "pytest" else []
            outcome = run(python, *module, *arguments, cwd=tmp_path, PYTHONPATH="")
            commands += 1
            if program == "python":
                lines = (tmp_path / arguments[0]).read_text().splitlines()
                shown = [stated(line) for line in lines if line.startswith("print(")]
                assert same(outcome, " ".join(filter(None, shown))), outcome
    assert commands == 2
