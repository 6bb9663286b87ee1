"""The examples in the docstrings run, and public docstrings are complete."""

import inspect
import re
from textwrap import dedent

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators
import lx_operators.testing
import numpy as np
import pytest

_BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
PUBLIC = {name: getattr(lx_operators, name) for name in lx_operators.__all__}
PUBLIC |= {
    "testing": lx_operators.testing,
    "OperatorLaws": lx_operators.testing.OperatorLaws,
}
DOCUMENTED = {
    name: thing
    for name, thing in PUBLIC.items()
    if callable(thing) or inspect.ismodule(thing)
}


def _blocks(thing):
    return [dedent(code) for _, code in _BLOCK.findall(inspect.getdoc(thing) or "")]


@pytest.mark.standard_promotion
@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_example_runs(name):
    blocks = _blocks(DOCUMENTED[name])
    assert blocks, f"{name} has no example"
    for code in blocks:
        space = {"eqx": eqx, "jax": jax, "jnp": jnp, "lx": lx_operators, "np": np}
        exec(compile(code, name, "exec"), space)


@pytest.mark.parametrize(
    "name", sorted(name for name, thing in PUBLIC.items() if inspect.isfunction(thing))
)
def test_functions_say_what_goes_in_and_out(name):
    text = inspect.getdoc(PUBLIC[name])
    assert "Args:" in text and "Returns:" in text


@pytest.mark.parametrize(
    "name", sorted(n for n in lx_operators.__all__ if n.endswith("LinearOperator"))
)
def test_operators_say_what_goes_in(name):
    if name != "AbstractLinearOperator":
        assert "Args:" in inspect.getdoc(PUBLIC[name])
