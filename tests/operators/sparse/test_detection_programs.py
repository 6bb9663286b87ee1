"""Patterns of Jacobians of whole programs: arguments, random programs, loops, and
products of sparse operators."""

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
import scipy.sparse
from jax import lax
from lx_operators import jacobian_sparsity
from lx_operators.sparse import detection_loops

from tests.operators.sparse.patterns import N, dense, grid, mask_of, pattern_of

rng = np.random.default_rng(0)
INDICES = rng.integers(0, N, 12)


def test_pytrees_and_dtypes():
    def fn(x, args):
        a = x["a"].astype(jnp.complex64) * x["b"]
        return {"y": a, "z": jnp.real(x["b"]).sum() * args["s"][args["i"]]}

    x = {"a": jnp.zeros(2, jnp.float32), "b": jnp.zeros(2, jnp.complex64)}
    args = {"s": jnp.zeros(3, jnp.float32), "i": np.array([2]), "name": "any"}
    expected = [[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]]
    np.testing.assert_array_equal(mask_of(jacobian_sparsity(fn, x, args)), expected)
    # a structure in place of numbers
    x = jax.eval_shape(lambda: x)
    np.testing.assert_array_equal(mask_of(jacobian_sparsity(fn, x, args)), expected)


def test_indices_among_the_arguments_are_constant():
    def fn(x, indices):
        return x[indices]

    indices = jnp.array([3, 1])
    pattern = jacobian_sparsity(fn, jnp.zeros(4), indices)
    assert pattern.columns.tolist() == [3, 1]
    # traced, they may be any
    sizes = []
    jax.jit(lambda i: sizes.append(jacobian_sparsity(fn, jnp.zeros(4), i).size))(
        indices
    )
    assert sizes == [8]


def test_wide_intermediates_are_not_expanded():
    """A norm that 30 000 elements are divided by: 9e8 entries are never formed."""
    n = 30_000

    def fn(x, _):
        return jnp.sum(jnp.sin(x / jnp.linalg.norm(x)).reshape(3, -1), axis=1)

    pattern = jacobian_sparsity(fn, jnp.zeros(n))
    assert pattern.size == 3 * n
    with pytest.raises(ValueError, match="10000000000 entries"):
        jacobian_sparsity(lambda x, _: x / jnp.linalg.norm(x), jnp.zeros(100_000))


def _programs():
    """Random programs of ten operations each."""
    shift = rng.integers(1, 4, 40)
    matrices = [np.where(rng.random((N, N)) < 0.2, 1.0, 0.0) for _ in range(6)]
    steps = [
        lambda x, y, k: x * y,
        lambda x, y, k: jnp.sin(x) + y,
        lambda x, y, k: jnp.roll(x, shift[k]),
        lambda x, y, k: jnp.where(jnp.arange(N) % 3 == 0, x, y),
        lambda x, y, k: jnp.zeros(N).at[INDICES[:N]].add(x),
        lambda x, y, k: x[INDICES[:N]] * y,
        lambda x, y, k: matrices[k % 6] @ x,
        lambda x, y, k: jax.vmap(jnp.flip)(grid(x)).ravel(),
        lambda x, y, k: x.at[:3].set(y[2:5]),
        lambda x, y, k: lax.fori_loop(0, 2, lambda i, u: jnp.roll(u, 1) * y, x),
        lambda x, y, k: lax.cond(x[0] > y[0], jnp.sin, lambda z: z[::-1], x),
        lambda x, y, k: jnp.cumsum(grid(x), axis=1).ravel(),
        lambda x, y, k: lax.scan(lambda c, z: (z, c + z), x[0], y)[1],
        lambda x, y, k: jnp.floor(x) + y,
    ]
    for seed in range(8):
        chosen = np.random.default_rng(seed).integers(0, len(steps), 8)

        def fn(x, _, chosen=chosen):
            y, z = x, x[::-1] ** 2
            for k, number in enumerate(chosen):
                y, z = steps[number](y, z, k), y
            return y + z

        yield fn


