"""An operator that is a matrix."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Inexact

from .._bands import diagonal_of
from .._checks import check_claims, check_square
from .._functions import (
    adjoint_product,
    conj,
    diagonal,
    materialise,
    tridiagonal,
    with_tags,
)
from .._operator import AbstractLinearOperator
from .._promotion import conform
from .._properties import declared, is_own_adjoint, is_own_transpose
from .._structures import dtype_of, floating, matmul, shape_of
from .._tags import Tags, as_tags, tagged_diagonal, transpose_tags
from .diagonal import DiagonalLinearOperator


class MatrixLinearOperator(AbstractLinearOperator):
    """A matrix, mapping vectors `[n]` to vectors `[m]`.

    Args:
        matrix: an array `[m, n]`; integers become floating.
        tags: a tag or an iterable of tags.

    Raises:
        ValueError: if `matrix` is not two-dimensional, or a tag needs a square matrix.

    ```python
    operator = lx.MatrixLinearOperator(jnp.eye(3), lx.symmetric_tag)
    operator.mv(jnp.ones(3))
    ```
    """

    matrix: Inexact[Array, "a b"]
    tags: Tags = eqx.field(static=True)

    def __init__(self, matrix: ArrayLike, tags: object = ()):
        # each access to a field takes a microsecond
        matrix = floating(matrix)
        if matrix.ndim != 2:
            raise ValueError(
                "`matrix` must be a two-dimensional array, but got shape "
                f"{matrix.shape}; a batch of matrices becomes a batch of "
                "operators by `equinox.filter_vmap(MatrixLinearOperator)(matrices)`, "
                "for maps between arrays of other shapes use `PyTreeLinearOperator`."
            )
        self.matrix, self.tags = matrix, as_tags(tags)
        if type(tags) is not tuple or tags:
            check_claims(self)

    def mv(self, vector):
        if self.matrix.ndim != 2:
            raise ValueError(
                f"the operator is a batch: its matrix has shape {self.matrix.shape}; "
                "map over it by `equinox.filter_vmap(lambda operator: ...)(operators)`."
            )
        vector = conform(vector, self.in_structure(), "the vector")
        matrix = self.matrix.astype(vector.dtype)
        if tagged_diagonal(self.tags):
            return jnp.diagonal(matrix) * vector
        return matmul(matrix, vector)

    def as_matrix(self):
        return self.matrix

    def transpose(self):
        if is_own_transpose(self):
            return self
        return MatrixLinearOperator(self.matrix.T, transpose_tags(self.tags))

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.matrix.shape[1:], self.matrix.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct(self.matrix.shape[:1], self.matrix.dtype)

    shape = property(shape_of)
    dtype = property(dtype_of)


@declared.register
def _(operator: MatrixLinearOperator):
    return operator.tags


@adjoint_product.register
def _(operator: MatrixLinearOperator):
    if tagged_diagonal(operator.tags):
        return operator.H.mv
    if is_own_adjoint(operator):
        return operator.mv

    def product(vector):
        vector = conform(vector, operator.out_structure(), "the vector")
        return matmul(vector.conj(), operator.matrix.astype(vector.dtype)).conj()

    return product


@materialise.register
def _(operator: MatrixLinearOperator):
    if not tagged_diagonal(operator.tags):
        return operator
    return with_tags(DiagonalLinearOperator(diagonal(operator)), operator.tags)


@diagonal.register
def _(operator: MatrixLinearOperator):
    return jnp.diagonal(operator.matrix)


@tridiagonal.register
def _(operator: MatrixLinearOperator):
    check_square(operator)
    main, lower, upper = (diagonal_of(operator.matrix, k) for k in (0, -1, 1))
    if tagged_diagonal(operator.tags):
        return main, jnp.zeros_like(lower), jnp.zeros_like(upper)
    return main, lower, upper


@conj.register
def _(operator: MatrixLinearOperator):
    if not jnp.iscomplexobj(operator.matrix):
        return operator
    return MatrixLinearOperator(operator.matrix.conj(), operator.tags)
