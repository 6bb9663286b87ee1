"""The examples in docstrings, and those that are files, run.

The pages of the docs are run by tests/docs, the docstrings of operators by
tests/operators.
"""

import re
import sys
from inspect import getdoc
from pathlib import Path
from textwrap import dedent

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import lx_operators
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
_BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def _blocks(text: str) -> list[str]:
    return [dedent(code) for _, code in _BLOCK.findall(text)]


def _documented() -> list[str]:
    names = set(lineax.__all__) - set(lx_operators.__all__)
    return [n for n in sorted(names) if _blocks(getdoc(getattr(lineax, n)) or "")]


@pytest.mark.standard_promotion
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
