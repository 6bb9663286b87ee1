"""Reading and summing by index, each the transpose of the other.

JAX's own transpose of a gather is a scatter, which costs several times as much. Where
the indices are known beforehand, so is the order that sorts them, and the transpose is
a sum of sorted segments.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.interpreters import batching
from jaxtyping import Array, Inexact, Int

from .._varying import vary, varying_axes
from ._primitives import linear_in, primitive


class Assembly(eqx.Module):
    """How contributions become entries; several may become one.

    `order` lists the contributions entry by entry, `entries` says which entry each of
    these is, `target` which entry each contribution becomes. `unique`: no two of them
    are one entry. If `of` is a number, it is the other way round: the result reads
    `target` from that many values.
    """

    target: Int[Array, " contributions"]
    order: Int[Array, " contributions"]
    entries: Int[Array, " contributions"]
    unique: bool = eqx.field(static=True)
    of: int | None = eqx.field(static=True, default=None)


def taken(x: Array, indices: Array, axis: int = -1) -> Array:
    """Elements of an array, at indices that are known to be in bounds."""
    axis = axis % x.ndim
    where = (slice(None),) * axis + (indices,)
    return x.at[where].get(mode="promise_in_bounds", wrap_negative_indices=False)


# Up to this many numbers, several rows are summed like one long vector.
_FEW = 2**18


def segment_sums(
    terms: Inexact[Array, "... k"], segments: Int[Array, " k"], n: int
) -> Inexact[Array, "... n"]:
    """Sums of the terms of each of n segments, which are sorted.

    XLA adds numbers some ten times faster than it adds vectors, and one vector after
    another faster than a long one of all.
    """
    *others, k = terms.shape
    count = math.prod(others)
    rows = terms.reshape(count, k)
    if count > 1 and terms.size > _FEW:
        sums = jax.lax.map(lambda row: segment_sums(row, segments, n), rows)
        return sums.reshape(*others, n)
    if count > 1:
        shifts = n * jnp.arange(count, dtype=segments.dtype)
        segments = (segments[None, :] + shifts[:, None]).reshape(-1)
    sums = jax.ops.segment_sum(
        rows.reshape(-1),
        segments,
        count * n,
        indices_are_sorted=True,
        mode="promise_in_bounds",
    )
    return sums.reshape(*others, n)


def reading(target: np.ndarray, of: int | None = None) -> Assembly:
    """Reads entries, by `spread`; indices are known."""
    largest = max(target.size, int(np.max(target, initial=0)), of or 0)
    dtype = np.int32 if largest < 2**31 else np.int64
    order = np.argsort(target, kind="stable")
    reads, order, entries = (
        jnp.asarray(x.astype(dtype)) for x in (target, order, target[order])
    )
    return Assembly(reads, order, entries, False, of)


def collect(
    contributions: Inexact[Array, "... k"], assembly: Assembly, size: int
) -> Inexact[Array, "... size"]:
    """The sum of the contributions to each entry."""
    return _bound(_collect_p, contributions, assembly, size)


def spread(
    entries: Inexact[Array, "... size"], assembly: Assembly
) -> Inexact[Array, "... k"]:
    """The transpose of `collect`: each contribution's entry."""
    return _bound(_spread_p, entries, assembly, entries.shape[-1])


def permuted(
    values: Inexact[Array, "... k"], order: Array, inverse: Array
) -> Inexact[Array, "... k"]:
    """`values[..., order]`; `inverse` is the inverse of this permutation."""
    counting = jnp.arange(order.size, dtype=order.dtype)
    return spread(values, Assembly(order, inverse, counting, True))


def _bound(this: Any, x: Array, assembly: Assembly, size: int) -> Array:
    x, assembly = vary((x, assembly), varying_axes((x, assembly)))
    indices, tree = jtu.tree_flatten(assembly)
    return this.bind(x, *indices, tree=tree, size=size)


def _collected(aval: Any, *indices: Any, tree: Any, size: int) -> tuple[int, ...]:
    return (*aval.shape[:-1], size)


def _spreaded(aval: Any, *indices: Any, tree: Any, size: int) -> tuple[int, ...]:
    return (*aval.shape[:-1], indices[0].shape[-1])


@primitive("collect", _collected)
def _collect_p(x: Array, *indices: Array, tree: Any, size: int) -> Array:
    assembly: Assembly = jtu.tree_unflatten(tree, indices)
    terms = taken(x, assembly.order)
    if assembly.unique and terms.shape[-1] == size:
        return terms
    return segment_sums(terms, assembly.entries, size)


@primitive("spread", _spreaded)
def _spread_p(x: Array, *indices: Array, tree: Any, size: int) -> Array:
    assembly: Assembly = jtu.tree_unflatten(tree, indices)
    return taken(x, assembly.target)


def _transpose_collect(ct: Any, x: Any, *indices: Array, tree: Any, size: int) -> list:
    return [lambda: spread(ct, jtu.tree_unflatten(tree, indices))]


def _transpose_spread(ct: Any, x: Any, *indices: Array, tree: Any, size: int) -> list:
    return [lambda: collect(ct, jtu.tree_unflatten(tree, indices), size)]


linear_in(_collect_p, (0,), _transpose_collect)
linear_in(_spread_p, (0,), _transpose_spread)


def _batching(this: Any, fn: Any) -> None:
    def batch(operands: Any, axes: Any, *, tree: Any, size: int) -> tuple[Array, int]:
        x, *indices = operands
        if all(axis is None for axis in axes[1:]):
            x = jnp.moveaxis(x, axes[0], 0)
            return this.bind(x, *indices, tree=tree, size=size), 0

        def one(x: Array, *indices: Array) -> Array:
            return fn(x, jtu.tree_unflatten(tree, indices), size)

        return jax.vmap(one, tuple(axes))(x, *indices), 0

    batching.primitive_batchers[this] = batch


def _collect(x: Array, assembly: Assembly, size: int) -> Array:
    return segment_sums(taken(x, assembly.order), assembly.entries, size)


_batching(_collect_p, _collect)
_batching(_spread_p, lambda x, assembly, size: taken(x, assembly.target))
