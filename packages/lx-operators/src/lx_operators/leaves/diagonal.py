"""An operator that scales each scalar by its own factor."""

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, ArrayLike, Inexact, PyTree

from .._functions import conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform
from .._properties import declared
from .._structures import dtype_of, floating, is_real, ravel, shape_of, structure_of
from .._tags import diagonal_tag


class DiagonalLinearOperator(AbstractLinearOperator):
    """A diagonal operator, between pytrees of the diagonal's own structure.

    Args:
        diagonal: an array, or a pytree of arrays; integers become floating.

    ```python
    operator = lx.DiagonalLinearOperator({"a": jnp.ones(3), "b": jnp.array(2.0)})
    ```
    """

    diagonal: PyTree[Inexact[Array, "..."]]

    def __init__(self, diagonal: PyTree[ArrayLike]):
        self.diagonal = jtu.tree_map(floating, diagonal)

    def mv(self, vector):
        vector = conform(vector, self.in_structure(), "the vector")
        return jtu.tree_map(lambda d, x: d.astype(x.dtype) * x, self.diagonal, vector)

    def as_matrix(self):
        return jnp.diag(ravel(self.diagonal))

    def transpose(self):
        return self

    def in_structure(self):
        return structure_of(self.diagonal)

    def out_structure(self):
        return structure_of(self.diagonal)

    shape = property(shape_of)
    dtype = property(dtype_of)


@declared.register
def _(operator: DiagonalLinearOperator):
    return frozenset((diagonal_tag,))


@materialise.register
def _(operator: DiagonalLinearOperator):
    return operator


@diagonal.register
def _(operator: DiagonalLinearOperator):
    return ravel(operator.diagonal)


@tridiagonal.register
def _(operator: DiagonalLinearOperator):
    main = ravel(operator.diagonal)
    off = jnp.zeros(max(main.size - 1, 0), main.dtype)
    return main, off, off


@conj.register
def _(operator: DiagonalLinearOperator):
    if is_real(operator.in_structure()):
        return operator
    return DiagonalLinearOperator(jtu.tree_map(jnp.conj, operator.diagonal))
