"""The values of a sparse matrix as its products read them, and back.

Laying out and reading back are linear, and each is the transpose of the other.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.interpreters import batching
from jaxtyping import Array, Inexact, Int

from .._varying import vary, varying_axes
from ._forms import chunk_entries, where
from ._index_maps import taken
from ._primitives import linear_in, primitive
from .pattern import SparsityPattern


def lay_out(
    values: Inexact[Array, "... size"], pattern: SparsityPattern
) -> Inexact[Array, "... w c"]:
    """Values as chunks `[w, chunks]`, or as diagonals `[d, m]`; zero where there is no
    entry."""
    return _bind(_lay_p, values, pattern)


def read_back(
    laid: Inexact[Array, "... w c"], pattern: SparsityPattern
) -> Inexact[Array, "... size"]:
    """The values of the entries."""
    return _bind(_read_p, laid, pattern)


def columns_of_chunks(pattern: SparsityPattern) -> Int[Array, "w chunks"]:
    """The columns that chunks read; some column where there is no entry."""
    entries, _ = entries_of_chunks(pattern)
    if not pattern.size:
        return jnp.zeros_like(entries)
    return taken(pattern.columns, entries)


def _bind(this: Any, x: Array, pattern: SparsityPattern) -> Array:
    pattern = pattern.without_assembly()
    x, pattern = vary((x, pattern), varying_axes((x, pattern)))
    leaves, tree = jtu.tree_flatten(pattern)
    return this.bind(x, *leaves, tree=tree)


def entries_of_chunks(
    pattern: SparsityPattern, steps: Int[Array, "*w"] | None = None
) -> tuple[Int[Array, "*w chunks"], Array]:
    """The entries of each chunk, all or those at these steps from its start, and which
    of them exist."""
    chunks = pattern.by_rows
    starts = pattern.row_starts if chunks.starts is None else chunks.starts
    steps = jnp.arange(chunks.width) if steps is None else steps
    return chunk_entries(starts, steps, pattern.size)


def _laid_shape(values: Any, *leaves: Any, tree: Any) -> tuple[int, ...]:
    pattern: SparsityPattern = jtu.tree_unflatten(tree, leaves)
    if pattern.offsets is not None:
        return (*values.shape[:-1], len(pattern.offsets), pattern.shape[0])
    rows = pattern.by_rows.rows
    count = pattern.shape[0] if rows is None else rows.shape[0]
    return (*values.shape[:-1], pattern.by_rows.width, count)


def _read_shape(laid: Any, *leaves: Any, tree: Any) -> tuple[int, ...]:
    return (*laid.shape[:-2], jtu.tree_unflatten(tree, leaves).size)


def _laid(values: Array, pattern: SparsityPattern) -> Array:
    if pattern.offsets is not None:
        return _as_diagonals(values, pattern)
    entries, there = entries_of_chunks(pattern)
    if not pattern.size:
        return jnp.zeros((*values.shape[:-1], *entries.shape), values.dtype)
    return where(there, taken(values, entries))


def _as_diagonals(values: Array, pattern: SparsityPattern) -> Array:
    """Row by row: the entry that is next is, or is not, on the next diagonal."""
    assert pattern.offsets is not None
    starts, rows = pattern.row_starts, jnp.arange(pattern.shape[0])
    rows, entry, diagonals = rows.astype(starts.dtype), starts[:-1], []
    for offset in pattern.offsets:
        inside = jnp.minimum(entry, pattern.size - 1)
        there = taken(pattern.columns, inside) - rows == offset
        there &= entry < starts[1:]
        diagonals.append(where(there, taken(values, inside)))
        entry += there.astype(entry.dtype)
    return jnp.stack(diagonals, axis=-2)


def _read(laid: Array, pattern: SparsityPattern) -> Array:
    """Each entry from where it lies, as one index into the laid out array."""
    if not pattern.size:
        return jnp.zeros((*laid.shape[:-2], 0), laid.dtype)
    if pattern.offsets is not None:
        offsets = jnp.asarray(pattern.offsets, pattern.rows.dtype)
        line = jnp.searchsorted(offsets, pattern.columns - pattern.rows)
        column = pattern.rows
    else:
        chunks, rows = pattern.by_rows, pattern.rows
        within = jnp.arange(pattern.size, dtype=rows.dtype)
        within -= taken(pattern.row_starts, rows)
        if chunks.firsts is None:
            line, column = within, rows
        else:
            line = within % chunks.width
            column = taken(chunks.firsts, rows) + within // chunks.width
    line, column = (x.astype(pattern.rows.dtype) for x in (line, column))
    at = (slice(None),) * (laid.ndim - 2)
    return laid.at[(*at, line, column)].get(
        mode="promise_in_bounds", wrap_negative_indices=False
    )


@primitive("sparse_lay_out", _laid_shape)
def _lay_p(values: Array, *leaves: Array, tree: Any) -> Array:
    return _laid(values, jtu.tree_unflatten(tree, leaves))


@primitive("sparse_read_back", _read_shape)
def _read_p(laid: Array, *leaves: Array, tree: Any) -> Array:
    return _read(laid, jtu.tree_unflatten(tree, leaves))


def _transpose_lay(ct: Any, values: Any, *leaves: Array, tree: Any) -> list[Any]:
    return [lambda: read_back(ct, jtu.tree_unflatten(tree, leaves))]


def _transpose_read(ct: Any, laid: Any, *leaves: Array, tree: Any) -> list[Any]:
    return [lambda: lay_out(ct, jtu.tree_unflatten(tree, leaves))]


linear_in(_lay_p, (0,), _transpose_lay)
linear_in(_read_p, (0,), _transpose_read)


def _batching(this: Any, fn: Any) -> None:
    def batch(operands, axes, *, tree: Any):
        x, *leaves = operands
        if all(axis is None for axis in axes[1:]):
            return this.bind(jnp.moveaxis(x, axes[0], 0), *leaves, tree=tree), 0

        def one(x: Array, *leaves: Array) -> Array:
            return fn(x, jtu.tree_unflatten(tree, leaves))

        return jax.vmap(one, tuple(axes))(x, *leaves), 0

    batching.primitive_batchers[this] = batch


_batching(_lay_p, _laid)
_batching(_read_p, _read)
