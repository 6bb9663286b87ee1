"""The multicolour order of unknowns.

No two unknowns of one colour are coupled. With the unknowns sorted by colour, the part
of A within a colour is diagonal, so that substitution goes by colours, not by rows: a
few steps, each a sparse product of many rows at once (Saad 2003, section 12.4,
doi:10.1137/1.9780898718003). Triangular factors in this order: `_multicolour.py`.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from lx_operators import SparseLinearOperator, SparsityPattern

from ._sparse import check_pattern, is_concrete

_MOST_PADDING = 3


def colours(pattern: SparsityPattern) -> np.ndarray:
    """A colour for each unknown, which differs from those of all unknowns that it is
    coupled to: the smallest free one, in the given order (Saad 2003, section 3.3.3)."""
    import scipy.sparse

    rows, columns = np.asarray(pattern.rows), np.asarray(pattern.columns)
    apart = rows != columns
    rows, columns = rows[apart], columns[apart]
    n = pattern.shape[0]
    graph = scipy.sparse.csr_array(
        (np.ones(2 * rows.size, np.int8), (np.r_[rows, columns], np.r_[columns, rows])),
        shape=(n, n),
    )
    starts: Any = graph.indptr.tolist()
    neighbours: Any = graph.indices.tolist()
    found = [-1] * n
    for i in range(n):
        taken = {found[j] for j in neighbours[starts[i] : starts[i + 1]]}
        colour = 0
        while colour in taken:
            colour += 1
        found[i] = colour
    return np.array(found, np.int64)


class Rows(eqx.Module):
    """Some rows of a triangle: where their entries are, padded, as `[k, m]`; or one
    after the other, if rows differ much in length."""

    columns: Int[Array, "..."]
    entries: Int[Array, "..."]
    rows: Int[Array, " k"] | None
    count: int = eqx.field(static=True)


class Elimination(eqx.Module):
    """What eliminating one colour's unknowns changes: the product of entries (i, k) and
    (k, j) is subtracted from entry (i, j); or, if there is none, from (i, i)."""

    left: Int[Array, " m"]
    pivots: Int[Array, " m"]
    first: Int[Array, " t"]
    second: Int[Array, " t"]
    target: Int[Array, " t"]
    dropped: Int[Array, "3 d"]


class Order(eqx.Module):
    """The multicolour order of a pattern, and where its entries are in it."""

    pattern: SparsityPattern
    order: Int[Array, " n"]
    place: Int[Array, " n"]
    source: Int[Array, " e"]
    """For each entry in the new order, including the whole diagonal, which value of A
    it has; one past the last if it has none."""
    row: Int[Array, " e"]
    column: Int[Array, " e"]
    diagonal: Int[Array, " n"]
    lower: tuple[Rows, ...]
    upper: tuple[Rows, ...]
    lower_transposed: tuple[Rows, ...]
    upper_transposed: tuple[Rows, ...]
    elimination: tuple[Elimination, ...] | None
    starts: tuple[int, ...] = eqx.field(static=True)

    def entries(self, values: Array) -> Array:
        """The entries in the new order, of the values of A."""
        return padded(values)[self.source]


def ordered(operator: Any, name: str, *, eliminating: bool = False) -> Order:
    """The order of an operator, whose pattern must be concrete.

    Args:
        operator: A, or any object with its `pattern`.
        name: of the preconditioner, for the error.
        eliminating: whether factors will be made, not only substitutions.

    Raises:
        ValueError: the pattern is traced.
    """
    pattern = operator.pattern.without_assembly()
    if not is_concrete(pattern):
        raise ValueError(
            f"`{name}` orders unknowns by a concrete pattern, outside of `jit`: make "
            f"it there, `preconditioner = {name}(...).setup(operator)`, and pass that."
        )
    with jax.ensure_compile_time_eval():
        return _ordered(pattern, eliminating)


def for_operator(
    order: Order | None, operator: SparseLinearOperator, name: str, **more: Any
) -> Order:
    """The order that was made before, checked; or a new one."""
    if order is None:
        return ordered(operator, name, **more)
    check_pattern(order.pattern, operator.pattern, name)
    return order


def _ordered(pattern: SparsityPattern, eliminating: bool) -> Order:
    n, _ = pattern.shape
    colour = colours(pattern)
    order = np.argsort(colour, kind="stable")
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    starts = np.r_[0, np.cumsum(np.bincount(colour, minlength=1))] if n else [0]

    row, column = (place[np.asarray(x)] for x in (pattern.rows, pattern.columns))
    missing = np.setdiff1d(np.arange(n), row[row == column])
    source = np.r_[np.arange(pattern.size), np.full(missing.size, pattern.size)]
    row, column = np.r_[row, missing], np.r_[column, missing]
    by = np.lexsort((column, row))
    row, column, source = row[by], column[by], source[by]
    diagonal = np.flatnonzero(row == column)

    def triangle(rows: np.ndarray, columns: np.ndarray, keep: np.ndarray) -> tuple:
        at = np.flatnonzero(keep)
        at = at[np.argsort(rows[at], kind="stable")]
        bounds = np.searchsorted(rows[at], starts)
        return tuple(
            _rows(rows[at[a:b]] - low, columns[at[a:b]], at[a:b], high - low, row.size)
            for a, b, low, high in zip(bounds, bounds[1:], starts, starts[1:])
        )

    below, above = column < row, column > row
    elimination = None
    if eliminating:
        elimination = _eliminations(row, column, diagonal, np.asarray(starts), n)
    return Order(
        pattern=pattern,
        order=_index(order),
        place=_index(place),
        source=_index(source),
        row=_index(row),
        column=_index(column),
        diagonal=_index(diagonal),
        lower=triangle(row, column, below),
        upper=triangle(row, column, above),
        lower_transposed=triangle(column, row, above),
        upper_transposed=triangle(column, row, below),
        elimination=elimination,
        starts=tuple(int(start) for start in starts),
    )


def padded(values: Array) -> Array:
    """The values and one zero, which stands for entries that do not exist."""
    return jnp.concatenate([values, jnp.zeros(1, values.dtype)])


def _index(x: Any) -> Array:
    return jnp.asarray(np.asarray(x).astype(np.int32))


def _rows(
    rows: np.ndarray, columns: np.ndarray, entries: np.ndarray, count: int, none: int
) -> Rows:
    """Rows of sorted entries; `none` is the entry that is zero."""
    count = int(count)
    lengths = np.bincount(rows, minlength=count)
    k = int(lengths.max(initial=0))
    if k * count > _MOST_PADDING * max(rows.size, 1) and k > 1:
        return Rows(_index(columns), _index(entries), _index(rows), count)
    within = np.arange(rows.size) - (np.cumsum(lengths) - lengths)[rows]
    columns_of, entries_of = np.zeros((k, count), int), np.full((k, count), none)
    columns_of[within, rows] = columns
    entries_of[within, rows] = entries
    return Rows(_index(columns_of), _index(entries_of), None, count)


def _eliminations(
    row: np.ndarray,
    column: np.ndarray,
    diagonal: np.ndarray,
    starts: np.ndarray,
    n: int,
) -> tuple[Elimination, ...]:
    key = row * n + column  # sorted
    row_starts = np.searchsorted(row, np.arange(n + 1))
    found = []
    for low, high in zip(starts, starts[1:]):
        left = np.flatnonzero((column >= low) & (column < high) & (row >= high))
        pivot = column[left]
        first_upper = np.searchsorted(key, pivot * n + pivot) + 1
        counts = row_starts[pivot + 1] - first_upper
        first = np.repeat(left, counts)
        ends = np.cumsum(counts)
        within = np.arange(first.size) - np.repeat(ends - counts, counts)
        second = np.repeat(first_upper, counts) + within
        wanted = row[first] * n + column[second]
        target = np.minimum(np.searchsorted(key, wanted), key.size - 1)
        kept = key[target] == wanted
        by = np.argsort(target[kept], kind="stable")
        dropped = [first[~kept], second[~kept], diagonal[row[first]][~kept]]
        found.append(
            Elimination(
                left=_index(left),
                pivots=_index(diagonal[pivot]),
                first=_index(first[kept][by]),
                second=_index(second[kept][by]),
                target=_index(target[kept][by]),
                dropped=_index(dropped),
            )
        )
    return tuple(found)
