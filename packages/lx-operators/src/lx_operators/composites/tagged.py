"""An operator with further tags."""

from functools import partial
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from .._bands import fitted, widths_of
from .._blocks import (
    block_diagonal,
    block_grid,
    block_shapes,
    block_tridiagonal,
    block_tridiagonal_of,
    blocks_mapped,
)
from .._checks import check_claims, check_operator
from .._composite import cached, operands
from .._functions import (
    adjoint_product,
    bands,
    bandwidths,
    conj,
    diagonal,
    linearise,
    materialise,
    tridiagonal,
    with_tags,
)
from .._materialise import as_bands
from .._operator import AbstractLinearOperator
from .._printing import ATOM, layout
from .._promotion import promoted_mv
from .._properties import (
    declared,
    is_diagonal,
    is_lower_triangular,
    is_own_adjoint,
    is_own_transpose,
    is_tridiagonal,
    is_upper_triangular,
    known,
)
from .._provenance import Reflection, reflected_product, untagged
from .._simplify import unwrapped
from .._tags import Tags, as_tags, diagonal_tag, transpose_tags, tridiagonal_tag
from ._rules import maps_to_parts


class TaggedLinearOperator(AbstractLinearOperator):
    """An operator with tags that its parts do not imply.

    Args:
        operator: an operator.
        tags: a tag or an iterable of tags, added to those of `operator`.

    Raises:
        ValueError: if `operator` is not an operator, or a tag needs equal input and
            output structures.

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
        return promoted_mv(self.operator, vector)

    def as_matrix(self):
        if not _answers_alone(diagonal, self):
            stored = as_bands(self)
            if stored is not None:
                return stored.as_matrix()
        return self.operator.as_matrix()

    def transpose(self):
        # The tags can make transposing the inner operator unnecessary.
        if is_own_transpose(self):
            return self
        if is_own_adjoint(self):
            return conj(self)
        return TaggedLinearOperator(self.operator.T, transpose_tags(self.tags))

    def in_structure(self):
        return self.operator.in_structure()

    def out_structure(self):
        return self.operator.out_structure()


@with_tags.register
def _(operator: AbstractLinearOperator, tags: Tags):
    missing = tags - known(operator)
    return TaggedLinearOperator(operator, missing) if missing else operator


@declared.register
@cached
def _(operator: TaggedLinearOperator) -> Tags:
    return operator.tags | known(operator.operator)


maps_to_parts(TaggedLinearOperator, generics=(linearise, conj))


@adjoint_product.register
def _(operator: TaggedLinearOperator):
    if is_own_adjoint(operator):
        return operator.mv
    return partial(reflected_product, operator.operator, Reflection.ADJOINT)


@materialise.register
def _(operator: TaggedLinearOperator):
    inner = operator.operator
    gained = known(operator) - known(inner)
    stored = as_bands(operator) if gained & {diagonal_tag, tridiagonal_tag} else None
    inner = materialise(inner) if stored is None else stored
    return TaggedLinearOperator(inner, operator.tags)


def _answers_alone(function: Any, operator: TaggedLinearOperator) -> bool:
    """Whether the inner operator can answer from its arrays, or knows by itself that it
    is banded, so that no product with it is needed."""
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


@bandwidths.register
def _(operator: TaggedLinearOperator):
    by_tags = bandwidths.dispatch(AbstractLinearOperator)(operator)
    by_type = bandwidths(operator.operator)
    if by_tags is not None or by_type is None:
        return by_tags
    lower, upper = by_type
    return (
        0 if is_upper_triangular(operator) else lower,
        0 if is_lower_triangular(operator) else upper,
    )


@bands.register
def _(operator: TaggedLinearOperator):
    inner = operator.operator
    if bandwidths(inner) is None:
        return bands.dispatch(AbstractLinearOperator)(operator)
    return fitted(inner, widths_of(operator))


@untagged.register
def _(operator: TaggedLinearOperator):
    return untagged(operator.operator)


@unwrapped.register
def _(operator: TaggedLinearOperator):
    return unwrapped(operator.operator)


# A tag of a block diagonal operator holds for its square blocks as well.


@block_diagonal.register
def _(operator: TaggedLinearOperator):
    inner = block_diagonal(operator.operator)
    if inner is None or not all(m == n for m, n in block_shapes(inner)):
        return inner
    return blocks_mapped(inner, lambda block: with_tags(block, operator.tags))


@block_tridiagonal.register
def _(operator: TaggedLinearOperator):
    return block_tridiagonal_of(operator, lambda blocks: blocks)


@block_grid.register
def _(operator: TaggedLinearOperator):
    return block_grid(operator.operator)


@layout.register
def _(operator: TaggedLinearOperator):
    names = sorted(getattr(tag, "name", repr(tag)) for tag in operator.tags)
    inner, _ = layout(operator.operator)
    return f"TaggedLinearOperator({', '.join([inner, *names])})", ATOM
