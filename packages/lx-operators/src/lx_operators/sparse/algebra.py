"""Sums, products and scalings that simplify to a sparse operator.

A product is held as its factors, so that `X.T @ D @ X` is recognised however it is put
together, and a product with a vector costs that of the factors. `unwrapped` and
`materialise` give the one sparse matrix that it is.
"""

from typing import Any

from .._composite import with_parts
from .._functions import diagonal
from .._operator import AbstractLinearOperator
from .._properties import known
from .._simplify import (
    PRODUCTS,
    SCALINGS,
    SUMS,
    Rewrite,
    Scaling,
    multiple_of_identity,
)
from .._structures import common_dtype
from ..composites.add import AddLinearOperator
from ..composites.compose import ComposedLinearOperator
from ..leaves.banded import BandedLinearOperator
from ..leaves.diagonal import DiagonalLinearOperator
from ..leaves.permutation import PermutationLinearOperator
from ..leaves.tridiagonal import TridiagonalLinearOperator
from . import _plans
from .as_sparse import as_sparse, product_of, sparse_like, sum_of
from .diagonals import SparseDiagonalsLinearOperator
from .entries import SparseLinearOperator, rebuilt

_Sparse = SparseLinearOperator
_Leaf = (
    DiagonalLinearOperator
    | TridiagonalLinearOperator
    | BandedLinearOperator
    | PermutationLinearOperator
    | SparseDiagonalsLinearOperator
)


def _sum(a: Any, b: Any) -> SparseLinearOperator | None:
    a_sparse, b_sparse = _simple(a), _simple(b)
    found = a_sparse and b_sparse and sum_of(a_sparse, b_sparse)
    return found and sparse_like(AddLinearOperator(a, b), *found)


def _product(a: Any, b: Any) -> SparseLinearOperator | None:
    a_sparse, b_sparse = _simple(a), _simple(b)
    found = a_sparse and b_sparse and product_of(a_sparse, b_sparse, unasked=True)
    return found and sparse_like(ComposedLinearOperator(a, b), *found)


def _simple(operator: Any) -> SparseLinearOperator | None:
    """A leaf as a sparse operator; also a multiple of the identity."""
    if isinstance(operator, SparseLinearOperator | _Leaf):
        return as_sparse(operator)
    return as_sparse(operator) if multiple_of_identity(operator) else None


def _rows_scaled(d: Any, a: SparseLinearOperator) -> SparseLinearOperator | None:
    factors = diagonal(d)
    dtype = common_dtype([factors, a.values])
    factors = _plans.read_by_rows(factors.astype(dtype), a.pattern)
    values = factors * a.values.astype(dtype)
    return sparse_like(ComposedLinearOperator(d, a), values, a.pattern)


def _columns_scaled(a: SparseLinearOperator, d: Any) -> SparseLinearOperator | None:
    factors = diagonal(d)
    dtype = common_dtype([factors, a.values])
    factors = _plans.read_by_columns(factors.astype(dtype), a.pattern)
    values = a.values.astype(dtype) * factors
    return sparse_like(ComposedLinearOperator(a, d), values, a.pattern)


def _scaled(a: SparseLinearOperator, s: Any) -> SparseLinearOperator:
    plain = with_parts(s.plain, a)
    return rebuilt(a, values=s.array(a.values), tags=known(plain))


def _with_multiple(fn: Any) -> Any:
    """For a multiple of the identity alone."""

    def result(a: Any, b: Any) -> Any:
        one_is = multiple_of_identity(a) or multiple_of_identity(b)
        return fn(a, b) if one_is else None

    return result


_ANY, _Diagonal = AbstractLinearOperator, DiagonalLinearOperator
_NARROW = (
    TridiagonalLinearOperator,
    BandedLinearOperator,
    PermutationLinearOperator,
    SparseDiagonalsLinearOperator,
)
for _kind in (_Sparse, *_NARROW, DiagonalLinearOperator):
    SUMS.append(Rewrite("(A + B)ᵢⱼ = aᵢⱼ + bᵢⱼ", _Sparse, _kind, _sum))
    SUMS.append(Rewrite("(B + A)ᵢⱼ = bᵢⱼ + aᵢⱼ", _kind, _Sparse, _sum))
SUMS.append(Rewrite("A + sI", _Sparse, _ANY, _with_multiple(_sum)))
SUMS.append(Rewrite("sI + A", _ANY, _Sparse, _with_multiple(_sum)))
for _kind in (_Sparse, *_NARROW):
    PRODUCTS.append(Rewrite("(AB)ᵢⱼ = Σₖ aᵢₖbₖⱼ", _Sparse, _kind, _product, False))
    PRODUCTS.append(Rewrite("(BA)ᵢⱼ = Σₖ bᵢₖaₖⱼ", _kind, _Sparse, _product, False))
PRODUCTS.extend(
    (
        Rewrite("(DA)ᵢⱼ = dᵢaᵢⱼ", _Diagonal, _Sparse, _rows_scaled, False),
        Rewrite("(AD)ᵢⱼ = aᵢⱼdⱼ", _Sparse, _Diagonal, _columns_scaled, False),
    )
)
_Diagonals = SparseDiagonalsLinearOperator
SUMS.append(Rewrite("(A + B)ᵢⱼ = aᵢⱼ + bᵢⱼ", _Diagonals, _Diagonals, _sum))
PRODUCTS.append(Rewrite("(AB)ᵢⱼ = Σₖ aᵢₖbₖⱼ", _Diagonals, _Diagonals, _product, False))
SCALINGS.append(Scaling("(sA)ᵢⱼ = s aᵢⱼ", _Sparse, _scaled))
