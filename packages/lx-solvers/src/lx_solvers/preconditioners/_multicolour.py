"""Triangular factors in a multicolour order.

No two unknowns of one colour are coupled. With the unknowns sorted by colour, the part
of A within a colour is diagonal, so that substitution goes by colours, not by rows: a
few steps, each a sparse product of many rows at once (Saad 2003, section 12.4,
doi:10.1137/1.9780898718003). Everything here keeps M⁻¹ = L D U with unit triangles L
and U, whose transpose is of the same form.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Int
from lx_operators import SparseLinearOperator, SparsityPattern

from .._control_flow import while_loop
from ._sparse import check_pattern, is_concrete

_UNROLLED = 16  # so many terms of a sum are written out
_MOST_PADDING = 3


def colours(pattern: SparsityPattern) -> np.ndarray:
    """A colour for each unknown, other than those of all that it is coupled to, the
    smallest that is free, in the given order (Saad 2003, section 3.3.3)."""
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


class Part(NamedTuple):
    """Rows with values."""

    columns: Array
    values: Array
    rows: Array | None
    number: int

    def times(self, x: Array) -> Array:
        """The product of these rows with x."""
        if self.rows is not None:
            terms = self.values * x[self.columns]
            return jax.ops.segment_sum(
                terms, self.rows, self.number, indices_are_sorted=True
            )
        if len(self.values) > _UNROLLED:
            return jnp.sum(self.values * x[self.columns], axis=0)
        total = jnp.zeros(self.number, x.dtype)
        for v, c in zip(self.values, self.columns):
            total = total + v * x.at[c].get(mode="promise_in_bounds")
        return total


class Elimination(eqx.Module):
    """What one colour's unknowns change when they are eliminated: of entries (i, k) and
    (k, j) the product is taken off (i, j), or, if that is no entry, of (i, i)."""

    left: Int[Array, " m"]
    pivots: Int[Array, " m"]
    first: Int[Array, " t"]
    second: Int[Array, " t"]
    target: Int[Array, " t"]
    dropped: Int[Array, "3 d"]


class Order(eqx.Module):
    """The multicolour order of a pattern, and where what is."""

    pattern: SparsityPattern
    order: Int[Array, " n"]
    place: Int[Array, " n"]
    source: Int[Array, " e"]
    """Which value of A each entry has, in the new order, the diagonal complete; one
    past the last for none."""
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
        return _padded(values)[self.source]


class Factors(eqx.Module):
    """M⁻¹ = L D U, and the inverse of D."""

    L: Array
    """Values of all entries, of which those below the diagonal are L's."""
    U: Array
    inverse: Array
    laid: tuple[list[Array], list[Array]] | None = None
    """L and U as substitution reads them, by colours."""
    turned: bool = eqx.field(static=True, default=False)
    """Whether L and U are the transposes of what they were."""


