"""The product of a sparse matrix, bilinear in its values and the vector.

Primitives, each with the others in its derivatives:

    product   yᵢ = Σₑ vₑ x[columnₑ], the sum over the entries e of row i
    laid out  the same product, of values that `lay_out` has prepared for it
    sampled   vₑ = y[rowₑ] · x[columnₑ], the entries of y xᵀ that the pattern has

With ⟨ȳ, A x⟩ = Σₑ ȳ[rowₑ] vₑ x[columnₑ], the cotangent of v is `sampled`, and that of x
the product with Aᵀ. So a derivative has as many numbers as there are entries, whatever
its order.

Operands have one batch axis or none in front, and x one axis of columns or none behind:

    values [size] or [b, size], vectors [n] or [n, k] or [b, n] or [b, n, k]
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.interpreters import batching
from jaxtyping import Array, Inexact, Int

from .._varying import vary, varying_axes
from ._forms import (
    KERNEL_COLUMNS,
    UNROLLED,
    sum_of_diagonals,
    sum_of_terms,
    terms_of_chunks,
    where,
)
from ._index_maps import permuted, segment_sums, taken
from ._layout import entries_of_chunks, lay_out, read_back
from ._primitives import linear_in, primitive
from .pattern import SparsityPattern


def product(
    values: Inexact[Array, "*b size"],
    vector: Inexact[Array, "..."],
    pattern: SparsityPattern,
) -> Inexact[Array, "..."]:
    """A x, of a matrix with these values."""
    return _bind(_product_p, values, vector, pattern)


def laid_out_product(
    laid: Inexact[Array, "*b w c"],
    columns: Int[Array, "w c"] | None,
    vector: Inexact[Array, "..."],
    pattern: SparsityPattern,
) -> Inexact[Array, "..."]:
    """A x, from values that are laid out, and the columns of their chunks (None for
    diagonals)."""
    return _bind(_laid_p, laid, vector, pattern, columns)


def sampled(
    left: Inexact[Array, "..."],
    right: Inexact[Array, "..."],
    pattern: SparsityPattern,
    batched: bool = False,
) -> Inexact[Array, "*b size"]:
    """The entries of y xᵀ that the pattern has, summed over columns k."""
    return _bind(_sampled_p, left, right, pattern, batched=batched)


def transposed_values(
    values: Inexact[Array, "... size"], pattern: SparsityPattern
) -> Inexact[Array, "... size"]:
    """The values of Aᵀ, in the order of `pattern.T`."""
    return permuted(values, pattern.transposed, pattern.untransposed)


def transposed_product(
    values: Inexact[Array, "*b size"],
    vector: Inexact[Array, "..."],
    pattern: SparsityPattern,
) -> Inexact[Array, "..."]:
    """Aᵀ y, of a matrix A with these values."""
    return product(transposed_values(values, pattern), vector, pattern.T)


def _bind(
    this: Any, x: Array, y: Array, pattern: Any, columns: Any = None, **static: Any
) -> Array:
    index = pattern.without_assembly()
    index = index if columns is None else (columns, index)
    x, y, index = vary((x, y, index), varying_axes((x, y, index)))
    leaves, tree = jtu.tree_flatten(index)
    return this.bind(x, y, *leaves, tree=tree, **static)


def index_of(tree: Any, leaves: Any) -> tuple[Any, SparsityPattern]:
    """The columns of chunks, and the pattern."""
    index = jtu.tree_unflatten(tree, leaves)
    return index if isinstance(index, tuple) else (None, index)


# Evaluation


def _product_shape(values: Any, x: Any, *leaves: Any, tree: Any) -> tuple[int, ...]:
    (_, pattern), batch = index_of(tree, leaves), values.ndim - 1
    return (*x.shape[:batch], pattern.shape[0], *x.shape[batch + 1 :])


def _sampled_shape(
    y: Any, x: Any, *leaves: Any, tree: Any, batched: bool
) -> tuple[int, ...]:
    return (*y.shape[:1], leaves[0].shape[0]) if batched else leaves[0].shape


def _laid_shape(laid: Any, x: Any, *leaves: Any, tree: Any) -> tuple[int, ...]:
    (_, pattern), batch = index_of(tree, leaves), laid.ndim - 2
    return (*x.shape[:batch], pattern.shape[0], *x.shape[batch + 1 :])


def _product_on_cpu(values: Array, x: Array, *leaves: Array, tree: Any) -> Array | None:
    """Irregular rows times several columns, by JAX's kernel for compressed rows."""
    pattern: SparsityPattern = jtu.tree_unflatten(tree, leaves)
    if values.ndim > 1 or not _is_for_kernel(x, pattern):
        return None
    return _by_kernel(values, x, pattern)


def _laid_on_cpu(laid: Array, x: Array, *leaves: Array, tree: Any) -> Array | None:
    columns, pattern = index_of(tree, leaves)
    if laid.ndim > 2 or columns is None or not _is_for_kernel(x, pattern):
        return None
    return _by_kernel(read_back(laid, pattern), x, pattern)


