"""The product of a sparse matrix, bilinear in its values and the vector.

Two primitives, each with the other in its derivatives:

    product   yᵢ = Σₑ vₑ x[columnₑ], the sum over the entries e of row i
    sampled   vₑ = y[rowₑ] · x[columnₑ], the entries of y xᵀ that the pattern has

With ⟨ȳ, A x⟩ = Σₑ ȳ[rowₑ] vₑ x[columnₑ], the cotangent of v is `sampled`, and that of x
the product with Aᵀ. So a derivative has as many numbers as there are entries, whatever
its order.

Operands have one batch axis or none in front, and x one axis of columns or none behind:

    values [size] or [b, size], vectors [n] or [n, k] or [b, n] or [b, n, k]
"""

from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
from jax.interpreters import batching
from jaxtyping import Array, Inexact

from .._varying import vary, varying_axes
from ._forms import summed_rows
from ._index_maps import permuted, taken
from ._primitives import linear_in, primitive
from .pattern import SparsityPattern


def product(
    values: Inexact[Array, "*b size"],
    vector: Inexact[Array, "..."],
    pattern: SparsityPattern,
) -> Inexact[Array, "..."]:
    """A x, of a matrix with these values."""
    return _bind(_product_p, values, vector, pattern)


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


def _bind(this: Any, x: Array, y: Array, pattern: SparsityPattern, **static) -> Array:
    pattern = pattern.without_assembly()
    x, y, pattern = vary((x, y, pattern), varying_axes((x, y, pattern)))
    leaves, tree = jtu.tree_flatten(pattern)
    return this.bind(x, y, *leaves, tree=tree, **static)


# Evaluation


def _product_shape(values: Any, x: Any, *leaves: Any, tree: Any) -> tuple[int, ...]:
    (m, _), batch = _shape(tree), values.ndim - 1
    return (*x.shape[:batch], m, *x.shape[batch + 1 :])


def _sampled_shape(
    y: Any, x: Any, *leaves: Any, tree: Any, batched: bool
) -> tuple[int, ...]:
    return (*y.shape[:1], leaves[0].shape[0]) if batched else leaves[0].shape


def _shape(tree: Any) -> tuple[int, int]:
    return jtu.tree_unflatten(tree, [None] * tree.num_leaves).shape


@primitive("sparse_product", _product_shape)
def _product_p(values: Array, x: Array, *leaves: Array, tree: Any) -> Array:
    pattern: SparsityPattern = jtu.tree_unflatten(tree, leaves)
    return summed_rows(values, x, pattern)


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


linear_in(_product_p, (0, 1), _transposed_product)
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
        return out.reshape(*out.shape[:inner], size, -1, *out.shape[inner + 1 :]), inner
    pattern: SparsityPattern = jtu.tree_unflatten(tree, leaves)
    if of_values is None:
        x = jnp.moveaxis(x, of_x, -1)
        columns = x.shape[inner + 1 :]
        out = product(values, x.reshape(*x.shape[: inner + 1], -1), pattern)
        return out.reshape(*out.shape[:-1], *columns), inner + len(columns)
    values, x = _first(values, of_values, size), _first(x, of_x, size)
    if inner == 0:
        return product(values, x, pattern), 0
    out = product(_joined(values), _joined(x), pattern)
    return out.reshape(size, -1, *out.shape[1:]), 0


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
    return out.reshape(size, -1, *out.shape[1:]), 0


batching.primitive_batchers[_product_p] = _batch_product
batching.primitive_batchers[_sampled_p] = _batch_sampled


def _batch_size(operands: Any, axes: Any) -> int:
    sizes = (x.shape[k] for x, k in zip(operands, axes) if k is not None)
    return next(sizes)


def _first(x: Array, axis: int | None, size: int) -> Array:
    """The batch axis in front, also of what is not batched."""
    if axis is None:
        return jnp.broadcast_to(x[None], (size, *x.shape))
    return jnp.moveaxis(x, axis, 0)


def _joined(x: Array) -> Array:
    """Two batch axes as one."""
    return x.reshape(-1, *x.shape[2:])


def _merged(x: Array, axis: int | None, size: int, inner: int) -> Array:
    """The batch axis merged into the axis that the pattern indexes."""
    x = jnp.moveaxis(_first(x, axis, size), 0, inner)
    return x.reshape(*x.shape[:inner], -1, *x.shape[inner + 2 :])


def _block_diagonal(
    leaves: list[Array], axes: Any, tree: Any, size: int
) -> SparsityPattern:
    leaves = [_first(x, axis, size) for x, axis in zip(leaves, axes)]
    return jtu.tree_unflatten(tree, leaves).block_diagonal()
