"""A sparse operator whose values lie as its products read them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int

from .._functions import (
    adjoint_product,
    bands,
    bandwidths,
    conj,
    diagonal,
    linearise,
    materialise,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import layout
from .._properties import declared, is_own_adjoint, is_own_transpose
from .._simplify import unwrapped
from .._structures import Frozen
from .._tags import Tags
from ._layout import columns_of_chunks, lay_out, read_back
from ._spaces import conformed, structure
from .entries import SparseLinearOperator, rebuilt
from .pattern import SparsityPattern
from .product import laid_out_product


class LaidOutLinearOperator(AbstractLinearOperator):
    """A sparse operator with its values laid out for products; made by `linearise`.

    It holds its values once, in chunks or as diagonals (see `_forms.py`).

    Args:
        laid: the values, `[w, chunks]` or `[d, m]`.
        columns: the columns that chunks read; None for diagonals.
        pattern, tags, structures: as for `SparseLinearOperator`.
    """

    laid: Inexact[Array, "w c"]
    columns: Int[Array, "w c"] | None
    pattern: SparsityPattern
    tags: Tags = eqx.field(static=True)
    structures: tuple[Frozen | None, Frozen | None] = eqx.field(static=True)

    def mv(self, vector):
        x, out = conformed(self, self.laid.dtype, vector)
        laid = self.laid.astype(x.dtype)
        return out(laid_out_product(laid, self.columns, x, self.pattern))

    def as_matrix(self):
        return entries_of(self).as_matrix()

    def transpose(self):
        if is_own_transpose(self):
            return self
        return laid_out(entries_of(self).transpose())

    def in_structure(self):
        return structure(self, 0, self.laid.dtype)

    def out_structure(self):
        return structure(self, 1, self.laid.dtype)


def laid_out(operator: SparseLinearOperator) -> Any:
    """The operator, laid out; or itself, if its values already are in the best
    layout."""
    pattern = operator.pattern.without_assembly()
    diagonals = pattern.offsets is not None
    chunks = pattern.by_rows
    if not diagonals and chunks.width == 1 and chunks.rows is not None:
        return operator
    columns = None if diagonals else columns_of_chunks(pattern)
    laid = lay_out(operator.values, pattern)
    return LaidOutLinearOperator(
        laid, columns, pattern, operator.tags, operator.structures
    )


def entries_of(operator: LaidOutLinearOperator) -> SparseLinearOperator:
    """The same operator, entry by entry."""
    values = read_back(operator.laid, operator.pattern)
    return rebuilt(operator, values=values)


@linearise.register
def _(operator: SparseLinearOperator):
    return laid_out(operator)


@materialise.register
def _(operator: LaidOutLinearOperator):
    return entries_of(operator)


@unwrapped.register
def _(operator: LaidOutLinearOperator):
    return entries_of(operator)


@conj.register
def _(operator: LaidOutLinearOperator):
    if not jnp.iscomplexobj(operator.laid):
        return operator
    return LaidOutLinearOperator(
        operator.laid.conj(),
        operator.columns,
        operator.pattern,
        operator.tags,
        operator.structures,
    )


@adjoint_product.register
def _(operator: LaidOutLinearOperator):
    # laid out here, once, and not at the product, which may be in a loop
    return operator.mv if is_own_adjoint(operator) else operator.H.mv


def _of_entries(operator: LaidOutLinearOperator) -> SparseLinearOperator:
    """The same operator, for questions that do not need its values."""
    values: Any = jax.ShapeDtypeStruct((operator.pattern.size,), operator.laid.dtype)
    return rebuilt(operator, values=values)


def _answered(question: Any, by: Any) -> None:
    question.register(LaidOutLinearOperator, lambda operator: question(by(operator)))


for _question in (declared, bandwidths, layout):
    _answered(_question, _of_entries)
for _question in (diagonal, tridiagonal, bands):
    _answered(_question, entries_of)