def _is_for_kernel(x: Array, pattern: SparsityPattern) -> bool:
    several = x.ndim == 2 and x.shape[1] >= KERNEL_COLUMNS
    return several and pattern.size > 0 and pattern.by_rows.rows is not None


def _by_kernel(values: Array, x: Array, pattern: SparsityPattern) -> Array:
    from jax.experimental import sparse

    stored = values, pattern.columns, pattern.row_starts
    matrix = sparse.BCSR(stored, shape=pattern.shape)
    of_product = (((1,), (0,)), ((), ()))
    return sparse.bcsr_dot_general(matrix, x, dimension_numbers=of_product)


@primitive("sparse_product", _product_shape, on_cpu=_product_on_cpu)
def _product_p(values: Array, x: Array, *leaves: Array, tree: Any) -> Array:
    pattern: SparsityPattern = jtu.tree_unflatten(tree, leaves)
    if not pattern.size:
        shape = _product_shape(values, x, *leaves, tree=tree)
        return jnp.zeros(shape, x.dtype)
    chunks = pattern.by_rows
    if chunks.width == 1 and chunks.rows is not None:  # an entry is a chunk
        laid, columns = values[..., None, :], pattern.columns[None, :]
        return _summed(laid, columns, chunks.rows, x, pattern)
    if x.ndim > values.ndim or chunks.width > UNROLLED:
        # read once, not once for each column
        laid, columns = jax.lax.optimization_barrier(_read(values, pattern, None))
        return _summed(laid, columns, chunks.rows, x, pattern)
    slots = [_read(values, pattern, jnp.asarray(k)) for k in range(chunks.width)]
    sums = sum_of_terms(slots, x, values.ndim - 1)
    return _sum_of_chunks(sums, chunks.rows, pattern)


def _read(
    values: Array, pattern: SparsityPattern, steps: Array | None
) -> tuple[Array, Array]:
    """Values and columns of chunks, entry by entry."""
    entries, there = entries_of_chunks(pattern, steps)
    return where(there, taken(values, entries)), taken(pattern.columns, entries)


def _sum_of_chunks(sums: Array, rows: Any, pattern: SparsityPattern) -> Array:
    return sums if rows is None else segment_sums(sums, rows, pattern.shape[0])


@primitive("sparse_laid_out_product", _laid_shape, on_cpu=_laid_on_cpu)
def _laid_p(laid: Array, x: Array, *leaves: Array, tree: Any) -> Array:
    columns, pattern = index_of(tree, leaves)
    if columns is None:
        assert pattern.offsets is not None
        return sum_of_diagonals(laid, x, pattern.offsets)
    return _summed(laid, columns, pattern.by_rows.rows, x, pattern)


def _summed(
    laid: Array, columns: Array, rows: Any, x: Array, pattern: SparsityPattern
) -> Array:
    """The sums of rows, from those of chunks; of several columns x one after another,
    as numbers are summed faster than vectors."""

    def one(x: Array) -> Array:
        return _sum_of_chunks(terms_of_chunks(laid, columns, x), rows, pattern)

    if rows is None or x.ndim == laid.ndim - 1:
        return one(x)
    return jnp.moveaxis(jax.lax.map(one, jnp.moveaxis(x, -1, 0)), 0, -1)


@primitive("sparse_sampled", _sampled_shape)
def _sampled_p(y: Array, x: Array, *leaves: Array, tree: Any, batched: bool) -> Array:
    pattern: SparsityPattern = jtu.tree_unflatten(tree, leaves)
    axis = 1 if batched else 0
    terms = taken(y, pattern.rows, axis) * taken(x, pattern.columns, axis)
    return jnp.sum(terms, axis=-1) if terms.ndim > axis + 1 else terms


# Derivatives


def _transposed_product(
    ct: Any, values: Any, x: Any, *leaves: Array, tree: Any
) -> list[Any]:
    pattern: SparsityPattern = jtu.tree_unflatten(tree, leaves)

    def of_values() -> Array:
        return sampled(ct, x, pattern, batched=values.aval.ndim == 2)

    return [of_values, lambda: transposed_product(values, ct, pattern)]


def _transposed_sampled(
    ct: Any, y: Any, x: Any, *leaves: Array, tree: Any, batched: bool
) -> list[Any]:
    pattern: SparsityPattern = jtu.tree_unflatten(tree, leaves)
    return [
        lambda: product(ct, x, pattern),
        lambda: transposed_product(ct, y, pattern),
    ]


def _transposed_laid(
    ct: Any, laid: Any, x: Any, *leaves: Array, tree: Any
) -> list[Any]:
    _, pattern = index_of(tree, leaves)

    def of_laid() -> Array:
        return lay_out(sampled(ct, x, pattern, batched=laid.aval.ndim == 3), pattern)

    def of_x() -> Array:
        return transposed_product(read_back(laid, pattern), ct, pattern)

    return [of_laid, of_x]


def _where_entries_are(tangent: Any, x: Any, *leaves: Array, tree: Any) -> Array:
    """Laid out values, and their tangents, are zero where there is no entry."""
    _, pattern = index_of(tree, leaves)
    return lay_out(read_back(tangent, pattern), pattern)


