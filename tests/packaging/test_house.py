"""What is written in two places says the same in both."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import FOR_USE

ROOT = Path(__file__).parents[2]


def test_compiled_for_use():
    """The tests that are compiled as users compile are where the list says."""
    for path in FOR_USE:
        assert (ROOT / path).exists(), path


def test_licence(package):
    copy = ROOT / "packages" / package / "LICENSE"
    assert copy.read_text() == (ROOT / "LICENSE").read_text()


def test_changelog_has_the_version(package, projects):
    text = (ROOT / "packages" / package / "CHANGELOG.md").read_text()
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings[0] == projects[package]["version"]


def test_range_of_floors(package, projects, floors):
    """A floor below is asked for from a version up to the next incompatible one, and
    the one that stands here is within."""
    for line in projects[package]["dependencies"]:
        requirement = Requirement(line)
        if requirement.name in floors:
            current = projects[requirement.name]["version"]
            assert requirement.specifier.contains(current)
            assert {s.operator for s in requirement.specifier} == {">=", "<"}
            after = Version(current)
            assert not requirement.specifier.contains(
                f"{after.major}.{after.minor + 1}"
            )


def test_lineax_suits_those_who_ask_for_it(projects):
    version = projects["lineax"]["version"]
    assert Requirement("lineax>=0.0.5").specifier.contains(version)


def test_lowest_environment(projects, floors):
    """`hatch run lowest:test` has the lowest versions that the packages declare."""
    workspace = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = {}
    for line in workspace["tool"]["hatch"]["envs"]["lowest"]["extra-dependencies"]:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or marker.evaluate({"python_version": "3.11"}):
            (pinned[requirement.name],) = (s.version for s in requirement.specifier)
    assert pinned.pop("scipy")  # which comes with JAX: the lowest that it takes
    declared = {
        requirement.name: str(requirement.specifier)
        for project in projects.values()
        for requirement in map(Requirement, project["dependencies"])
        if requirement.name not in floors
    }
    assert declared == {name: f">={version}" for name, version in pinned.items()}


def test_pinned_extra(projects):
    """What says how to install rslab names the version that is pinned."""
    (pin,) = projects["lx-solvers"]["optional-dependencies"]["sparse"]
    for path in (
        "docs/start/install.md",
        "docs/guides/sparse-direct.md",
        "packages/lx-solvers/src/lx_solvers/sparse/_backends.py",
    ):
        assert pin in (ROOT / path).read_text(), path
