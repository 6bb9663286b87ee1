"""Magnitudes: largest elements, powers of two to scale by, and norms.

To multiply or divide by a power of two is exact, so scaling by one only guards against
overflow and underflow. All functions work on arrays of any floating dtype, elementwise
where they are given one, and NaN stays NaN.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact, Int, Real
from lx_operators.internal import complex_to_real_dtype

from ._sizes import is_known

# XLA for CPUs splits the reduction of a longer axis in two, and writes down all that is
# to be reduced before the first (TreeReductionRewriter).
_WINDOW = 32

# Up to so many elements, the reduction of several arrays at once is faster, although
# none of it is done in vector registers or by several threads.
_SHORT = 64

# XLA repeats what it fuses for each slice that is read, up to 15 times, and writes it
# down instead where that would be more: so often an axis can be halved.
_HALVINGS = 3


def largest(x: Inexact[Array, "..."], axis: int | None = None) -> Real[Array, "..."]:
    """max |xᵢ|; 0 for an empty array, NaN if any element is NaN.

    A complex number counts by max(|re|, |im|), which is within √2 of its modulus and
    much faster; pass `jnp.abs(x)` where the modulus itself is wanted.

    Args:
        x: an array of any shape.
        axis: the axis to reduce over; all of them by default.
    """
    sizes = _sizes(x)
    if 0 in x.shape:
        return jnp.max(sizes, axis=axis, initial=0)
    axes = range(x.ndim) if axis is None else (axis,)
    # The bits of floats ≥ 0, read as integers, have the same order, with NaN last. From
    # some thousand elements on XLA's maximum of floats drops NaNs (JAX 0.10, on
    # processors with AVX-512), and `vmap` makes many of few.
    most = _bits(sizes)
    for axis in sorted(axes, reverse=True):
        # a vector may be spread over devices, as a matrix to be factorised is not
        most = most if x.ndim == 1 else _folded(most, axis)
        most = jax.lax.reduce_max(most, (axis,))
    return jax.lax.bitcast_convert_type(most, sizes.dtype)


def largest_each(*xs: Inexact[Array, " n"]) -> tuple[Real[Array, ""], ...]:
    """`largest` of two vectors or more, of one length and precision, in one kernel:
    XLA does not split the reduction of several arrays, as it does that of one."""
    least = np.zeros((), _bits_dtype(xs[0].dtype))
    return _reduced(xs, [(jax.lax.max, least)] * len(xs))


def largest_and_least(
    x: Inexact[Array, " n"], y: Real[Array, " n"]
) -> tuple[Real[Array, ""], Real[Array, ""]]:
    """`largest(x)`, and the least of y ≥ 0, in one kernel; ∞ of nothing."""
    zero, most = np.asarray([0, np.inf], jnp.finfo(y.dtype).dtype)
    integer = _bits_dtype(y.dtype)
    starts = zero.view(integer), most.view(integer)
    most, least = _reduced((x, y), [*zip((jax.lax.max, jax.lax.min), starts)])
    return most, least


def _reduced(
    xs: tuple[Inexact[Array, " n"], ...], ways: list[tuple[Any, np.ndarray]]
) -> tuple[Real[Array, ""], ...]:
    """One reduction of the magnitudes of several vectors, each in its own way: by a
    function of two numbers' bits, from its neutral element on."""
    combine, starts = zip(*ways)
    sizes = tuple(map(_sizes, xs))
    out = jax.lax.reduce(tuple(map(_bits, sizes)), starts, _each(combine), (0,))
    return tuple(jax.lax.bitcast_convert_type(x, sizes[0].dtype) for x in out)


@functools.cache  # JAX compiles an eager reduction once for each function
def _each(ways: tuple[Any, ...]) -> Any:
    def each(some, others):
        return tuple(way(x, y) for way, x, y in zip(ways, some, others))

    return each


def _sizes(x: Inexact[Array, "..."]) -> Real[Array, "..."]:
    parts = (jax.lax.real(x), jax.lax.imag(x)) if jnp.iscomplexobj(x) else (x,)
    return functools.reduce(jax.lax.max, [jax.lax.abs(part) for part in parts])


