"""What imports what, read from the sources: floors, cycles, dependencies, privacy."""

import ast
import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from importlib.metadata import requires
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


def test_no_cycle_of_folders(package):
    """Folders of a package are floors too. The files beside them are a package's own
    ground and roof; `testing` may use all."""
    sources = _sources(package)
    graph = {}
    for module, targets in _within(sources).items():
        for target in targets:
            one, other = (sources[m].parent for m in (module, target))
            top = sources[_module(package)].parent
            if one != other and top not in (one, other):
                graph.setdefault(str(one), set()).add(str(other))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("these folders import each other: " + " -> ".join(error.args[1]))


# Files that import others by their names, which no other test here sees: the list of a
# package's public names, and a registry.
BY_NAME = {
    "lineax",
    "lx_operators._lazy_imports",
    "lx_solvers.preconditioners._adapted",
}

# Files that import inside a function what is heavy or an extra: SciPy, rslab.
IN_FUNCTIONS = {"lx_solvers.sparse._backends", "lx_solvers.sparse._solve"}


def test_no_hidden_import(package):
    """No import is put inside a function or spelt as a string to hide a cycle."""
    for module, path in _sources(package).items():
        nodes = [*ast.walk(ast.parse(path.read_text()))]
        by_name = {"import_module", "__import__"} & {
            getattr(node.func, "attr", getattr(node.func, "id", None))
            for node in nodes
            if isinstance(node, ast.Call)
        }
        assert not by_name or module in BY_NAME, f"{module} imports by name"
        inside = {
            ast.unparse(line)
            for node in nodes
            if isinstance(node, ast.FunctionDef)
            for line in ast.walk(node)
            if isinstance(line, ast.ImportFrom) and line.level
        }
        assert not inside or module in IN_FUNCTIONS, f"{module}: {inside}"


def test_registry_of_preconditioners():
    """What is named in it exists, and nothing else is looked up."""
    adapted = import_module("lx_solvers.preconditioners._adapted")
    solvers = import_module("lx_solvers")
    for name, (file, cls) in adapted.NAMED.items():
        found = getattr(import_module(file, adapted.__package__), cls)
        assert found is getattr(solvers, cls)
        assert type(adapted.as_preconditioner(name)) is found
    with pytest.raises(ValueError, match="must be a preconditioner"):
        adapted.as_preconditioner("compare")


def test_declared_is_imported(package, projects):
    """No dependency undeclared, none declared in vain; SciPy comes with JAX."""

    def modules(lines: Iterable[str]) -> set[str]:
        return {_module(Requirement(line).name) for line in lines}

    tops = set().union(*(_tops(*source) for source in _sources(package).items()))
    imported = tops - sys.stdlib_module_names - {_module(package)}
    project = projects[package]
    extras = modules(sum(project.get("optional-dependencies", {}).values(), []))
    assert "scipy" in modules(requires("jax"))
    assert imported - extras - {"scipy"} == modules(project["dependencies"])


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
    took before it: processor time, in proportion, the least of a few runs. `lineax`
    takes next to nothing."""
    program = """
import importlib.util, py_compile, time
from pathlib import Path
for name in ("lineax", "lx_operators"):  # as they are after an installation
    for path in Path(importlib.util.find_spec(name).origin).parent.rglob("*.py"):
        py_compile.compile(path)
start = time.process_time()
import equinox
below = time.process_time()
import lineax
over = time.process_time()
import lx_operators
print((over - below) / (below - start), (time.process_time() - over) / (below - start))
"""
    runs = [run(sys.executable, "-c", program).split() for _ in range(4)]
    lineax, operators = (min(map(float, ratios)) for ratios in zip(*runs))
    assert lineax < 0.01
    assert operators < 0.15


def _lazily(module: str) -> dict[str, str]:
    """What a type checker is told: names, and the files they are imported from."""
    source = Path(import_module(module).__file__).read_text()
    return {
        alias.name: "." * node.level + (node.module or "")
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name != "*"
    }


@pytest.mark.parametrize(
    "module",
    [
        "lx_autodiff",
        "lx_operators",
        "lx_operators.internal",
        "lx_solvers",
        "lx_solvers.internal",
        "lx_solvers.krylov.internal",
    ],
)
def test_names_come_when_asked_for(module):
    """From the files that a type checker is told of."""
    found, names = import_module(module), _lazily(module)
    assert names and set(names) <= {*dir(found)}
    for name, file in names.items():
        home = import_module(file, found.__package__)
        assert getattr(found, name) is getattr(home, name)
    with pytest.raises(AttributeError, match="has no attribute"):
        getattr(found, "no_such_name")  # noqa: B009


def test_only_what_is_named_is_imported(run):
    program = """
import sys
import lineax as lx
print(*(name for name in sys.modules if name.startswith("lx_")))
lx.CG(1e-6, 1e-6), lx.linear_solve, lx.MatrixLinearOperator
print(*(name for name in sys.modules if name.startswith("lx_")))
"""
    before, after = run(sys.executable, "-c", program).splitlines()
    assert not before
    assert {"lx_solvers.krylov.cg", "lx_operators.leaves.matrix"} <= {*after.split()}
    others = {
        "lx_solvers.direct.lu",
        "lx_solvers.krylov.gmres",
        "lx_operators.composites.block",
        "lx_operators.sparse",
    }
    assert not others & {*after.split()}


def test_the_choice_imports_what_it_takes(run):
    """To choose for a plain matrix, nothing of the other solvers is imported."""
    program = """
import sys
import jax.numpy as jnp
import lineax as lx
lx.AutoLinearSolver(True).select_solver(lx.MatrixLinearOperator(jnp.eye(2)))
print(*(name for name in sys.modules if name.startswith("lx_")))
"""
    imported = {*run(sys.executable, "-c", program).split()}
    of_solvers = {x for x in imported if x.startswith("lx_solvers.direct.")}
    public = {x for x in of_solvers if not x.split(".")[-1].startswith("_")}
    assert public == {"lx_solvers.direct.lu"}
    assert "lx_operators.sparse.pattern" not in imported


def test_first_named_inside_a_trace(run):
    """Nothing that a file makes when it is imported belongs to a trace."""
    program = """
import jax, jax.numpy as jnp
import lineax as lx

def solve(diagonal):
    operator = lx.DiagonalLinearOperator(diagonal) * 2.0
    solution = lx.linear_solve(operator, diagonal, lx.AutoLinearSolver(None))
    return solution.value.sum(), solution.result == lx.RESULTS.successful

diagonal = jnp.array([1.0, 2.0])
total, well = jax.jit(solve)(diagonal)
totals, all_well = jax.vmap(solve)(diagonal[None])
print(total, well, totals[0], all_well[0])

from lx_autodiff._compiled import is_eager
print(is_eager())
"""
    wanted = ["1.0", "True"] * 2 + ["True"]
    assert run(sys.executable, "-c", program).split() == wanted
