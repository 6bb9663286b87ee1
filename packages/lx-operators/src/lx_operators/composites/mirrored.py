"""A sum with its own reflection, A + Aᵀ and A + Aᴴ.

A is held once, so that the sum is symmetric, or Hermitian, however its arrays change.
"""

from typing import Any

import equinox as eqx
import jax.tree_util as jtu

from .._composite import map_parts
from .._functions import (
    add,
    bands,
    bandwidths,
    conj,
    diagonal,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import SUM, layout, within
from .._promotion import conform, promoted_mv
from .._properties import is_own_transpose, known
from .._provenance import (
    Reflection,
    is_image,
    reflected,
    reflected_product,
    reflections,
)
from .._simplify import SUMS, simplified, unwrapped, view
from .._structures import common_dtype, structures_of
from .._tags import Tag, hermitian_tag, symmetric_tag, transpose_tags
from ._rules import Rule, adjoint_by_itself, all_have, any_of, declare, maps_to_parts
from .add import RULES, AddLinearOperator
from .gram import reflected_layout


class MirroredLinearOperator(AbstractLinearOperator):
    """A + A*, with A* the transpose or the adjoint of A; `A + A.T` and `A + A.H` build
    it.

    Args:
        operator: A, from a space to itself.
        reflection: what A* is, `Reflection.TRANSPOSE` or `ADJOINT`.
    """

    operator: AbstractLinearOperator
    reflection: Reflection = eqx.field(static=True)

    def mv(self, vector):
        x = conform(vector, self.in_structure(), "the vector")
        reflection = reflected_product(self.operator, self.reflection, x)
        return jtu.tree_map(_plus, promoted_mv(self.operator, x), reflection)

    def as_matrix(self):
        matrix = self.operator.as_matrix()
        return matrix + _turned(self, matrix.T)

    def transpose(self):
        if is_own_transpose(self):
            return self
        return map_parts(conj, self)  # (A + Aᴴ)ᵀ = Ā + Āᴴ

    def in_structure(self):
        return self.operator.in_structure()

    def out_structure(self):
        return self.operator.out_structure()


def _plus(x: Any, y: Any) -> Any:
    dtype = common_dtype([x, y])
    return x.astype(dtype) + y.astype(dtype)


def _turned(operator: MirroredLinearOperator, elements: Any) -> Any:
    """Elements of Aᵀ as those of A*."""
    adjoint = operator.reflection is Reflection.ADJOINT
    return elements.conj() if adjoint else elements


def as_mirrored(plain: AddLinearOperator) -> MirroredLinearOperator | None:
    """The mirrored form of a sum, if one operand is the reflection of the other and
    this adds to the tags of the sum; else None."""
    a, b = plain.operator1, plain.operator2
    found, tags = reflections(a, b), known(plain)
    ins, outs = structures_of(plain)
    if ins != outs or structures_of(a) != (ins, outs):
        return None
    for reflection, tag in (
        (Reflection.ADJOINT, hermitian_tag),
        (Reflection.TRANSPOSE, symmetric_tag),
    ):
        if reflection in found and tag not in tags:
            return MirroredLinearOperator(b if is_image(a) else a, reflection)
    return None


def as_sum(operator: Any) -> AddLinearOperator | None:
    """A sum of any kind as a sum of two operators; None for anything else."""
    if isinstance(operator, MirroredLinearOperator):
        star = reflected(operator.operator, operator.reflection)
        return AddLinearOperator(operator.operator, star)
    return operator if isinstance(operator, AddLinearOperator) else None


@add.register
def _(operator1: AbstractLinearOperator, operator2: AbstractLinearOperator):
    plain = AddLinearOperator(operator1, operator2)
    return simplified(as_mirrored(plain) or plain, SUMS, operator1, operator2)


def _mirrored(reflection: Reflection, tag: Tag) -> Rule:
    itself: Rule = lambda op, *parts: op.reflection is reflection  # noqa: E731
    return any_of(itself, all_have(tag))


declare(
    MirroredLinearOperator,
    {
        **RULES,
        symmetric_tag: _mirrored(Reflection.TRANSPOSE, symmetric_tag),
        hermitian_tag: _mirrored(Reflection.ADJOINT, hermitian_tag),
    },
    lambda op: (known(op.operator), transpose_tags(known(op.operator))),
)


maps_to_parts(MirroredLinearOperator)
adjoint_by_itself(MirroredLinearOperator)


@diagonal.register
def _(operator: MirroredLinearOperator):
    main = diagonal(operator.operator)
    return main + _turned(operator, main)


@tridiagonal.register
def _(operator: MirroredLinearOperator):
    main, lower, upper = tridiagonal(operator.operator)
    reflection = (_turned(operator, band) for band in (main, upper, lower))
    return tuple(map(_plus, (main, lower, upper), reflection))


@bandwidths.register
def _(operator: MirroredLinearOperator):
    widths = bandwidths(operator.operator)
    return None if widths is None else (max(widths), max(widths))


@bands.register
def _(operator: MirroredLinearOperator):
    return bands(as_sum(operator))


@unwrapped.register
def _(operator: MirroredLinearOperator):
    A = unwrapped(operator.operator)
    return view(operator, SUMS, lambda: A, lambda: reflected(A, operator.reflection))


@layout.register
def _(operator: MirroredLinearOperator):
    star = reflected_layout(operator.operator, operator.reflection, SUM)
    return f"{within(operator.operator, SUM)} + {star}", SUM
