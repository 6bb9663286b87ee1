"""An operator with further tags."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from .._banded import banded
from .._checks import check_claims, check_operator
from .._functions import conj, diagonal, linearise, materialise, tridiagonal
from .._operator import AbstractLinearOperator
from .._parts import map_parts, once, operands
from .._printing import ATOM, layout
from .._promotion import product
from .._properties import (
    declared,
    is_diagonal,
    is_own_adjoint,
    is_own_transpose,
    is_tridiagonal,
    known,
)
from .._tags import Tags, as_tags, diagonal_tag, transpose_tags, tridiagonal_tag


class TaggedLinearOperator(AbstractLinearOperator):
    """An operator that promises more than its parts can tell.

    Args:
        operator: an operator.
        tags: a tag or an iterable of tags, added to what is known of `operator`.

    Raises:
        ValueError: not an operator, or a tag needs equal input and output structure.

    ```python
    a = lx.MatrixLinearOperator(jnp.eye(3) + 1.0)
    definite = lx.TaggedLinearOperator(a @ a, lx.positive_semidefinite_tag)
    ```
    """

    operator: AbstractLinearOperator
    tags: Tags = eqx.field(static=True)

    def __init__(self, operator: AbstractLinearOperator, tags: object):
        check_operator(operator, "operator")
        self.operator = operator
        self.tags = as_tags(tags)
        check_claims(self)

    def mv(self, vector):
        return product(self.operator, vector)

    def as_matrix(self):
        if not _answers_alone(diagonal, self):
            bands = banded(self)
            if bands is not None:
                return bands.as_matrix()
        return self.operator.as_matrix()

    def transpose(self):
        # What the tags promise spares transposing the operator inside.
        if is_own_transpose(self):
            return self
        if is_own_adjoint(self):
            return conj(self)
        return TaggedLinearOperator(self.operator.T, transpose_tags(self.tags))

    def in_structure(self):
        return self.operator.in_structure()

    def out_structure(self):
        return self.operator.out_structure()


def with_tags(operator: AbstractLinearOperator, tags: Tags) -> AbstractLinearOperator:
    """`operator`, wrapped only if it does not know all these tags by itself."""
    missing = tags - known(operator)
    return TaggedLinearOperator(operator, missing) if missing else operator


@declared.register
@once
def _(operator: TaggedLinearOperator) -> Tags:
    return operator.tags | known(operator.operator)


@linearise.register
def _(operator: TaggedLinearOperator):
    return map_parts(linearise, operator)


@conj.register
def _(operator: TaggedLinearOperator):
    return map_parts(conj, operator)


@materialise.register
def _(operator: TaggedLinearOperator):
    inner = operator.operator
    gained = known(operator) - known(inner)
    bands = banded(operator) if gained & {diagonal_tag, tridiagonal_tag} else None
    inner = materialise(inner) if bands is None else bands
    return TaggedLinearOperator(inner, operator.tags)


def _answers_alone(function: Any, operator: TaggedLinearOperator) -> bool:
    """Whether the operator inside has arrays to read the answer from, or knows by
    itself that it is banded, so that no product is needed for what the tags promise."""
    inner = operator.operator
    if is_diagonal(inner) or is_tridiagonal(inner):
        return True
    fallback = function.dispatch(AbstractLinearOperator)
    own = function.dispatch(type(inner)) is not fallback
    return own and not operands(inner)


@diagonal.register
def _(operator: TaggedLinearOperator):
    banded_by_tag = is_diagonal(operator) or is_tridiagonal(operator)
    if banded_by_tag and not _answers_alone(diagonal, operator):
        return diagonal.dispatch(AbstractLinearOperator)(operator)
    return diagonal(operator.operator)


@tridiagonal.register
def _(operator: TaggedLinearOperator):
    if is_diagonal(operator) and not is_diagonal(operator.operator):
        main = diagonal(operator)
        off = jnp.zeros(max(main.size - 1, 0), main.dtype)
        return main, off, off
    if is_tridiagonal(operator) and not _answers_alone(tridiagonal, operator):
        return tridiagonal.dispatch(AbstractLinearOperator)(operator)
    return tridiagonal(operator.operator)


@layout.register
def _(operator: TaggedLinearOperator):
    names = sorted(getattr(tag, "name", repr(tag)) for tag in operator.tags)
    inner, _ = layout(operator.operator)
    return f"TaggedLinearOperator({', '.join([inner, *names])})", ATOM
