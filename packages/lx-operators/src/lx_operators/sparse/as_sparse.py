"""Operators that can be written as one sparse matrix.

Patterns of sums and products are made on the host, so the rules hold where indices are
known; with traced patterns (under `jit`, of operators that are its arguments) a sum or
product is sparse only if its pattern is that of an operand.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from .._composite import operands
from .._functions import diagonal, sparse_form
from .._operator import AbstractLinearOperator
from .._properties import known
from .._simplify import unwrapped
from .._structures import common_dtype, size_of, structures_of
from ..composites.add import AddLinearOperator
from ..composites.block import BlockLinearOperator
from ..composites.block_diagonal import BlockDiagonalLinearOperator
from ..composites.compose import ComposedLinearOperator
from ..composites.gram import GramLinearOperator, as_product
from ..composites.kronecker import KroneckerLinearOperator
from ..composites.kronecker_sum import KroneckerSumLinearOperator
from ..composites.low_rank_update import LowRankUpdateLinearOperator, right_of
from ..composites.mirrored import MirroredLinearOperator, as_sum
from ..composites.scale import (
    DivLinearOperator,
    MulLinearOperator,
    NegLinearOperator,
    Scale,
)
from ..composites.tagged import TaggedLinearOperator
from ..leaves.banded import BandedLinearOperator
from ..leaves.diagonal import DiagonalLinearOperator
from ..leaves.identity import IdentityLinearOperator
from ..leaves.permutation import PermutationLinearOperator
from ..leaves.tridiagonal import TridiagonalLinearOperator
from ..leaves.zero import ZeroLinearOperator
from . import _plans
from .blocks import (
    BlockSparseLinearOperator,
    LaidOutBlocksLinearOperator,
    by_numbers,
    is_traced,
)
from .diagonals import SparseDiagonalsLinearOperator, line_of
from .entries import SparseLinearOperator
from .laid_out import LaidOutLinearOperator, entries_of
from .pattern import SparsityPattern


@functools.singledispatch
def as_sparse(operator: Any) -> SparseLinearOperator | None:
    """The operator as a sparse one; None if its entries are not known, or fill the
    matrix."""
    return None


@as_sparse.register
def _(operator: SparseLinearOperator):
    return operator


@as_sparse.register
def _(operator: LaidOutLinearOperator):
    return entries_of(operator)


@as_sparse.register(BlockSparseLinearOperator)
@as_sparse.register(LaidOutBlocksLinearOperator)
def _(operator: Any):
    return None if is_traced(operator) else by_numbers(operator)


def sparse_like(operator: Any, values: Array, pattern: SparsityPattern) -> Any:
    """A sparse operator with the structures and the known tags of another."""
    ins, outs = structures_of(operator)
    out = SparseLinearOperator(
        values,
        pattern.without_assembly(),
        known(operator),
        input_structure=ins,
        output_structure=outs,
    )
    return out if structures_of(out) == (ins, outs) else None


@functools.lru_cache(32)
def _diagonals(offsets: tuple[int, ...], shape: tuple[int, int]) -> SparsityPattern:
    """The pattern of whole diagonals, which assembles one after another."""
    m, n = shape
    columns = [np.arange(max(d, 0), max(min(n, m + d), 0)) for d in offsets]
    rows = [column - d for column, d in zip(columns, offsets)]
    with jax.ensure_compile_time_eval():
        empty = [np.arange(0)]
        return SparsityPattern(
            np.concatenate(rows + empty), np.concatenate(columns + empty), shape
        )


@as_sparse.register
def _(operator: DiagonalLinearOperator):
    values = diagonal(operator)
    return sparse_like(operator, values, _diagonals((0,), (values.size, values.size)))


@as_sparse.register
def _(operator: IdentityLinearOperator):
    shape = operator.out_size(), operator.in_size()
    ones = jnp.ones(min(shape), common_dtype(structures_of(operator)))
    return sparse_like(operator, ones, _diagonals((0,), shape))


@as_sparse.register
def _(operator: ZeroLinearOperator):
    shape = operator.out_size(), operator.in_size()
    nothing = jnp.zeros(0, common_dtype(structures_of(operator)))
    return sparse_like(operator, nothing, _diagonals((), shape))


@as_sparse.register
def _(operator: TridiagonalLinearOperator):
    main, lower, upper = (
        operator.diagonal, operator.lower_diagonal, operator.upper_diagonal
    )  # fmt: skip
    pattern = _diagonals((-1, 0, 1), (main.size, main.size))
    values = pattern.assemble(jnp.concatenate([lower, main, upper]))
    return sparse_like(operator, values, pattern)


@as_sparse.register
def _(operator: BandedLinearOperator):
    shape = operator.rows, operator.in_size()
    offsets = tuple(range(-operator.lower, operator.upper + 1))
    offsets = tuple(d for d in offsets if -shape[0] < d < shape[1])
    pattern = _diagonals(offsets, shape)
    lines = []
    for d in offsets:
        first, end = max(d, 0), max(min(shape[1], shape[0] + d), 0)
        lines.append(operator.bands[operator.upper - d, first:end])
    values = pattern.assemble(jnp.concatenate([*lines, operator.bands[0, :0]]))
    return sparse_like(operator, values, pattern)


@as_sparse.register
def _(operator: SparseDiagonalsLinearOperator):
    shape = operator.rows, operator.in_size()
    offsets = tuple(d for d in operator.offsets if -shape[0] < d < shape[1])
    pattern = _diagonals(offsets, shape)
    nothing = operator.diagonals.reshape(-1)[:0]
    lines = [line_of(operator, d) for d in offsets]
    return sparse_like(
        operator, pattern.assemble(jnp.concatenate([*lines, nothing])), pattern
    )


@as_sparse.register
def _(operator: PermutationLinearOperator):
    if isinstance(operator.permutation, jax.core.Tracer):
        return None
    columns, n = np.asarray(operator.permutation), operator.permutation.size
    with jax.ensure_compile_time_eval():
        pattern = SparsityPattern(np.arange(n), columns, (n, n))
    ones = jnp.ones(n, common_dtype(operator.in_structure()))
    return sparse_like(operator, ones, pattern)


@as_sparse.register
def _(operator: TaggedLinearOperator):
    inner = as_sparse(operator.operator)
    return inner and sparse_like(operator, inner.values, inner.pattern)


@as_sparse.register(MulLinearOperator)
@as_sparse.register(DivLinearOperator)
@as_sparse.register(NegLinearOperator)
def _(operator: Any):
    inner = as_sparse(operator.operator)
    if inner is None:
        return None
    return sparse_like(operator, Scale(operator).array(inner.values), inner.pattern)


@as_sparse.register(AddLinearOperator)
@as_sparse.register(MirroredLinearOperator)
def _(operator: Any):
    plain = as_sum(operator)
    assert plain is not None
    a, b = map(as_sparse, operands(plain))
    found = a and b and sum_of(a, b)
    return found and sparse_like(operator, *found)


@as_sparse.register(ComposedLinearOperator)
@as_sparse.register(GramLinearOperator)
def _(operator: Any):
    plain = as_product(operator)
    assert plain is not None
    a, b = map(as_sparse, operands(plain))
    found = a and b and product_of(a, b, unasked=False)
    return found and sparse_like(operator, *found)


@as_sparse.register
def _(operator: LowRankUpdateLinearOperator):
    update = ComposedLinearOperator(
        operator.U
        if operator.C is None
        else ComposedLinearOperator(operator.U, operator.C),
        right_of(operator).H,
    )
    a, b = as_sparse(operator.operator), as_sparse(update)
    found = a and b and sum_of(a, b)
    return found and sparse_like(operator, *found)


def _all_sparse(parts: Sequence[Any]) -> list[SparseLinearOperator] | None:
    found = [as_sparse(part) for part in parts]
    whole = all(x is not None and _plans.known(x.pattern) for x in found)
    return found if whole else None  # pyright: ignore


@as_sparse.register
def _(operator: KroneckerLinearOperator):
    parts = _all_sparse(operator.operators)
    if parts is None:
        return None
    return sparse_like(operator, *functools.reduce(_kronecker, map(_pair, parts)))


@as_sparse.register
def _(operator: KroneckerSumLinearOperator):
    parts = _all_sparse(operator.operators)
    if parts is None:
        return None
    sizes = [part.pattern.shape[0] for part in parts]
    dtype, terms = common_dtype([part.values for part in parts]), []
    for k, part in enumerate(parts):
        before, after = math.prod(sizes[:k]), math.prod(sizes[k + 1 :])
        left, right = (
            (jnp.ones(n, dtype), _diagonals((0,), (n, n))) for n in (before, after)
        )
        terms.append(_kronecker(_kronecker(left, _pair(part)), right))
    return sparse_like(operator, *_assembled(terms, terms[0][1].shape))


@as_sparse.register
def _(operator: BlockDiagonalLinearOperator):
    blocks = jtu.tree_leaves(
        operator.blocks, is_leaf=lambda x: isinstance(x, AbstractLinearOperator)
    )
    grid = [[b if i == j else None for j in range(len(blocks))]
            for i, b in enumerate(blocks)]  # fmt: skip
    return _of_grid(operator, grid, blocks, blocks)


@as_sparse.register
def _(operator: BlockLinearOperator):
    grid = operator.blocks
    firsts = [next(b for b in row if b is not None) for row in grid]
    tops = [next(b for b in column if b is not None) for column in zip(*grid)]
    return _of_grid(operator, grid, firsts, tops)


def _of_grid(operator: Any, grid: Any, of_rows: Any, of_columns: Any) -> Any:
    """A grid of operators; these operators give the sizes of its rows and columns."""
    heights = [size_of(structures_of(b)[1]) for b in of_rows]
    widths = [size_of(structures_of(b)[0]) for b in of_columns]
    terms, tops, lefts = [], np.cumsum([0, *heights]), np.cumsum([0, *widths])
    shape = int(tops[-1]), int(lefts[-1])
    for row, top in zip(grid, tops):
        for block, left in zip(row, lefts):
            if block is None:
                continue
            part = as_sparse(block)
            if part is None or not _plans.known(part.pattern):
                return None
            rows = np.asarray(part.pattern.rows) + top
            columns = np.asarray(part.pattern.columns) + left
            terms.append((part.values, rows, columns))
    return sparse_like(operator, *_assembled(terms, shape))


def _pair(operator: SparseLinearOperator) -> tuple[Array, SparsityPattern]:
    return operator.values, operator.pattern


def _coordinates(term: tuple) -> tuple[Array, np.ndarray, np.ndarray]:
    if len(term) == 3:
        return term
    values, pattern = term
    return values, np.asarray(pattern.rows), np.asarray(pattern.columns)


def _assembled(
    terms: Sequence[tuple], shape: tuple[int, int]
) -> tuple[Array, SparsityPattern]:
    """The sum of matrices that are given by their entries."""
    values, rows, columns = zip(*map(_coordinates, terms))
    with jax.ensure_compile_time_eval():
        pattern = SparsityPattern(np.concatenate(rows), np.concatenate(columns), shape)
    dtype = common_dtype(values)
    joined = jnp.concatenate([v.astype(dtype) for v in values])
    return pattern.assemble(joined), pattern.without_assembly()


def _kronecker(a: tuple, b: tuple) -> tuple[Array, SparsityPattern]:
    (x, p), (y, q) = a, b
    dtype = common_dtype([x, y])
    values = jnp.outer(x.astype(dtype), y.astype(dtype)).reshape(-1)
    rows = np.add.outer(np.asarray(p.rows, np.int64) * q.shape[0], np.asarray(q.rows))
    columns = np.asarray(p.columns, np.int64) * q.shape[1]
    columns = np.add.outer(columns, np.asarray(q.columns))
    shape = p.shape[0] * q.shape[0], p.shape[1] * q.shape[1]
    return _assembled([(values, rows.reshape(-1), columns.reshape(-1))], shape)


@sparse_form.register
def _(operator: AbstractLinearOperator):
    """Only for operators made of sparse ones: others have better forms."""
    kinds = (
        SparseLinearOperator,
        LaidOutLinearOperator,
        BlockSparseLinearOperator,
        LaidOutBlocksLinearOperator,
        SparseDiagonalsLinearOperator,
    )
    if isinstance(operator, kinds):
        return as_sparse(operator)
    parts = jtu.tree_leaves(operator, is_leaf=lambda x: isinstance(x, kinds))
    if not any(isinstance(part, kinds) for part in parts):
        return None
    return as_sparse(operator)


def multiplied_out(operator: Any) -> SparseLinearOperator | None:
    """A sum or product of sparse operators, or a matrix of blocks, as the one sparse
    matrix that `unwrapped` makes of it, with the structures and the known tags of the
    operator; None for others, and where the indices are traced."""
    if isinstance(operator, SparseLinearOperator):
        return None
    found = unwrapped(operator)
    if not isinstance(found, SparseLinearOperator) or not _plans.known(found.pattern):
        return None
    dtype = common_dtype(structures_of(operator))
    values = found.values.astype(common_dtype([found.values, jnp.zeros(0, dtype)]))
    return sparse_like(operator, values, found.pattern)


def sum_of(a: SparseLinearOperator, b: SparseLinearOperator) -> Any:
    dtype = common_dtype([a.values, b.values])
    x, y = a.values.astype(dtype), b.values.astype(dtype)
    if _plans.same_arrays(a.pattern, b.pattern):
        return x + y, a.pattern
    if not _plans.known(a.pattern, b.pattern):
        return None
    pattern = _plans.union(a.pattern, b.pattern)
    return pattern.assemble(jnp.concatenate([x, y])), pattern


def product_of(a: SparseLinearOperator, b: SparseLinearOperator, unasked: bool) -> Any:
    dtype = common_dtype([a.values, b.values])
    x, y, p, q = a.values.astype(dtype), b.values.astype(dtype), a.pattern, b.pattern
    if not _plans.known(p, q) or (unasked and not _plans.is_cheap(p, q)):
        return None
    plan = _plans.multiplied(p, q)
    return plan.values(x, y), plan.pattern
