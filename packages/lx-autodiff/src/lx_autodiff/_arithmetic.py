"""Arithmetic of vectors that are pytrees, and powers of two to scale them by."""

import functools

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from equinox import is_inexact_array
from jaxtyping import Array, ArrayLike, PyTree, Real
from lx_solvers.internal import largest, power_of_two


def times(factor: ArrayLike, x: PyTree[Array]) -> PyTree[Array]:
    """x times a real scalar."""
    return jtu.tree_map(lambda leaf: leaf * jnp.asarray(factor).astype(leaf.dtype), x)


def unless(
    zero: Array | None, x: PyTree[Array], instead: PyTree[Array] | None = None
) -> PyTree[Array]:
    """x, but `instead` (by default 0) where `zero` holds, if it can hold at all."""
    if zero is None:
        return x
    if instead is None:
        instead = jtu.tree_map(jnp.zeros_like, x)
    return jtu.tree_map(lambda x, y: jnp.where(zero, y, x), x, instead)


def add(x: PyTree[Array] | None, y: PyTree[Array] | None) -> PyTree[Array]:
    """x + y; either may be None, for zero."""
    if x is None or y is None:
        return y if x is None else x
    return jtu.tree_map(jnp.add, x, y)


def sub(x: PyTree[Array], y: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(jnp.subtract, x, y)


def neg(x: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(jnp.negative, x)


def unit(x: PyTree[Array], otherwise: PyTree = None) -> Real[Array, ""]:
    """The power of two nearest to the largest element of x, without a tangent.

    If x is zero, that of the arrays in `otherwise` (an operator, whose size b has if x
    is of size 1), or 1.
    """
    size = largest_of(x)
    if otherwise is not None:
        size = jnp.where(size == 0, largest_of(otherwise).astype(size.dtype), size)
    return power_of_two(size)


def largest_of(tree: PyTree) -> Real[Array, ""]:
    """The largest modulus (of complex numbers: its norm) in the inexact arrays."""
    leaves = [leaf for leaf in jtu.tree_leaves(tree) if is_inexact_array(leaf)]
    sizes = [largest(jax.lax.stop_gradient(leaf)) for leaf in leaves if leaf.size]
    if not sizes:
        return jnp.zeros(())
    dtype = min((size.dtype for size in sizes), key=lambda d: jnp.finfo(d).maxexp)
    return functools.reduce(jnp.maximum, [size.astype(dtype) for size in sizes])
