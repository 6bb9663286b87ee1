"""Sums along antidiagonals, without an index."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact


def skewed(rows: Inexact[Array, "w m ..."]) -> Inexact[Array, "w w+m-1 ..."]:
    """Row r shifted by r to the right, zeros elsewhere.

    Padded to length w + m and put one after another, row r starts at r·(w + m), which
    is r after r·(w + m - 1).
    """
    w, m, *rest = rows.shape
    padding = [(0, 0), (0, w), *((0, 0) for _ in rest)]
    flat = jnp.pad(rows, padding).reshape(w * (w + m), *rest)
    return flat[: w * (w + m - 1)].reshape(w, w + m - 1, *rest)
