"""Leaves know no composite, nothing imports in a circle, nor inside a function."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import lx_operators

ROOT = Path(lx_operators.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


def _relative(path):
    """The imports of this package in a file, with the file of each."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) + 1 - node.level]
            parts = (*above, *(node.module.split(".") if node.module else ()))
            for alias in node.names:
                inner = ROOT.joinpath(*parts, alias.name + ".py")
                file = inner if inner.exists() else ROOT.joinpath(*parts)
                yield (
                    node,
                    file.with_suffix(".py")
                    if file.is_file()
                    else (
                        file / "__init__.py"
                        if file.is_dir()
                        else file.with_suffix(".py")
                    ),
                )


def test_something_is_seen():
    add = ROOT / "composites" / "add.py"
    seen = {file.relative_to(ROOT).as_posix() for _, file in _relative(add)}
    assert {"_simplify.py", "composites/_rules.py", "_operator.py"} <= seen
    assert all((ROOT / name).exists() for name in seen)


def test_leaves_know_no_composite():
    lower = [*(ROOT / "leaves").glob("*.py"), *ROOT.glob("_*.py")]
    for path in lower:
        if path != ROOT / "__init__.py":
            files = (file for _, file in _relative(path))
            found = {file.name for file in files if file.parent.name == "composites"}
            assert not found, f"{path.name} imports {found}"


def test_no_circle():
    graph = {path: {file for _, file in _relative(path)} - {path} for path in FILES}
    TopologicalSorter(graph).prepare()
    # nor between folders
    folders = {"leaves": set(), "composites": set()}
    for path in FILES:
        folder = path.parent.name
        if folder in folders:
            folders[folder] |= {file.parent.name for _, file in _relative(path)}
    assert "composites" not in folders["leaves"]
    assert "leaves" in folders["composites"]


def test_no_import_inside_a_function():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inside = [n for n in ast.walk(node) if isinstance(n, ast.ImportFrom)]
                assert not [n for n in inside if n.level], f"{path.name}: {node.name}"
