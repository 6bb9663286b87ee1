"""The product A @ B: first B, then A."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from .._bands import resized, shifted_rows, widths_of
from .._checks import check_operator, check_same, check_square
from .._composite import cached, operands, with_parts
from .._functions import (
    bands,
    bandwidths,
    diagonal,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._printing import PRODUCT, layout, within
from .._promotion import at_least, promoted_mv, widened
from .._properties import is_diagonal, is_tridiagonal
from .._simplify import PRODUCTS, unwrapped, view
from .._structures import Structure, common_dtype, matmul, size_of, structures_of
from .._tags import (
    Tag,
    Tags,
    diagonal_tag,
    hermitian_tag,
    lower_triangular_tag,
    nonsingular_tag,
    symmetric_tag,
    tridiagonal_tag,
    unit_diagonal_tag,
    upper_triangular_tag,
)
from ._rules import Rule, adjoint_by_parts, all_have, any_of, declare, maps_to_parts


class ComposedLinearOperator(AbstractLinearOperator):
    """The composition of two operators; `operator1 @ operator2` builds it.

    Args:
        operator1, operator2: operators; the input structure of the first is the output
            structure of the second (dtypes promote).

    Raises:
        ValueError: if they are not operators, or their structures do not fit together.

    ```python
    x = lx.MatrixLinearOperator(jnp.arange(6.0).reshape(3, 2))
    lx.is_positive_semidefinite(x.T @ x)  # True
    ```
    """

    operator1: AbstractLinearOperator
    operator2: AbstractLinearOperator

    def __init__(
        self, operator1: AbstractLinearOperator, operator2: AbstractLinearOperator
    ):
        check_operator(operator1, "operator1")
        check_operator(operator2, "operator2")
        check_same(
            structures_of(operator1)[0],
            structures_of(operator2)[1],
            "in a product A @ B, the input structure of A and the output structure "
            "of B",
        )
        self.operator1 = operator1
        self.operator2 = operator2

    def mv(self, vector):
        a, b = operands(self)
        return at_least(promoted_mv(a, promoted_mv(b, vector)), self.out_structure())

    def as_matrix(self):
        a, b = operands(self)
        if is_diagonal(a):
            return _times(diagonal(a)[:, None], b.as_matrix())
        if is_diagonal(b):
            return _times(a.as_matrix(), diagonal(b)[None, :])
        if _is_banded(a):
            return _banded_times(tridiagonal(a), b.as_matrix())
        if _is_banded(b):
            main, lower, upper = tridiagonal(b)
            return _banded_times((main, upper, lower), a.as_matrix().T).T
        return _matmul(a.as_matrix(), b.as_matrix())

    def transpose(self):
        return _reflected(lambda part: part.T, self)

    def in_structure(self):
        return _structures_of(self)[0]

    def out_structure(self):
        return _structures_of(self)[1]


def _reflected(
    fn: Callable[[Any], Any], operator: ComposedLinearOperator
) -> ComposedLinearOperator:
    a, b = operands(operator)
    return with_parts(operator, fn(b), fn(a))


@cached
def _structures_of(operator: ComposedLinearOperator) -> tuple[Structure, Structure]:
    return structures_of_product(*map(structures_of, operands(operator)))


def structures_of_product(
    a: tuple[Structure, Structure], b: tuple[Structure, Structure]
) -> tuple[Structure, Structure]:
    """Input and output structure of A B, from those of A and of B."""
    (a_in, a_out), (b_in, b_out) = a, b
    return widened(b_in, a_in, b_out), widened(a_out, b_out, a_in)


def factors(operator: AbstractLinearOperator) -> list[AbstractLinearOperator]:
    """The factors of a product of any number of operators."""
    if not isinstance(operator, ComposedLinearOperator):
        return [operator]
    return [*factors(operator.operator1), *factors(operator.operator2)]


def _is_banded(operator: AbstractLinearOperator) -> bool:
    return is_tridiagonal(operator) and operator.in_size() == operator.out_size()


def _times(x, y):
    dtype = common_dtype([x, y])
    return x.astype(dtype) * y.astype(dtype)


def _matmul(x, y):
    dtype = common_dtype([x, y])
    return matmul(x.astype(dtype), y.astype(dtype))


def _banded_times(bands, matrix):
    main, lower, upper = (band[:, None] for band in bands)
    below = jnp.pad(_times(lower, matrix[:-1]), ((1, 0), (0, 0)))
    above = jnp.pad(_times(upper, matrix[1:]), ((0, 1), (0, 0)))
    return _times(main, matrix) + below + above if matrix.shape[0] else matrix


maps_to_parts(ComposedLinearOperator)
adjoint_by_parts(ComposedLinearOperator, _reflected)


@diagonal.register
def _(operator: ComposedLinearOperator):
    a, b = operands(operator)
    if is_diagonal(a) or is_diagonal(b):
        da, db = diagonal(a), diagonal(b)
        n = min(da.size, db.size)
        return _times(da[:n], db[:n])
    square = a.in_size() == a.out_size() == b.in_size()
    if square and a.in_size() and (is_tridiagonal(a) or is_tridiagonal(b)):
        # (AB)ᵢᵢ = Aᵢ,ᵢ₋₁Bᵢ₋₁,ᵢ + AᵢᵢBᵢᵢ + Aᵢ,ᵢ₊₁Bᵢ₊₁,ᵢ
        (am, al, au), (bm, bl, bu) = tridiagonal(a), tridiagonal(b)
        below, above = jnp.pad(_times(al, bu), (1, 0)), jnp.pad(_times(au, bl), (0, 1))
        return _times(am, bm) + below + above
    widths = bandwidths(operator)
    if widths is not None:
        return bands(operator)[widths[1]]
    # (AB)ᵢᵢ = Σⱼ AᵢⱼBⱼᵢ: the product itself is not formed.
    return _row_sums(a.as_matrix(), b.as_matrix().T)


@tridiagonal.register
def _(operator: ComposedLinearOperator):
    check_square(operator)
    a, b = operands(operator)
    if is_diagonal(a):
        (main, lower, upper), d = tridiagonal(b), diagonal(a)
        return _times(d, main), _times(d[1:], lower), _times(d[:-1], upper)
    if is_diagonal(b):
        (main, lower, upper), d = tridiagonal(a), diagonal(b)
        return _times(main, d), _times(lower, d[:-1]), _times(upper, d[1:])
    if _is_banded(a) and _is_banded(b):
        # (AB)ᵢ,ᵢ₊₁ = AᵢᵢBᵢ,ᵢ₊₁ + Aᵢ,ᵢ₊₁Bᵢ₊₁,ᵢ₊₁, and likewise below.
        (am, al, au), (bm, bl, bu) = tridiagonal(a), tridiagonal(b)
        lower = _times(al, bm[:-1]) + _times(am[1:], bl)
        upper = _times(am[:-1], bu) + _times(au, bm[1:])
        return diagonal(operator), lower, upper
    # (AB)ᵢₖ = Σⱼ AᵢⱼBⱼₖ for |i - k| ≤ 1 only.
    a, bt = a.as_matrix(), b.as_matrix().T
    pairs = ((a, bt), (a[1:], bt[:-1]), (a[:-1], bt[1:]))
    main, lower, upper = (_row_sums(*pair) for pair in pairs)
    return main, lower, upper


def _row_sums(x, y):
    """Σⱼ xᵢⱼyᵢⱼ for the rows that both have."""
    n = min(x.shape[0], y.shape[0])
    return jnp.sum(_times(x[:n], y[:n]), axis=1)


# What is known


def diagonal_and(tag: Tag) -> Rule:
    """One factor is diagonal, the other has `tag`."""
    return lambda op, a, b: (
        (diagonal_tag in a and tag in b) or (tag in a and diagonal_tag in b)
    )


def wide_enough(rule: Rule) -> Rule:
    """The space between the factors is not the smallest of the three."""

    def wide(op, *parts: Tags) -> bool:
        m, k, n = _sizes(op)
        return k >= min(m, n) and rule(op, *parts)

    return wide


def full_rank(op, a: Tags, b: Tags) -> bool:
    """A product of injective operators is injective, a product of surjective ones
    surjective: it has full rank if the space between the factors is neither the
    smallest nor the largest."""
    m, k, n = _sizes(op)
    return nonsingular_tag in a & b and min(m, n) <= k <= max(m, n)


def _sizes(op: ComposedLinearOperator) -> tuple[int, int, int]:
    """m, k, n of a product [m, k] @ [k, n]."""
    (a_in, a_out), (b_in, _) = map(structures_of, operands(op))
    return size_of(a_out), size_of(a_in), size_of(b_in)


_unit, _low, _up = unit_diagonal_tag, lower_triangular_tag, upper_triangular_tag
declare(
    ComposedLinearOperator,
    {
        symmetric_tag: all_have(diagonal_tag),
        hermitian_tag: all_have(diagonal_tag, hermitian_tag),
        diagonal_tag: all_have(diagonal_tag),
        tridiagonal_tag: diagonal_and(tridiagonal_tag),
        _low: all_have(_low),
        _up: all_have(_up),
        _unit: wide_enough(any_of(all_have(_unit, _low), all_have(_unit, _up))),
        nonsingular_tag: full_rank,
    },
)


@unwrapped.register
def _(operator: ComposedLinearOperator):
    a, b = operands(operator)
    return view(operator, PRODUCTS, lambda: unwrapped(a), lambda: unwrapped(b))


# The bandwidths of a product are the sums of its factors' bandwidths: (AB)ᵢⱼ = Σₖ
# AᵢₖBₖⱼ, with i - j = (i - k) + (k - j). No matrix `[n, n]` is formed.


@bandwidths.register
def _(operator: ComposedLinearOperator):
    first, second = map(bandwidths, operands(operator))
    if first is None or second is None:
        return None
    lower, upper = first[0] + second[0], first[1] + second[1]
    return min(lower, max(operator.out_size() - 1, 0)), min(
        upper, max(operator.in_size() - 1, 0)
    )


@bands.register
def _(operator: ComposedLinearOperator):
    (l1, u1), (l2, u2) = map(widths_of, operands(operator))
    a, b = map(bands, operands(operator))
    dtype = common_dtype([a, b])
    a, b, n = a.astype(dtype), b.astype(dtype), operator.in_size()
    # (AB)[r + s, j] = Σ A[r, j + s - u2] B[s, j], both in the storage of `bands`
    a = jnp.pad(a, ((0, 0), (u2, max(n + l2 - a.shape[1], 0))))
    terms = jnp.stack([a[:, s : s + n] * b[s][None, :] for s in range(len(b))])
    full = jnp.sum(shifted_rows(terms), axis=0)
    return resized(full, (l1 + l2, u1 + u2), widths_of(operator))


@layout.register
def _(operator: ComposedLinearOperator):
    text = " @ ".join(within(part, PRODUCT) for part in operands(operator))
    return text, PRODUCT