linear_in(_product_p, (0, 1), _transposed_product)
linear_in(_laid_p, (0, 1), _transposed_laid, _where_entries_are)
linear_in(_sampled_p, (0, 1), _transposed_sampled)


# Batches


def _batch_product(operands: Any, axes: Any, *, tree: Any) -> tuple[Array, int]:
    """Vectors of a batch are further columns, values of a batch a further batch axis,
    and patterns of a batch one block diagonal pattern."""
    values, x, *leaves = operands
    of_values, of_x, *of_leaves = axes
    size = _batch_size(operands, axes)
    inner = values.ndim - (of_values is not None) - 1  # batch axes in front, 0 or 1
    if any(axis is not None for axis in of_leaves):
        pattern = _block_diagonal(leaves, of_leaves, tree, size)
        values = _merged(values, of_values, size, inner)
        x = _merged(x, of_x, size, inner)
        out = product(values, x, pattern)
        before, (total, *behind) = out.shape[:inner], out.shape[inner:]
        return out.reshape(*before, size, total // size, *behind), inner
    pattern: SparsityPattern = jtu.tree_unflatten(tree, leaves)

    def times(values: Array, x: Array) -> Array:
        return product(values, x, pattern)

    return _batched_values(times, values, x, of_values, of_x, inner, size)


def _batched_values(
    times: Any,
    values: Array,
    x: Array,
    of_values: Any,
    of_x: Any,
    inner: int,
    size: int,
) -> tuple[Array, int]:
    """The product with values or vectors of a batch, and one pattern."""
    if of_values is None:
        x = jnp.moveaxis(x, of_x, -1)
        columns = x.shape[inner + 1 :]
        out = times(values, x.reshape(*x.shape[: inner + 1], math.prod(columns)))
        return out.reshape(*out.shape[:-1], *columns), inner + len(columns)
    values, x = _first(values, of_values, size), _first(x, of_x, size)
    if inner == 0:
        return times(values, x), 0
    out = times(_joined(values), _joined(x))
    return out.reshape(*values.shape[:2], *out.shape[1:]), 0


def _batch_laid(operands: Any, axes: Any, *, tree: Any) -> tuple[Array, int]:
    laid, x, *leaves = operands
    of_laid, of_x, *of_leaves = axes
    size = _batch_size(operands, axes)
    if any(axis is not None for axis in of_leaves):

        def one(laid: Array, x: Array, *leaves: Array) -> Array:
            _, pattern = index_of(tree, leaves)
            return product(read_back(laid, pattern), x, pattern)

        return jax.vmap(one, tuple(axes))(laid, x, *leaves), 0
    columns, pattern = index_of(tree, leaves)
    inner = laid.ndim - (of_laid is not None) - 2

    def times(laid: Array, x: Array) -> Array:
        return laid_out_product(laid, columns, x, pattern)

    return _batched_values(times, laid, x, of_laid, of_x, inner, size)


def _batch_sampled(
    operands: Any, axes: Any, *, tree: Any, batched: bool
) -> tuple[Array, int]:
    y, x, *leaves = operands
    of_y, of_x, *of_leaves = axes
    size, inner = _batch_size(operands, axes), int(batched)
    if any(axis is not None for axis in of_leaves):
        pattern = _block_diagonal(leaves, of_leaves, tree, size)
        y, x = _merged(y, of_y, size, inner), _merged(x, of_x, size, inner)
        out = sampled(y, x, pattern, batched)
        return out.reshape(*out.shape[:inner], size, -1), inner
    pattern: SparsityPattern = jtu.tree_unflatten(tree, leaves)
    y, x = _first(y, of_y, size), _first(x, of_x, size)
    if not batched:
        return sampled(y, x, pattern, True), 0
    out = sampled(_joined(y), _joined(x), pattern, True)
    return out.reshape(*y.shape[:2], *out.shape[1:]), 0


batching.primitive_batchers[_product_p] = _batch_product
batching.primitive_batchers[_laid_p] = _batch_laid
batching.primitive_batchers[_sampled_p] = _batch_sampled


def _batch_size(operands: Any, axes: Any) -> int:
    sizes = (x.shape[k] for x, k in zip(operands, axes) if k is not None)
    return next(sizes)


def _first(x: Array, axis: int | None, size: int) -> Array:
    """The batch axis in front, also for arrays that are not batched."""
    if axis is None:
        return jnp.broadcast_to(x[None], (size, *x.shape))
    return jnp.moveaxis(x, axis, 0)


def _joined(x: Array) -> Array:
    """Two batch axes as one."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


def _merged(x: Array, axis: int | None, size: int, inner: int) -> Array:
    """The batch axis merged into the axis that the pattern indexes."""
    x = jnp.moveaxis(_first(x, axis, size), 0, inner)
    before, (own, *behind) = x.shape[:inner], x.shape[inner + 1 :]
    return x.reshape(*before, size * own, *behind)


def _block_diagonal(
    leaves: list[Array], axes: Any, tree: Any, size: int
) -> SparsityPattern:
    leaves = [_first(x, axis, size) for x, axis in zip(leaves, axes)]
    return jtu.tree_unflatten(tree, leaves).block_diagonal()
