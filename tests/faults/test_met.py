"""The faults that were met in use: every test that holds one mended exists."""

import ast
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MET = tomllib.loads((TESTS / "faults" / "met.toml").read_text())


def _tests(body, prefix=""):
    """The names of the tests of a module or a class, as pytest spells them."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield prefix + node.name
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            yield from _tests(node.body, f"{prefix}{node.name}::")


def test_numbers():
    assert list(map(int, MET)) == sorted(set(map(int, MET)))
    assert set(map(int, MET)) <= set(range(1, 27))


@pytest.mark.parametrize("number", MET)
def test_listed_tests_exist(number):
    assert MET[number]["says"] and MET[number]["tests"]
    for line in MET[number]["tests"]:
        path, name = line.split("::", 1)
        assert name in _tests(ast.parse((TESTS / path).read_text()).body), line
