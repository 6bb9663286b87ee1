"""Operators built from the same function have the same tree."""

import jax
import jax.numpy as jnp
import lx_operators as lx
import pytest


def _scaling(c):
    return lx.FunctionLinearOperator(lambda x: c * x, jax.eval_shape(lambda: c))


def _jacobian(c):
    fn = lambda x, _: c * jax.nn.softplus(jnp.sin(x))  # noqa: E731
    return lx.linearise(lx.JacobianLinearOperator(fn, c))


@pytest.mark.parametrize("build", [_scaling, _jacobian])
def test_equal_trees(build):
    """So a loop can carry one and make another, as optimisers do."""
    c = jnp.arange(1.0, 4.0)
    a, b = build(c), build(2 * c)
    assert jax.tree.structure(a) == jax.tree.structure(b)
    loop = jax.lax.fori_loop(0, 3, lambda i, op: build(op.mv(c)), a)
    assert loop.mv(c).shape == c.shape


def test_unequal_trees():
    """Constants, dtypes, and operations that differ."""
    c = jnp.arange(1.0, 4.0)

    def tree(fn, like=c):
        structure = jax.eval_shape(lambda: like)
        return jax.tree.structure(lx.FunctionLinearOperator(fn, structure))

    fns = [
        lambda x: 2.0 * x,
        lambda x: 3.0 * x,
        lambda x: x / 2.0,
        lambda x: jnp.cumsum(x),
        lambda x: jnp.cumsum(x, axis=0)[::-1],
        lambda x: jnp.tile(x, 2)[:3],
        lambda x: jax.lax.scan(lambda s, y: (s + y, s), 0.0, x)[1],
        lambda x: jax.lax.scan(lambda s, y: (s - y, s), 0.0, x)[1],
    ]
    trees = [tree(fn) for fn in fns] + [tree(fns[0], c.astype(jnp.float32))]
    assert len(set(trees)) == len(trees)
