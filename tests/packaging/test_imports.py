"""What imports what, read from the sources: floors, cycles, dependencies, privacy."""

import ast
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def _module(name: str) -> str:
    return name.replace("-", "_")


def _sources(package: str) -> dict[str, Path]:
    """Every module of a package, by its full name."""
    source = ROOT / "packages" / package / "src"
    modules = {}
    for path in source.rglob("*.py"):
        parts = path.relative_to(source).with_suffix("").parts
        modules[".".join(p for p in parts if p != "__init__")] = path
    assert modules, f"{source} has no modules"
    return modules


def _imported(module: str, path: Path) -> Iterator[str]:
    """Full names of all that a file imports, wherever in it: `a.b` for `import a.b`,
    `a.b.c` for `from a.b import c`."""
    package = module.split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _tops(module: str, path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imported(module, path)}


def _within(modules: dict[str, Path]) -> dict[str, set[str]]:
    """The import graph of one package: which of its files each file imports."""
    graph = {}
    for module, path in modules.items():
        targets = set()
        for name in _imported(module, path):
            # what is imported is a file, or a name in a file
            files = [n for n in (name, name.rpartition(".")[0]) if n in modules]
            targets.update(files[:1])
        graph[module] = targets - {module}
    return graph


def _above(package: str, floors: tuple[str, ...]) -> set[str]:
    return {_module(name) for name in floors[floors.index(package) + 1 :]}


def test_no_floor_above(package, floors):
    for module, path in _sources(package).items():
        climbs = _tops(module, path) & _above(package, floors)
        assert not climbs, f"{module} imports from a floor above it"


def test_tests_climb_no_floor(package, floors):
    """A floor is tested by itself, so that it can be released by itself."""
    for path in (ROOT / "tests" / package.removeprefix("lx-")).rglob("*.py"):
        climbs = _tops("tests.module", path) & _above(package, floors)
        assert not climbs, f"{path} imports from a floor above the one it tests"


def test_no_cycle(package):
    try:
        TopologicalSorter(_within(_sources(package))).prepare()
    except CycleError as error:
        pytest.fail("these files import each other: " + " -> ".join(error.args[1]))


def test_declared_is_imported(package, projects):
    """No dependency undeclared, none declared in vain."""

    def modules(lines: Iterable[str]) -> set[str]:
        return {_module(Requirement(line).name) for line in lines}

    tops = set().union(*(_tops(*source) for source in _sources(package).items()))
    imported = tops - sys.stdlib_module_names - {_module(package)}
    project = projects[package]
    extras = modules(sum(project.get("optional-dependencies", {}).values(), []))
    assert imported - extras == modules(project["dependencies"])


def test_nothing_private_of_jax(package):
    for module, path in _sources(package).items():
        private = {n for n in _imported(module, path) if n.startswith("jax._src")}
        reached = {
            ast.unparse(node)
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Attribute) and node.attr == "_src"
        }
        assert not private | reached, f"{module} uses what is private to JAX"


def test_operators_load_no_solver(run):
    program = "import sys, lx_operators; print(*sys.modules)"
    loaded = {name.split(".")[0] for name in run(sys.executable, "-c", program).split()}
    assert "lx_operators" in loaded
    assert not loaded & {"lx_solvers", "lx_autodiff", "lineax"}


def test_import_is_quick(run):
    """Importing `lx_operators` takes a small part of the time that importing Equinox
    took before it: processor time, in proportion, the least of a few runs."""
    program = """
import time
start = time.process_time()
import equinox
below = time.process_time()
import lx_operators
print((time.process_time() - below) / (below - start))
"""
    assert min(float(run(sys.executable, "-c", program)) for _ in range(4)) < 0.2
