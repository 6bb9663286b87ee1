"""The README's pictures show the figures of today."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib").use("agg")

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def speed():
    return runpy.run_path(str(DOCS / "pictures" / "speed.py"))


def test_ratios(speed):
    """The ratios read from the page have the mean that the goals state."""
    page = (DOCS.parent / "benchmarks" / "GOALS.md").read_text()
    stated = re.search(r"^\| run, .* geometric mean ([\d.]+) \|$", page, re.M)
    assert stated is not None
    runs = [r for case, r in speed["ratios"]().items() if case.startswith("run ")]
    assert len(runs) > 70
    assert speed["mean"](np.array(runs)) == pytest.approx(float(stated[1]), abs=0.006)


def test_speed_chart(speed):
    """The chart in the README is drawn from them: else run docs/standalone.py."""
    svg = (DOCS / "assets" / "speed.svg").read_text()
    drawn = re.findall(r">(\d\.\d\d)</text>", svg)
    means = [f"{speed['mean'](group):.2f}" for group in speed["grouped"]().values()]
    assert drawn[-len(means) :] == means
    for name in speed["grouped"]():
        assert name in svg
