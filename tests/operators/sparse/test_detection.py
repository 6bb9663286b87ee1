"""Patterns of Jacobians, operation by operation: against dense Jacobians at many
points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from lx_operators import jacobian_sparsity

from tests.operators.sparse.patterns import N, dense, grid, mask_of, pattern_of

rng = np.random.default_rng(0)
INDICES = rng.integers(0, N, 12)
WEIGHTS = np.where(rng.random((N, N)) < 0.3, rng.normal(size=(N, N)), 0.0)
MASK = rng.random(N) < 0.5
COUNTS = np.arange(8.0)


def _image(x):
    return x.reshape(1, 1, 2, 4)


def _stencil(x, _):
    v = jnp.pad(grid(x), 1)
    return 4 * grid(x) - v[:-2, 1:-1] - v[2:, 1:-1] - v[1:-1, :-2] - v[1:-1, 2:]


@jax.custom_jvp
def _square(x):
    return x**2


@_square.defjvp
def _(primals, tangents):
    return _square(*primals), 2 * primals[0] * tangents[0]


@jax.custom_vjp
def _shifted(x, y):
    return x[1:] * y[:-1], jnp.sin(y)


_shifted.defvjp(
    lambda x, y: (_shifted(x, y), (x, y)),
    lambda saved, g: (
        jnp.pad(g[0] * saved[1][:-1], (1, 0)),
        jnp.pad(g[0] * saved[0][1:], (0, 1)) + g[1] * jnp.cos(saved[1]),
    ),
)


@jax.custom_vjp
def _power(k, x, s):
    return x**k * s


@jax.custom_vjp
def _sum_power(k, x, s):
    return x ** (k[0] + k[1]["a"]) * s


for _each in (_power, _sum_power):
    _each.defvjp(
        lambda k, x, s: (x * s, (x, s)),
        lambda saved, g: (
            None,
            jnp.cumsum(g) * saved[0] * saved[1],
            jnp.sum(g * saved[0]),
        ),
    )


def _scanned(x, _):
    def step(carry, x):
        before, total = carry
        return (x, total + 1), (x * before, jnp.sin(x))

    (last, _), ys = lax.scan(step, (x[3] ** 2, 0.0), jnp.repeat(x, 80))
    return jnp.concatenate([ys[0], ys[1], last[None]])


def _reverse_sums(x, _):
    def step(carry, x):
        return carry + x, carry * x

    last, ys = lax.scan(step, x[0], jnp.tile(x, 64), reverse=True)
    return jnp.append(ys, last)


def _diffused(x, _):
    """Few steps of many equations: the light cone of 20 steps, never all."""
    return lax.fori_loop(0, 20, lambda i, u: u + 0.1 * jnp.sin(jnp.roll(u, 1)), x)


def _constants_in_a_loop(x, _):
    def step(carry, _):
        return carry * x[:4] + x[4:], carry[0] + x[7]

    last, ys = lax.scan(step, x[:4], None, length=600)
    return jnp.concatenate([last, ys])


def _while(x, _):
    def body(state):
        i, u, v = state
        return i + 1, u * x[2:4], v + jnp.roll(v, 1)

    i, u, v = lax.while_loop(lambda s: s[0] < 3, body, (0, x[:2], x[4:]))
    return jnp.concatenate([u, v])


def _mapped(x, _):
    return lax.map(lambda row: row[::-1] * row[0], x.reshape(4, 2))


def _written_in_a_loop(x, _):
    def body(i, y):
        return y.at[i].set(x[i] * x[(i + 1) % N])

    return lax.fori_loop(0, N, body, jnp.zeros(N))


# Patterns that are those of the dense Jacobian, exactly.
EXACT = {
    "elementwise": lambda x, _: jnp.exp(x) * jnp.arange(8.0) + x / (1 + x**2),
    "zero derivatives": lambda x, _: jnp.floor(x) + jnp.sign(x) + lax.stop_gradient(x),
    "masked": lambda x, _: jnp.where(MASK, x, x[::-1]) * COUNTS,
    "reductions": lambda x, _: jnp.stack([grid(x).sum(), grid(x)[0].prod()]),
    "scaled by norm": lambda x, _: x / jnp.linalg.norm(x),
    "reductions of axes": lambda x, _: grid(x).mean(1) + (grid(x) ** 2).sum(1),
    "logsumexp": lambda x, _: jax.nn.logsumexp(grid(x), axis=0),
    "softmax": lambda x, _: jax.nn.softmax(grid(x), axis=1),
    "stencil": _stencil,
    "moves": lambda x, _: jnp.concatenate(
        [grid(x).T.ravel()[::-2], jnp.roll(x, 3), jnp.repeat(x, 2), jnp.tile(x, 2)]
    ),
    "interior padding": lambda x, _: lax.pad(grid(x), x[0], [(1, -1, 2), (-1, 2, 0)]),
    "split": lambda x, _: jnp.split(x, [3, 5])[1] * jnp.split(x, 4)[0],
    "cumsum": lambda x, _: jnp.cumsum(grid(x), axis=1),
    "cumsum from the end": lambda x, _: lax.cumsum(x, reverse=True),
    "differences": lambda x, _: jnp.diff(x, n=2) * x[1:-1],
    "gather": lambda x, _: jnp.sin(x[INDICES]) * x[INDICES[::-1]],
    "gather of rows": lambda x, _: grid(x)[:, INDICES % 4],
    "take along an axis": lambda x, _: jnp.take_along_axis(
        grid(x), np.array([[0, 2], [3, 3]]), axis=1
    ),
    "gather out of bounds": lambda x, _: x.at[np.array([1, 20])].get(
        mode="fill", fill_value=0.0
    ),
    "scatter": lambda x, _: x.at[INDICES[:4]].add(x[4:] ** 2),
    "scatter that overwrites": lambda x, _: x.at[np.array([1, 2, 5])].set(x[:3] ** 2),
    "scatter of rows": lambda x, _: jnp.zeros((6, 4)).at[np.array([5, 0])].set(grid(x)),
    "scatter of columns": lambda x, _: grid(x).at[:, np.array([3, 3])].add(x[:2, None]),
    "segment sums": lambda x, _: jax.ops.segment_sum(
        x, np.array([0, 0, 1, 3, 1, 3, 3, 0]), 4
    ),
    "slices written": lambda x, _: lax.dynamic_update_slice(x, x[:2] ** 2, (3,)),
    "slice": lambda x, _: lax.dynamic_slice(x, (2,), (3,)) ** 2,
    "dense matrix with zeros": lambda x, _: WEIGHTS @ jnp.sin(x),
    "matrix on the right": lambda x, _: grid(x) @ WEIGHTS[:4, :3],
    "batched products": lambda x, _: jnp.einsum(
        "bij,bj->bi", WEIGHTS[:4, :4].reshape(2, 2, 4), grid(x)
    ),
    "products of both": lambda x, _: jnp.einsum("bi,bj->bij", grid(x), grid(x)),
    "full weights": lambda x, _: grid(x) @ np.ones((4, 3)),
    "convolution": lambda x, _: jnp.convolve(x, np.array([1.0, 0.0, 2.0]), "same"),
    "strided convolution": lambda x, _: lax.conv_general_dilated(
        _image(x), np.ones((3, 1, 2, 2)), (1, 2), [(1, 0), (0, 1)], rhs_dilation=(1, 2)
    ),
    "grouped convolution": lambda x, _: lax.conv_general_dilated(
        x.reshape(1, 4, 2), np.ones((4, 2, 2)), (1,), "SAME", feature_group_count=2
    ),
    "batch groups": lambda x, _: lax.conv_general_dilated(
        x.reshape(4, 1, 2), np.ones((4, 1, 2)), (1,), "SAME", batch_group_count=2
    ),
    "transposed convolution": lambda x, _: lax.conv_general_dilated(
        x.reshape(1, 2, 4),
        np.ones((2, 3, 3)),
        (1,),
        [(2, 2)],
        lhs_dilation=(2,),
        dimension_numbers=("NCH", "IOH", "NHC"),
    ),
    "kernel": lambda x, _: jnp.convolve(np.arange(1.0, 6), x, "valid"),
    "windows": lambda x, _: lax.reduce_window(
        grid(x), 0.0, lax.add, (2, 2), (1, 2), "SAME"
    ),
    "jit": lambda x, _: jax.jit(lambda x, y: (x[1:] * y[:-1], y))(x, x[::-1])[0],
    "checkpoint": lambda x, _: jax.checkpoint(lambda x: jnp.sin(x[1:]) * x[:-1])(x),
    "vmap": lambda x, _: jax.vmap(lambda r: r[:-1] * r[1:])(grid(x)),
    "vmap of gather": lambda x, _: jax.vmap(lambda r, i: r[i])(
        grid(x), np.array([[0, 1], [3, 3]])
    ),
    "custom jvp": lambda x, _: _square(x) + jax.nn.relu(x) * jax.nn.silu(x),
    "custom vjp": lambda x, _: jnp.concatenate(_shifted(x, x[::-1])),
    "custom vjp of a part": lambda x, _: _shifted(jnp.ones(8), x)[1],
    "custom vjp in jit": lambda x, _: jax.jit(_shifted)(jnp.sin(x), x)[0],
    "custom vjp with a constant": lambda x, _: _power(3, x[1:], x[0]),
    "custom vjp with constant arrays": lambda x, _: _power(
        jnp.full(7, 2.0), x[1:], x[0]
    ),
    "custom vjp with constants in a tree": lambda x, _: _sum_power(
        (jnp.arange(7), {"a": 2.0}), x[1:], x[0]
    ),
    "gradient": lambda x, _: jax.grad(lambda x: jnp.sum(x[1:] ** 2 * x[:-1]))(x),
    "gradient through pooling": lambda x, _: jax.grad(
        lambda x: jnp.sum(jnp.diff(x) ** 3)
    )(x),
    "gradient of cumulative products": lambda x, _: jax.grad(
        lambda y: jnp.sum(jnp.cumprod(y * x))
    )(jnp.ones(8)),
    "split into one": lambda x, _: jnp.split(x[::-1], 1)[0] * jnp.split(COUNTS, 1)[0],
    "gradient of products": lambda x, _: jax.grad(lambda x: grid(x).prod(1).sum())(x),
    "reshape in another order": lambda x, _: lax.reshape(grid(x), (8,), (1, 0)),
    "cond of a constant": lambda x, _: lax.cond(True, lambda x: x[::-1], jnp.sin, x),
    "scan": _scanned,
    "scan, reversed": _reverse_sums,
    "map": _mapped,
    "loop with a counter": _written_in_a_loop,
    "short loop": lambda x, _: lax.fori_loop(0, 3, lambda i, u: u * jnp.roll(u, 1), x),
    "complex inside": lambda x, _: jnp.real(lax.complex(x, x[::-1]) ** 2),
    "banded solve": lambda x, _: jax.vmap(jnp.linalg.solve)(
        np.broadcast_to(np.eye(2) + 1, (4, 2, 2)), x.reshape(4, 2)
    ),
    "no dependence": lambda x, _: jnp.ones(3),
}

# Patterns that hold all that may be nonzero; and how much of the matrix they may fill.
COVERING = {
    "branches": (
        lambda x, _: lax.cond(x[0] > 0, lambda x: x, lambda x: x[::-1], x),
        16,
    ),
    "switch": (
        lambda x, _: lax.switch(
            (x[0] > 0).astype(int), [jnp.sin, jnp.cumsum, jnp.flip], x
        ),
        40,
    ),
    "where": (lambda x, _: jnp.where(x > 0, x, x[::-1]), 16),
    "sort": (lambda x, _: jnp.sort(grid(x), axis=1), 32),
    "argsort": (lambda x, _: x[jnp.argsort(x)], 64),
    "max": (lambda x, _: jnp.max(grid(x), axis=1), 8),
    "max pooling": (
        lambda x, _: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID"),
        8,
    ),
    "gradient of max pooling": (
        lambda x, _: jax.grad(
            lambda x: jnp.sum(
                lax.reduce_window(x, -jnp.inf, lax.max, (2,), (2,), "VALID") ** 2
            )
        )(x),
        16,
    ),
    "top k": (lambda x, _: lax.top_k(grid(x), 2)[0], 16),
    "Jacobian within": (
        lambda x, _: jax.jacrev(lambda y: jnp.cumprod(y * x))(jnp.ones(8))[:, 1],
        64,
    ),
    "index that varies": (lambda x, _: x[jnp.argmax(x)] * x, 64),
    "slice that varies": (
        lambda x, _: lax.dynamic_slice(grid(x), (0, jnp.argmax(x) % 3), (2, 2)),
        16,
    ),
    "update that varies": (
        lambda x, _: lax.dynamic_update_slice(
            grid(x), x[:2, None], (0, jnp.argmax(x) % 4)
        ),
        16,
    ),
    "scatter that varies": (
        lambda x, _: grid(x).at[:, jnp.argmax(x) % 4].set(x[:2]),
        16,
    ),
    "fft": (lambda x, _: jnp.real(jnp.fft.fft(grid(x), axis=1)), 32),
    "real fft": (lambda x, _: jnp.fft.irfft(jnp.fft.rfft(grid(x)) ** 2), 32),
    "solve": (lambda x, _: jnp.linalg.solve(np.eye(8) + jnp.diag(x), x), 64),
    "cholesky": (
        lambda x, _: jax.vmap(lambda r: jnp.linalg.cholesky(jnp.diag(r**2 + 1)))(
            x.reshape(4, 2)
        ),
        32,
    ),
    "determinant": (lambda x, _: jnp.linalg.det(x.reshape(2, 2, 2)), 8),
    "eigenvalues": (
        lambda x, _: jnp.linalg.eigvalsh(
            jax.vmap(lambda a: a @ a.T)(x.reshape(2, 2, 2))
        ),
        16,
    ),
    "while": (_while, 26),
    "light cone": (_diffused, 64),
    "constants in a loop": (_constants_in_a_loop, 8 * 604),
    "long loop": (
        lambda x, _: lax.fori_loop(0, 700, lambda i, u: u.at[i % 4].mul(x[6]), x)[:6],
        36,
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact(name):
    fn = EXACT[name]
    np.testing.assert_array_equal(pattern_of(fn), _jacobian(fn, name))


def _jacobian(fn, name):
    if "custom vjp" not in name:
        return dense(fn)
    xs = [rng.normal(size=N) for _ in range(3)]  # forward mode would be a TypeError
    return sum(np.asarray(jax.jacrev(lambda x: fn(x, None))(x)) != 0 for x in xs) > 0


@pytest.mark.parametrize("name", COVERING)
def test_covering(name):
    fn, most = COVERING[name]
    pattern = pattern_of(fn)
    assert not np.any(dense(fn, points=6) & ~pattern)
    assert pattern.sum() <= most


def test_unknown_operations_are_dense_and_named():
    from jax.extend.core import Primitive
    from jax.interpreters import ad

    strange = Primitive("strange")
    strange.def_abstract_eval(lambda x: x)
    ad.deflinear2(strange, lambda ct, x: [strange.bind(ct)])

    def fn(x, _):
        return jnp.concatenate([jax.jit(strange.bind)(x[:2]), x[2:]])

    with pytest.warns(UserWarning, match="not known: strange"):
        pattern = jacobian_sparsity(fn, jnp.zeros(4))
    expected = np.eye(4, dtype=bool)
    expected[:2, :2] = True
    np.testing.assert_array_equal(mask_of(pattern), expected)
