"""The matrix of an operator, or its diagonals, from products alone.

Everything runs as one batched product, so that the operator is traced once.
"""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Inexact, PyTree

from ._checks import check_not_to_real
from ._operator import AbstractLinearOperator
from ._structures import (
    Structure,
    cast,
    common_dtype,
    is_complex,
    is_real,
    promote_types,
    ravel,
    size_of,
    structures_of,
    unravel,
)


def _flat_product(operator: AbstractLinearOperator, flat: Array) -> Array:
    """A x with flat vectors `[n]` and `[m]`."""
    in_structure, out_structure = structures_of(operator)
    vector = operator.mv(unravel(flat, in_structure))
    return ravel(vector, common_dtype(in_structure, out_structure))


def _basis(structure: Structure) -> Array:
    return jnp.eye(size_of(structure), dtype=common_dtype(structure))


def by_columns(operator: AbstractLinearOperator) -> Inexact[Array, "m n"]:
    """The matrix by n products."""
    check_not_to_real(operator)
    basis = _basis(operator.in_structure())
    return jax.vmap(lambda e: _flat_product(operator, e), out_axes=1)(basis)


def _by_columns_if_linear(operator: AbstractLinearOperator) -> Inexact[Array, "m n"]:
    """The matrix by n products; NaN if one more product with it, of random numbers,
    differs grossly from that of the operator, because the map is then not linear."""
    check_not_to_real(operator)
    basis = _basis(operator.in_structure())
    if not isinstance(basis.size, int) or 0 in basis.shape or _is_half(operator):
        return by_columns(operator)
    v = np.random.default_rng(0).standard_normal((2, len(basis)))
    wholly_complex = all(map(is_complex, jtu.tree_leaves(operator.in_structure())))
    v = jnp.asarray((v[0] + 1j * v[1] if wholly_complex else v[0]).astype(basis.dtype))
    rows = jnp.concatenate((basis, v[None]))
    columns = jax.vmap(lambda e: _flat_product(operator, e), out_axes=1)(rows)
    A, product = columns[:, :-1], columns[:, -1]
    terms = A * cast(v, A.dtype)[None]
    size = jnp.sum(jnp.abs(terms), axis=1)
    eps = jnp.finfo(size.dtype).eps
    # reduced precision is allowed in products, and rounding errors in place of zeros
    allowed = 0.03 * size + eps**0.5 * jnp.max(size) + 8 * eps * jnp.max(jnp.abs(v))
    linear = ~jnp.any(jnp.abs(product - jnp.sum(terms, axis=1)) > allowed)
    return jnp.where(linear, A, jnp.full_like(A, jnp.nan))


def _is_half(operator: AbstractLinearOperator) -> bool:
    """Whether a leaf has less than single precision."""
    leaves = jtu.tree_leaves(structures_of(operator))
    return any(jnp.finfo(leaf.dtype).bits < 32 for leaf in leaves)


def by_rows(operator: AbstractLinearOperator) -> Inexact[Array, "m n"]:
    """The matrix by m products of the transpose."""
    transpose = operator.transpose()
    basis = _basis(operator.out_structure())
    return jax.vmap(lambda e: _flat_product(transpose, e))(basis)


def by_fewest(operator: AbstractLinearOperator) -> Inexact[Array, "m n"]:
    """The matrix by m transposed products where m < n and the operator can be
    transposed, else by n products."""
    if operator.out_size() < operator.in_size() and _transposable(operator):
        return by_rows(operator)
    return by_columns(operator)


def of_function(operator: AbstractLinearOperator) -> Inexact[Array, "m n"]:
    """As `by_fewest`, but NaN if the products show that the function is not linear."""
    if operator.out_size() < operator.in_size() and _transposable(operator):
        return by_rows(operator)  # `jax.linear_transpose` takes linear functions only
    return _by_columns_if_linear(operator)


def _transposable(operator: AbstractLinearOperator) -> bool:
    try:
        jax.eval_shape(operator.transpose().mv, operator.out_structure())
    except Exception:  # JAX has no single error type for a missing transpose rule
        return False
    return True


def probe_diagonal(operator: AbstractLinearOperator) -> Inexact[Array, " n"]:
    """The diagonal of a diagonal operator, by 1 product."""
    structure, _ = structures_of(operator)
    ones = jnp.ones(size_of(structure), common_dtype(structure))
    return _flat_product(operator, ones)


def probe_tridiagonal(operator: AbstractLinearOperator) -> tuple[Array, Array, Array]:
    """The three diagonals of a tridiagonal operator, by 3 products. (For a rectangular
    operator only the main diagonal is right.)

    The columns j ≡ c (mod 3) do not overlap in any row, so that a product with their
    sum shows them all: Curtis, Powell and Reid 1974, doi:10.1093/imamat/13.1.117.
    """
    structure, _ = structures_of(operator)
    colour = jnp.arange(size_of(structure)) % 3
    probes = (colour[None, :] == jnp.arange(3)[:, None]).astype(common_dtype(structure))
    seen = jax.vmap(lambda p: _flat_product(operator, p))(probes)
    i = jnp.arange(min(operator.in_size(), operator.out_size()))
    colour = i % 3
    return (
        seen[colour, i],
        seen[colour[:-1], i[1:]],
        seen[colour[1:], i[:-1]],
    )


def as_blocks(
    matrix: Array, out_structure: Structure, in_structure: Structure
) -> PyTree[Array]:
    """A matrix `[m, n]` as tree(out) ∘ tree(in), with leaves of shape `out + in`."""
    in_leaves, in_def = jtu.tree_flatten(in_structure)
    out_leaves, out_def = jtu.tree_flatten(out_structure)
    rows, top = [], 0
    for y in out_leaves:
        blocks, left = [], 0
        for x in in_leaves:
            block = matrix[top : top + y.size, left : left + x.size]
            # a map from a complex to a real leaf can only be zero
            dtype = y.dtype if is_real(y) else promote_types(y.dtype, x.dtype)
            blocks.append(cast(block.reshape(y.shape + x.shape), dtype))
            left += x.size
        rows.append(jtu.tree_unflatten(in_def, blocks))
        top += y.size
    return jtu.tree_unflatten(out_def, rows)
