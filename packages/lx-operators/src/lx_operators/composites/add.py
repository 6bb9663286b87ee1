"""The sum A + B."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu

from .._bands import fitted, widths_of
from .._checks import check_operator, check_same
from .._composite import cached, map_parts, operands
from .._functions import (
    bands,
    bandwidths,
    diagonal,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import SUM, layout, within
from .._promotion import promoted_mv, promoted_structure
from .._properties import is_diagonal, is_tridiagonal
from .._simplify import SUMS, unwrapped, view
from .._structures import Structure, common_dtype, structures_of
from .._tags import (
    Tag,
    Tags,
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    negative_semidefinite_tag,
    nonsingular_tag,
    positive_semidefinite_tag,
    symmetric_tag,
    tridiagonal_tag,
    upper_triangular_tag,
)
from ._rules import Rule, adjoint_by_parts, all_have, declare, maps_to_parts


class AddLinearOperator(AbstractLinearOperator):
    """The sum of two operators; `operator1 + operator2` builds it.

    Args:
        operator1, operator2: operators between the same spaces (dtypes promote).

    Raises:
        ValueError: if they are not operators, or their structures differ.

    ```python
    shifted = lx.MatrixLinearOperator(jnp.ones((3, 3))) + lx.DiagonalLinearOperator(
        jnp.arange(3.0)
    )
    ```
    """

    operator1: AbstractLinearOperator
    operator2: AbstractLinearOperator

    def __init__(
        self, operator1: AbstractLinearOperator, operator2: AbstractLinearOperator
    ):
        check_operator(operator1, "operator1")
        check_operator(operator2, "operator2")
        (in1, out1), (in2, out2) = structures_of(operator1), structures_of(operator2)
        check_same(in1, in2, "in a sum, the input structures of the two operators")
        check_same(out1, out2, "in a sum, the output structures of the two operators")
        self.operator1 = operator1
        self.operator2 = operator2

    def mv(self, vector):
        a, b = operands(self)
        return jtu.tree_map(_plus, promoted_mv(a, vector), promoted_mv(b, vector))

    def as_matrix(self):
        a, b = operands(self)
        if is_tridiagonal(a):
            a, b = b, a
        matrix = a.as_matrix()
        # A banded operand is added by its diagonals, without forming a matrix `[n, n]`.
        if is_diagonal(b):
            return _plus_band(matrix, diagonal(b), 0)
        if is_tridiagonal(b) and matrix.shape[0] == matrix.shape[1]:
            for band, offset in zip(tridiagonal(b), (0, -1, 1)):
                matrix = _plus_band(matrix, band, offset)
            return matrix
        return _plus(matrix, b.as_matrix())

    def transpose(self):
        return map_parts(lambda part: part.T, self)

    def in_structure(self):
        return _structures_of(self)[0]

    def out_structure(self):
        return _structures_of(self)[1]


@cached
def _structures_of(operator: AddLinearOperator) -> tuple[Structure, Structure]:
    (in1, out1), (in2, out2) = map(structures_of, operands(operator))
    return promoted_structure(in1, in2), promoted_structure(out1, out2)


def _plus(x, y):
    dtype = common_dtype([x, y])
    return x.astype(dtype) + y.astype(dtype)


def _plus_band(matrix, band, offset):
    dtype = common_dtype([matrix, band])
    if any(jax.typeof(matrix).sharding.spec):
        # on an explicit mesh, JAX does not choose the sharding of a scatter's result
        return matrix.astype(dtype) + jnp.diag(band.astype(dtype), offset)
    i = jnp.arange(band.size)
    rows, columns = i + max(-offset, 0), i + max(offset, 0)
    return matrix.astype(dtype).at[rows, columns].add(band.astype(dtype))


maps_to_parts(AddLinearOperator)
adjoint_by_parts(AddLinearOperator)


@diagonal.register
def _(operator: AddLinearOperator):
    return _plus(*(diagonal(part) for part in operands(operator)))


@tridiagonal.register
def _(operator: AddLinearOperator):
    bands = (tridiagonal(part) for part in operands(operator))
    return tuple(map(_plus, *bands))


# Tags that all operands have, and `definite_sum`.


def definite_sum(op, a: Tags, b: Tags) -> bool:
    """Definite + semidefinite of the same sign is definite."""
    return nonsingular_tag in a | b and any(
        sign in a & b for sign in (positive_semidefinite_tag, negative_semidefinite_tag)
    )


_KEPT = (symmetric_tag, hermitian_tag, diagonal_tag, tridiagonal_tag)
_KEPT += (lower_triangular_tag, upper_triangular_tag)
_KEPT += (positive_semidefinite_tag, negative_semidefinite_tag)
RULES: dict[Tag, Rule] = {tag: all_have(tag) for tag in _KEPT}
RULES[nonsingular_tag] = definite_sum
declare(AddLinearOperator, RULES)


@unwrapped.register
def _(operator: AddLinearOperator):
    a, b = operands(operator)
    return view(operator, SUMS, lambda: unwrapped(a), lambda: unwrapped(b))


@bandwidths.register
def _(operator: AddLinearOperator):
    first, second = map(bandwidths, operands(operator))
    if first is None or second is None:
        return None
    return max(first[0], second[0]), max(first[1], second[1])


@bands.register
def _(operator: AddLinearOperator):
    parts = [fitted(part, widths_of(operator)) for part in operands(operator)]
    return _plus(*parts)


@layout.register
def _(operator: AddLinearOperator):
    text = " + ".join(within(part, SUM) for part in operands(operator))
    return text, SUM
