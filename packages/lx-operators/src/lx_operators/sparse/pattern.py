"""Where the entries of a sparse matrix are."""

from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int

from .._composite import with_fields
from .._structures import floating
from ._facts import facts, facts_of_traced, in_order
from ._formats import coordinates_of_scipy, nonzeros, stencil_coordinates
from ._forms import Chunks
from ._index_maps import Assembly, collect, reading, spread
from ._indices import checked_indices, checked_shape, chosen, index_dtype


class SparsityPattern(eqx.Module):
    """Where a sparse matrix has entries: one pattern serves many matrices.

    Entries are sorted by row, then by column, and no two of them are in one place.
    Everything that depends on the pattern alone is computed when it is built, so build
    it once, outside `jit`, and pass it around. It is a pytree of integer arrays and a
    few static facts, so a function of it is compiled once for all patterns with the
    same facts.

    Args:
        rows, columns: integer arrays `[k]`, where contributions to the matrix are, in
            any order; several may be in one place (see `assemble`).
        shape: the number of rows and of columns of the matrix.

    If `rows` or `columns` is traced, only its length is known: entries are sorted, but
    those in one place stay separate (their values still add up), `longest_row`, `lower`
    and the other facts are those of a full matrix, and their range is not checked.

    Attributes:
        rows, columns: where the entries are, `[size]`.
        row_starts: the first entry of each row, and `size`: `[m + 1]`.
        column_starts: the same for the entries sorted by column, `[n + 1]`.
        transposed: the order of entries that sorts them by column, then row, `[size]`.
        untransposed: its inverse, `[size]`.
        shape: the number of rows and columns.
        size: the number of entries.
        longest_row, longest_column: the most entries in a row, in a column.
        lower, upper: the number of diagonals below and above the main one.
        is_symmetric: whether the transpose has the same pattern.
        offsets: column minus row of each diagonal that has entries, if they are few
            and nearly full; else None.
        exact: whether the indices were known when the pattern was built.

    Raises:
        ValueError: indices that are not integers, not one-dimensional, of different
            lengths, or outside the matrix.

    ```python
    # [[4, 1, 0], [1, 4, 1], [0, 1, 4]]
    rows, columns = [0, 0, 1, 1, 1, 2, 2], [0, 1, 0, 1, 2, 1, 2]
    pattern = lx.SparsityPattern(rows, columns, (3, 3))
    pattern.is_symmetric, pattern.longest_row  # True, 3
    ```
    """

    rows: Int[Array, " size"]
    columns: Int[Array, " size"]
    row_starts: Int[Array, " m+1"]
    column_starts: Int[Array, " n+1"]
    transposed: Int[Array, " size"]
    untransposed: Int[Array, " size"]
    by_rows: Chunks  # how products sum
    by_columns: Chunks  # likewise, of the transpose
    assembly: Assembly | None
    shape: tuple[int, int] = eqx.field(static=True)
    size: int = eqx.field(static=True)
    longest_row: int = eqx.field(static=True)
    longest_column: int = eqx.field(static=True)
    lower: int = eqx.field(static=True)
    upper: int = eqx.field(static=True)
    is_symmetric: bool = eqx.field(static=True)
    offsets: tuple[int, ...] | None = eqx.field(static=True)
    exact: bool = eqx.field(static=True)

    def __init__(self, rows: Any, columns: Any, shape: tuple[int, int]):
        shape = checked_shape(shape)
        if any(isinstance(x, jax.core.Tracer) for x in (rows, columns)):
            _set(self, **facts_of_traced(rows, columns, shape))
            return
        rows, columns = checked_indices(rows, columns, shape)
        rows, columns, assembly = in_order(rows, columns, shape)
        with jax.ensure_compile_time_eval():
            _set(self, **facts(rows, columns, shape, assembly))

    @classmethod
    def from_coo(
        cls, rows: Any, columns: Any, shape: tuple[int, int]
    ) -> "SparsityPattern":
        """The pattern of coordinates, the same as `SparsityPattern(rows, columns,
        shape)`."""
        return cls(rows, columns, shape)

    @classmethod
    def from_scipy(cls, matrix: Any) -> "SparsityPattern":
        """The pattern of a SciPy sparse matrix or array, of any format. Explicit zeros
        are entries.

        Args:
            matrix: the SciPy matrix.

        Raises:
            ValueError: not a SciPy sparse matrix; or its index arrays are damaged.
        """
        return cls(*coordinates_of_scipy(matrix)[0])

    @classmethod
    def from_dense(cls, mask: Any) -> "SparsityPattern":
        """The pattern of the nonzero elements of a dense matrix, or of a mask.

        Args:
            mask: an array `[m, n]`; its values must be known.
        """
        return cls(*nonzeros(mask), np.shape(mask))  # pyright: ignore

    @classmethod
    def from_stencil(
        cls,
        offsets: Any,
        grid: tuple[int, ...],
        periodic: bool | tuple[bool, ...] = False,
    ) -> "SparsityPattern":
        """The pattern of a stencil on a grid: each point is coupled to its neighbours
        at these offsets. Points are numbered with the last axis fastest, as `ravel`
        does.

        Args:
            offsets: the neighbours, each a tuple of as many integers as the grid has
                axes; `(0, 0)` is the point itself.
            grid: the number of points along each axis.
            periodic: whether the grid closes; for all axes, or for each.

        Returns:
            A `SparsityPattern`. Its `assemble` takes the numbers of the first offset at
            all points that have this neighbour, in order, then those of the second.

        ```python
        cross = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
        lx.SparsityPattern.from_stencil(cross, (100, 100))  # 49600 entries
        ```
        """
        return cls(*stencil_coordinates(offsets, grid, periodic))

    def assemble(
        self, values: Inexact[Array, " contributions"]
    ) -> Inexact[Array, " size"]:
        """The values of the entries, from those of the contributions that the pattern
        was made of: contributions to the same place are summed.

        Works under `jit`, `vmap` and derivatives, on a fixed pattern.

        Args:
            values: an array `[k]`, in the order of the `rows` and `columns` that the
                pattern was made of.

        Returns:
            An array `[size]`.

        Raises:
            ValueError: another number of contributions.
        """
        values = floating(values)
        k, assembly = self.size, self.assembly
        if assembly is not None:
            k = assembly.target.size if assembly.of is None else assembly.of
        if values.shape != (k,):
            raise ValueError(
                f"`values` must be a one-dimensional array of {k} contributions, as "
                "many as the pattern was made of, but has shape "
                f"{values.shape}."
            )
        if assembly is None:
            return values
        if assembly.of is not None:
            return spread(values, assembly)
        return collect(values, assembly, self.size)

    def submatrix(self, rows: Any, columns: Any) -> "SparsityPattern":
        """The pattern of some rows and columns, in the order they are given. Its
        `assemble` takes the values of this pattern to those of the submatrix.

        Args:
            rows, columns: integer arrays without duplicates, or masks `[m]` and `[n]`.

        Returns:
            A `SparsityPattern`.

        Raises:
            ValueError: indices of another form; a traced pattern.
        """
        if isinstance(self.rows, jax.core.Tracer):
            raise ValueError(
                "the submatrix of a traced pattern is not known; make it outside of "
                "`jit`, and pass it in."
            )
        (m, n), found = self.shape, []
        for name, given, bound in (("rows", rows, m), ("columns", columns, n)):
            found.append(chosen(name, given, bound, self.shape))
        (row_of, k), (column_of, l) = found
        row = row_of[np.asarray(self.rows)]
        column = column_of[np.asarray(self.columns)]
        kept = np.flatnonzero((row >= 0) & (column >= 0))
        kept = kept[np.lexsort((column[kept], row[kept]))]
        with jax.ensure_compile_time_eval():
            out = SparsityPattern(row[kept], column[kept], (k, l))
            _set(out, assembly=reading(kept, self.size))
        return out

    def transpose(self) -> "SparsityPattern":
        """The pattern of the transposed matrix; nothing is sorted again."""
        order = self.transposed
        if isinstance(self.rows, jax.core.Tracer):
            rows, columns = self.columns[order], self.rows[order]
        else:  # known, also under `jit`
            with jax.ensure_compile_time_eval():
                rows, columns = self.columns[order], self.rows[order]
        return with_fields(
            self,
            rows=rows,
            columns=columns,
            row_starts=self.column_starts,
            column_starts=self.row_starts,
            transposed=self.untransposed,
            untransposed=self.transposed,
            by_rows=self.by_columns,
            by_columns=self.by_rows,
            assembly=None,
            shape=self.shape[::-1],
            longest_row=self.longest_column,
            longest_column=self.longest_row,
            lower=self.upper,
            upper=self.lower,
            offsets=self.offsets and tuple(-d for d in reversed(self.offsets)),
        )

    def without_assembly(self) -> "SparsityPattern":
        """The same entries, without what `assemble` needs."""
        if self.assembly is None:
            return self
        return with_fields(self, assembly=None)

    def block_diagonal(self) -> "SparsityPattern":
        """The pattern of the block diagonal matrix, for a batch of patterns, whose
        arrays have one more axis in front."""
        (m, n), size, count = self.shape, self.size, len(self.rows)
        dtype = index_dtype(count * m + 1, count * n + 1, count * size + 1)

        def shifted(x: Array, by: int) -> Array:
            shifts = by * jnp.arange(count, dtype=dtype)[:, None]
            return (x.astype(dtype) + shifts).reshape(-1)

        def starts(x: Array, size: int = size) -> Array:
            end = jnp.full(1, count * size, dtype)
            return jnp.concatenate([shifted(x[:, :-1], size), end])

        def chunks(x: Chunks, m: int) -> Chunks:
            if x.starts is None or x.rows is None or x.firsts is None:
                return x
            firsts = starts(x.firsts, x.rows.shape[-1])
            return Chunks(starts(x.starts), shifted(x.rows, m), firsts, x.width)

        square = m == n
        return with_fields(
            self,
            rows=shifted(self.rows, m),
            columns=shifted(self.columns, n),
            row_starts=starts(self.row_starts),
            column_starts=starts(self.column_starts),
            transposed=shifted(self.transposed, size),
            untransposed=shifted(self.untransposed, size),
            by_rows=chunks(self.by_rows, m),
            by_columns=chunks(self.by_columns, n),
            assembly=None,
            shape=(count * m, count * n),
            size=count * size,
            lower=self.lower if square else max(count * m - 1, 0),
            upper=self.upper if square else max(count * n - 1, 0),
            offsets=self.offsets if square else None,
        )

    @property
    def T(self) -> "SparsityPattern":
        """The pattern of the transposed matrix."""
        return self.transpose()

    @property
    def is_lower(self) -> bool:
        """Whether no entry is above the diagonal."""
        return self.upper == 0

    @property
    def is_upper(self) -> bool:
        """Whether no entry is below the diagonal."""
        return self.lower == 0

    @property
    def is_diagonal(self) -> bool:
        """Whether all entries are on the diagonal."""
        return self.lower == self.upper == 0

    @property
    def form(self) -> str:
        """How products are computed, in words."""
        if self.offsets is not None:
            count = len(self.offsets)
            return f"{count} diagonal{'s' * (count != 1)}"
        if self.by_rows.rows is None:
            return f"rows of up to {self.by_rows.width}"
        return f"rows in pieces of {self.by_rows.width}"

    @property
    def density(self) -> float:
        """The fraction of the matrix that has entries."""
        m, n = self.shape
        return self.size / max(m * n, 1)

    def __eq__(self, other: object) -> bool:  # pyright: ignore
        """Equal shapes and equal entries. Patterns of traced indices are equal only if
        they share their arrays."""
        if not isinstance(other, SparsityPattern):
            return False
        if (self.shape, self.size) != (other.shape, other.size):
            return False
        return all(
            _same(x, y)
            for x, y in ((self.rows, other.rows), (self.columns, other.columns))
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.size))

    def __repr__(self) -> str:
        m, n = self.shape
        return f"SparsityPattern([{m}, {n}], {self.size} entries, {self.form})"


def _set(pattern: SparsityPattern, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(pattern, name, value)


def _same(x: Any, y: Any) -> bool:
    if x is y:
        return True
    if isinstance(x, jax.core.Tracer) or isinstance(y, jax.core.Tracer):
        return False
    return np.array_equal(np.asarray(x), np.asarray(y))
