"""The laws in every mode, and the page of the docs that says how it went.

`hatch run modes` runs every mode, keeps the counts in `outcomes.json` and writes
`docs/evidence/modes.md` from them; with names of modes, it runs only these and leaves
the others as they were. Each selection is kept as soon as it is done: `--resume` goes
on after an interruption, and runs nothing again that was run with the same sources.
What was compiled is kept for the next run. `--quick` runs one member of each family and
writes nothing.

A mode is a process of its own: an interpreter with its versions of JAX and Equinox,
settings in its environment, and a selection of tests.
"""

import argparse
import datetime
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
OUTCOMES = Path(__file__).with_name("outcomes.json")
TEXT = Path(__file__).with_name("page.md")  # what stands around the table
PAGE = ROOT / "docs" / "evidence" / "modes.md"
PACKAGES = ("lx-operators", "lx-solvers", "lx-autodiff", "lineax")

# What XLA compiled, by versions: most of the time goes into compiling.
CACHE = {
    "JAX_COMPILATION_CACHE_DIR": str(Path(tempfile.gettempdir()) / "lineax-modes"),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}

# The public laws of operators, of solvers and of derivatives, for all of ours.
OPERATORS = ("--laws", "tests/operators")
SOLVERS = ("--laws", "tests/solvers/test_laws.py")
DERIVATIVES = ("tests/autodiff/test_derivative.py",)
QUICK = ("-k", "TestLU or TestCG or test_matrix.py or test_add.py or LU()")


class Mode(NamedTuple):
    """What is set, and which tests run, by what they are about."""

    says: str
    selections: dict[str, tuple[str, ...]]
    settings: dict[str, str] = {}
    versions: str = "newest"


LAWS = {"operators": OPERATORS, "solvers": SOLVERS, "derivatives": DERIVATIVES}
MESHES = ("tests/modes/test_meshes.py", "--all-members")
EXPORT = "tests/modes/test_export.py"

MODES = {
    "strict promotion": Mode(
        "dtypes and ranks that differ are errors; every dtype",
        {**LAWS, "operators": (*OPERATORS, "--all-dtypes")},
    ),
    "standard promotion": Mode(
        "JAX's own rules",
        LAWS,
        {
            "JAX_NUMPY_DTYPE_PROMOTION": "standard",
            "JAX_NUMPY_RANK_PROMOTION": "allow",
        },
    ),
    "x64 off": Mode(
        "float32 and complex64 alone; the laws of derivatives need x64",
        {"operators": OPERATORS, "solvers": SOLVERS},
        {"JAX_ENABLE_X64": "0"},
    ),
    "lowest versions": Mode(
        "the lowest that the packages declare", LAWS, versions="lowest"
    ),
    "newest on Python 3.13": Mode(
        "what `pip` gives there today", LAWS, versions="3.13"
    ),
    "explicit mesh": Mode(
        "eight devices, a batch of systems sharded over them",
        {
            "operators": (*MESHES, "-k", "explicit and operator"),
            "solvers": (*MESHES, "-k", "explicit and solver"),
            "derivatives": (*MESHES, "-k", "explicit and derivative"),
        },
    ),
    "`shard_map`": Mode(
        "eight devices, types checked, errors raised",
        {
            "operators": (*MESHES, "-k", "shard_map and operator"),
            "solvers": (*MESHES, "-k", "shard_map and solver"),
            "derivatives": (*MESHES, "-k", "shard_map and derivative"),
        },
    ),
    "export": Mode(
        "symbolic sizes, and saved solves that are served",
        {"solvers": (EXPORT, "-k", "not platforms")},
    ),
    "other platforms": Mode(
        "lowered for CUDA and TPU: value, gradient, batch",
        {"solvers": (EXPORT, "-k", "platforms")},
    ),
}
QUICK_MODES = ("standard promotion", "x64 off", "explicit mesh", "`shard_map`")
COLUMNS = ("operators", "solvers", "derivatives")


# Interpreters


class Missing(Exception):
    """Something that a mode needs is not on this machine."""


