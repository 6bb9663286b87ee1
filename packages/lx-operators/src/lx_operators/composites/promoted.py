"""The same operator between spaces of wider dtypes."""

from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu

from .._blocks import (
    block_diagonal,
    block_grid,
    block_tridiagonal,
    block_tridiagonal_of,
    blocks_mapped,
)
from .._composite import map_parts
from .._functions import (
    bands,
    bandwidths,
    diagonal,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import ATOM, layout
from .._promotion import at_least, conform, in_parts
from .._properties import declared, known
from .._simplify import unwrapped
from .._structures import Structure, promote_types, short_dtype, structures_of
from ..leaves.function import FunctionLinearOperator
from ._rules import maps_to_parts


class PromotedLinearOperator(AbstractLinearOperator):
    """An operator whose structures are promoted by a dtype: a float32 matrix that acts
    between float64 vectors, a real one between complex vectors."""

    operator: AbstractLinearOperator
    dtype: Any = eqx.field(static=True)

    def mv(self, vector):
        vector = conform(vector, self.in_structure(), "the vector")
        own = structures_of(self.operator)[0]
        out = in_parts(self.operator.mv, vector, own)  # not checked: it is promoted
        return at_least(out, self.out_structure())

    def as_matrix(self):
        return self._promote(self.operator.as_matrix())

    def transpose(self):
        if _is_mixed(self.operator):
            # the operator's own transpose has real leaves, without an imaginary part
            tags = known(self.operator)
            return FunctionLinearOperator(self.mv, self.in_structure(), tags).T
        return map_parts(lambda part: part.T, self)

    def in_structure(self):
        return _structure(self.operator.in_structure(), self.dtype)

    def out_structure(self):
        return _structure(self.operator.out_structure(), self.dtype)

    def _promote(self, arrays):
        return jtu.tree_map(
            lambda x: x.astype(promote_types(x.dtype, self.dtype)), arrays
        )


def _is_mixed(operator: AbstractLinearOperator) -> bool:
    """Whether there are both real and complex leaves."""
    leaves = jtu.tree_leaves(structures_of(operator))
    return len({leaf.dtype.kind == "c" for leaf in leaves}) > 1


def promoted(operator: AbstractLinearOperator, dtype: Any) -> AbstractLinearOperator:
    """`operator` between spaces whose dtypes are promoted by `dtype`; unchanged if they
    are wide enough already."""
    wide = PromotedLinearOperator(operator, dtype)
    same = (wide.in_structure(), wide.out_structure()) == (
        operator.in_structure(),
        operator.out_structure(),
    )
    return operator if same else wide


def _structure(structure: Structure, dtype: Any) -> Structure:
    return jtu.tree_map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, promote_types(leaf.dtype, dtype)),
        structure,
    )


@declared.register
def _(operator: PromotedLinearOperator):
    return known(operator.operator)


maps_to_parts(PromotedLinearOperator)


@diagonal.register
def _(operator: PromotedLinearOperator):
    return operator._promote(diagonal(operator.operator))


@tridiagonal.register
def _(operator: PromotedLinearOperator):
    return operator._promote(tridiagonal(operator.operator))


@bandwidths.register
def _(operator: PromotedLinearOperator):
    return bandwidths(operator.operator)


@bands.register
def _(operator: PromotedLinearOperator):
    return operator._promote(bands(operator.operator))


@unwrapped.register
def _(operator: PromotedLinearOperator):
    return unwrapped(operator.operator)


@block_diagonal.register
def _(operator: PromotedLinearOperator):
    return _of_blocks(block_diagonal(operator.operator), operator)


@block_grid.register
def _(operator: PromotedLinearOperator):
    return _of_blocks(block_grid(operator.operator), operator)


@block_tridiagonal.register
def _(operator: PromotedLinearOperator):
    return block_tridiagonal_of(operator, operator._promote)


def _of_blocks(inner: Any, operator: PromotedLinearOperator) -> Any:
    if inner is None:
        return None
    return blocks_mapped(inner, lambda block: promoted(block, operator.dtype))


@layout.register
def _(operator: PromotedLinearOperator):
    inner, _ = layout(operator.operator)
    return f"PromotedLinearOperator({inner}, {short_dtype(operator.dtype)})", ATOM
