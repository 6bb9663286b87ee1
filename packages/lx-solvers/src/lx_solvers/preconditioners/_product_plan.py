"""Products of sparse matrices whose patterns are known beforehand.

Which entries are multiplied depends on the patterns alone: the list is made once, on
the host. With it, the values of a product are one sum over sorted segments.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from lx_operators import SparsityPattern


class ProductPlan(eqx.Module):
    """The values of A B, from those of A and of B."""

    left: Int[Array, " k"]
    right: Int[Array, " k"]
    entries: Int[Array, " k"]
    pattern: SparsityPattern

    def __call__(self, a: Array, b: Array) -> Array:
        dtype = jnp.promote_types(a.dtype, b.dtype)
        terms = (
            a.at[self.left]
            .get(mode="promise_in_bounds", wrap_negative_indices=False)
            .astype(dtype)
        )
        terms = terms * b.at[self.right].get(
            mode="promise_in_bounds", wrap_negative_indices=False
        ).astype(dtype)
        return jax.ops.segment_sum(
            terms,
            self.entries,
            self.pattern.size,
            indices_are_sorted=True,
            mode="promise_in_bounds",
        )


def plan_product(A: SparsityPattern, B: SparsityPattern) -> ProductPlan:
    """The plan of A B. Both patterns must be concrete."""
    (m, _), (_, n) = A.shape, B.shape
    left, right = pairs(np.asarray(A.columns), np.asarray(B.row_starts))
    key = np.asarray(A.rows).astype(np.int64)[left] * max(n, 1)
    unique, entries = numbered(key + np.asarray(B.columns)[right])
    order = np.argsort(entries, kind="stable")
    index = left[order], right[order], entries[order]
    with jax.ensure_compile_time_eval():
        pattern = SparsityPattern(unique // max(n, 1), unique % max(n, 1), (m, n))
        left, right, entries = (jax.device_put(x.astype(np.int32)) for x in index)
        return ProductPlan(left, right, entries, pattern)


def pairs(of: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of an entry and an entry of the row of another matrix that it meets.

    Args:
        of: the row that each entry meets.
        starts: where the rows of the other matrix start, and its size.
    """
    starts = starts.astype(np.int64)
    counts = (starts[1:] - starts[:-1])[of]
    left = np.repeat(np.arange(of.size), counts)
    within = np.arange(left.size) - np.repeat(np.cumsum(counts) - counts, counts)
    return left, starts[:-1][of][left] + within


def numbered(key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct numbers, sorted, and which of them each number is."""
    return np.unique(key, return_inverse=True)
