"""What devices exchange before a product: the elements of x that others need."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact, Int

from ._index_maps import taken

_PADDING = 1.5  # what one `all_to_all` may send, relative to single messages


class Halo(eqx.Module):
    """The elements that each of the p devices of a mesh axis sends and receives.

    What device i receives from device i + d is one message for each distance d
    (`ppermute`), padded to the longest of that distance. Where messages are many
    and about equally long, they are one `all_to_all`.

    Args:
        needed: for each device, the sorted indices of the elements it needs from
            others, as elements of a vector of p blocks.
        block: the size of a block.
        axis: the mesh axis.

    Attributes:
        sends: the elements of its block that each device sends: for each distance
            `[p, h]`, or together `[p, p, h]`. Padding sends element 0.
        pairs: for each distance the (source, destination) of its messages.
        size: how many elements a device receives, padding included.
    """

    sends: tuple[Int[Array, "p *h"], ...]
    pairs: tuple[tuple[tuple[int, int], ...], ...] | None = eqx.field(static=True)
    block: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    axis: str = eqx.field(static=True)

    def exchange(self, x: Inexact[Array, " block"]) -> Inexact[Array, " size"]:
        """What the other devices own; of one device, inside `shard_map`."""
        if self.pairs is None:
            (send,) = self.sends
            parts = taken(x, send)
            received = jax.lax.all_to_all(parts, self.axis, 0, 0)
            return received.reshape(-1)
        parts = [
            jax.lax.ppermute(taken(x, send), self.axis, pairs)
            for send, pairs in zip(self.sends, self.pairs)
        ]
        return jnp.concatenate([x[:0], *parts])

    def accumulate(self, y: Inexact[Array, " size"]) -> Inexact[Array, " block"]:
        """The transpose: contributions to what others own, summed by the owners."""
        total = jnp.zeros_like(y, shape=(self.block,))
        if self.pairs is None:
            (send,) = self.sends
            parts = jax.lax.all_to_all(y.reshape(send.shape), self.axis, 0, 0)
            return total.at[send.reshape(-1)].add(parts.reshape(-1))
        start = 0
        for send, pairs in zip(self.sends, self.pairs):
            part = y[start : start + send.size]
            start += send.size
            back = [(receiver, sender) for sender, receiver in pairs]
            total = total.at[send].add(jax.lax.ppermute(part, self.axis, back))
        return total


def halo(
    needed: Sequence[np.ndarray], block: int, axis: str, put: Any
) -> tuple[Halo, list[np.ndarray]]:
    """The exchange, and for each device where in what it receives the elements that it
    needs are.

    Args:
        needed, block, axis: as of `Halo`.
        put: makes a sharded array of one for all devices, `[p, ...]`.
    """
    p, dtype = len(needed), np.int32
    owners = [each // max(block, 1) for each in needed]
    distances = [(owner - i) % p for i, owner in enumerate(owners)]
    used = np.unique(np.concatenate([np.zeros(0, int), *distances]))
    places = [np.zeros(each.size, np.int64) for each in needed]
    counts = [np.bincount(owner, minlength=p) for owner in owners]
    longest = int(np.max(counts))
    apart = sum(max(int(np.sum(x == d)) for x in distances) for d in used)
    if used.size > 3 and p * longest <= _PADDING * apart:
        send = np.zeros((p, p, longest), dtype)  # by sender, receiver
        for i, (each, owner) in enumerate(zip(needed, owners)):
            for j in np.flatnonzero(counts[i]):
                mine = np.flatnonzero(owner == j)
                send[j, i, : mine.size] = each[mine] - j * block
                places[i][mine] = j * longest + np.arange(mine.size)
        return Halo((put(send),), None, block, p * longest, axis), places
    sends, all_pairs, start = [], [], 0
    for d in used:
        mine = [np.flatnonzero(each == d) for each in distances]
        longest = max(each.size for each in mine)
        send, pairs = np.zeros((p, longest), dtype), []
        for i in range(p):
            if mine[i].size:
                j = int(i + d) % p
                send[j, : mine[i].size] = needed[i][mine[i]] - j * block
                places[i][mine[i]] = start + np.arange(mine[i].size)
                pairs.append((j, i))
        sends.append(put(send))
        all_pairs.append(tuple(pairs))
        start += longest
    return Halo(tuple(sends), tuple(all_pairs), block, start, axis), places


class Numbered(NamedTuple):
    """The unknowns of each device: those of its block, then those it receives.

    Args:
        received: for each device the sorted elements of others that it receives.
        slots: where among what it receives they are.
        block: the size of a block.
    """

    received: Sequence[np.ndarray]
    slots: Sequence[np.ndarray]
    block: int

    def __call__(self, device: int, elements: np.ndarray) -> np.ndarray:
        """The numbers of elements; -1 of those that are not there."""
        received, q = self.received[device], self.block
        own = elements // max(q, 1) == device
        at = np.searchsorted(received, elements)
        at = np.minimum(at, max(received.size - 1, 0))
        out = np.where(own, elements - q * device, -1)
        if received.size:
            there = ~own & (received[at] == elements)
            out[there] = q + self.slots[device][at[there]]
        return out


def padded(parts: Sequence[np.ndarray], fill: int, length: int = 0) -> np.ndarray:
    """Integer arrays of unequal length as one `[p, k]`."""
    length = max(length, *(part.size for part in parts))
    largest = max(int(np.max(part, initial=0)) for part in parts)
    dtype = np.int32 if max(largest, fill) < 2**31 else np.int64
    out = np.full((len(parts), length), fill, dtype)
    for row, part in zip(out, parts):
        row[: part.size] = part
    return out
