"""Which process makes the lists of which device, and what it asks of the others."""

import hashlib
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

_AUTO = "`jax.make_mesh((8,), ('rows',), axis_types=(jax.sharding.AxisType.Auto,))`"


def checked_axis(mesh: Any, axis: str | None) -> str:
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
    if axis_kind(mesh, axis) == AxisType.Manual:
        raise ValueError(
            f"the axis {axis!r} of `mesh` must be of type `AxisType.Auto` or "
            f"`AxisType.Explicit`, but is of type `AxisType.Manual`; make the mesh by "
            f"{_AUTO}."
        )
    return axis


def axis_kind(mesh: Any, axis: str) -> AxisType:
    return dict(zip(mesh.axis_names, mesh.axis_types))[axis]


class Division(NamedTuple):
    """The p devices of a mesh axis, of which this process makes the lists of some.

    Args:
        sharding: over the mesh axis.
        axis: its name.
        p: the number of devices.
        own: the places on the axis of those whose lists this process makes.
    """

    sharding: NamedSharding
    axis: str
    p: int
    own: Sequence[int]

    @classmethod
    def over(cls, mesh: Mesh, axis: str, alone: bool) -> "Division":
        """Each process makes all lists `alone`, or those of its own devices."""
        p = mesh.shape[axis]
        own = range(p) if alone else _own_devices(mesh, axis)
        return cls(NamedSharding(mesh, PartitionSpec(axis)), axis, p, own)

    def gathered(self, parts: Sequence[Any]) -> list[Any]:
        """What belongs to each of the p devices, from the parts of `own` that each
        process has. Where processes make different lists, all must call it."""
        found = dict(zip(self.own, parts))
        if len(self.own) < self.p:
            for each in _of_all_processes(pickle.dumps(found)):
                found |= pickle.loads(each)
        return [found[d] for d in range(self.p)]

    def put(self, parts: Sequence[np.ndarray]) -> Array:
        """Arrays of one shape, one of each device of `own`, as `[p, ...]`."""
        places = {d: k for k, d in enumerate(self.own)}

        def part(at: Any) -> np.ndarray:
            return parts[places[at[0].start or 0]][None]

        shape = (self.p, *parts[0].shape)
        return jax.make_array_from_callback(shape, self.sharding, part)

    def put_known(self, x: np.ndarray) -> Array:
        """An array `[p, ...]` that every process has."""
        return self.put([x[d] for d in self.own])

    def put_padded(
        self, parts: Sequence[np.ndarray], fill: int, length: int = 0
    ) -> Array:
        """Integer arrays of unequal length, of the devices of `own`, as `[p, k]`."""
        bounds = [(x.size, int(np.max(x, initial=fill))) for x in parts]
        sizes, largest = zip(*self.gathered(bounds))
        dtype = np.int32 if max(largest) < 2**31 else np.int64
        out = np.full((len(parts), max(length, *sizes)), fill, dtype)
        for row, part in zip(out, parts):
            row[: part.size] = part
        return self.put(list(out))


def together(mesh: Mesh, make: Callable[[], Any]) -> Any:
    """What `make` returns. If it raises on one of several processes, all of them raise,
    as the others would wait for that one."""
    if not spans_processes(mesh):
        return make()
    out, error, said = None, None, ""
    try:
        out = make()
    except Exception as caught:
        error, said = caught, f"{type(caught).__name__}: {caught}"
    every = _of_all_processes(said.encode())
    if error is not None:
        raise error
    for process, said in enumerate(every):
        if said:
            raise ValueError(
                f"process {process} failed to give its rows: {said.decode()}"
            )
    return out


OWN_ROWS = (
    " Seed random numbers alike, and read the same files; or give each process its own "
    "rows only, by `ShardedSparsityPattern.from_callback`."
)


def check_same(mesh: Mesh, name: str, *content: Any, hint: str = "") -> None:
    """Refuses content (arrays, or what prints) that differs between processes."""
    if not spans_processes(mesh):
        return
    digest = hashlib.blake2b(digest_size=16)
    for each in content:
        if isinstance(each, np.ndarray):
            digest.update(f"{each.dtype} {each.shape}".encode())
            digest.update(np.ascontiguousarray(each).reshape(-1).view(np.uint8).data)
        else:
            digest.update(repr(each).encode())
    mine = np.frombuffer(digest.digest(), np.uint8)
    every = np.asarray(multihost_utils.process_allgather(mine))
    if (every != every[0]).any():
        raise ValueError(
            f"{name} must be the same on every process, but differs between them.{hint}"
        )


def spans_processes(mesh: Mesh) -> bool:
    """Whether every one of several processes has devices of the mesh."""
    return jax.process_count() > 1 and _has_all_processes(mesh)


def _has_all_processes(mesh: Mesh) -> bool:
    found = {device.process_index for device in mesh.devices.flat}
    return found == {*range(jax.process_count())}


def _own_devices(mesh: Mesh, axis: str) -> list[int]:
    """The places on a mesh axis where this process has devices."""
    devices = np.moveaxis(mesh.devices, mesh.axis_names.index(axis), 0)
    if not _has_all_processes(mesh):
        raise ValueError(
            "`from_callback` needs a mesh with devices of every process, as all "
            "processes exchange what they need of each other's rows; make it of "
            "`jax.devices()`. For a mesh of one process's own devices, give "
            "`ShardedSparsityPattern` a whole pattern."
        )
    own = jax.process_index()
    return [
        d
        for d, group in enumerate(devices)
        if any(device.process_index == own for device in np.ravel(group))
    ]


def _of_all_processes(content: bytes) -> list[bytes]:
    """What each process gives. As bytes, so that no setting of dtypes changes it."""
    sizes = np.array([len(content)], np.int64).view(np.uint8)
    sizes = np.asarray(multihost_utils.process_allgather(sizes)).view(np.int64)[:, 0]
    mine = np.zeros(sizes.max(), np.uint8)
    mine[: len(content)] = np.frombuffer(content, np.uint8)
    every = np.asarray(multihost_utils.process_allgather(mine))
    return [each[:size].tobytes() for each, size in zip(every, sizes)]
