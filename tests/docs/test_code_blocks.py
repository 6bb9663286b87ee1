"""What the pages show, runs, and prints what they say it prints.

The blocks of a page run one after the other in one namespace, as a reader would paste
them. Tutorials, whose blocks are files, are followed by tests/packaging.
"""

import ast
import contextlib
import io
from pathlib import Path

import jax
import pytest

from tests.docs.blocks import python, same, stated

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("packages/*/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]


@pytest.fixture
def _as_a_reader():
    """JAX as it is when a reader starts Python, whatever the page before has set."""
    jax.config.update("jax_enable_x64", False)
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if python(p)], ids=lambda p: str(p.relative_to(ROOT))
)
@pytest.mark.usefixtures("_as_a_reader")
@pytest.mark.standard_promotion
def test_page(page):
    space = {"__name__": "__main__"}
    for start, code in python(page):
        _run(page, start, code, space)


def _run(page: Path, start: int, code: str, space: dict) -> None:
    """Runs a block, which starts in this line of the page, statement by statement."""
    lines = code.splitlines()
    for node in ast.parse(code).body:
        output = None
        if lines[node.lineno - 1].startswith("print("):
            output = stated(lines[(node.end_lineno or node.lineno) - 1])
        ast.increment_lineno(node, start - 1)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(ast.Module([node], []), str(page), "exec"), space)
        if output is not None:
            text = out.getvalue().strip()
            place = f"{page.name}:{node.lineno}"
            assert same(text, output), f"{place} prints\n{text}\nnot\n{output}"


@pytest.mark.parametrize(
    ("printed", "output", "agrees"),
    [
        ("[1. 1.]", "[1. 1.]", True),
        ("[1.        0.9999999]", "[1. 1.]", True),
        ("[1.1 1.]", "[1. 1.]", False),
        ("1.2345678", "1.23", True),
        ("1.2445678", "1.23", False),
        ("12", "13", False),
        ("3.2e-11", "3e-11", True),
        ("[0.2  0.51]", "[0.2 0.5]", False),
        ("True False", "True True", False),
        ("LU()", "QR()", False),
        ("[[1. 2.]\n [3. 4.]]", "[[1. 2.] [3. 4.]]", True),
        ("[1. 2. 3.]", "[1. 2.]", False),
    ],
)
def test_comparison(printed, output, agrees):
    """The comparison tells what agrees from what does not."""
    assert same(printed, output) is agrees
