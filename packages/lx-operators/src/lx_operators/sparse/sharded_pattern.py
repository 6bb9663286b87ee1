"""A sparsity pattern whose rows are divided among devices."""

from collections.abc import Sequence
from functools import partial
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
from ._forms import Chunks, best_width, pieces
from ._halo import Halo, Numbered, halo, padded
from ._orders import in_blocks, ordered
from ._overlap import Overlap, overlapping
from .pattern import SparsityPattern


class ShardedSparsityPattern(eqx.Module):
    """Where a sparse matrix has entries, its rows divided into contiguous blocks over
    one axis of a device mesh.

    Rows and columns are put in an order, and cut into p equal blocks of q, the last
    ones padded. Vectors of the matrix have p q elements, in that order, sharded like
    the rows: `distribute` makes them of vectors in the user's order, and `collect`
    takes them back. Values are `[p, k]`, device by device: `assemble` makes them.

    A product exchanges only the elements of x that other devices' rows need. The lists
    of these are made here, on the host, once; every process makes them from the whole
    pattern.

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
            none, or an overlap of a matrix that is not square.

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
    """Which entry of the pattern each value is; -1 of padding."""
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
        if not isinstance(pattern, SparsityPattern):
            pattern = SparsityPattern.from_scipy(pattern)
        if isinstance(pattern.rows, jax.core.Tracer):
            raise ValueError(
                "a traced pattern cannot be divided among devices; build the "
                "`ShardedSparsityPattern` outside of `jit`, and pass it in."
            )
        self.mesh, self.axis = mesh, _checked_axis(mesh, axis)
        p = mesh.shape[self.axis]
        self.shape = m, n = pattern.shape
        if overlap not in (0, 1) or (overlap and m != n):
            raise ValueError(
                "`overlap` must be 0, or 1 of a square matrix, but got "
                f"{overlap!r} of one of shape {self.shape}."
            )
        self.blocks = q, _ = -(-m // p), -(-n // p)
        self.size = pattern.size
        i, j = np.asarray(pattern.rows), np.asarray(pattern.columns)
        orders = ordered(order, column_order, (i, j), self.shape, p, self.blocks)
        # where rows and columns go
        places = [np.argsort(each) for each in orders]
        i, j = places[0][i], places[1][j]
        by_row = np.lexsort((j, i))
        i, j = i[by_row], j[by_row]
        ends = np.searchsorted(i, q * np.arange(p + 1))
        parts = [slice(*x) for x in zip(ends[:-1], ends[1:])]
        rows = [i[part] - q * d for d, part in enumerate(parts)]
        received = _received([j[part] for part in parts], self.blocks[1])
        self.halo, slots = halo(received, self.blocks[1], self.axis, self._put)
        numbered = Numbered(received, slots, self.blocks[1])
        columns = [numbered(d, j[part]) for d, part in enumerate(parts)]
        # by row, then by column, as columns are numbered now
        inner = [np.lexsort((y, x)) for x, y in zip(rows, columns)]
        rows = [x[k] for x, k in zip(rows, inner)]
        columns = [x[k] for x, k in zip(columns, inner)]
        shape = (q, self.blocks[1] + self.halo.size)
        self.local = _stacked(rows, columns, shape, self._put)
        entries = [by_row[part][k] for part, k in zip(parts, inner)]
        self.entries = self._put(padded(entries, -1))
        self.overlap = None
        if overlap:
            places = [
                np.argsort(k) + self.entries.shape[1] * d for d, k in enumerate(inner)
            ]
            coordinates = i, j, np.concatenate(places)
            self.overlap = overlapping(
                coordinates, numbered, self.halo, self.entries.shape[1], self._put
            )
        self.rows = self._put(in_blocks(orders[0], p, q))
        self.columns = None
        if m != n:
            self.columns = self._put(in_blocks(orders[1], p, self.blocks[1]))

    @property
    def received(self) -> int:
        """How many elements of x a device receives in a product, padding included."""
        return self.halo.size

    def assemble(self, values: ArrayLike) -> Inexact[Array, "p k"]:
        """The values device by device, from those of the pattern's entries.

        Args:
            values: an array `[size]`, in the order of the pattern that was divided.

        Returns:
            An array `[p, k]`, sharded over the mesh axis; 0 where it is padded.
        """
        values = floating(values)
        if values.shape != (self.size,):
            raise ValueError(
                f"`values` must have shape ({self.size},), a number for each entry of "
                f"the pattern, but has shape {values.shape}."
            )
        return _read(values, self.entries, self._sharding)

    def distribute(
        self, vector: ArrayLike, *, columns: bool = False
    ) -> Inexact[Array, " pq"]:
        """A vector of rows, in the user's order, as one that is sharded; zero where it
        is padded.

        Args:
            vector: an array `[m]`.
            columns: a vector of columns, `[n]`, in place of one of rows.
        """
        vector = floating(vector)
        size = self.shape[int(columns)]
        if vector.shape != (size,):
            raise ValueError(
                f"`vector` must have shape ({size},), but has shape {vector.shape}."
            )
        index = self.rows if self.columns is None or not columns else self.columns
        return _read(vector, index.reshape(-1), self._sharding)

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
        if vector.shape != (index.size,):
            raise ValueError(
                f"`vector` must have shape ({index.size},), but has shape "
                f"{vector.shape}."
            )
        return _write(vector, index.reshape(-1), size, self._replicated)

    def on_devices(self, fn: Any, *arrays: Any) -> Any:
        """`fn(pattern, *arrays)` of each device, with that device's part of all arrays:
        of `[p, ...]` those of the pattern and of `arrays`, of vectors a block."""
        mesh: Any = jax.sharding.get_abstract_mesh()
        mesh = self.mesh if mesh.empty else mesh

        def local(pattern: Any, *arrays: Any) -> Any:
            return fn(pattern.own(), *arrays)

        each, inputs = PartitionSpec(self.axis), (self, *arrays)
        if _kind(mesh, self.axis) == AxisType.Explicit:
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

    def _put(self, x: np.ndarray) -> Array:
        sharding = self._sharding
        return jax.make_array_from_callback(x.shape, sharding, lambda at: x[at])

    def __repr__(self) -> str:
        m, n = self.shape
        p = self.mesh.shape[self.axis]
        return (
            f"ShardedSparsityPattern([{m}, {n}], {self.size} entries, {p} devices, "
            f"receiving {self.received} elements each)"
        )


@partial(jax.jit, static_argnames="sharding")
def _read(x: Array, index: Array, sharding: NamedSharding) -> Array:
    def read(x: Array, index: Array) -> Array:
        zero = jnp.zeros_like(x, shape=())
        return jnp.where(index >= 0, x.at[index].get(mode="clip"), zero)

    return _as_sharded(read, sharding)(x, index)


@partial(jax.jit, static_argnames=("size", "sharding"))
def _write(x: Array, index: Array, size: int, sharding: NamedSharding) -> Array:
    def write(x: Array, index: Array) -> Array:
        index = jnp.where(index >= 0, index, size)
        return jnp.zeros_like(x, shape=(size,)).at[index].set(x, mode="drop")

    return _as_sharded(write, sharding)(x, index)


def _as_sharded(fn: Any, sharding: NamedSharding) -> Any:
    """`fn`, its result sharded so, on a mesh of automatic or explicit axes."""
    if AxisType.Explicit in sharding.mesh.axis_types:
        return jax.sharding.auto_axes(fn, out_sharding=sharding)
    return lambda *args: jax.lax.with_sharding_constraint(fn(*args), sharding)


_AUTO = "`jax.make_mesh((8,), ('rows',), axis_types=(jax.sharding.AxisType.Auto,))`"


def _checked_axis(mesh: Any, axis: str | None) -> str:
    if not isinstance(mesh, Mesh):
        raise ValueError(
            f"`mesh` must be a `jax.sharding.Mesh`, such as {_AUTO}, but got a value "
            f"of type `{type(mesh).__name__}`."
        )
    if axis is None and len(mesh.axis_names) == 1:
        axis = mesh.axis_names[0]
    if axis is None or axis not in mesh.axis_names:
        raise ValueError(
            f"`axis` must be an axis of the mesh, one of {mesh.axis_names}, but got "
            f"{axis!r}."
        )
    if _kind(mesh, axis) == AxisType.Manual:
        raise ValueError(
            f"the axis {axis!r} of `mesh` must be of type `AxisType.Auto` or "
            f"`AxisType.Explicit`, but is of type `AxisType.Manual`; make the mesh by "
            f"{_AUTO}."
        )
    return axis


def _kind(mesh: Any, axis: str) -> AxisType:
    return dict(zip(mesh.axis_names, mesh.axis_types))[axis]


def _received(columns: Sequence[np.ndarray], q: int) -> list[np.ndarray]:
    """For each device, which elements of others its entries read, sorted."""
    owned = [each // max(q, 1) == d for d, each in enumerate(columns)]
    return [np.unique(each[~own]) for each, own in zip(columns, owned)]


def _stacked(
    rows: Sequence[np.ndarray],
    columns: Sequence[np.ndarray],
    shape: tuple[int, int],
    put: Any,
) -> SparsityPattern:
    """One pattern for each device, of equal static facts, as arrays `[p, ...]`. What
    pads the entries is in no row, as `row_starts` ends before it."""
    (m, n), size = shape, max(each.size for each in rows)
    transposed, untransposed = [], []
    for i, j in zip(rows, columns):
        order = np.arange(size)
        order[: i.size] = np.lexsort((i, j))
        transposed.append(order)
        untransposed.append(np.argsort(order))
    row_lengths = [np.bincount(i, minlength=m) for i in rows]
    column_lengths = [np.bincount(j, minlength=n) for j in columns]
    starts = [
        padded([np.concatenate([[0], np.cumsum(x)]) for x in lengths], 0)
        for lengths in (row_lengths, column_lengths)
    ]
    with jax.ensure_compile_time_eval():
        out = SparsityPattern([], [], shape)
    fields = dict(
        rows=put(padded(rows, max(m - 1, 0), size)),
        columns=put(padded(columns, max(n - 1, 0), size)),
        row_starts=put(starts[0]),
        column_starts=put(starts[1]),
        transposed=put(padded(transposed, 0)),
        untransposed=put(padded(untransposed, 0)),
        by_rows=_chunks(row_lengths, size, put),
        by_columns=_chunks(column_lengths, size, put),
        size=size,
        longest_row=max(int(np.max(x, initial=0)) for x in row_lengths),
        longest_column=max(int(np.max(x, initial=0)) for x in column_lengths),
        lower=max(m - 1, 0),
        upper=max(n - 1, 0),
        is_symmetric=False,
        exact=False,
        offsets=None,
    )
    for name, value in fields.items():
        object.__setattr__(out, name, value)
    return out


def _chunks(lengths: Sequence[np.ndarray], size: int, put: Any) -> Chunks:
    """The chunks of each device's rows, of one width, padded by empty ones; entries
    that are chunks are padded as entries are."""
    width, whole = best_width(np.concatenate(lengths))
    if whole:
        return Chunks(None, None, None, width)
    with jax.ensure_compile_time_eval():
        each = [pieces(x, width, np.dtype(np.int64)) for x in lengths]
    count = size if width == 1 else max(np.asarray(x.rows).size for x in each)
    starts, rows, firsts = [], [], []
    for x, length in zip(each, lengths):
        assert x.starts is not None and x.rows is not None and x.firsts is not None
        ends = np.asarray(x.starts)
        starts.append(np.pad(ends, (0, count + 1 - ends.size), mode="edge"))
        last = max(length.size - 1, 0)
        rows.append(np.pad(x.rows, (0, count - x.rows.size), constant_values=last))
        firsts.append(np.asarray(x.firsts))
    return Chunks(
        put(padded(starts, 0)),
        put(padded(rows, 0)),
        put(padded(firsts, 0)),
        width,
    )
