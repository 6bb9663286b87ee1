"""Answers for types that register nothing, from the abstract methods alone."""

import jax.numpy as jnp
import jax.tree_util as jtu

from ._bands import diagonal_of
from ._checks import check_square
from ._functions import (
    adjoint_product,
    bands,
    bandwidths,
    conj,
    diagonal,
    linearise,
    materialise,
    tridiagonal,
)
from ._materialise import materialised
from ._memory import check_matrix
from ._operator import AbstractLinearOperator
from ._probing import probe_diagonal, probe_tridiagonal
from ._promotion import promoted_mv
from ._properties import (
    declared,
    is_diagonal,
    is_lower_triangular,
    is_tridiagonal,
    is_upper_triangular,
)
from ._structures import is_real, structures_of
from .leaves.function import FunctionLinearOperator

_BANDED = (
    "If nothing else is nonzero, tag the operator with `{}`, and a few products show "
    "it; or call `as_matrix`, which is asking for the matrix."
)


@linearise.register
def _(operator: AbstractLinearOperator):
    return operator


@materialise.register
def _(operator: AbstractLinearOperator):
    return materialised(operator)


@diagonal.register
def _(operator: AbstractLinearOperator):
    if is_diagonal(operator):
        return probe_diagonal(operator)
    if is_tridiagonal(operator):
        return probe_tridiagonal(operator)[0]
    check_matrix(operator, "`diagonal`", _BANDED.format("diagonal_tag"))
    return jnp.diagonal(operator.as_matrix())


@tridiagonal.register
def _(operator: AbstractLinearOperator):
    check_square(operator)
    if is_diagonal(operator):
        main = diagonal(operator)
        off = jnp.zeros(max(main.size - 1, 0), main.dtype)
        return main, off, off
    if is_tridiagonal(operator):
        return probe_tridiagonal(operator)
    check_matrix(operator, "`tridiagonal`", _BANDED.format("tridiagonal_tag"))
    matrix = operator.as_matrix()
    main, lower, upper = (diagonal_of(matrix, offset) for offset in (0, -1, 1))
    return main, lower, upper


@bandwidths.register
def _(operator: AbstractLinearOperator):
    if operator.in_size() != operator.out_size() or not is_tridiagonal(operator):
        return None
    return (
        0 if is_upper_triangular(operator) else 1,
        0 if is_lower_triangular(operator) else 1,
    )


@bands.register
def _(operator: AbstractLinearOperator):
    lower, upper = bandwidths(operator) or (1, 1)
    main, below, above = tridiagonal(operator)
    if not main.size:
        return jnp.zeros((lower + upper + 1, 0), main.dtype)
    rows = jnp.stack([jnp.pad(above, (1, 0)), main, jnp.pad(below, (0, 1))])
    return rows[1 - upper : 2 + lower]


@conj.register
def _(operator: AbstractLinearOperator):
    if is_real(*structures_of(operator)):
        return operator

    def conjugated(vector):
        out = promoted_mv(operator, jtu.tree_map(jnp.conj, vector))
        return jtu.tree_map(jnp.conj, out)

    return FunctionLinearOperator(
        conjugated, operator.in_structure(), declared(operator)
    )


@adjoint_product.register
def _(operator: AbstractLinearOperator):
    return operator.H.mv
