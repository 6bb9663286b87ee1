"""Residuals as if in twice the working precision.

By error-free transformations: a + b is the exact sum of two floating-point numbers, and
a·b of four (Dekker 1971, doi:10.1007/BF01397083; Ogita, Rump and Oishi 2005, algorithm
5.3, doi:10.1137/030601818).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real
from lx_operators.internal import promote_types

from .._control_flow import scan
from .._sizes import is_known

_HIGHEST = jax.lax.Precision.HIGHEST
_BLOCK = 32  # columns whose products are held at a time

Pair = tuple[Real[Array, "..."], Real[Array, "..."]]  # its exact sum is meant


def residual(
    b: Inexact[Array, " m"], A: Inexact[Array, "m n"], x: Inexact[Array, " n"]
) -> Inexact[Array, " m"]:
    """b - A x, rounded once: the error is of the order of eps |b - Ax| + eps² |A||x|.

    In float64 where the dtype is narrower and JAX has it, otherwise by pairs.
    """
    wide = promote_types(jnp.float64, b.dtype) if _has_float64() else b.dtype
    if wide != b.dtype:
        product = jnp.matmul(A.astype(wide), x.astype(wide), precision=_HIGHEST)
        return (b.astype(wide) - product).astype(b.dtype)
    if not jnp.iscomplexobj(A):
        return _residual(b, A, x)
    parts = jnp.concatenate((x.real, x.imag))
    real = _residual(b.real, jnp.concatenate((A.real, -A.imag), axis=1), parts)
    imag = _residual(b.imag, jnp.concatenate((A.imag, A.real), axis=1), parts)
    return jax.lax.complex(real, imag)


def _has_float64() -> bool:
    return jnp.result_type(float) == jnp.float64


def _residual(b: Array, A: Array, x: Array) -> Array:
    m, n = A.shape
    width = max(min(n, _BLOCK), 1) if is_known(n) else _BLOCK
    count = -(-n // width)
    pad = count * width - n
    A = jnp.pad(-A, ((0, 0), (0, pad))).reshape(m, count, width).transpose(1, 0, 2)
    x = jnp.pad(x, (0, pad)).reshape(count, width)

    def block(total, A_and_x):
        A, x = A_and_x
        return _add(total, _sum(_products(A, jnp.broadcast_to(x, A.shape)))), None

    (high, low), _ = scan(block, (b, jnp.zeros_like(b)), (A, x))
    return high + low


def _products(a: Array, b: Array) -> Pair:
    """Terms, along the last axis, whose exact sum is that of all products a·b.

    The halves of the factors are so short that their products are exact: to what these
    are then added, a compiler may fuse the addition or not, and nothing changes.
    """
    (ah, al), (bh, bl) = _split(a), _split(b)
    high = jnp.concatenate((ah * bh, ah * bl, al * bh), axis=-1)
    return high, jnp.pad(al * bl, ((0, 0), (0, 2 * a.shape[-1])))


def _split(a: Array) -> Pair:
    info = jnp.finfo(a.dtype)
    high = jax.lax.reduce_precision(a, info.nexp, (info.nmant + 1) // 2 - 1)
    return high, a - high


def _sum_of_two(a: Array, b: Array) -> Pair:
    """a + b, exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _add(a: Pair, b: Pair) -> Pair:
    high, error = _sum_of_two(a[0], b[0])
    return high, a[1] + b[1] + error


def _sum(terms: Pair) -> Pair:
    """The sum over the last axis, by halves."""
    high, low = terms
    while (n := high.shape[-1]) > 1:
        even = ((0, 0), (0, n % 2))
        high, low, half = jnp.pad(high, even), jnp.pad(low, even), (n + 1) // 2
        left, right = (high[:, :half], low[:, :half]), (high[:, half:], low[:, half:])
        high, low = _add(left, right)
    return jnp.sum(high, axis=-1), jnp.sum(low, axis=-1)
