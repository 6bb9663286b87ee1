"""The entries of each device's rows, and functions that give them block by block."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, ArrayLike

from .._structures import floating
from ._division import check_same, together
from ._indices import checked_indices

OfRows = Callable[[int, int], ArrayLike]
"""What the rows from `start` to before `stop` have."""


class Entries(NamedTuple):
    """Those of one device, by row and then by column, as the whole matrix counts them;
    and the number that each has where it comes from."""

    rows: np.ndarray
    columns: np.ndarray
    numbers: np.ndarray


def in_blocks(
    i: np.ndarray, j: np.ndarray, orders: Sequence[np.ndarray], p: int, q: int
) -> list[Entries]:
    """The entries of each of p devices, its rows q in these orders."""
    # where rows and columns go
    dtype = _host_dtype(*(each.size for each in orders))
    places = [np.argsort(each).astype(dtype) for each in orders]
    i, j = places[0][i], places[1][j]
    by_row = np.lexsort((j, i))
    i, j = i[by_row], j[by_row]
    ends = np.searchsorted(i, q * np.arange(p + 1))
    parts = [slice(*x) for x in zip(ends[:-1], ends[1:])]
    return [Entries(i[part], j[part], by_row[part]) for part in parts]


class OwnRows(NamedTuple):
    """A pattern that is asked for the entries of some rows.

    Args:
        shape: of the whole matrix.
        entries: a function of `start` and `stop`: the rows and columns of the entries.
    """

    shape: tuple[int, int]
    entries: Callable[[int, int], Any]

    def of_device(self, d: int, q: int) -> Entries:
        """The entries of one device, which has q rows."""
        start, stop = _range(d, q, self.shape[0])
        found = self.entries(start, stop)
        if not isinstance(found, tuple | list) or len(found) != 2:
            raise ValueError(
                f"`entries({start}, {stop})` must return two arrays, the rows and the "
                "columns of the entries in these rows, but returned "
                f"{_described(found)}."
            )
        i, j = checked_indices(found[0], found[1], self.shape)
        dtype = _host_dtype(*self.shape)
        i, j = i.astype(dtype), j.astype(dtype)
        outside = (i < start) | (i >= stop)
        if outside.any():
            k = int(np.argmax(outside))
            raise ValueError(
                f"`entries({start}, {stop})` must return entries of these rows, but "
                f"entry {k} is in row {i[k]}."
            )
        by_row = np.lexsort((j, i))
        i, j = i[by_row], j[by_row]
        again = (i[1:] == i[:-1]) & (j[1:] == j[:-1])
        if again.any():
            k = int(np.argmax(again))
            raise ValueError(
                f"`entries({start}, {stop})` must return each entry once, but that of "
                f"row {i[k]} and column {j[k]} comes twice."
            )
        return Entries(i, j, by_row)


def values_of_rows(values: OfRows, entries: Array, m: int, q: int, mesh: Mesh) -> Array:
    """The values `[p, k]` of a pattern's entries, zero where they are padded."""
    check_concrete("values", entries)
    numbers = {x.index[0].start or 0: x.data for x in entries.addressable_shards}

    def part(d: int) -> np.ndarray:
        number = np.asarray(numbers[d])
        there = number >= 0
        found = _asked("values", values, _range(d, q, m), int(there.sum()))
        out = np.zeros(number.shape, found.dtype)
        out[there] = found[number[there]]
        return out

    parts = _alike("values", part, numbers, mesh)

    def made(at: Any) -> np.ndarray:
        return parts[at[0].start or 0]

    return jax.make_array_from_callback(entries.shape, entries.sharding, made)


def vector_of_rows(vector: OfRows, size: int, p: int, q: int, sharding: Any) -> Array:
    """A vector `[p q]`, zero where it is padded."""

    def device(at: Any) -> int:
        return (at[0].start or 0) // max(q, 1)

    def part(d: int) -> np.ndarray:
        start, stop = _range(d, q, size)
        found = _asked("vector", vector, (start, stop), stop - start)
        return np.pad(found, (0, q - found.size))

    where = sharding.addressable_devices_indices_map((p * q,)).values()
    parts = _alike("vector", part, map(device, where), sharding.mesh)
    return jax.make_array_from_callback(
        (p * q,), sharding, lambda at: parts[device(at)]
    )


def _alike(
    name: str, part: Callable[[int], np.ndarray], devices: Iterable[int], mesh: Mesh
) -> dict[int, np.ndarray]:
    """The parts of some devices, of which all on all processes have one dtype."""

    def make() -> dict[int, np.ndarray]:
        out = {d: part(d) for d in sorted({*devices})}
        dtypes = sorted({str(x.dtype) for x in out.values()})
        if len(dtypes) > 1:
            raise ValueError(
                f"`{name}` must return arrays of one dtype for all rows, but returned "
                f"{' and '.join(dtypes)}."
            )
        return out

    parts = together(mesh, make)
    dtypes = {str(x.dtype) for x in parts.values()}
    check_same(mesh, f"the dtype of what `{name}` returns", dtypes)
    return parts


def check_concrete(name: str, array: Array) -> None:
    if isinstance(array, jax.core.Tracer):
        raise ValueError(
            f"`{name}` cannot be a function under `jit` or another transformation, as "
            "it is called on the host; make the array outside, and pass it in."
        )


def _described(x: Any) -> str:
    kind = f"a value of type `{type(x).__name__}`"
    return f"{kind} of length {len(x)}" if isinstance(x, tuple | list) else kind


def _host_dtype(*sizes: int) -> Any:
    """Half the memory, where it is enough; on the host, JAX has no say in it."""
    return np.int32 if max(sizes) < 2**31 else np.int64


def _range(d: int, q: int, m: int) -> tuple[int, int]:
    """The rows of a device, padding aside."""
    return min(q * d, m), min(q * (d + 1), m)


def _asked(name: str, fn: OfRows, rows: tuple[int, int], count: int) -> np.ndarray:
    start, stop = rows
    found = fn(start, stop)
    found = floating(found)
    check_concrete(name, found)
    found = np.asarray(found)
    if found.shape != (count,):
        each = "entry of these rows" if name == "values" else "element"
        raise ValueError(
            f"`{name}({start}, {stop})` must have shape ({count},), a number for each "
            f"{each}, but has shape {found.shape}."
        )
    return found