def _uv(*arguments: str | Path) -> None:
    import uv

    command = [uv.find_uv_bin(), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise Missing(f"{' '.join(command)}\n{done.stderr}")


def _python(version: str) -> str:
    """An interpreter of this version: on the path, or one of pyenv's."""
    places = [f"python{version}"]
    places += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for place in map(str, places):
        try:
            subprocess.run([place, "-c", ""], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return place
    raise Missing(f"no Python {version} is found")


def interpreter(versions: str, place: Path) -> str:
    """This one, or that of an environment made anew in `place`.

    Raises:
        Missing: no such Python, or an installation that failed.
    """
    if versions == "newest":
        return sys.executable
    base = sys.executable if versions == "lowest" else _python(versions)
    _uv("venv", "--quiet", "--python", base, place)
    python = place / "bin" / "python"
    environments = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]
    pins = environments["envs"]["lowest"]["extra-dependencies"]
    needed = ["pytest>=9", "pytest-xdist>=3.6", "hypothesis", "mpmath", "scipy"]
    needed += ["flatbuffers", *(pins if versions == "lowest" else [])]
    for package in PACKAGES:
        needed += ["--editable", str(ROOT / "packages" / package)]
    _uv("pip", "install", "--quiet", "--python", python, *needed)
    return str(python)


def _versions(python: str, environment: dict[str, str]) -> str:
    program = (
        "import platform, jax, equinox;"
        "print('Python', platform.python_version() + ',',"
        "'JAX', jax.__version__ + ',', 'Equinox', equinox.__version__)"
    )
    done = subprocess.run(
        [python, "-c", program], env=environment, capture_output=True, text=True
    )
    return done.stdout.strip()


# One mode


def counts(report: Path) -> dict[str, int]:
    """Passed, failed and skipped, of a report in JUnit's format."""
    out = {"passed": 0, "failed": 0, "skipped": 0}
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        kind = (
            "failed"
            if kinds & {"failure", "error"}
            else "skipped"
            if "skipped" in kinds
            else "passed"
        )
        out[kind] += 1
    return out


def failures(report: Path) -> list[str]:
    """Names of the tests that failed."""
    return [
        f"{case.get('classname')}::{case.get('name')}"
        for case in ElementTree.parse(report).iter("testcase")
        if {child.tag for child in case} & {"failure", "error"}
    ]


def sources() -> str:
    """Tells apart states of the code and of the tests."""
    digest = hashlib.sha256()
    for place in ("packages", "tests"):
        for file in sorted((ROOT / place).rglob("*.py")):
            digest.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def run(
    name: str,
    place: Path,
    *,
    quick: bool = False,
    workers: str = "auto",
    limit: float = 7200,
    before: dict | None = None,
    keep: Callable[[dict], None] = lambda outcome: None,
) -> dict:
    """Run a mode; a selection that ends in no report counts as one failure.

    Args:
        name: of the mode.
        place: a folder for what the run needs.
        quick: one member of each family.
        workers: processes at a time.
        limit: seconds for a selection.
        before: an outcome whose selections are not run again.
        keep: is called with the outcome after each selection.
    """
    mode, before = MODES[name], before or {}
    if set(mode.selections) <= set(before):
        return before
    out = {"date": datetime.date.today().isoformat(), "sources": sources()}
    try:
        python = interpreter(mode.versions, place / "venv")
    except Missing as error:
        return out | {"not run": str(error).splitlines()[0]}
    paths = [str(ROOT / "packages" / p / "src") for p in PACKAGES]
    environment = CACHE | os.environ | mode.settings
    environment["PYTHONPATH"] = os.pathsep.join([*paths, str(ROOT)])
    out["versions"] = _versions(python, environment)
    done = [column for column in mode.selections if column in before]
    out |= {column: before[column] for column in done}
    out["failures"] = before.get("failures", [])
    for column, selection in mode.selections.items():
        if column in before:
            continue
        report = place / f"{column}.xml"
        command = [python, "-m", "pytest", "-q", f"--junitxml={report}", *selection]
        command += ["-n", workers, "--dist", "loadgroup", "-p", "no:cacheprovider"]
        command += QUICK if quick and "-k" not in selection else ()
        print("==", name, "/", column, flush=True)
        try:
            subprocess.run(command, cwd=ROOT, env=environment, timeout=limit)
        except subprocess.TimeoutExpired:
            print(f"stopped after {limit} s")
        if report.exists():
            out[column] = counts(report)
            out["failures"] += failures(report)
        else:
            out[column] = {"passed": 0, "failed": 1, "skipped": 0}
            out["failures"].append(f"{column}: no report")
        keep(out)
    return out


# The page


def _cell(count: dict[str, int] | None) -> str:
    if count is None:
        return ""
    return " / ".join(str(count[kind]) for kind in ("passed", "failed", "skipped"))


def _row(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def render(outcomes: dict[str, dict]) -> str:
    """The page: every mode, run or not."""
    head = ("mode", *COLUMNS, "versions", "date")
    rows = [_row(head), _row(["---", *["--:"] * len(COLUMNS), "---", "---"])]
    for name in MODES:
        outcome = outcomes.get(name, {"date": "", "not run": "not yet"})
        cells = [_cell(outcome.get(column)) for column in COLUMNS]
        versions = outcome.get("versions", f"not run: {outcome.get('not run')}")
        rows.append(_row([name, *cells, versions, outcome["date"]]))
    modes = "\n".join(f"- **{name}**: {mode.says}." for name, mode in MODES.items())
    failed = [
        f"- {name}: `{test}`"
        for name in MODES
        for test in outcomes.get(name, {}).get("failures", [])
    ]
    text = TEXT.read_text()
    for key, value in {
        "table": "\n".join(rows),
        "modes": modes,
        "failures": "\n".join(failed) or "None.",
    }.items():
        text = text.replace("{" + key + "}", value)
    return text


def load() -> dict[str, dict]:
    return json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="hatch run modes", description=__doc__)
    parser.add_argument("modes", nargs="*", help=f"of {', '.join(MODES)}")
    parser.add_argument("--quick", action="store_true", help="one of each family")
    parser.add_argument("--resume", action="store_true", help="keep what is done")
    parser.add_argument("-n", default="auto", help="processes at a time")
    parser.add_argument("--limit", type=float, default=7200, help="seconds a selection")
    given = parser.parse_args(arguments)
    if unknown := set(given.modes) - set(MODES):
        parser.error(f"no mode is named {', '.join(unknown)}; there are {list(MODES)}")
    names = given.modes or (QUICK_MODES if given.quick else tuple(MODES))
    outcomes = {} if given.quick else load()
    now, failed = sources(), 0

    def write() -> None:
        if not given.quick:
            OUTCOMES.write_text(json.dumps(outcomes, indent=1) + "\n")
            PAGE.write_text(render(outcomes))

    for name in names:
        before = outcomes.get(name, {})
        if not given.resume or before.get("sources") != now:
            before = {}

        def keep(outcome: dict, name: str = name) -> None:
            outcomes[name] = outcome
            write()

        with tempfile.TemporaryDirectory() as place:
            outcomes[name] = run(
                name,
                Path(place),
                quick=given.quick,
                workers=given.n,
                limit=given.limit,
                before=before,
                keep=keep,
            )
        failed += len(outcomes[name].get("failures", []))
        for column in COLUMNS:
            if column in outcomes[name]:
                print(f"{name}, {column}: {_cell(outcomes[name][column])}", flush=True)
        write()
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
