"""Magnitudes: largest elements, powers of two, norms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_solvers._scaling import (
    binade,
    dot,
    exponent,
    hypot,
    largest,
    norm2,
    power_of_two,
    quotient,
    reciprocal_scale,
    two_to,
)

REAL = ("float32", "float64")
ALL = (*REAL, "complex64", "complex128")


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("size", [3, 700, 100_000])
def test_largest(dtype, size):
    """Also of long vectors, where XLA's own maximum drops NaNs on some processors."""
    x = np.linspace(-1, 0.5, size).astype(dtype)
    assert jax.jit(largest)(jnp.asarray(x)) == 1
    for bad in (np.nan, np.inf, -np.inf):
        for place in (0, size // 2, size - 1):
            y = x.copy()
            y[place] = bad
            np.testing.assert_equal(float(jax.jit(largest)(y)), abs(bad))
    if np.iscomplexobj(x):
        y = x.copy()
        y[1] = complex(0, np.nan)
        assert np.isnan(jax.jit(largest)(y))
        assert largest(jnp.asarray([3 - 4j], dtype)) == 4  # not the modulus


@pytest.mark.parametrize("dtype", ALL)
def test_largest_of_each(dtype):
    """Of many short vectors, which `vmap` makes one array of."""
    x = np.ones((1500, 12), dtype)
    for bad in (np.nan, np.inf):
        for row, place in ((0, 0), (7, 5), (1499, 11)):
            x[row, place] = bad
        wanted = np.abs(x).max(1)
        np.testing.assert_array_equal(jax.jit(jax.vmap(largest))(x), wanted)


def test_largest_along_an_axis():
    for shape in ((300, 5), (33, 67), (7, 129)):  # folded an even and an odd number
        x = np.random.default_rng(0).normal(size=shape)
        x[6, 2] = np.nan
        for axis in (0, 1):
            wanted = np.abs(x).max(axis)  # NumPy's maximum keeps NaNs
            np.testing.assert_array_equal(largest(jnp.asarray(x), axis), wanted)
        x[6, 2] = 0
        assert largest(jnp.asarray(x)) == np.abs(x).max()
    assert largest(jnp.zeros((0, 3)), 0).shape == (3,)
    assert largest(jnp.zeros(0)) == 0


@pytest.mark.parametrize("dtype", REAL)
def test_power_of_two(dtype):
    """One rounding, down, also for `reciprocal_scale`; elementwise."""
    info = np.finfo(dtype)
    x = [1.0, 1.5, 3.9, 4.0, 1e-20, 1e20, float(info.max), float(info.tiny)]
    x = np.asarray(x, dtype)
    powers = np.asarray(power_of_two(jnp.asarray(x)))
    assert (np.frexp(powers)[0] == 0.5).all()
    assert (1 / powers >= info.tiny).all() and np.isfinite(1 / powers).all()
    inner = (x > 1e-30) & (x < 1e30)
    assert ((powers <= x) & (x < 2 * powers))[inner].all()
    np.testing.assert_array_equal(
        np.asarray(reciprocal_scale(jnp.asarray(x)))[inner], 1 / powers[inner]
    )
    for bad in (0.0, np.nan, np.inf):
        bad = jnp.asarray(bad, dtype)
        assert power_of_two(bad) == 1
        np.testing.assert_equal(float(reciprocal_scale(bad) * bad), float(bad))


def test_binade():
    x = jnp.array([0.0, 1e-300, 0.5, 1.0, 1.99, 2.0, 1e300, jnp.inf, jnp.nan])
    codes = [int(binade(z)) for z in x]
    assert codes == sorted(codes)
    assert codes[3] == codes[4] == codes[5] - 1 == codes[2] + 1


@pytest.mark.parametrize("dtype", REAL)
def test_exponents(dtype):
    info = np.finfo(dtype)
    k = np.arange(info.minexp, info.maxexp).astype(dtype)
    powers = np.ldexp(np.ones_like(k), k.astype(int))
    np.testing.assert_array_equal(two_to(jnp.asarray(k)), powers)
    for factor in (1, 1.5, 2 - 2 * info.eps):
        x = jnp.asarray(powers * np.asarray(factor, dtype))
        np.testing.assert_array_equal(exponent(x), k)
    # the nearest whole number, of two the odd one, so that -x has the reciprocal
    x = jnp.asarray(np.arange(-99, 99) / 8, dtype)
    whole = np.where(x % 1 == 0.5, 2 * np.floor(x / 2) + 1, np.round(x))
    np.testing.assert_array_equal(two_to(x), np.exp2(whole))
    np.testing.assert_array_equal(two_to(x) * two_to(-x), np.ones_like(x))


@pytest.mark.parametrize("dtype", ALL)
def test_norm2(dtype):
    x = np.array([3.0, -4.0, 0.0]).astype(dtype)
    with jax.numpy_dtype_promotion("strict"):
        for scale in (1e-30, 1.0, 1e30):
            scaled = jnp.asarray((x * scale).astype(dtype))
            assert float(norm2(scaled)) == pytest.approx(5 * scale)
    assert norm2(jnp.zeros(3, dtype)) == 0
    assert norm2(jnp.zeros(0, dtype)) == 0
    assert np.isnan(norm2(jnp.array([1.0, np.nan], dtype)))


@pytest.mark.parametrize("dtype", ALL)
def test_norm2_of_constants(dtype):
    """Of a program: no scale is taken out of the inner product, where it overflows."""
    info = np.finfo(dtype)
    for size in (0.0, float(info.max) ** 0.9, float(info.tiny) ** 0.9):
        x = np.asarray([3 * size, -4 * size, 0], dtype)
        for constant in (x, np.full(25, size, dtype)):
            norm = jax.jit(lambda constant=constant: norm2(jnp.asarray(constant)))()
            assert float(norm) == pytest.approx(5 * size, rel=1e-5, abs=0)


def test_scalars():
    tiny, huge = jnp.float32(1e-30), jnp.float32(1e30)
    assert hypot(3 * tiny, 4 * tiny) == pytest.approx(5e-30)
    assert hypot(3 * huge, 4 * huge) == pytest.approx(5e30)
    z = jnp.complex64((3 + 4j) * 1e-30)
    assert complex(jax.jit(quotient)(z, z)) == pytest.approx(1)
    assert complex(jax.jit(quotient)(jnp.complex64(1), z)) == pytest.approx(
        1 / (3 + 4j) * 1e30, rel=1e-6
    )
    with jax.numpy_dtype_promotion("strict"):
        assert complex(quotient(jnp.float32(1), z)) == pytest.approx(
            1 / (3 + 4j) * 1e30, rel=1e-6
        )
    assert complex(dot(jnp.array([1j, 2.0]), jnp.array([1.0, 1j]))) == 1j


@pytest.mark.parametrize("shape", [(100, 50, 50), (8, 300, 500)])
def test_largest_of_a_matrix_keeps_no_copy(shape):
    """A batch with temporaries above 32 MiB is given fresh memory on every call."""
    A = jax.ShapeDtypeStruct(shape, jnp.float64)
    for axis in (0, 1, None):
        program = jax.jit(jax.vmap(lambda A, axis=axis: largest(A, axis))).lower(A)
        used = program.compile().memory_analysis()
        assert used.temp_size_in_bytes < math.prod(shape) * 8 / 4
