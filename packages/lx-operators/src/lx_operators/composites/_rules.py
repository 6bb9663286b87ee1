"""The rules of the algebra: what is known of a composite from what is known of its
parts.

The table at the end is the one to read. A rule sees the operator and the known tags of
its operands. All rules are sufficient, not necessary; what follows from a tag by itself
(`_tags.py`) needs no row.
"""

import math
from collections.abc import Callable
from typing import Any

from .._parts import once, operands
from .._properties import declared, known
from .._provenance import Reflection
from .._structures import size_of, spaces
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
    unit_diagonal_tag,
    upper_triangular_tag,
)
from .add import AddLinearOperator
from .compose import ComposedLinearOperator, factors
from .scale import (
    DivLinearOperator,
    MulLinearOperator,
    NegLinearOperator,
    is_complex,
    number,
)

Rule = Callable[..., bool]  # (operator, *known tags of its operands) -> bool


def never(op, *parts: Tags) -> bool:
    return False


def all_have(*tags: Tag) -> Rule:
    """Every operand has all of these."""
    return lambda op, *parts: all(part.issuperset(tags) for part in parts)


def any_of(*rules: Rule) -> Rule:
    return lambda op, *parts: any(rule(op, *parts) for rule in rules)


# Sums


def mirrored(reflection: Reflection) -> Rule:
    """A + Aᵀ or A + Aᴴ; in a product: a chain such as XᵀX, which reads the same from
    behind, each factor reflected."""
    return lambda op, *parts: reflection in op.mirror


def definite_sum(op, a: Tags, b: Tags) -> bool:
    """Definite + semidefinite of the same sign is definite."""
    return nonsingular_tag in a | b and any(
        sign in a & b for sign in (positive_semidefinite_tag, negative_semidefinite_tag)
    )


# Products


def diagonal_and(tag: Tag) -> Rule:
    """One factor diagonal, the other `tag`."""
    return lambda op, a, b: (
        (diagonal_tag in a and tag in b) or (tag in a and diagonal_tag in b)
    )


def congruent(reflection: Reflection, tag: Tag | None) -> Rule:
    """B S B* with S `tag` (None: only without S, as B B*)."""

    def rule(op, *parts: Tags) -> bool:
        if reflection not in op.mirror:
            return False
        _, middle = _half(op)
        if middle is None:
            return tag is None
        return tag is not None and tag in known(middle)

    return rule


def wide_enough(rule: Rule) -> Rule:
    """The space between the factors is not the smallest of the three."""

    def wide(op, *parts: Tags) -> bool:
        if not rule(op, *parts):
            return False
        m, k, n = _sizes(op)
        return k >= min(m, n)

    return wide


def full_rank_product(op, a: Tags, b: Tags) -> bool:
    """(injective)∘(injective) is injective, (surjective)∘(surjective) surjective: full
    rank, if the space between the factors is neither the smallest nor the largest."""
    if nonsingular_tag not in a & b:
        return False
    m, k, n = _sizes(op)
    return min(m, n) <= k <= max(m, n)


def _sizes(op: Any) -> tuple[int, int, int]:
    """m, k, n of a product [m, k] @ [k, n]."""
    (a_in, a_out), (b_in, _) = map(spaces, operands(op))
    return size_of(a_out), size_of(a_in), size_of(b_in)


def definite_congruence(op, *parts: Tags) -> bool:
    """B S Bᴴ is definite if S is and Bᴴ is injective; so is B Bᴴ."""
    if Reflection.ADJOINT not in op.mirror:
        return False
    half, middle = _half(op)
    if middle is not None:
        promises = known(middle)
        signs = {positive_semidefinite_tag, negative_semidefinite_tag}
        if nonsingular_tag not in promises or not promises & signs:
            return False
    if not all(nonsingular_tag in known(factor) for factor in half):
        return False
    sizes = [half[0].out_size(), *(factor.in_size() for factor in half)]
    return sizes == sorted(sizes)


def _half(op: Any) -> tuple[list[Any], Any]:
    """The first half of a mirrored chain, and the middle factor if there is one."""
    chain = factors(op)
    k = len(chain) // 2
    return chain[:k], (chain[k] if len(chain) % 2 else None)


# Scalings: the value of a scalar is known only if it is a Python number.


def _value(op) -> complex | None:
    return number(op.scalar)


def always_kept(tag: Tag) -> Rule:
    return lambda op, a: tag in a