def _folded(x: Int[Array, "..."], axis: int) -> Int[Array, "..."]:
    """An array of the same maxima along an axis, up to eight times shorter, which XLA
    computes in the kernel that reads what x is made of: the maxima of two halves, which
    may overlap, of their halves, and so on. Up to 256 elements, XLA reduces the rest in
    the same kernel; else it writes down an eighth of x, not all."""
    for _ in range(_HALVINGS):
        n = x.shape[axis]
        if not is_known(n) or n <= _WINDOW:
            break
        half = -(-n // 2)
        x = jax.lax.max(
            jax.lax.slice_in_dim(x, 0, half, axis=axis),
            jax.lax.slice_in_dim(x, n - half, n, axis=axis),
        )
    return x


def negligible(residual: Array, size: Array, u: float) -> Bool[Array, ""]:
    """Whether a residual is at most √u relative to a size; false if the size
    overflowed."""
    return (residual <= u**0.5 * size) & jnp.isfinite(size)


def binade(x: Real[Array, "..."]) -> Int[Array, "..."]:
    """The exponent of x ≥ 0, as stored: larger by one for twice the number."""
    return (_bits(x) >> jnp.finfo(x.dtype).nmant).astype(jnp.int32)


def exponent(x: Real[Array, "..."]) -> Real[Array, "..."]:
    """⌊log₂ x⌋ of normal x > 0: as the last bits of a number of which the units are
    these, so that XLA need not convert integers, in several instructions."""
    digits, zero = jnp.finfo(x.dtype).nmant, _units(x.dtype)
    bits = (_bits(x) >> digits) | zero.view(_bits_dtype(x.dtype))
    units = jax.lax.bitcast_convert_type(bits, x.dtype)
    return units - (zero + _bias(x.dtype)).astype(x.dtype)


def two_to(exponent: Real[Array, "..."]) -> Real[Array, "..."]:
    """2 to an exponent, which is rounded to a whole number: to the odd one if it is
    halfway between two, so that -x gives the reciprocal of what x gives. The result
    must be a normal number."""
    digits, zero = jnp.finfo(exponent.dtype).nmant, _units(exponent.dtype)
    bits = _bits(exponent + (zero + _bias(zero.dtype)).astype(zero.dtype)) << digits
    return jax.lax.bitcast_convert_type(bits, exponent.dtype)


def power_of_two(x: Real[Array, "..."]) -> Real[Array, "..."]:
    """The largest power of two up to x > 0, kept so far from the ends of the range that
    its reciprocal is normal; 1 where x is 0 or not finite."""
    info = jnp.finfo(x.dtype)
    exponent = _integer(((1 << info.nexp) - 1) << info.nmant, x.dtype)
    power = jax.lax.bitcast_convert_type(_bits(x) & exponent, x.dtype)
    least = 2.0 ** (info.minexp + 2)
    low, high = np.asarray([least, 1 / least], x.dtype)
    power = jax.lax.clamp(low, power, high)
    positive = jax.lax.gt(x, jax.lax.full_like(x, 0))
    usable = jax.lax.bitwise_and(positive, jax.lax.is_finite(x))
    return jax.lax.select(usable, power, jax.lax.full_like(x, 1))


def reciprocal_scale(x: Real[Array, "..."]) -> Real[Array, "..."]:
    """The reciprocal of the largest power of two up to x ≥ 0, which is 1 / x if x is a
    power of two, in so few operations on the bits of x that they can be repeated
    wherever it is used: a quotient would be one more kernel.

    The result and its reciprocal are normal numbers. Where x is 0 or not finite it is a
    number by which these are multiplied without being changed.
    """
    info = jnp.finfo(x.dtype)
    twice = 2 * _bias(x.dtype)  # stored exponents of x and 1 / x add up
    exponent = np.int32(twice) - binade(x)
    exponent = jax.lax.clamp(np.int32(1), exponent, np.int32(twice - 1))
    bits = exponent.astype(f"int{info.bits}") << info.nmant
    return jax.lax.bitcast_convert_type(bits, x.dtype)


def hypot(*sides: Array) -> Array:
    """√Σ aᵢ² of real scalars, without overflow or underflow of the squares."""
    scale = reciprocal_scale(functools.reduce(jnp.maximum, map(jnp.abs, sides)))
    return jnp.sqrt(sum((a * scale) ** 2 for a in sides)) / scale


def quotient(x: Array, y: Array) -> Array:
    """x / y of scalars, without overflow or underflow of the squares in a complex
    division."""
    if not jnp.iscomplexobj(y):
        return x / y
    # behind a barrier, as XLA would simplify (x / s) / (y / s) to (x s) / (y s)
    scale = jax.lax.optimization_barrier(reciprocal_scale(largest(y)))
    scale = scale.astype(y.dtype)
    return (x.astype(y.dtype) * scale) / (y * scale)


def dot(x: Array, y: Array) -> Inexact[Array, ""]:
    """⟨x, y⟩, conjugating x. Arrays of several axes are not reshaped."""
    axes = tuple(range(x.ndim))
    return jax.lax.dot_general(
        x.conj(),
        y,
        dimension_numbers=((axes, axes), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
    )


def real_dot(x: Array, y: Array) -> Real[Array, ""]:
    """Re ⟨x, y⟩."""
    return dot(x, y).real


def dots(*pairs: tuple[Array, Array]) -> tuple[Inexact[Array, ""], ...]:
    """⟨x, y⟩ of pairs of one shape, conjugating x: of short arrays in one kernel, as
    XLA does not split the reduction of several arrays."""
    size = pairs[0][0].size
    if not is_known(size) or size > _SHORT:
        return tuple(dot(x, y) for x, y in pairs)
    products = tuple(x.conj() * y for x, y in pairs)
    zeros = (np.zeros((), products[0].dtype),) * len(pairs)
    add = _each((jax.lax.add,) * len(pairs))
    return tuple(jax.lax.reduce(products, zeros, add, tuple(range(pairs[0][0].ndim))))


def norm2(x: Array) -> Real[Array, ""]:
    """√Σ |xᵢ|², without overflow or underflow of the squares."""
    scale = reciprocal_scale(largest(x))
    # behind a barrier, as XLA would take the scale out of the inner product of a
    # constant, which is then out of range
    scaled = jax.lax.optimization_barrier(x * scale.astype(x.dtype))
    # no quotient at the end, of which XLA would make a kernel
    return plain_norm2(scaled) * reciprocal_scale(scale)


def plain_norm2(x: Array) -> Real[Array, ""]:
    """√Σ |xᵢ|² where the largest element is near 1, or where squares may underflow."""
    return jax.lax.sqrt(real_dot(x, x))


def into_range(size: Real[Array, ""]) -> Real[Array, ""]:
    """A power of two: by how much to multiply a vector of which this is the plain norm,
    so that its squares are in range; 1 where they are."""
    powers = jnp.finfo(size.dtype).maxexp * np.asarray([-0.6, -0.36, 0.36, 0.6])
    tiny, small, large, huge = np.exp2(np.rint(powers)).astype(size.dtype)
    other = jnp.where(size <= small, huge, tiny)
    return jnp.where((size > small) & (size < large), jnp.ones_like(size), other)


def eps(dtype: np.dtype) -> float:
    """The distance from one to the next number of a real or complex dtype."""
    return float(jnp.finfo(complex_to_real_dtype(dtype)).eps)


def _bias(dtype: np.dtype) -> int:
    """The bias of stored exponents."""
    return jnp.finfo(dtype).maxexp - 1


def _units(dtype: np.dtype) -> np.ndarray:
    """The middle of those numbers of which the last bit is worth one."""
    return np.asarray(1.5 * 2.0 ** jnp.finfo(dtype).nmant, dtype)


def _bits(x: Real[Array, "..."]) -> Int[Array, "..."]:
    return jax.lax.bitcast_convert_type(x, _bits_dtype(x.dtype))


def _bits_dtype(dtype: np.dtype) -> np.dtype:
    return jnp.dtype(f"int{jnp.finfo(dtype).bits}")


def _integer(value: int, dtype: np.dtype) -> np.ndarray:
    return np.asarray(value, f"int{jnp.finfo(dtype).bits}")
