"""Eager calls with few numbers are compiled with options of their own: a matter of
time, never of results."""

import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_autodiff import _compiled, _linear_solve
from lx_autodiff._compiled import Compiled, is_eager

M = jnp.array([[4.0, 1.0], [2.0, 3.0]])
B = jnp.array([1.0, 2.0])
X = np.linalg.solve(M, B)


@pytest.fixture
def quick(monkeypatch):
    """The calls that are compiled quickly."""
    calls, program = [], _linear_solve._solve._quick

    def spy(*args):
        calls.append(args)
        return program(*args)

    monkeypatch.setattr(_compiled, "_on_cpu", lambda: True)
    monkeypatch.setattr(_linear_solve._solve, "_quick", spy)
    return calls


def solve(b, matrix=M):
    return lxa.linear_solve(lxo.MatrixLinearOperator(matrix), b, lxs.LU()).value


def test_few_numbers(quick):
    np.testing.assert_allclose(solve(B), X)
    assert len(quick) == 1


def test_many_numbers(quick):
    b = jnp.linspace(1.0, 2.0, 5000)
    x = lxa.linear_solve(lxo.DiagonalLinearOperator(b), b, lxs.Diagonal()).value
    np.testing.assert_allclose(x, np.ones(5000))
    pytree = [b[:2500], b[2500:]]
    x = lxa.linear_solve(lxo.DiagonalLinearOperator(pytree), pytree, lxs.Diagonal())
    np.testing.assert_allclose(x.value[1], np.ones(2500))
    assert not quick


def test_under_transformations(quick):
    """Where JAX takes no options, also if the arrays are constants of the trace."""
    bs = jnp.stack([B, 2 * B])
    for fn in (solve, lambda b: solve(B) + 0 * b):
        np.testing.assert_allclose(jax.jit(fn)(B), X)
        np.testing.assert_allclose(jax.vmap(fn)(bs)[0], X)
        np.testing.assert_allclose(jax.jvp(fn, (B,), (B,))[0], X)
        np.testing.assert_allclose(jax.vjp(fn, B)[0], X)
        assert jax.eval_shape(fn, B).shape == (2,)
    assert not quick


@pytest.mark.parametrize("fn", [lxa.invert, lxa.slogdet, lxa.cond])
def test_factorised_at_once(fn, caplog):
    """Not one operation after the other, and once for all scales of an operator."""
    for scale in (2.0, 3.0):
        with jax.log_compiles(), caplog.at_level("WARNING"):
            out = fn(scale * lxo.MatrixLinearOperator(M), lxs.QR())
            jax.block_until_ready(out)
        compiled = caplog.text.count("Finished XLA compilation")
        caplog.clear()
        assert compiled <= (3 if scale == 2 else 0)


def test_failure(quick):
    with pytest.raises(eqx.EquinoxRuntimeError, match="singular"):
        solve(B, jnp.ones((2, 2)))
    assert len(quick) == 1


def test_unknown_options():
    """As of another XLA: they are tried once."""
    traced = []

    def fn(static, x):
        traced.append(static)
        return static * x

    compiled = Compiled(fn, {"xla_no_such_option": True})
    assert compiled._quick is not compiled._default
    for _ in range(2):
        assert compiled(3, jnp.array(2.0), quickly=True) == 6
    assert compiled._quick is compiled._default


def test_is_eager():
    seen = []

    def look(x):
        seen.append(is_eager())
        return x

    for transform in (jax.jit, jax.grad, jax.vmap):
        transform(look)(jnp.ones(1) if transform is jax.vmap else 1.0)
    assert seen == [False] * 3
    thread = threading.Thread(target=look, args=(1.0,))
    thread.start()
    thread.join()
    assert seen.pop()
    assert is_eager()
