"""Every public name is in `lineax`, has a docstring, and is on a page of the docs."""

import inspect
import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import lineax
import lineax.internal
import lx_autodiff
import lx_operators
import lx_solvers
import pytest

DOCS = Path(__file__).parents[2] / "docs"
FLOORS = (lx_operators, lx_solvers, lx_autodiff)
each_floor = pytest.mark.parametrize("floor", FLOORS, ids=lambda m: m.__name__)


def _public(floor: ModuleType) -> dict[str, object]:
    return {name: getattr(floor, name) for name in floor.__all__}


@each_floor
def test_names_are_public(floor):
    assert floor.__all__
    assert len(set(floor.__all__)) == len(floor.__all__)
    assert not [name for name in floor.__all__ if name.startswith("_")]


@pytest.mark.parametrize("module", [lineax, *FLOORS], ids=lambda m: m.__name__)
def test_sorted(module):
    assert module.__all__ == sorted(module.__all__)
    assert set(module.__all__) <= {*dir(module)}


def test_star_import():
    names = {}
    exec("from lineax import *", names)
    assert set(lineax.__all__) <= {*names}


def test_no_other_names():
    with pytest.raises(AttributeError, match="has no attribute 'CGG'"):
        getattr(lineax, "CGG")  # noqa: B009
    assert not hasattr(lineax, "__wrapped__")


@each_floor
def test_had_from_lineax(floor):
    missing = [
        name
        for name, thing in _public(floor).items()
        if getattr(lineax, name, None) is not thing or name not in lineax.__all__
    ]
    assert not missing


def test_lineax_has_no_more():
    public = {name for floor in FLOORS for name in floor.__all__}
    assert set(lineax.__all__) == public | {"internal"}


@each_floor
def test_has_docstring(floor):
    """Classes and functions explain themselves, and classes their public members."""
    silent = []
    for name, thing in _public(floor).items():
        if callable(thing) and not inspect.getdoc(thing):
            silent.append(name)
        if inspect.isclass(thing):
            silent += [
                f"{name}.{key}"
                for key, value in vars(thing).items()
                if not key.startswith("_")
                and (inspect.isfunction(value) or isinstance(value, property))
                and not inspect.getdoc(getattr(thing, key))
            ]
    assert not silent


def test_documented():
    """The API pages have every public name once, and nothing else."""
    entries = [
        entry
        for page in sorted((DOCS / "api").glob("*.md"))
        for entry in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)
    ]
    wanted = [f"lineax.{name}" for floor in FLOORS for name in floor.__all__]
    wanted += [f"lineax.internal.{name}" for name in lineax.internal.__all__]
    for floor in FLOORS:
        if find_spec(f"{floor.__name__}.testing"):
            module = import_module(f"{floor.__name__}.testing")
            wanted += [f"{module.__name__}.{name}" for name in module.__all__]
    assert sorted(set(wanted) - set(entries)) == [], "on no page of docs/api"
    assert sorted(set(entries) - set(wanted)) == [], "on a page, but not public"
    assert len(entries) == len(set(entries))
