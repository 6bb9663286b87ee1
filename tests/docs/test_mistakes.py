"""Common mistakes raise errors that name the next step, and that step is right."""

import importlib.util
import re
from pathlib import Path

import pytest
from lx_solvers import RESULTS

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("mistakes", ROOT / "docs/mistakes.py")
mistakes = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(mistakes)


def test_number():
    assert len(mistakes.MISTAKES) >= 15


@pytest.mark.standard_promotion
@pytest.mark.parametrize("mistake", mistakes.MISTAKES, ids=lambda m: m.title)
def test_mistake(mistake):
    """The text says what to do, and what the page gives as right runs."""
    text = mistakes.outcome(mistake.wrong)
    assert text is not None, "no error"
    assert mistake.names in text, text
    assert mistakes.outcome(mistake.right) is None


@pytest.mark.standard_promotion
def test_page():
    """Every mistake is on the page, with its text of today."""
    page = mistakes.page()
    for mistake in mistakes.MISTAKES:
        assert f"## {mistake.title}\n" in page
        assert mistake.names in page


@pytest.mark.parametrize("page", ["guides/debugging.md", "api/solving.md"])
def test_statuses(page):
    """The tables of statuses have every one."""
    text = (ROOT / "docs" / page).read_text()
    assert set(RESULTS._names) <= set(re.findall(r"^\| `(\w+)` \|", text, re.M))
