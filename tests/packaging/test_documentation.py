"""What the docs show, runs."""

import re
import sys
from inspect import getdoc
from pathlib import Path
from textwrap import dedent

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("packages/*/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
_BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def _blocks(text: str) -> list[str]:
    """The Python in a text, less blocks that only include a file (run as that file)."""
    blocks = (dedent(code) for _, code in _BLOCK.findall(text))
    return [code for code in blocks if not code.startswith("--8<--")]


def _documented() -> list[str]:
    return [n for n in lineax.__all__ if _blocks(getdoc(getattr(lineax, n)) or "")]


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if _blocks(p.read_text())],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_page(page):
    """The blocks of a page run one after the other."""
    space = {}
    for code in _blocks(page.read_text()):
        exec(compile(code, str(page), "exec"), space)


@pytest.mark.parametrize("name", _documented())
def test_docstring(name):
    """The example of a public name runs, with the usual imports."""
    for code in _blocks(getdoc(getattr(lineax, name)) or ""):
        space = {"eqx": eqx, "jax": jax, "jnp": jnp, "lx": lineax, "np": np}
        exec(compile(code, name, "exec"), space)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example, run, tmp_path):
    """An example runs as it is, from anywhere, and has something to say."""
    assert run(sys.executable, example, cwd=tmp_path).strip()
