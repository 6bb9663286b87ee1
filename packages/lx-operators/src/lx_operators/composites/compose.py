"""The product A @ B: first B, then A."""

import equinox as eqx
import jax.numpy as jnp

from .._checks import check_operator, check_same, check_square
from .._functions import (
    bands,
    bandwidths,
    conj,
    diagonal,
    linearise,
    materialise,
    tridiagonal,
)
from .._operator import AbstractLinearOperator
from .._parts import map_parts, once, operands, with_parts
from .._printing import PRODUCT, layout, within
from .._promotion import at_least, product, widened
from .._properties import is_diagonal, is_tridiagonal
from .._provenance import Reflection, reflections
from .._structures import Structure, common_dtype, matmul, spaces


class ComposedLinearOperator(AbstractLinearOperator):
    """The composition of two operators; `operator1 @ operator2` builds it.

    Args:
        operator1, operator2: the input structure of the first is the output structure
            of the second (dtypes promote).

    Raises:
        ValueError: not operators, or of structures that do not fit together.

    ```python
    x = lx.MatrixLinearOperator(jnp.arange(6.0).reshape(3, 2))
    lx.is_positive_semidefinite(x.T @ x)  # True
    ```
    """

    operator1: AbstractLinearOperator
    operator2: AbstractLinearOperator
    # The reflections under which the chain of factors reads the same from behind, the
    # middle factor aside: XᴴX and B S Bᴴ are their own adjoints if S is.
    mirror: frozenset[Reflection] = eqx.field(static=True)

    def __init__(
        self, operator1: AbstractLinearOperator, operator2: AbstractLinearOperator
    ):
        check_operator(operator1, "operator1")
        check_operator(operator2, "operator2")
        check_same(
            spaces(operator1)[0],
            spaces(operator2)[1],
            "in a product A @ B, the input structure of A and the output structure "
            "of B",
        )
        self.operator1 = operator1
        self.operator2 = operator2
        chain = [*factors(operator1), *factors(operator2)]
        pairs = zip(chain[: len(chain) // 2], reversed(chain))
        self.mirror = frozenset.intersection(*(reflections(*pair) for pair in pairs))

    def mv(self, vector):
        a, b = operands(self)
        return at_least(product(a, product(b, vector)), self.out_structure())

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
        a, b = operands(self)
        return with_parts(self, b.T, a.T)

    def in_structure(self):
        return _spaces(self)[0]

    def out_structure(self):
        return _spaces(self)[1]


@once
def _spaces(operator: ComposedLinearOperator) -> tuple[Structure, Structure]:
    (a_in, a_out), (b_in, b_out) = map(spaces, operands(operator))
    return widened(b_in, a_in, b_out), widened(a_out, b_out, a_in)


def factors(operator: AbstractLinearOperator) -> list[AbstractLinearOperator]:
    """The factors of a product, associativity undone."""
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


@linearise.register
def _(operator: ComposedLinearOperator):
    return map_parts(linearise, operator)


@materialise.register
def _(operator: ComposedLinearOperator):
    return map_parts(materialise, operator)


@conj.register
def _(operator: ComposedLinearOperator):
    return map_parts(conj, operator)


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
    """Σⱼ xᵢⱼyᵢⱼ of as many rows as both have."""
    n = min(x.shape[0], y.shape[0])
    return jnp.sum(_times(x[:n], y[:n]), axis=1)


@layout.register
def _(operator: ComposedLinearOperator):
    text = " @ ".join(within(part, PRODUCT) for part in operands(operator))
    return text, PRODUCT
