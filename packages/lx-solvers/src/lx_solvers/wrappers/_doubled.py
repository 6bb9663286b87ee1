"""Residuals as if in twice the working precision.

By error-free transformations: a + b and a·b are each the exact sum of two floating-point
numbers (Dekker 1971, doi:10.1007/BF01397083; Ogita, Rump and Oishi 2005, algorithm 5.3,
doi:10.1137/030601818). They hold with fused multiply-add and without.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real

_HIGHEST = jax.lax.Precision.HIGHEST
_BLOCK = 32  # columns whose products are held at a time

Pair = tuple[Real[Array, "..."], Real[Array, "..."]]  # its exact sum is meant


def residual(
    b: Inexact[Array, " m"], A: Inexact[Array, "m n"], x: Inexact[Array, " n"]
) -> Inexact[Array, " m"]:
    """b - A x, rounded once: the error is of the order of eps |b - Ax| + eps² |A||x|.

    In float64 where the dtype is narrower and JAX has it, otherwise by pairs.
    """
    wide = jnp.promote_types(jnp.float64, b.dtype) if _has_float64() else b.dtype
    if jnp.finfo(b.dtype).bits < 64 and wide != b.dtype:
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
    count = max(math.ceil(n / _BLOCK), 1)
    pad = count * _BLOCK - n if count > 1 else 0
    A = jnp.pad(-A, ((0, 0), (0, pad))).reshape(m, count, -1).transpose(1, 0, 2)
    x = jnp.pad(x, (0, pad)).reshape(count, -1)

    def block(total, A_and_x):
        A, x = A_and_x
        return _add(total, _sum(_product(A, jnp.broadcast_to(x, A.shape)))), None

    (high, low), _ = jax.lax.scan(block, (b, jnp.zeros_like(b)), (A, x))
    return high + low


def _product(a: Array, b: Array) -> Pair:
    """a·b, exactly. Each factor is split into halves whose products are exact."""
    (ah, al), (bh, bl) = _split(a), _split(b)
    p = a * b
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


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
    while (n := terms[0].shape[-1]) > 1:
        terms = tuple(jnp.pad(t, ((0, 0), (0, n % 2))) for t in terms)
        half = (n + 1) // 2
        left = tuple(t[:, :half] for t in terms)
        right = tuple(t[:, half:] for t in terms)
        terms = _add(left, right)
    return tuple(jnp.sum(t, axis=-1) for t in terms)
