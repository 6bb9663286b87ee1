"""The diagonal."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import (
    AbstractLinearOperator,
    DiagonalLinearOperator,
    ShardedSparseLinearOperator,
    SparseLinearOperator,
    diagonal,
    positive_semidefinite_tag,
)
from lx_operators.internal import check_matrix, unravel, unwrapped

from .._scaling import largest, reciprocal_scale
from . import _by_operator
from ._preconditioner import AbstractPreconditioner, definite_tags


class Jacobi(AbstractPreconditioner[AbstractLinearOperator]):
    """Division by the diagonal: M = D⁻¹.

    For definite operators, the resulting condition number is within a factor n of the
    best that a diagonal matrix can give, and within the largest number of entries of a
    row (van der Sluis 1969, doi:10.1007/BF02165096). It removes bad scaling, and
    nothing else.

    The diagonal is taken by `lx.diagonal`, in the cheapest way that the operator's type
    and tags allow: a function has to be materialised for it.

    For `LSMR` and `LSQR`, M divides by the norms of A's columns; that of a column of
    zeros counts as one.

    Args:
        weight: a factor of M. For a convergent smoother it must be less than 2 divided
            by the largest eigenvalue of D⁻¹ A.
        absolute: divide by the absolute values of the diagonal, so that M is positive
            definite for any operator, as `MINRES` requires.

    If there is a zero on the diagonal, the solve ends in `preconditioner_failed`.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1.0], [1.0, 300.0]]), lx.positive_semidefinite_tag
    )
    solver = lx.CG(preconditioner=lx.Jacobi())
    solution = lx.linear_solve(operator, jnp.ones(2), solver)
    ```
    """

    weight: ArrayLike = 1.0
    absolute: bool = eqx.field(static=True, default=False, kw_only=True)

    def init(self, operator, options):
        d = diagonal(operator)
        d = jnp.abs(d).astype(d.dtype) if self.absolute else d
        weight = jnp.asarray(self.weight, d.real.dtype).astype(d.dtype)
        return DiagonalLinearOperator(unravel(weight / d, operator.in_structure()))

    apply = _by_operator.apply
    transpose = _by_operator.transposed
    conj = _by_operator.conjugated

    def tags(self, operator):
        if self.absolute:
            return frozenset((positive_semidefinite_tag,))
        return definite_tags(operator)

    def right_factor(self, operator):
        norms = column_norms(operator)
        inverse = 1 / jnp.where(norms == 0, jnp.ones_like(norms), norms)
        return DiagonalLinearOperator(unravel(inverse, operator.in_structure()))


def column_norms(operator: AbstractLinearOperator) -> Array:
    """√Σᵢ |aᵢⱼ|² for each j, in the operator's dtype."""
    A: Any = unwrapped(operator)
    if isinstance(A, ShardedSparseLinearOperator):
        return _sharded_column_norms(A)
    if isinstance(A, SparseLinearOperator):
        order, n = A.pattern.transposed, A.pattern.shape[1]
        sizes, columns = jnp.abs(A.values)[order], A.pattern.columns[order]
        peaks = jax.ops.segment_max(sizes, columns, n, indices_are_sorted=True)
        scale = reciprocal_scale(jnp.maximum(peaks, 0))  # -∞ where there is no entry
        squares = (sizes * scale[columns]) ** 2
        sums = jax.ops.segment_sum(squares, columns, n, indices_are_sorted=True)
        return (jnp.sqrt(sums) / scale).astype(A.values.dtype)
    check_matrix(operator, *_NO_MATRIX)
    matrix = operator.as_matrix()
    sizes = jnp.abs(matrix)
    scale = reciprocal_scale(largest(sizes, axis=0))
    norms = jnp.linalg.norm(sizes * scale[None, :], axis=0) / scale
    return norms.astype(matrix.dtype)


@jax.jit
def _sharded_column_norms(A: ShardedSparseLinearOperator) -> Array:
    """The norms of each device's own columns. Others' contributions are exchanged."""

    def local(pattern: Any, values: Array) -> Array:
        sizes, q = jnp.abs(pattern.own_values(values[0])), pattern.blocks[1]
        if A.transposed:
            index, count = pattern.local.rows, pattern.blocks[0]
        else:
            index, count = pattern.local.columns, q + pattern.halo.size

        def total(x: Array) -> Array:
            y = jax.ops.segment_sum(x, index, count)
            return y if A.transposed else y[:q] + pattern.halo.accumulate(y[q:])

        scale = own = reciprocal_scale(total(sizes))
        if not A.transposed:
            scale = jnp.concatenate([own, pattern.halo.exchange(own)])
        return jnp.sqrt(total((sizes * scale[index]) ** 2)) / own

    return A.pattern.on_devices(local, A.values).astype(A.values.dtype)


_NO_MATRIX = (
    "`Jacobi`, which divides by the norms of columns in least-squares solvers,",
    "Give an operator with such a diagonal in `options`, or solve without it.",
)
