"""The systems of overlapping subdomains: a device's own unknowns, and those it receives
in a product."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact, Int

from ._division import Division
from ._halo import Halo, Numbered, halo


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

    def values(self, values: Inexact[Array, " k"], sign: float) -> Inexact[Array, " e"]:
        """The values of the entries, of one device; `sign` where padded."""
        received = self.halo.exchange(values)
        one = jnp.full_like(values, sign, shape=(1,))
        return jnp.concatenate([received, one])[self.source]


def overlapping(
    coordinates: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    numbered: Numbered,
    vector_halo: Halo,
    k: int,
    division: Division,
) -> Overlap:
    """The lists of an overlap of one layer.

    Args:
        coordinates: of each device whose lists are made here: rows, columns, and where
            the values of its entries are, by row.
        numbered: the unknowns of each device.
        vector_halo: the exchange of vectors.
        k: the number of values of each device.
        division: the devices, and which lists are made here.
    """
    q, received = numbered.block, numbered.received
    needed_rows = np.unique(np.concatenate(received))
    # the rows that some other device needs; blocks follow each other by row
    sent = [
        tuple(x[np.isin(each[0], needed_rows)] for x in each) for each in coordinates
    ]
    i, j, place = map(np.concatenate, zip(*division.gathered(sent)))
    rows, columns, wanted = [], [], []
    for d in division.own:
        starts = np.searchsorted(i, received[d])
        lengths = np.searchsorted(i, received[d], side="right") - starts
        before = np.cumsum(lengths) - lengths
        each = np.arange(lengths.sum()) + np.repeat(starts - before, lengths)
        row, column = numbered(d, i[each]), numbered(d, j[each])
        inside = column >= 0
        rows.append(row[inside])
        columns.append(column[inside])
        wanted.append(place[each[inside]])
    needed = division.gathered([np.unique(x) for x in wanted])
    exchange, slots = halo(needed, k, division)
    shared = np.zeros((division.p, vector_halo.size), bool)
    source = []
    for at, d in enumerate(division.own):
        shared[d, numbered.slots[d]] = True
        value = slots[d][np.searchsorted(needed[d], wanted[at])]
        unused = q + np.flatnonzero(~shared[d])
        row = np.concatenate([rows[at], unused])
        column = np.concatenate([columns[at], unused])
        value = np.concatenate([value, np.full(unused.size, exchange.size)])
        order = np.lexsort((column, row))
        rows[at], columns[at] = row[order], column[order]
        source.append(value[order])
    return Overlap(
        division.put_padded(rows, -1),
        division.put_padded(columns, -1),
        division.put_padded(source, 0),
        division.put_known(shared),
        exchange,
    )
