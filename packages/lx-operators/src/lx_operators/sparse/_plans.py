"""Where the entries of sums and products of sparse matrices come from.

A plan is made on the host, for patterns whose indices are known, and kept as long as
they exist: the second product of two patterns costs no search.
"""

import functools
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from .._composite import Memory
from ._index_maps import Assembly, reading, spread
from .pattern import SparsityPattern

# A product that needs more terms than this, for each entry of its factors, is not
# multiplied out unasked.
_MOST_TERMS = 16


class Product(NamedTuple):
    """The terms of a product: the entry that each reads of either factor, and the
    entries of the result that they add up to."""

    left: Assembly
    right: Assembly
    pattern: SparsityPattern

    def values(
        self, a: Inexact[Array, " size"], b: Inexact[Array, " size"]
    ) -> Inexact[Array, " size"]:
        return self.pattern.assemble(spread(a, self.left) * spread(b, self.right))


def known(*patterns: SparsityPattern) -> bool:
    """Whether the indices of all these patterns are known."""
    return not any(isinstance(p.rows, jax.core.Tracer) for p in patterns)


def _arrays(pattern: SparsityPattern) -> tuple[Any, Any]:
    return pattern.rows, pattern.columns


def same_arrays(a: SparsityPattern, b: SparsityPattern) -> bool:
    """Whether two patterns are the same, traced or not."""
    pairs = zip(_arrays(a), _arrays(b))
    return a.shape == b.shape and all(x is y for x, y in pairs)


def _kept(make: Callable[..., Any]) -> Callable[..., Any]:
    """`make(a, b)`, made once for two patterns."""
    memory: Memory[dict] = Memory()

    @functools.wraps(make)
    def found(a: SparsityPattern, b: SparsityPattern) -> Any:
        arrays = (*_arrays(a), *_arrays(b))
        of_first = memory.get(arrays[0])
        if of_first is None:
            memory.keep(arrays[0], of_first := {})
        key = (a.shape, b.shape, *map(id, arrays[1:]))
        refs, plan = of_first.get(key, ((), None))
        if plan is None or any(r() is not x for r, x in zip(refs, arrays[1:])):
            with jax.ensure_compile_time_eval():
                plan = make(a, b)
            for each, (kept, _) in [*of_first.items()]:  # of patterns that are gone
                if any(r() is None for r in kept):
                    of_first.pop(each, None)
            of_first[key] = tuple(map(weakref.ref, arrays[1:])), plan
        return plan

    return found


@_kept
def union(a: SparsityPattern, b: SparsityPattern) -> SparsityPattern:
    """The pattern of a sum; it assembles the values of one after those of the other."""
    rows = np.concatenate([np.asarray(a.rows), np.asarray(b.rows)])
    columns = np.concatenate([np.asarray(a.columns), np.asarray(b.columns)])
    return SparsityPattern(rows, columns, a.shape)


def terms(a: SparsityPattern, b: SparsityPattern) -> int:
    """How many products of numbers the product of two matrices takes."""
    lengths = np.diff(np.asarray(b.row_starts))
    return int(np.sum(lengths[np.asarray(a.columns)], dtype=np.int64))


def is_cheap(a: SparsityPattern, b: SparsityPattern) -> bool:
    return terms(a, b) <= _MOST_TERMS * (a.size + b.size)


@_kept
def multiplied(a: SparsityPattern, b: SparsityPattern) -> Product:
    """Entry (i, k) of A meets all entries (k, j) of B."""
    starts, columns = np.asarray(b.row_starts), np.asarray(a.columns)
    counts = (starts[1:] - starts[:-1])[columns]
    left = np.repeat(np.arange(a.size), counts)
    within = np.arange(left.size) - np.repeat(np.cumsum(counts) - counts, counts)
    right = starts[:-1][columns][left] + within
    pattern = SparsityPattern(
        np.asarray(a.rows)[left],
        np.asarray(b.columns)[right],
        (a.shape[0], b.shape[1]),
    )
    return Product(reading(left), reading(right), pattern)


def read_by_rows(
    d: Inexact[Array, " m"], pattern: SparsityPattern
) -> Inexact[Array, " size"]:
    """d[rowₑ] of each entry."""
    counting = jnp.arange(pattern.size, dtype=pattern.rows.dtype)
    return spread(d, Assembly(pattern.rows, counting, pattern.rows, False))


def read_by_columns(
    d: Inexact[Array, " n"], pattern: SparsityPattern
) -> Inexact[Array, " size"]:
    """d[columnₑ] of each entry."""
    order, columns = pattern.transposed, pattern.columns
    return spread(d, Assembly(columns, order, columns[order], False))
