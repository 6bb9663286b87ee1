"""Products that are their own reflection if D is: XᴴX, XᴴDX, XᵀDX and XDXᴴ.

X is held once, so that the tags follow from how the product is stored: XᴴX is positive
semidefinite however X's arrays change.
"""

import functools
from typing import Any

import equinox as eqx

from .._composite import cached
from .._functions import (
    bands,
    bandwidths,
    compose,
    conj,
    diagonal,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import ATOM, PRODUCT, layout, within
from .._promotion import at_least, conform, promoted_mv
from .._properties import is_own_adjoint, is_own_transpose, known
from .._provenance import (
    Reflection,
    is_image,
    reflected,
    reflected_product,
    reflections,
    stronger,
)
from .._simplify import PRODUCTS, simplified, unwrapped, view
from .._structures import Structure, is_real, size_of, structures_of
from .._tags import (
    Tag,
    Tags,
    diagonal_tag,
    hermitian_tag,
    implied,
    lower_triangular_tag,
    negative_semidefinite_tag,
    nonsingular_tag,
    positive_semidefinite_tag,
    symmetric_tag,
    tridiagonal_tag,
    unit_diagonal_tag,
    upper_triangular_tag,
)
from ._rules import Rule, adjoint_by_itself, all_have, declare, maps_to_parts
from .compose import ComposedLinearOperator, factors, structures_of_product


class GramLinearOperator(AbstractLinearOperator):
    """X* D X, or X D X*, with X* the transpose or the adjoint of X; `X.T @ X` and
    `X.H @ D @ X` build it.

    Args:
        operator: X.
        middle: D; None is the identity.
        reflection: what X* is, `Reflection.TRANSPOSE` or `ADJOINT`.
        outer: whether the product is X D X*.
    """

    operator: AbstractLinearOperator
    middle: AbstractLinearOperator | None
    reflection: Reflection = eqx.field(static=True)
    outer: bool = eqx.field(static=True)

    def mv(self, vector):
        y = conform(vector, self.in_structure(), "the vector")
        y = _star(self, y) if self.outer else promoted_mv(self.operator, y)
        y = y if self.middle is None else promoted_mv(self.middle, y)
        y = promoted_mv(self.operator, y) if self.outer else _star(self, y)
        return at_least(y, self.out_structure())

    def as_matrix(self):
        return _multiplied(self).as_matrix()

    def transpose(self):
        if is_own_transpose(self):
            return self
        # (XᵀDX)ᵀ = XᵀDᵀX, and (XᴴDX)ᵀ = X̄ᴴDᵀX̄
        adjoint = self.reflection is Reflection.ADJOINT
        X = conj(self.operator) if adjoint else self.operator
        return _like(self, X, None if self.middle is None else self.middle.T)

    def in_structure(self):
        return _structures_of(self)[0]

    def out_structure(self):
        return _structures_of(self)[1]


def _like(gram: GramLinearOperator, X: Any, D: Any) -> GramLinearOperator:
    return GramLinearOperator(X, D, gram.reflection, gram.outer)


def _mapped(fn: Any, gram: GramLinearOperator) -> GramLinearOperator:
    return _like(gram, fn(gram.operator), gram.middle and fn(gram.middle))


def _star(gram: GramLinearOperator, vector: Any) -> Any:
    """X* v"""
    return reflected_product(gram.operator, gram.reflection, vector)


@cached
def _structures_of(gram: GramLinearOperator) -> tuple[Structure, Structure]:
    X = structures_of(gram.operator)
    first, last = (X[::-1], X) if gram.outer else (X, X[::-1])
    if gram.middle is not None:
        first = structures_of_product(structures_of(gram.middle), first)
    return structures_of_product(last, first)


def as_gram(plain: ComposedLinearOperator) -> GramLinearOperator | None:
    """The Gram operator of a product whose factors, from both ends inwards, are
    reflections of each other; None if they are not."""
    chain = factors(plain)
    k = len(chain) // 2
    pairs = zip(chain[:k], reversed(chain))
    found = (reflections(*pair) for pair in pairs)
    reflection = stronger(frozenset.intersection(*found))
    if reflection is None:
        return None
    middle = chain[k] if len(chain) % 2 else None
    # holds the one of X and X* that was not made by reflecting the other
    left, right = chain[:k], chain[-k:]
    outer = any(map(is_image, right)) and not any(map(is_image, left))
    X = functools.reduce(compose, left if outer else right)
    gram = GramLinearOperator(X, middle, reflection, outer)
    return gram if structures_of(gram) == structures_of(plain) else None


def reflected_layout(X: Any, reflection: Reflection, strength: int) -> str:
    """The text of X*, as an operand of a sign of this strength."""
    adjoint = reflection is Reflection.ADJOINT
    if is_own_adjoint(X) if adjoint else is_own_transpose(X):
        return within(X, strength)
    hermitian = adjoint and not is_real(*structures_of(X))
    return f"{within(X, ATOM)}.{'H' if hermitian else 'T'}"


def as_product(operator: Any) -> ComposedLinearOperator | None:
    """A product of any kind as a product of two operators; None for anything else."""
    if isinstance(operator, ComposedLinearOperator):
        return operator
    return _multiplied(operator) if isinstance(operator, GramLinearOperator) else None


def _multiplied(gram: GramLinearOperator) -> ComposedLinearOperator:
    X, D = gram.operator, gram.middle
    star = reflected(X, gram.reflection)
    left, right = (X, star) if gram.outer else (star, X)
    right = right if D is None else ComposedLinearOperator(D, right)
    return ComposedLinearOperator(left, right)


@compose.register
def _(operator1: AbstractLinearOperator, operator2: AbstractLinearOperator):
    plain = ComposedLinearOperator(operator1, operator2)
    return simplified(as_gram(plain) or plain, PRODUCTS, operator1, operator2)


# Tags, from those of X and D; without D, of the identity in its place.

_psd, _nsd = positive_semidefinite_tag, negative_semidefinite_tag
_IDENTITY = implied(frozenset((diagonal_tag, unit_diagonal_tag)), real=True)


def _parts(gram: GramLinearOperator) -> tuple[Tags, Tags]:
    middle = _IDENTITY if gram.middle is None else known(gram.middle)
    return known(gram.operator), middle


def _congruent(reflection: Reflection, tag: Tag) -> Rule:
    """X* D X with D `tag`."""
    return lambda gram, X, D: gram.reflection is reflection and tag in D


def _diagonal_and(tag: Tag) -> Rule:
    """X diagonal and D `tag`."""
    return lambda gram, X, D: diagonal_tag in X and tag in D


def _unit(gram: GramLinearOperator, X: Tags, D: Tags) -> bool:
    """A diagonal X of ones with at least as many rows as columns keeps D's diagonal."""
    k, n = _sizes(gram)
    return k >= n and {diagonal_tag, unit_diagonal_tag} <= X and unit_diagonal_tag in D


def _full_rank(gram: GramLinearOperator, X: Tags, D: Tags) -> bool:
    """X* D X is definite if X is injective and D definite; a product of square
    operators of full rank has full rank."""
    k, n = _sizes(gram)
    definite = gram.reflection is Reflection.ADJOINT and {_psd, _nsd} & D
    return nonsingular_tag in X & D and (k == n or (k > n and bool(definite)))


def _sizes(gram: GramLinearOperator) -> tuple[int, int]:
    """The sizes of the inner and of the outer space."""
    inside, outside = map(size_of, reversed(structures_of(gram.operator)))
    return (outside, inside) if gram.outer else (inside, outside)


declare(
    GramLinearOperator,
    {
        symmetric_tag: _congruent(Reflection.TRANSPOSE, symmetric_tag),
        hermitian_tag: _congruent(Reflection.ADJOINT, hermitian_tag),
        _psd: _congruent(Reflection.ADJOINT, _psd),
        _nsd: _congruent(Reflection.ADJOINT, _nsd),
        diagonal_tag: all_have(diagonal_tag),
        tridiagonal_tag: _diagonal_and(tridiagonal_tag),
        lower_triangular_tag: _diagonal_and(lower_triangular_tag),
        upper_triangular_tag: _diagonal_and(upper_triangular_tag),
        unit_diagonal_tag: _unit,
        nonsingular_tag: _full_rank,
    },
    _parts,
)


maps_to_parts(GramLinearOperator, _mapped)
adjoint_by_itself(GramLinearOperator)


@diagonal.register
def _(operator: GramLinearOperator):
    return diagonal(as_product(operator))


@tridiagonal.register
def _(operator: GramLinearOperator):
    return tridiagonal(as_product(operator))


@bandwidths.register
def _(operator: GramLinearOperator):
    X, D = operator.operator, operator.middle
    inner, middle = bandwidths(X), (0, 0) if D is None else bandwidths(D)
    if inner is None or middle is None:
        return None
    most = max(operator.in_size() - 1, 0)
    lower, upper = (min(sum(inner) + width, most) for width in middle)
    return lower, upper


@bands.register
def _(operator: GramLinearOperator):
    return bands(as_product(operator))


@unwrapped.register
def _(operator: GramLinearOperator):
    X, D = unwrapped(operator.operator), operator.middle

    def star() -> Any:
        return reflected(X, operator.reflection)

    def with_middle(factor: Any) -> Any:
        return factor if D is None else unwrapped(compose(D, factor))

    if operator.outer:
        return view(operator, PRODUCTS, lambda: X, lambda: with_middle(star()))
    return view(operator, PRODUCTS, star, lambda: with_middle(X))


@layout.register
def _(operator: GramLinearOperator):
    X = within(operator.operator, PRODUCT)
    star = reflected_layout(operator.operator, operator.reflection, PRODUCT)
    D = [] if operator.middle is None else [within(operator.middle, PRODUCT)]
    parts = [X, *D, star] if operator.outer else [star, *D, X]
    return " @ ".join(parts), PRODUCT
