"""What one reads: lines of each Krylov method, and which folder imports from which.

    python benchmarks/reading.py [a checkout of another state]

A method's file needs the files whose names it imports, and these need theirs. Lines of
documentation, of the blank kind and of comments count, as they are read as well. Only
imports within a folder and from the folders above it in the same package count as
needed: what a file takes from another package has documentation of its own.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

FLOORS = ("lx_operators", "lx_solvers", "lx_autodiff", "lineax")


class Repository:
    """The files of the four packages, and what they import of each other."""

    def __init__(self, root: Path):
        self.sources = {
            floor: root / "packages" / floor.replace("_", "-") / "src" / floor
            for floor in FLOORS
        }
        self.files = [p for top in self.sources.values() for p in top.rglob("*.py")]
        self.imports = {path: set(self._imported(path)) for path in self.files}

    def _imported(self, path: Path) -> Iterator[Path]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                base = self._base(path, node)
                if base is None:
                    continue
                for alias in node.names:
                    file = self._file(base / alias.name) or self._file(base)
                    if file is not None and file != path:
                        yield file

    def _base(self, path: Path, node: ast.ImportFrom) -> Path | None:
        parts = node.module.split(".") if node.module else []
        if node.level:
            return path.parents[node.level - 1].joinpath(*parts)
        top = self.sources.get(parts[0]) if parts else None
        return None if top is None else top.joinpath(*parts[1:])

    @staticmethod
    def _file(base: Path) -> Path | None:
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                return file
        return None

    def floor(self, path: Path) -> str:
        return next(f for f, top in self.sources.items() if top in path.parents)

    def folder(self, path: Path) -> str:
        top = self.sources[self.floor(path)].parent
        return path.parent.relative_to(top).as_posix()

    def near(self, path: Path) -> set[Path]:
        """What a file imports from its folder, and from those above it."""
        top = self.sources[self.floor(path)]
        return {
            p
            for p in self.imports[path]
            if p.is_relative_to(top)
            and p.parent in path.parents
            and p.name not in ("__init__.py", "internal.py")
        }

    def needed(self, path: Path) -> set[Path]:
        """The same, and what these import, and so on."""
        found, left = set(), [path]
        while left:
            for file in self.near(left.pop()) - found:
                found.add(file)
                left.append(file)
        return found - {path}


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def code(path: Path) -> int:
    """The lines of a file that are neither documentation, comment nor blank."""
    tree = ast.parse(path.read_text())
    kept: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.stmt):
            continue
        end = node.end_lineno or node.lineno
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            kept -= set(range(node.lineno, end + 1))
        else:
            inner = getattr(node, "body", None)
            end = inner[0].lineno - 1 if inner else end
            kept |= set(range(node.lineno, end + 1))
    written = path.read_text().splitlines()
    return sum(
        bool(written[i - 1].strip()) and not written[i - 1].strip().startswith("#")
        for i in kept
    )


def recurrence(path: Path) -> int:
    """The lines of the class that is the method: the one with `start` and `step`."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            names = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            if {"start", "step"} <= names and node.end_lineno:
                return node.end_lineno + 1 - node.lineno
    return 0


def methods(repository: Repository) -> None:
    folder = repository.sources["lx_solvers"] / "krylov"
    print(
        "| method | lines | of code | recurrence | files it imports | their lines ",
        end="",
    )
    print("| all needed |\n|---|---:|---:|---:|---:|---:|---:|")
    for path in sorted(folder.glob("[!_]*.py")):
        if path.name != "internal.py":
            near, all_ = repository.near(path), repository.needed(path)
            row = [path.stem, lines(path), code(path), recurrence(path) or "–"]
            row += [len(near), sum(map(lines, near)), sum(map(lines, all_))]
            print("|", " | ".join(map(str, row)), "|")


def folders(repository: Repository) -> None:
    found: Counter[tuple[str, str]] = Counter()
    for path, imported in repository.imports.items():
        for file in imported:
            pair = repository.folder(path), repository.folder(file)
            found[pair] += pair[0] != pair[1]
    print("\n| folder | imports from |\n|---|---|")
    for name in sorted({one for one, _ in found}):
        towards = sorted((b, n) for (a, b), n in found.items() if a == name and n)
        if towards:
            print(f"| {name} |", ", ".join(f"{b} ({n})" for b, n in towards), "|")


def faults(repository: Repository) -> list[str]:
    """Circles of files, imports from a package above, imports inside functions."""
    found = []
    try:
        TopologicalSorter(repository.imports).prepare()
    except CycleError as error:
        found.append("circle: " + " → ".join(path.name for path in error.args[1]))
    for path, imported in repository.imports.items():
        own = FLOORS.index(repository.floor(path))
        above = [p for p in imported if FLOORS.index(repository.floor(p)) > own]
        found += [f"upward: {path.name} imports {p.name}" for p in above]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inside = [n for n in ast.walk(node) if isinstance(n, ast.ImportFrom)]
                found += [
                    f"inside a function: {path.name}, line {n.lineno}, {n.module}"
                    for n in inside
                    if n.level or (n.module or "").split(".")[0] in FLOORS
                ]
    return sorted(set(found))


def main() -> None:
    root = Path(sys.argv[1] if sys.argv[1:] else Path(__file__).parents[1])
    repository = Repository(root.resolve())
    methods(repository)
    folders(repository)
    print("\nFaults:", *(faults(repository) or ["none"]), sep="\n- ")


if __name__ == "__main__":
    main()