def kept_if(condition: Callable[[complex], bool], tag: Tag) -> Rule:
    """Kept where the scalar is known and meets the condition."""

    def rule(op, a: Tags) -> bool:
        value = _value(op)
        return value is not None and condition(value) and tag in a

    return rule


def kept_if_real(tag: Tag) -> Rule:
    def rule(op, a: Tags) -> bool:
        return tag in a and not is_complex(op.scalar)

    return rule


def positive(s: complex) -> bool:
    return not isinstance(s, complex) and s > 0


def negative(s: complex) -> bool:
    return not isinstance(s, complex) and s < 0


def zero(s: complex) -> bool:
    return s == 0


def one(s: complex) -> bool:
    return s == 1


def invertible(s: complex) -> bool:
    parts = (s.real, s.imag)
    return s != 0 and all(math.isfinite(part) for part in parts)


# The table

_sym, _herm = symmetric_tag, hermitian_tag
_diag, _tri = diagonal_tag, tridiagonal_tag
_low, _up = lower_triangular_tag, upper_triangular_tag
_unit, _full = unit_diagonal_tag, nonsingular_tag
_psd, _nsd = positive_semidefinite_tag, negative_semidefinite_tag
_T, _H = Reflection.TRANSPOSE, Reflection.ADJOINT

_COLUMNS = (
    AddLinearOperator,
    ComposedLinearOperator,
    MulLinearOperator,
    DivLinearOperator,
    NegLinearOperator,
)


def _flipped(tag: Tag, opposite: Tag) -> Rule:
    """A semidefinite tag under a scaling: kept by s > 0, the opposite's by s < 0."""
    return any_of(kept_if(positive, tag), kept_if(negative, opposite))


def _annulled(tag: Tag, opposite: Tag) -> Rule:
    """Zero times a semidefinite operator is both."""
    return any_of(_flipped(tag, opposite), kept_if(zero, tag), kept_if(zero, opposite))


# fmt: off
_RULES: dict[Tag, tuple[Rule, Rule, Rule, Rule, Rule]] = {
    # tag:  A + B,  A @ B,  s * A,  A / s,  -A
    _sym: (
        any_of(all_have(_sym), mirrored(_T)),
        any_of(all_have(_diag), congruent(_T, None), congruent(_T, _sym)),
        always_kept(_sym), always_kept(_sym), always_kept(_sym),
    ),
    _herm: (
        any_of(all_have(_herm), mirrored(_H)),
        any_of(all_have(_diag, _herm), congruent(_H, None), congruent(_H, _herm)),
        kept_if_real(_herm), kept_if_real(_herm), always_kept(_herm),
    ),
    _diag: (
        all_have(_diag), all_have(_diag),
        always_kept(_diag), always_kept(_diag), always_kept(_diag),
    ),
    _low: (
        all_have(_low), all_have(_low),
        always_kept(_low), always_kept(_low), always_kept(_low),
    ),
    _up: (
        all_have(_up), all_have(_up),
        always_kept(_up), always_kept(_up), always_kept(_up),
    ),
    _tri: (
        all_have(_tri), diagonal_and(_tri),
        always_kept(_tri), always_kept(_tri), always_kept(_tri),
    ),
    _unit: (
        never, wide_enough(any_of(all_have(_unit, _low), all_have(_unit, _up))),
        kept_if(one, _unit), kept_if(one, _unit), never,
    ),
    _psd: (
        all_have(_psd), any_of(congruent(_H, None), congruent(_H, _psd)),
        _annulled(_psd, _nsd), _flipped(_psd, _nsd), always_kept(_nsd),
    ),
    _nsd: (
        all_have(_nsd), congruent(_H, _nsd),
        _annulled(_nsd, _psd), _flipped(_nsd, _psd), always_kept(_psd),
    ),
    _full: (
        definite_sum, any_of(full_rank_product, definite_congruence),
        kept_if(invertible, _full), kept_if(invertible, _full), always_kept(_full),
    ),
}
# fmt: on


def _by_column(column: int) -> Callable[[Any], Tags]:
    @once
    def declare(operator: Any) -> Tags:
        parts = tuple(known(part) for part in operands(operator))
        return frozenset(
            tag for tag, rules in _RULES.items() if rules[column](operator, *parts)
        )

    return declare


for _column, _type in enumerate(_COLUMNS):
    declared.register(_type, _by_column(_column))
