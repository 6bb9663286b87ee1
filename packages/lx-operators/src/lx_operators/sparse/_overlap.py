"""The systems of overlapping subdomains: a device's own unknowns, and those it receives
in a product."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact, Int

from ._halo import Halo, Numbered, halo, padded


class Overlap(eqx.Module):
    """The rows of the unknowns that a device receives, restricted to its subdomain.

    Attributes:
        rows, columns: of their entries, `[p, e]`, in order; -1 where they are padded.
        source: where their values are among those received; the last is 1, of unknowns
            that only pad the exchange.
        shared: which elements of what a device receives are unknowns, `[p, h]`.
        halo: the exchange of values.
    """

    rows: Int[Array, "p e"]
    columns: Int[Array, "p e"]
    source: Int[Array, "p e"]
    shared: Bool[Array, "p h"]
    halo: Halo

    def values(self, values: Inexact[Array, " k"]) -> Inexact[Array, " e"]:
        """The values of the entries, of one device."""
        received = self.halo.exchange(values)
        one = jnp.ones_like(values, shape=(1,))
        return jnp.concatenate([received, one])[self.source]


def overlapping(
    coordinates: tuple[np.ndarray, np.ndarray, np.ndarray],
    numbered: Numbered,
    vector_halo: Halo,
    k: int,
    put: Any,
) -> Overlap:
    """The lists of an overlap of one layer.

    Args:
        coordinates: rows, columns, and where the values of all entries are, by row.
        numbered: the unknowns of each device.
        vector_halo: the exchange of vectors.
        k: the number of values of each device.
        put: makes an array of one for all devices, `[p, ...]`.
    """
    i, j, place = coordinates
    p, q = len(numbered.received), numbered.block
    ends = np.searchsorted(i, np.arange(p * q + 1))
    rows, columns, wanted, shared = [], [], [], np.zeros((p, vector_halo.size), bool)
    for d, received in enumerate(numbered.received):
        lengths = ends[received + 1] - ends[received]
        before = np.cumsum(lengths) - lengths
        each = np.arange(lengths.sum()) + np.repeat(ends[received] - before, lengths)
        row, column = numbered(d, i[each]), numbered(d, j[each])
        inside = column >= 0
        rows.append(row[inside])
        columns.append(column[inside])
        wanted.append(place[each[inside]])
        shared[d, numbered.slots[d]] = True
    needed = [np.unique(x) for x in wanted]
    exchange, slots = halo(needed, k, vector_halo.axis, put)
    source = []
    for d in range(p):
        at = slots[d][np.searchsorted(needed[d], wanted[d])]
        unused = q + np.flatnonzero(~shared[d])
        row = np.concatenate([rows[d], unused])
        column = np.concatenate([columns[d], unused])
        at = np.concatenate([at, np.full(unused.size, exchange.size)])
        order = np.lexsort((column, row))
        rows[d], columns[d] = row[order], column[order]
        source.append(at[order])
    return Overlap(
        put(padded(rows, -1)),
        put(padded(columns, -1)),
        put(padded(source, 0)),
        put(shared),
        exchange,
    )
