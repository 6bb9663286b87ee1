"""Discrete Fourier transforms of arrays of any number of axes, real or complex."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ._structures import is_real, promote_types, structure_of


def spectrum(
    x: Inexact[Array, "..."], shape: tuple[int, ...] | None = None
) -> Inexact[Array, "..."]:
    """The transform over all axes, padded to `shape`. For real arrays only one half,
    which determines the other."""
    shape = x.shape if shape is None else shape
    x = x.astype(promote_types(x.dtype, jnp.float32))  # there is no narrower one
    if 0 in shape or not shape:
        return x.astype(promote_types(x.dtype, jnp.complex64))
    return (
        jnp.fft.rfftn(x, shape) if is_real(structure_of(x)) else jnp.fft.fftn(x, shape)
    )


def from_spectrum(
    X: Inexact[Array, "..."], shape: tuple[int, ...], dtype: Any
) -> Inexact[Array, "..."]:
    """The inverse of `spectrum`, for arrays of this shape and dtype."""
    real = not jnp.issubdtype(dtype, jnp.complexfloating)
    if 0 in shape or not shape:
        return (X.real if real else X).astype(dtype)
    x = jnp.fft.irfftn(X, shape) if real else jnp.fft.ifftn(X, shape)
    return x.astype(dtype)


def fast_length(n: int) -> int:
    """The least 2ᵃ3ᵇ5ᶜ that is at least n: transforms of such lengths are fast."""
    best = 1 << max(n - 1, 0).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            two = three
            while two < n:
                two *= 2
            best = min(best, two)
            three *= 3
        five *= 5
    return best
