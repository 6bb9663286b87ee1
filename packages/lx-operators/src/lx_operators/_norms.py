"""The inner product and the norms of pytrees."""

import functools

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Inexact, PyTree, Scalar

from ._structures import common_dtype, complex_to_real_dtype

_HIGHEST = jax.lax.Precision.HIGHEST


def tree_dot(x: PyTree[Array], y: PyTree[Array]) -> Inexact[Array, ""]:
    """⟨x, y⟩ = Σ conj(xᵢ) yᵢ over all leaves: it conjugates its first argument.

    Args:
        x, y: pytrees of arrays, of the same tree and the same leaf shapes.

    Returns:
        A scalar in the common dtype of all leaves.
    """
    dtype = common_dtype(x, y)

    def dot(a: Array, b: Array) -> Array:
        a, b = jnp.ravel(a).astype(dtype), jnp.ravel(b).astype(dtype)
        return jnp.vdot(a, b, precision=_HIGHEST)

    parts = jtu.tree_leaves(jtu.tree_map(dot, x, y))
    return functools.reduce(jnp.add, parts, jnp.zeros((), dtype))


def sum_squares(x: PyTree[Array]) -> Scalar:
    """Σ |xᵢ|², real."""
    return tree_dot(x, x).real


def max_norm(x: PyTree[Array]) -> Scalar:
    """max |xᵢ|, real; 0 if there are no elements; NaN if any element is NaN."""
    leaves = jtu.tree_leaves(x)
    dtype = complex_to_real_dtype(common_dtype(leaves))
    norm = jnp.zeros((), dtype)
    for leaf in leaves:
        if not jnp.size(leaf):
            continue
        # XLA's maximum of many elements drops a NaN on some processors
        size = jnp.max(_abs(leaf), initial=0)
        size = jnp.where(jnp.any(jnp.isnan(leaf)), jnp.nan, size)
        norm = jnp.maximum(norm, size.astype(dtype))
    return norm


def _abs(x: Array) -> Array:
    """|x|, with derivative 0 at 0 (JAX's is 1)."""
    if not jnp.iscomplexobj(x):
        return x * jax.lax.sign(x)
    zero = x == 0
    return jnp.where(zero, 0, jnp.abs(jnp.where(zero, jnp.ones_like(x), x)))


def two_norm(x: PyTree[Array]) -> Scalar:
    """√Σ |xᵢ|², real; scaled, so that no square overflows or underflows.

    Differentiable everywhere, with the zero subgradient at 0.
    """
    return _two_norm(x)


@jax.custom_jvp
def _two_norm(x: PyTree[Array]) -> Scalar:
    largest = jax.lax.stop_gradient(max_norm(x))
    usable = (largest > 0) & jnp.isfinite(largest)
    scale = jnp.where(usable, largest, jnp.ones_like(largest))
    dtype = common_dtype(x)
    scaled = jtu.tree_map(lambda leaf: leaf.astype(dtype) / scale.astype(dtype), x)
    return scale * jnp.sqrt(sum_squares(scaled))


@_two_norm.defjvp
def _two_norm_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    norm = two_norm(x)
    safe = jnp.where(norm == 0, jnp.ones_like(norm), norm)
    direction = jtu.tree_map(lambda leaf: leaf / safe.astype(leaf.dtype), x)
    return norm, tree_dot(direction, dx).real.astype(norm.dtype)


def rms_norm(x: PyTree[Array]) -> Scalar:
    """√(Σ |xᵢ|² / n) over all n elements, real; 0 if there are none."""
    n = sum(jnp.size(leaf) for leaf in jtu.tree_leaves(x))
    norm = two_norm(x)
    return norm / jnp.sqrt(jnp.asarray(max(n, 1), norm.dtype))
