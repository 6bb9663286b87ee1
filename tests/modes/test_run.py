"""The page on modes is what the runs gave, and nothing else."""

import sys
from pathlib import Path

import pytest

from tests.modes.run import (
    COLUMNS,
    MODES,
    PAGE,
    _python,
    counts,
    load,
    main,
    render,
    run,
)

REPORT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="a" name="one"/>
<testcase classname="a" name="two"><failure message="no"/></testcase>
<testcase classname="a" name="three"><error message="no"/></testcase>
<testcase classname="a" name="four"><skipped message="no"/></testcase>
</testsuite></testsuites>"""


def test_page_is_what_was_run():
    assert PAGE.read_text() == render(load())


def test_every_mode_says_what_was_run_or_that_it_was_not():
    outcomes = load()
    assert set(outcomes) <= set(MODES)
    for name, outcome in outcomes.items():
        if "not run" not in outcome:
            asked = set(MODES[name].selections) & set(outcome)  # or interrupted
            assert asked == set(COLUMNS) & set(outcome), name
            failed = sum(outcome[column]["failed"] for column in asked)
            assert failed == len(outcome["failures"]), name


def test_counts(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    assert counts(report) == {"passed": 1, "failed": 2, "skipped": 1}


def test_selections_exist():
    root = Path(__file__).parents[2]
    for mode in MODES.values():
        for selection in mode.selections.values():
            (path,) = (part for part in selection if part.startswith("tests/"))
            assert (root / path).exists()


def test_unknown_modes_are_an_error(capsys):
    with pytest.raises(SystemExit):
        main(["no mode"])
    assert "no mode is named no mode" in capsys.readouterr().err


def test_finds_this_python():
    assert _python(f"{sys.version_info.major}.{sys.version_info.minor}")


def test_what_is_done_is_kept(tmp_path):
    name = "export"
    done = {"solvers": {"passed": 1, "failed": 0, "skipped": 0}, "failures": []}
    assert run(name, tmp_path, before=done) is done