@pytest.mark.parametrize("number", range(8))
def test_random_programs(number):
    fn = list(_programs())[number]
    pattern = pattern_of(fn)
    assert not np.any(dense(fn, points=5) & ~pattern)


@pytest.mark.parametrize("way", ["step by step", "doubling", "reachable"])
def test_random_loops(way, monkeypatch):
    """All ways to follow a scan, on bodies that mix at random: exact, or, where only
    what can be reached is looked at, not less; a `while_loop` is exact."""
    monkeypatch.setattr(detection_loops, "_STEPS", 999 if way[0] == "s" else -1)
    monkeypatch.setattr(detection_loops, "_ROOM", -1 if way[0] == "r" else 10**6)
    generator = np.random.default_rng(len(way))
    a, b, c, d = (
        np.where(generator.random((3, k)) < 0.4, 1.0, 0.0) for k in (3, 2, 3, 2)
    )

    def scanned(x, reverse):
        def body(state, z):
            i, u = state
            return (i + 1, a @ u + b @ z), (c @ u + d @ x[:2], z[0])

        start = 0, x[:3]
        (_, last), ys = lax.scan(body, start, x[3:].reshape(7, 2), reverse=reverse)
        return jnp.concatenate([last, ys[0].ravel(), ys[1]])

    for reverse in (False, True):
        pattern = pattern_of(scanned, reverse, 17)
        true = dense(scanned, reverse, 17, points=1)
        assert not np.any(true & ~pattern)
        assert way[0] == "r" or np.array_equal(pattern, true)

    def repeated(x, steps):
        def body(state):
            i, u = state
            return i + 1, a @ u + b @ x[3:]

        return lax.while_loop(lambda state: state[0] < steps, body, (0, x[:3]))[1]

    true = sum(dense(repeated, steps, 5, points=1) for steps in range(6)) > 0
    np.testing.assert_array_equal(pattern_of(repeated, 3, 5), true)


@pytest.mark.filterwarnings("error")
def test_products_of_sparse_operators():
    """Products with a sparse operator are known exactly, however they are laid out, in
    the vector and in the values."""
    mask = np.random.default_rng(0).random((30, 40)) < 0.1
    random = scipy.sparse.csr_array(mask.astype(float))
    banded = scipy.sparse.diags_array([1.0, 2, 3], offsets=[-1, 0, 1], shape=(30, 40))
    hub = scipy.sparse.csr_array(scipy.sparse.eye_array(300).tolil())
    hub = scipy.sparse.vstack([hub, np.ones((1, 300))])

    def batch(x, A):
        return jax.vmap(A.mv)(x.reshape(2, -1))

    for given in (random, banded, hub):
        A = lo.SparseLinearOperator.from_scipy(given)
        for operator in (A, A.T, lo.linearise(A), lo.linearise(A.T)):
            n = operator.in_size()
            true = np.asarray(operator.as_matrix()) != 0
            found = pattern_of(lambda x, _, A=operator: A.mv(x) ** 2, None, n)
            np.testing.assert_array_equal(found, true)
        found = pattern_of(batch, A, 2 * A.in_size())
        both = np.kron(np.eye(2), A.as_matrix()) != 0
        np.testing.assert_array_equal(found, both)

    def of_values(v, _):
        A = lo.SparseLinearOperator(v, pattern)
        return lo.linearise(A).mv(v[0] * jnp.ones(40)) + A.mv(jnp.ones(40))

    pattern = lo.SparsityPattern.from_scipy(random)
    true = np.asarray(pattern.rows) == np.arange(30)[:, None]
    found = pattern_of(of_values, None, pattern.size)
    true[:, 0] |= found[:, 0]
    np.testing.assert_array_equal(found, true)
    lengths = np.diff(random.indptr)
    np.testing.assert_array_equal(found[:, 0], (lengths > 0) | true[:, 0])
