"""Factors that their diagonals show to be nonsingular, and batches of these."""

import itertools

import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS, Cholesky
from lx_solvers.direct._factors import (
    clearly_nonsingular,
    reciprocal_condition,
    singular_below,
)

SIZES = (1, 2, 3, 10, 30, 100)


def kahan(n, angle):
    """Its diagonal tells little of its least singular value (Higham, section 8.3)."""
    c, s = np.cos(angle), np.sin(angle)
    return s ** np.arange(n)[:, None] * (np.eye(n) - c * np.triu(np.ones((n, n)), 1))


def parallel(n, distance):
    """Two columns are nearly the same, the others orthogonal: the bound is close."""
    R = np.eye(n)
    if n > 1:
        R[0, -1], R[-1, -1] = 1, distance
    return R


def candidates(n, dtype):
    """Upper triangular matrices."""
    rng = np.random.default_rng(n)
    unit = np.eye(n)
    for k in range(5):
        x = np.triu(rng.normal(size=(n, n)))
        yield 10.0**-k * x / n + unit
        yield x * np.logspace(0, -k, n)[:, None]  # graded rows
        yield x * np.logspace(-3 * k, 3 * k, n)  # graded columns, which do no harm
        yield np.linalg.qr(rng.normal(size=(n, n)))[1]
    for angle in np.linspace(0.1, 1.5, 8):
        yield kahan(n, angle)
    # on both sides of each limit
    limits = singular_below(dtype) * np.array([1.0, n**1.5])
    for limit, factor in itertools.product(
        (*limits, limits[0] ** 0.5), (0.5, 2, 8, 30)
    ):
        yield parallel(n, limit * factor)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", ["float32", "complex64"])
def test_never_what_is_singular(n, kind):
    """By the singular values in double precision, and by the estimate."""
    found = {1: 0, 2: 0}
    for R, power in itertools.product(candidates(n, kind), (1, 2)):
        if np.dtype(kind).kind == "c":
            R = R * np.exp(1j * np.arange(n * n).reshape(n, n))
        R = R.astype(kind)
        lengths = np.linalg.norm(R.astype(complex), axis=0)
        least = np.linalg.svd(R / lengths, compute_uv=False)[-1]
        lower = power == 2
        T = jnp.asarray(R.T if lower else R)
        lengths = jnp.asarray(lengths.astype("float32"))
        clear = clearly_nonsingular(jnp.diagonal(T), lengths, power=power)
        rcond, singular = reciprocal_condition(T, lengths, lower=lower, power=power)
        if clear:
            assert least > 1.1 * singular_below(kind) ** (1 / power)
            assert not singular
            assert rcond > singular_below(kind)
            found[power] += 1
    assert all(count > 4 for count in found.values())


def test_the_bound_is_close():
    """det M / √e, for matrices of the least singular value that det M allows."""
    for n in SIZES[1:]:
        M = parallel(n, 1e-3)
        M /= np.linalg.norm(M, axis=0)
        bound = np.prod(np.diagonal(M)) / np.e**0.5
        least = np.linalg.svd(M, compute_uv=False)[-1]
        assert bound <= least <= 1.2 * bound * np.e**0.5 / 2**0.5


def test_what_is_not_a_number_is_not_clear():
    for bad in (np.nan, np.inf, 0.0):
        diagonal = jnp.asarray([1.0, bad])
        assert not clearly_nonsingular(diagonal, jnp.abs(diagonal))


def solve(A, b):
    operator = lo.MatrixLinearOperator(A, lo.positive_semidefinite_tag)
    solver = Cholesky()
    x, result, stats = solver.compute(solver.init(operator, {}), b, {})
    return x, result, stats["reciprocal_condition"]


def members():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 20))
    good = X @ X.T + 20 * np.eye(20)
    v = np.linalg.qr(X)[0]
    poor = (v * np.logspace(0, -12, 20)) @ v.T
    ones, indefinite, bad = np.ones((20, 20)), good.copy(), good.copy()
    indefinite[3, 3] = -1.0
    bad[5, 2] = np.nan
    infinite = good.copy()
    infinite[7, 7] = np.inf
    return dict(
        good=good, poor=poor, ones=ones, indefinite=indefinite, bad=bad, inf=infinite
    )


@pytest.mark.parametrize("names", [("good",), tuple(members())], ids=["clear", "all"])
def test_a_batch_is_judged_as_each_member(names):
    every = members()
    A = jnp.asarray(np.stack([every[name] for name in (*names, "good")]))
    b = jnp.ones(A.shape[:2])
    x, result, rcond = jax.jit(jax.vmap(solve))(A, b)
    alone = jax.jit(solve)
    codes = jax.tree.leaves(result)[0]
    for i, matrix in enumerate(A):
        one, expected, figure = alone(matrix, b[i])
        assert codes[i] == jax.tree.leaves(expected)[0]
        np.testing.assert_allclose(rcond[i], figure, rtol=1e-6)
        np.testing.assert_allclose(x[i], one, rtol=1e-6)
    twice = jax.jit(jax.vmap(jax.vmap(solve)))(A[None], b[None])
    np.testing.assert_allclose(twice[0][0], x, rtol=1e-6)
    np.testing.assert_array_equal(jax.tree.leaves(twice[1])[0][0], codes)


def test_a_clear_batch_pays_for_two_triangular_solves():
    """Those of the answer; the two of the estimate are in a branch, and only where some
    member may be singular."""
    A = jnp.asarray(np.stack([members()["good"]] * 3))

    def status(A, b):
        x, result, _ = solve(A, b)
        return x, result == RESULTS.successful

    lowered = jax.jit(jax.vmap(status)).lower(A, jnp.ones(A.shape[:2]))
    parts = lowered.compile().as_text().split("\nENTRY ")
    always = parts[1].count("trsm") + parts[1].count("triangular-solve(")
    assert always == 2
    assert "conditional(" in parts[1]
