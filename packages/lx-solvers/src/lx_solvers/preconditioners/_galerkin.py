"""Products of sparse matrices whose patterns are known beforehand.

What is multiplied with what is a list that depends on the patterns alone: it is made
once, on the host. With it, the values of a product are one sum over sorted segments.
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

    def on_host(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The same with NumPy."""
        terms = a[np.asarray(self.left)] * b[np.asarray(self.right)]
        if not terms.size:
            return terms
        firsts = np.flatnonzero(np.diff(np.asarray(self.entries), prepend=-1))
        return np.add.reduceat(terms, firsts)


def plan_product(A: SparsityPattern, B: SparsityPattern) -> ProductPlan:
    """The plan of A B. Both patterns must be concrete."""
    columns, starts = np.asarray(A.columns), np.asarray(B.row_starts).astype(np.int64)
    counts = (starts[1:] - starts[:-1])[columns]
    left = np.repeat(np.arange(A.size), counts)
    ends = np.cumsum(counts)
    within = np.arange(left.size) - np.repeat(ends - counts, counts)
    right = starts[:-1][columns][left] + within
    (m, _), (_, n) = A.shape, B.shape
    key = np.asarray(A.rows).astype(np.int64)[left] * max(n, 1)
    key = key + np.asarray(B.columns)[right]
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.concatenate([np.ones(min(key.size, 1), bool), key[1:] != key[:-1]])
    unique = key[first]
    with jax.ensure_compile_time_eval():
        pattern = SparsityPattern(unique // max(n, 1), unique % max(n, 1), (m, n))
        index = left[order], right[order], np.cumsum(first) - 1
        left, right, entries = (jax.device_put(x.astype(np.int32)) for x in index)
        return ProductPlan(left, right, entries, pattern)
