"""A sparsity pattern whose rows are divided among devices."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, ArrayLike, Inexact, Int

from .._structures import floating
from ._device_rows import device_rows
from ._division import (
    OWN_ROWS,
    Division,
    axis_kind,
    check_same,
    checked_axis,
    together,
)
from ._halo import Halo, Numbered, halo
from ._indices import checked_shape
from ._orders import ordered
from ._overlap import Overlap, overlapping
from ._own_rows import Entries, OwnRows, in_blocks, values_of_rows, vector_of_rows
from ._reordered import check_length, check_same_values, flat, read, write
from .pattern import SparsityPattern


class ShardedSparsityPattern(eqx.Module):
    """Where a sparse matrix has entries, its rows divided into contiguous blocks over
    one axis of a device mesh.

    Rows and columns are put in an order, and cut into p equal blocks of q, the last
    ones padded. Vectors of the matrix have p q elements, in that order, sharded like
    the rows: `distribute` makes them of vectors in the user's order, and `collect`
    takes them back. Values are `[p, k]`, device by device: `assemble` makes them.

    A product exchanges only the elements of x that other devices' rows need. The lists
    of these are made here, on the host, once. Every process makes them from the whole
    pattern; `from_callback` makes them from the rows of each process's own devices, for
    matrices that are too large for one host.

    Args:
        pattern: a `SparsityPattern`, or a SciPy sparse matrix.
        mesh: a `jax.sharding.Mesh`, its axis automatic or explicit.
        axis: the name of the mesh axis; by default the mesh's only one.
        order: "given": rows as they are; "bisection": recursive bisection of the graph,
            so that blocks touch few others; or a permutation, the old row of each new
            one. The columns of a square matrix have the order of its rows.
        column_order: a permutation of the columns of a matrix that is not square, if
            `order` is one too.
        overlap: 1: also make the lists that `AdditiveSchwarz(overlap=1)` needs.

    Attributes:
        mesh, axis: as given.
        shape: the number of rows and columns, as given: without padding.
        blocks: the rows and the columns of one device.
        size: the number of entries.
        halo: the elements a product exchanges.
        received: how many elements of x a device receives in a product.

    Raises:
        ValueError: no mesh axis of this name, or one of type `Manual`, an order that is
            none, an overlap of a matrix that is not square, or a pattern or order that
            differs between processes.

    Over several processes, all of them have to make the pattern, and to call `assemble`
    and `distribute`, as these compare what they are given.

    ```python
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((jax.device_count(),), ("rows",), axis_types=auto)
    cross = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]
    pattern = lx.SparsityPattern.from_stencil(cross, (8, 8))
    sharded = lx.ShardedSparsityPattern(pattern, mesh, order="bisection")
    x = sharded.distribute(jnp.arange(64.0))
    sharded.collect(x)  # 0, 1, 2, …, 63
    ```
    """

    local: SparsityPattern
    """Each device's rows, of what it owns and receives: arrays `[p, ...]`."""
    halo: Halo
    entries: Int[Array, "p k"]
    """Which entry of the pattern each value is; -1 of padding. Of a pattern made by
    `from_callback`, which of the entries of its device."""
    rows: Int[Array, "p q"]
    """Which row of the pattern each row is; -1 of padding."""
    columns: Int[Array, "p q"] | None
    """Likewise the columns; None if they are as the rows."""
    overlap: Overlap | None
    mesh: Mesh = eqx.field(static=True)
    axis: str = eqx.field(static=True)
    shape: tuple[int, int] = eqx.field(static=True)
    blocks: tuple[int, int] = eqx.field(static=True)
    size: int = eqx.field(static=True)
    by_device: bool = eqx.field(static=True)
    """Whether it was made by `from_callback`."""

    def __init__(
        self,
        pattern: Any,
        mesh: Mesh,
        axis: str | None = None,
        *,
        order: Any = "given",
        column_order: Any = None,
        overlap: int = 0,
    ):
        self.by_device = isinstance(pattern, OwnRows)
        if not isinstance(pattern, SparsityPattern | OwnRows):
            pattern = SparsityPattern.from_scipy(pattern)
        if isinstance(getattr(pattern, "rows", None), jax.core.Tracer):
            raise ValueError(
                "a traced pattern cannot be divided among devices; build the "
                "`ShardedSparsityPattern` outside of `jit`, and pass it in."
            )
        self.mesh, self.axis = mesh, checked_axis(mesh, axis)
        self.shape = m, n = pattern.shape
        if overlap not in (0, 1) or (overlap and m != n):
            raise ValueError(
                "`overlap` must be 0, or 1 of a square matrix, but got "
                f"{overlap!r} of one of shape {self.shape}."
            )
        division = Division.over(mesh, self.axis, alone=not self.by_device)
        p = division.p
        self.blocks = -(-m // p), -(-n // p)
        if isinstance(pattern, OwnRows):
            orders, q = (None, None), self.blocks[0]
            check_same(mesh, "`shape`, `axis` and `overlap`", m, n, self.axis, overlap)
            parts = together(
                mesh, lambda: [pattern.of_device(d, q) for d in division.own]
            )
        else:
            i, j = np.asarray(pattern.rows), np.asarray(pattern.columns)
            orders = ordered(order, column_order, (i, j), self.shape, p, self.blocks)
            facts = m, n, self.axis, overlap
            content = i, j, *orders, *facts
            check_same(mesh, "the pattern and its order", *content, hint=OWN_ROWS)
            parts = in_blocks(i, j, orders, p, self.blocks[0])
        self._divide(parts, division, overlap)
        self.rows = _blocks_of(orders[0], m, self.blocks[0], division)
        self.columns = None
        if m != n:
            self.columns = _blocks_of(orders[1], n, self.blocks[1], division)

    def _divide(self, parts: list[Entries], division: Division, overlap: int) -> None:
        """The lists, from the entries of each device whose lists are made here."""
        q, block = self.blocks
        own = division.own
        self.size = sum(division.gathered([part.rows.size for part in parts]))
        received = division.gathered(
            [_received(part.columns, d, block) for d, part in zip(own, parts)]
        )
        self.halo, slots = halo(received, block, division)
        numbered = Numbered(received, slots, block)
        rows = [part.rows - q * d for d, part in zip(own, parts)]
        columns = [numbered(d, part.columns) for d, part in zip(own, parts)]
        # by row, then by column, as columns are numbered now
        inner = [np.lexsort((j, i)) for i, j in zip(rows, columns)]
        self.local = device_rows(
            [i[k] for i, k in zip(rows, inner)],
            [j[k] for j, k in zip(columns, inner)],
            (q, block + self.halo.size),
            division,
        )
        self.entries = division.put_padded(
            [part.numbers[k] for part, k in zip(parts, inner)], -1
        )
        self.overlap = None
        if overlap:
            length = self.entries.shape[1]
            coordinates = [
                (part.rows, part.columns, np.argsort(k) + length * d)
                for d, part, k in zip(own, parts, inner)
            ]
            self.overlap = overlapping(
                coordinates, numbered, self.halo, length, division
            )

    @classmethod
    def from_callback(
        cls,
        shape: tuple[int, int],
        mesh: Mesh,
        entries: Callable[[int, int], Any],
        axis: str | None = None,
        *,
        overlap: int = 0,
    ) -> "ShardedSparsityPattern":
        """A pattern of which each process has the rows of its own devices alone.

        Rows and columns keep their order: number them so that each block of rows
        touches few others. Processes tell each other which elements they need; all of
        them make the pattern at the same time.

        Args:
            shape: the number of rows and of columns, of the whole matrix.
            mesh, axis, overlap: as of `ShardedSparsityPattern`; the mesh has devices of
                every process.
            entries: a function of `start` and `stop`. It returns the rows and the
                columns of the entries in the rows from `start` to before `stop`: two
                integer arrays of one length, counted in the whole matrix, each entry
                once, in any order.

        Raises:
            ValueError: entries outside of these rows, or repeated ones.

        ```python
        auto = (jax.sharding.AxisType.Auto,)
        mesh = jax.make_mesh((jax.device_count(),), ("rows",), axis_types=auto)
        n = 8


        def entries(start, stop):  # a tridiagonal matrix
            rows = np.repeat(np.arange(start, stop), 3)
            columns = rows + np.tile([-1, 0, 1], stop - start)
            inside = (columns >= 0) & (columns < n)
            return rows[inside], columns[inside]


        def values(start, stop):
            rows, columns = entries(start, stop)
            return np.where(rows == columns, 2.0, -1.0)


        pattern = lx.ShardedSparsityPattern.from_callback((n, n), mesh, entries)
        A = lx.ShardedSparseLinearOperator(pattern.assemble(values), pattern)
        b = pattern.distribute(lambda start, stop: np.ones(stop - start))
        A.mv(b)  # 1, 0, 0, 0, 0, 0, 0, 1
        ```
        """
        if not callable(entries):
            raise ValueError(
                "`entries` must be a function of `start` and `stop`, but got a value "
                f"of type `{type(entries).__name__}`."
            )
        return cls(OwnRows(checked_shape(shape), entries), mesh, axis, overlap=overlap)

    @property
    def received(self) -> int:
        """How many elements of x a device receives in a product, padding included."""
        return self.halo.size

    def assemble(
        self, values: ArrayLike | Callable[[int, int], ArrayLike]
    ) -> Inexact[Array, "p k"]:
        """The values device by device, from those of the pattern's entries.

        Args:
            values: an array `[size]`, in the order of the pattern that was divided. Of
                a pattern made by `from_callback`, a function of `start` and `stop`: the
                values of the entries that `entries(start, stop)` returns.

        Returns:
            An array `[p, k]`, sharded over the mesh axis; 0 where it is padded.
        """
        if self.by_device != callable(values):
            must, made = ("a function", "") if self.by_device else ("an array", "not ")
            raise ValueError(
                f"`values` must be {must}, as the pattern was {made}made by "
                "`from_callback`, but got a value of type "
                f"`{type(values).__name__}`."
            )
        if callable(values):
            m, q = self.shape[0], self.blocks[0]
            return values_of_rows(values, self.entries, m, q, self.mesh)
        values = floating(values)
        if values.shape != (self.size,):
            raise ValueError(
                f"`values` must have shape ({self.size},), a number for each entry of "
                f"the pattern, but has shape {values.shape}."
            )
        check_same_values("`values`", values, self.entries, self._sharding)
        return read(values, self.entries, self._sharding)

    def distribute(
        self,
        vector: ArrayLike | Callable[[int, int], ArrayLike],
        *,
        columns: bool = False,
    ) -> Inexact[Array, " pq"]:
        """A vector of rows, in the user's order, as one that is sharded; zero where it
        is padded.

        Args:
            vector: an array `[m]`; or a function of `start` and `stop`, which returns
                the elements from `start` to before `stop`, in the pattern's order.
            columns: a vector of columns, `[n]`, in place of one of rows.

        Raises:
            ValueError: a vector of another length, or one that differs between
                processes.
        """
        size, q = self.shape[int(columns)], self.blocks[int(columns)]
        if callable(vector):
            p = self.mesh.shape[self.axis]
            return vector_of_rows(vector, size, p, q, self._sharding)
        vector = floating(vector)
        other = self.shape[1 - int(columns)]
        check_length(vector, size, other, f"columns={not columns}")
        index = self.rows if self.columns is None or not columns else self.columns
        index = flat(index)
        check_same_values("`vector`", vector, index, self._sharding)
        return read(vector, index, self._sharding)

    def collect(
        self, vector: Inexact[Array, " pq"], *, rows: bool = False
    ) -> Inexact[Array, " n"]:
        """A sharded vector of columns, in the user's order. Each device gets all of it.

        Args:
            vector: an array `[p q]`.
            rows: a vector of rows in place of one of columns.
        """
        index = self.rows if self.columns is None or rows else self.columns
        size = self.shape[1 - int(rows)]
        other = self.mesh.shape[self.axis] * self.blocks[int(rows)]
        check_length(vector, index.size, other, f"rows={not rows}")
        return write(vector, flat(index), size, self._replicated)

    def on_devices(self, fn: Any, *arrays: Any) -> Any:
        """`fn(pattern, *arrays)` of each device, with that device's part of all arrays:
        of `[p, ...]` those of the pattern and of `arrays`, of vectors a block."""
        mesh: Any = jax.sharding.get_abstract_mesh()
        mesh = self.mesh if mesh.empty else mesh

        def local(pattern: Any, *arrays: Any) -> Any:
            return fn(pattern.own(), *arrays)

        each, inputs = PartitionSpec(self.axis), (self, *arrays)
        if axis_kind(mesh, self.axis) == AxisType.Explicit:
            sharding = NamedSharding(mesh, each)
            inputs = jtu.tree_map(lambda x: jax.sharding.reshard(x, sharding), inputs)
        return jax.shard_map(local, mesh=mesh, in_specs=each, out_specs=each)(*inputs)

    def own(self) -> Any:
        """One device's part, inside `shard_map`."""
        return jtu.tree_map(lambda x: x[0], self)

    def own_values(self, values: Inexact[Array, " k"]) -> Inexact[Array, " k"]:
        """One device's values, zero where they are padded."""
        return jnp.where(self.entries >= 0, values, jnp.zeros_like(values))

    def own_rows(self) -> Array:
        """Which rows of a device's block are no padding, inside `shard_map`."""
        q = self.blocks[0]
        start = q * jax.lax.axis_index(self.axis)
        return start + jnp.arange(q, dtype=start.dtype) < self.shape[0]

    @property
    def _sharding(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec(self.axis))

    @property
    def _replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def __repr__(self) -> str:
        m, n = self.shape
        p = self.mesh.shape[self.axis]
        return (
            f"ShardedSparsityPattern([{m}, {n}], {self.size} entries, {p} devices, "
            f"receiving {self.received} elements each)"
        )


def _received(columns: np.ndarray, d: int, q: int) -> np.ndarray:
    """Which elements of others the entries of device d read, sorted."""
    return np.unique(columns[columns // max(q, 1) != d])


def _blocks_of(
    order: np.ndarray | None, size: int, q: int, division: Division
) -> Int[Array, "p q"]:
    """An order, or that of the numbers themselves, in blocks of q; -1 of padding."""
    ranges = [(min(q * d, size), min(q * (d + 1), size)) for d in division.own]
    blocks = [np.arange(*x) if order is None else order[slice(*x)] for x in ranges]
    return division.put_padded(blocks, -1, q)
