"""An operator with three diagonals."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Inexact

from .._functions import conj, diagonal, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._promotion import conform
from .._properties import declared
from .._structures import common_dtype, dtype_of, floating, shape_of
from .._tags import tridiagonal_tag


class TridiagonalLinearOperator(AbstractLinearOperator):
    """A tridiagonal matrix, stored as its three diagonals.

    Args:
        diagonal: an array `[n]`.
        lower_diagonal: an array `[n - 1]`, element i in row i + 1 and column i.
        upper_diagonal: an array `[n - 1]`, element i in row i and column i + 1.

    Raises:
        ValueError: if the arrays are not one-dimensional, or their sizes do not fit.

    ```python
    operator = lx.TridiagonalLinearOperator(
        2 * jnp.ones(4), -jnp.ones(3), -jnp.ones(3)
    )
    ```
    """

    diagonal: Inexact[Array, " n"]
    lower_diagonal: Inexact[Array, " n-1"]
    upper_diagonal: Inexact[Array, " n-1"]

    def __init__(
        self, diagonal: ArrayLike, lower_diagonal: ArrayLike, upper_diagonal: ArrayLike
    ):
        bands = [floating(d) for d in (diagonal, lower_diagonal, upper_diagonal)]
        shapes = [band.shape for band in bands]
        n = bands[0].size
        off = (max(n - 1, 0),)
        if shapes != [(n,), off, off]:
            raise ValueError(
                "`diagonal`, `lower_diagonal` and `upper_diagonal` must be "
                "one-dimensional of sizes n, n - 1 and n - 1, but got shapes "
                f"{', '.join(map(str, shapes))}."
            )
        dtype = common_dtype(bands)
        bands = [band.astype(dtype) for band in bands]
        self.diagonal, self.lower_diagonal, self.upper_diagonal = bands

    def mv(self, vector):
        x = conform(vector, self.in_structure(), "the vector")
        main, lower, upper = (band.astype(x.dtype) for band in tridiagonal(self))
        below = jnp.pad(lower * x[:-1], (1, 0)) if x.size else x
        above = jnp.pad(upper * x[1:], (0, 1)) if x.size else x
        return main * x + below + above

    def as_matrix(self):
        main, lower, upper = tridiagonal(self)
        n = main.size
        rows = jnp.arange(n)
        matrix = jnp.zeros((n, n), main.dtype).at[rows, rows].set(main)
        matrix = matrix.at[rows[1:], rows[:-1]].set(lower)
        return matrix.at[rows[:-1], rows[1:]].set(upper)

    def transpose(self):
        return TridiagonalLinearOperator(
            self.diagonal, self.upper_diagonal, self.lower_diagonal
        )

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.diagonal.shape, self.diagonal.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct(self.diagonal.shape, self.diagonal.dtype)

    shape = property(shape_of)
    dtype = property(dtype_of)


@declared.register
def _(operator: TridiagonalLinearOperator):
    return frozenset((tridiagonal_tag,))


@materialise.register
def _(operator: TridiagonalLinearOperator):
    return operator


@diagonal.register
def _(operator: TridiagonalLinearOperator):
    return operator.diagonal


@tridiagonal.register
def _(operator: TridiagonalLinearOperator):
    return operator.diagonal, operator.lower_diagonal, operator.upper_diagonal


@conj.register
def _(operator: TridiagonalLinearOperator):
    if not jnp.iscomplexobj(operator.diagonal):
        return operator
    return TridiagonalLinearOperator(*(band.conj() for band in tridiagonal(operator)))
