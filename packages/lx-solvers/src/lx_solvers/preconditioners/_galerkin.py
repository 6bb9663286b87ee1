"""Galerkin's coarse operator R A P, for new values of A.

With R, P and the pattern of A fixed, the values of R A P are linear in those of A:

    vec(R A P) = G vec(A),    G[(I, J), (i, j)] = R[I, i] P[j, J].

G is made once, on the host, and multiplied like other sparse matrices: its rows are cut
into chunks of eight terms. If A is Hermitian and R = Pᴴ, only the upper triangle of R A
P is computed. G has three to six times as many entries as A, each with a number and an
index; for 2-D Poisson, five points, all levels together have 30 entries of 12 bytes for
each unknown.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from lx_operators import SparsityPattern

from ._product_plan import numbered, pairs

_WIDTH = 8


class Galerkin(eqx.Module):
    """The values of R A P, from those of A."""

    weights: Array
    """`[w, chunks]`, zero where a row of G has no entry."""
    reads: Int[Array, "w chunks"]
    """The entries of A that are read."""
    rows: Int[Array, " chunks"]
    mirror: Int[Array, " size"] | None
    """If only the upper triangle is computed: for each entry of R A P, its position in
    the triangle; below the diagonal, the position of its mirror image, less the
    triangle's size."""
    pattern: SparsityPattern
    """Of R A P."""
    computed: int = eqx.field(static=True)

    def __call__(self, a: Array) -> Array:
        def term(k: int) -> Array:
            read = a.at[self.reads[k]]
            read = read.get(mode="promise_in_bounds", wrap_negative_indices=False)
            return self.weights[k].astype(dtype) * read.astype(dtype)

        dtype = jnp.promote_types(self.weights.dtype, a.dtype)
        values = jax.ops.segment_sum(
            sum(map(term, range(1, _WIDTH)), term(0)),
            self.rows,
            self.computed,
            indices_are_sorted=True,
            mode="promise_in_bounds",
        )
        if self.mirror is None:
            return values
        at = jnp.where(self.mirror < 0, self.mirror + self.computed, self.mirror)
        values = values.at[at].get(mode="promise_in_bounds")
        if not jnp.iscomplexobj(values):
            return values
        return jnp.where(self.mirror < 0, values.conj(), values)

    def on_host(self, a: np.ndarray) -> np.ndarray:
        """The same with NumPy."""
        terms = np.asarray(self.weights) * a[np.asarray(self.reads)]
        values = np.zeros(self.computed, terms.dtype)
        np.add.at(values, np.asarray(self.rows), terms.sum(axis=0))
        if self.mirror is None:
            return values
        at = np.asarray(self.mirror)
        return np.where(at < 0, values[at].conj(), values[at])


def galerkin(A: SparsityPattern, R: Any, P: Any, *, hermitian: bool) -> Galerkin:
    """G, from a concrete pattern and two SciPy matrices.

    Args:
        hermitian: A is Hermitian, and R = Pᴴ.
    """
    import scipy.sparse

    R, P = R.tocsr(), P.tocsr()
    m, n_coarse = A.shape[0], P.shape[1]
    rows, columns = np.asarray(A.rows), np.asarray(A.columns)
    # A P: entry (i, J) is the sum of A[i, j] P[j, J] over j
    at, right = pairs(columns, P.indptr)
    key, left_of = numbered(rows[at].astype(np.int64) * n_coarse + P.indices[right])
    first: Any = scipy.sparse.csr_matrix(
        (P.data[right], (left_of, at)), shape=(key.size, A.size)
    )
    i, J = key // n_coarse, key % n_coarse
    # R (A P)
    starts = np.searchsorted(i, np.arange(m + 1))
    at, right = pairs(R.indices, starts)
    I = np.repeat(np.arange(R.shape[0]), np.diff(R.indptr))[at].astype(np.int64)
    key, row = numbered(I * n_coarse + J[right])
    I, J = key // n_coarse, key % n_coarse
    second: Any = scipy.sparse.csr_matrix(
        (R.data[at], (row, right)), shape=(key.size, first.shape[0])
    )
    mirror, computed = None, key.size
    if hermitian:
        upper = np.flatnonzero(I <= J)
        second, computed = second[upper], upper.size
        lower = np.minimum(I, J) * n_coarse + np.maximum(I, J)
        mirror = np.searchsorted(key[upper], lower)
        mirror = np.where(I <= J, mirror, mirror - computed)
    weights, reads, rows = map(_put, _chunks((second @ first).tocsr()))
    with jax.ensure_compile_time_eval():
        pattern = SparsityPattern(I, J, (R.shape[0], n_coarse))
    return Galerkin(weights, reads, rows, _put(mirror), pattern, computed)


def _put(x: np.ndarray | None) -> Any:
    if x is None:
        return None
    return jax.device_put(x.astype(np.int32) if x.dtype.kind == "i" else x)


def _chunks(G: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights and columns `[w, chunks]` of a SciPy matrix, and each chunk's row."""
    lengths = np.diff(G.indptr)
    each = -(-lengths // _WIDTH)
    rows = np.repeat(np.arange(lengths.size), each)
    within = np.arange(rows.size) - np.repeat(np.cumsum(each) - each, each)
    entries = G.indptr[rows] + _WIDTH * within + np.arange(_WIDTH)[:, None]
    there = entries < G.indptr[rows + 1]
    entries = np.minimum(entries, max(G.nnz - 1, 0))
    if not G.nnz:
        return np.zeros(entries.shape, G.dtype), entries, rows
    return np.where(there, G.data[entries], 0), G.indices[entries], rows
