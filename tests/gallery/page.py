"""The page of the docs on solvers and test matrices, made from the whole table.

`python -m tests.gallery.page` computes all outcomes anew (some minutes), keeps them in
`outcomes.json`, and writes the page; with names of solvers, it computes only theirs.
"""

import collections
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import jax

from tests.gallery.matrices import GALLERY, Entry
from tests.gallery.table import (
    COLUMNS,
    LETTERS,
    SCALES,
    Column,
    asked,
    false,
    solve,
)

ROOT = Path(__file__).parents[2]
OUTCOMES = Path(__file__).with_name("outcomes.json")
TEXT = Path(__file__).with_name("page.md")  # what stands around the tables
PAGE = ROOT / "docs" / "evidence" / "solvers.md"

# solver -> matrix -> dtype -> a letter for each scale, `.` where out of range
Outcomes = dict[str, dict[str, dict[str, str]]]

KINDS = tuple(dict.fromkeys(entry.kind for entry in GALLERY))


def compute(column: Column) -> dict[str, dict[str, str]]:
    """All outcomes of a solver.

    Raises:
        AssertionError: a solution that is called successful is none.
    """
    out: dict[str, dict[str, str]]
    out = {e.name: {} for e in GALLERY if column.takes(e)}
    for dtype in column.dtypes:
        letters = {name: ["."] * len(SCALES) for name in out}
        given = asked(column, dtype)
        for case, outcome in zip(given, solve(column, given, dtype), strict=True):
            letters[case.entry.name][case.scale] = outcome.letter
            why = false(case, outcome.x) if outcome.letter == "s" else ""
            assert not why, (column.name, case.entry.name, dtype, case.scale, why)
        for name, row in letters.items():
            out[name][dtype] = "".join(row)
    return out


def load() -> Outcomes:
    return json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {}


def counts(outcomes: Outcomes, column: str, entries: Iterable[Entry]) -> tuple:
    """How many of these were solved, and how many were not."""
    rows = outcomes[column]
    letters = "".join(
        text
        for entry in entries
        if entry.name in rows
        for text in rows[entry.name].values()
    )
    asked = len(letters) - letters.count(".")
    return letters.count("s"), asked - letters.count("s")


def _cell(solved: int, failed: int) -> str:
    if not solved + failed:
        return ""
    return f"{solved}" if not failed else f"{solved} / {failed}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(_row(cells) for cells in (head, rule, *rows))


def _summary(outcomes: Outcomes) -> str:
    rows = [
        [
            f"`{name}`",
            *(_cell(*counts(outcomes, name, _of(kind))) for kind in KINDS),
            _cell(*counts(outcomes, name, GALLERY)),
        ]
        for name in COLUMNS
    ]
    return _table(["solver", *KINDS, "all"], rows)


def _of(kind: str) -> list[Entry]:
    return [entry for entry in GALLERY if entry.kind == kind]


def _reasons(outcomes: Outcomes) -> str:
    named = {letter: name for letter, name in LETTERS.items() if letter != "s"}
    rows = []
    for column in COLUMNS:
        texts = "".join(t for row in outcomes[column].values() for t in row.values())
        seen = collections.Counter(texts)
        rows.append([f"`{column}`", *(str(seen[letter] or "") for letter in named)])
    return _table(["solver", *(f"`{name}`" for name in named.values())], rows)


_TITLES = {"definite": "positive definite", "deficient": "rank-deficient"}


def _details(outcomes: Outcomes) -> str:
    parts = []
    for kind in KINDS:
        entries = _of(kind)
        columns = [
            name
            for name in COLUMNS
            if any(entry.name in outcomes[name] for entry in entries)
        ]
        rows = [
            [entry.name, *(_cell(*counts(outcomes, c, [entry])) for c in columns)]
            for entry in entries
        ]
        table = _table(["matrix", *(f"`{name}`" for name in columns)], rows)
        parts.append(f"### {_TITLES.get(kind, kind).capitalize()}\n\n{table}")
    return "\n\n".join(parts)


def _sources() -> str:
    sources = collections.defaultdict(list)
    for entry in GALLERY:
        if entry.source and not entry.name.endswith("transposed"):
            sources[entry.source].append(entry.name.split(", b ")[0])
    return "\n".join(
        f"- {source}: {'; '.join(dict.fromkeys(names))}."
        for source, names in sources.items()
    )


def render(outcomes: Outcomes) -> str:
    """The page."""
    asked = sum(sum(counts(outcomes, name, GALLERY)) for name in COLUMNS)
    return TEXT.read_text().format(
        matrices=len(GALLERY),
        dtypes="float32, float64, complex64 and complex128",
        asked=asked,
        summary=_summary(outcomes),
        reasons=_reasons(outcomes),
        details=_details(outcomes),
        sources=_sources(),
    )


def main(names: list[str]) -> None:
    jax.config.update("jax_enable_x64", True)
    outcomes = load()
    for name in names or COLUMNS:
        print(name, flush=True)
        outcomes[name] = compute(COLUMNS[name])
        OUTCOMES.write_text(json.dumps(outcomes, indent=0, ensure_ascii=False) + "\n")
    if set(outcomes) >= set(COLUMNS):
        PAGE.write_text(render(outcomes))


if __name__ == "__main__":
    main(sys.argv[1:])
