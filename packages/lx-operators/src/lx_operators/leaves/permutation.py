"""A permutation of scalars."""

from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Int, PyTree

from .._checks import check_square
from .._functions import conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform
from .._properties import declared
from .._provenance import Reflection, reflections
from .._simplify import PRODUCTS, Rewrite
from .._structures import (
    Frozen,
    common_dtype,
    default_floating_dtype,
    describe,
    dtype_of,
    freeze_structure,
    ravel,
    shape_of,
    structure_of,
    unravel,
)
from .._tags import nonsingular_tag
from .identity import IdentityLinearOperator


class PermutationLinearOperator(AbstractLinearOperator):
    """A permutation: element i of the product is element `permutation[i]` of the
    vector.

    Args:
        permutation: an integer array `[n]` of the numbers 0 to n - 1. If its values
            are known (it is not traced), they are checked.
        input_structure: the pytree of `jax.ShapeDtypeStruct` (or of arrays) that it
            maps to itself: n scalars in leaf order, all of one dtype. By default
            vectors `[n]` of the default floating dtype.

    Raises:
        ValueError: if the array is not a permutation, or the structure does not fit.

    ```python
    order = jnp.array([2, 0, 1])
    operator = lx.PermutationLinearOperator(order)
    operator.mv(jnp.array([10.0, 20.0, 30.0]))  # [30., 10., 20.]
    ```
    """

    permutation: Int[Array, " n"]
    structure: Frozen = eqx.field(static=True)

    def __init__(self, permutation: ArrayLike, input_structure: PyTree | None = None):
        if not isinstance(permutation, jax.Array):
            permutation = np.asarray(permutation)
        shape, dtype = permutation.shape, permutation.dtype
        if len(shape) != 1 or not jnp.issubdtype(dtype, jnp.integer):
            raise ValueError(
                "`permutation` must be a one-dimensional array of integers, but got "
                f"{dtype} of shape {shape}."
            )
        (n,) = shape
        _check_values(permutation, n)
        self.permutation = jnp.asarray(permutation)
        if input_structure is None:
            input_structure = jax.ShapeDtypeStruct((n,), default_floating_dtype())
        self.structure = freeze_structure(input_structure, "input_structure")
        sizes = sum(leaf.size for leaf in self.structure.leaves)
        dtypes = {leaf.dtype for leaf in self.structure.leaves}
        if sizes != n or len(dtypes) > 1:
            raise ValueError(
                f"`input_structure` must have as many scalars as `permutation` ({n}), "
                "all of one dtype, but is "
                f"{describe(self.in_structure())}."
            )

    def mv(self, vector):
        vector = conform(vector, self.in_structure(), "the vector")
        return unravel(ravel(vector)[self.permutation], structure_of(vector))

    def as_matrix(self):
        columns = jnp.arange(self.permutation.size)
        same = self.permutation[:, None] == columns[None, :]
        return same.astype(_dtype(self))

    def transpose(self):
        inverse = inverted(self.permutation)
        return PermutationLinearOperator(inverse, self.in_structure())

    def in_structure(self):
        return self.structure.thaw()

    def out_structure(self):
        return self.structure.thaw()

    shape = property(shape_of)
    dtype = property(dtype_of)


def _check_values(permutation: Any, n: int) -> None:
    if isinstance(permutation, jax.core.Tracer):
        return
    values = np.asarray(permutation)
    if not np.array_equal(np.sort(values), np.arange(n)):
        raise ValueError(
            f"`permutation` must hold each of the numbers 0 to {n - 1} once, but is "
            f"{values}."
        )


def _dtype(operator: PermutationLinearOperator) -> Any:
    return common_dtype(operator.in_structure())


def inverted(p: Int[Array, " n"]) -> Int[Array, " n"]:
    """The inverse permutation."""
    return jnp.zeros_like(p).at[p].set(jnp.arange(p.size, dtype=p.dtype))


@declared.register
def _(operator: PermutationLinearOperator):
    return frozenset((nonsingular_tag,))


@materialise.register
def _(operator: PermutationLinearOperator):
    return operator


@diagonal.register
def _(operator: PermutationLinearOperator):
    p = operator.permutation
    return (p == jnp.arange(p.size)).astype(_dtype(operator))


@tridiagonal.register
def _(operator: PermutationLinearOperator):
    check_square(operator)
    p, i = operator.permutation, jnp.arange(operator.permutation.size)
    bands = (p == i, p[1:] == i[:-1], p[:-1] == i[1:])
    main, lower, upper = (band.astype(_dtype(operator)) for band in bands)
    return main, lower, upper


@conj.register
def _(operator: PermutationLinearOperator):
    return operator


def _product(a, b):
    if Reflection.TRANSPOSE in reflections(a, b):
        return IdentityLinearOperator(a.in_structure())
    return PermutationLinearOperator(b.permutation[a.permutation], a.in_structure())


PRODUCTS.append(
    Rewrite(
        "PᵀP = I, and two permutations are one",
        PermutationLinearOperator,
        PermutationLinearOperator,
        _product,
    )
)