def ordered(operator: Any, name: str, *, eliminating: bool = False) -> Order:
    """The order of an operator, whose pattern must be concrete.

    Args:
        operator: A, or whatever has its pattern.
        name: what the error says.
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
    """An order made before, checked; or a new one."""
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


def eliminated(order: Order, w: Array, modified: Any) -> Array:
    """L below the diagonal, D U from it on: the incomplete factors of level zero of a
    matrix with entries w (Saad 2003, alg. 10.4), colour by colour.

    Args:
        order: made with `eliminating=True`.
        w: the entries in the new order.
        modified: how much of what is dropped goes to the diagonal, 0 to 1; None for
            nothing.
    """
    for step in order.elimination or ():
        w = w.at[step.left].set(
            w[step.left] / w[step.pivots], unique_indices=True, indices_are_sorted=True
        )
        terms = w[step.first] * w[step.second]
        updated = w.at[step.target].add(-terms, indices_are_sorted=True)
        if modified is not None:
            first, second, target = step.dropped
            updated = updated.at[target].add(-modified * w[first] * w[second])
        w = updated
    return w


_FIRST, _TRIES = 1e-3, 20


def shifted(order: Order, w: Array, shift: ArrayLike) -> Array:
    """The entries of A + shift · D, with the diagonal D."""
    factor = jnp.asarray(1 + jnp.asarray(shift, w.real.dtype)).astype(w.dtype)
    return w.at[order.diagonal].multiply(factor, unique_indices=True)


def factorised(
    order: Order,
    w: Array,
    shift: ArrayLike,
    modified: ArrayLike,
    sound: Callable[[Array, Array], Array],
) -> tuple[Array, Array, Array]:
    """What `eliminated` makes of A + α D; α; and whether its pivots are sound. α is the
    first of shift, 0.001, 0.002, 0.004, … for which they are.

    Args:
        order, w, modified: as of `eliminated`.
        shift: the first α to try.
        sound: whether a pivot is, of it and of the diagonal's entry.
    """
    real = w.real.dtype
    known = isinstance(modified, int | float)
    weight = None if known and modified == 0 else jnp.asarray(modified).astype(w.dtype)

    def attempt(carry: Any) -> Any:
        α, _, _, tries = carry
        α = jnp.where(
            tries == 0,
            jnp.asarray(shift, real),
            jnp.maximum(2 * α, jnp.asarray(_FIRST, real)),
        )
        factors = eliminated(order, shifted(order, w, α), weight)
        pivots = sound(factors[order.diagonal], w[order.diagonal])
        return α, factors, jnp.all(pivots), tries + 1

    def going(carry: Any) -> Array:
        _, _, fine, tries = carry
        return ~fine & (tries < _TRIES)

    start = jnp.zeros((), real), w, jnp.array(False), jnp.int32(0)
    inputs = order, w, shift, modified
    α, factors, fine, _ = while_loop(going, attempt, start, inputs)
    return factors, α, fine


def divided(order: Order, w: Array) -> Factors:
    """The factors, of what `eliminated` returns."""
    d = w[order.diagonal]
    return laid_out(order, Factors(w, w / d[order.row], 1 / d))


def laid_out(order: Order, factors: Factors) -> Factors:
    """The same, once and for all substitutions."""
    laid = tuple(
        [_padded(values)[rows.entries] for rows in triangle]
        for triangle, values in zip(
            _triangles(order, factors), (factors.L, factors.U), strict=True
        )
    )
    return dataclasses.replace(factors, laid=laid)


def _padded(values: Array) -> Array:
    return jnp.concatenate([values, jnp.zeros(1, values.dtype)])


def _triangles(order: Order, factors: Factors) -> Any:
    if factors.turned:
        return order.lower_transposed, order.upper_transposed
    return order.lower, order.upper


def solve(order: Order, factors: Factors, r: Array) -> Array:
    """U⁻¹ D⁻¹ L⁻¹ r, by substitution."""
    x = forward(order, factors, r[order.order])
    x = factors.inverse.astype(x.dtype) * x
    return backward(order, factors, x)[order.place]


def forward(order: Order, factors: Factors, x: Array) -> Array:
    """L⁻¹ x, in the new order."""
    return _substituted(order, _parts(order, factors, 0), x)


def backward(order: Order, factors: Factors, x: Array) -> Array:
    """U⁻¹ x, in the new order."""
    return _substituted(order, list(reversed(_parts(order, factors, 1))), x)


def _substituted(order: Order, parts: list[tuple[int, Part]], x: Array) -> Array:
    for i, part in parts:
        rows = slice(order.starts[i], order.starts[i + 1])
        if part.columns.size:
            x = x.at[rows].add(-part.times(x))
    return x


def _parts(order: Order, factors: Factors, which: int) -> list[tuple[int, Part]]:
    assert factors.laid is not None
    pairs = zip(_triangles(order, factors)[which], factors.laid[which], strict=True)
    parts = [Part(r.columns, values, r.rows, r.count) for r, values in pairs]
    return list(enumerate(parts))


def transposed(order: Order, factors: Factors) -> Factors:
    """(L D U)ᵀ = Uᵀ D Lᵀ."""
    U, L = factors.L, factors.U
    turned = Factors(L, U, factors.inverse, turned=not factors.turned)
    return laid_out(order, turned)


def conjugated(order: Order, factors: Factors) -> Factors:
    """L̄ D̄ Ū."""
    return jax.tree.map(jnp.conj, factors)
