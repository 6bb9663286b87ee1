"""In a batch, the LAPACK calls of one solve run one after another: two at once could
deadlock on two cores."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_autodiff import linear_solve
from lx_operators import MatrixLinearOperator, positive_semidefinite_tag
from lx_solvers import LU, QR, RESULTS, SVD, Cholesky, Eigh, PivotedQR
from lx_solvers.direct._sequence import after

BATCH, N = 3, 12
SOLVERS = [LU(), QR(), Cholesky(), Eigh(), SVD(), PivotedQR()]


def solve(A, b, solver):
    operator = MatrixLinearOperator(A, positive_semidefinite_tag)
    solution = linear_solve(operator, b, solver, throw=False)
    return solution.value, solution.result == RESULTS.successful


def calls(text):
    """The LAPACK calls in the entry computation of optimised HLO, each with everything
    it depends on."""
    before, found = {}, {}
    for line in text[text.index("ENTRY") :].splitlines():
        match = re.match(r"\s*(?:ROOT )?(%[\w.-]+) = (.*)", line)
        if match:
            name, rest = match.groups()
            direct = [x for x in re.findall(r"%[\w.-]+", rest) if x in before]
            before[name] = set(direct).union(*(before[x] for x in direct))
            if "custom-call(" in rest and "lapack" in rest:
                found[name] = before[name]
    return found


def unordered(f, *args):
    found = calls(jax.jit(f).lower(*args).compile().as_text())
    assert found  # LAPACK is there to be ordered
    return [
        (x, y)
        for x in found
        for y in found
        if x < y and x not in found[y] and y not in found[x]
    ]


@pytest.fixture(scope="module")
def batch():
    B = np.random.default_rng(3).normal(size=(BATCH, N, N))
    A = jnp.asarray(B @ np.swapaxes(B, 1, 2) + np.eye(N))
    return A, jnp.asarray(B[:, 0])


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_value_and_verdict(batch, solver):
    f = jax.vmap(lambda A, b: solve(A, b, solver))
    assert unordered(f, *batch) == []


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_gradient(batch, solver):
    """Also where the cotangent does not depend on the solution."""
    f = jax.vmap(jax.grad(lambda A, b: jnp.sum(solve(A, b, solver)[0]), (0, 1)))
    assert unordered(f, *batch) == []


@pytest.mark.parametrize("solver", [QR(), PivotedQR()], ids=["QR", "PivotedQR"])
@pytest.mark.parametrize("wide", [False, True], ids=["tall", "wide"])
def test_gradient_of_rectangular(solver, wide):
    A = jnp.asarray(np.random.default_rng(4).normal(size=(BATCH, N + 2, N)))
    A = jnp.swapaxes(A, 1, 2) if wide else A

    def total(A, b):
        solution = linear_solve(MatrixLinearOperator(A), b, solver, throw=False)
        return jnp.sum(solution.value)

    assert unordered(jax.vmap(jax.grad(total, (0, 1))), A, A[:, :, 0]) == []


def test_the_check_sees_what_is_not_ordered(batch):
    def two(A, b):
        L = jnp.tril(A)
        half = jax.lax.linalg.triangular_solve
        return half(L, b, lower=True), half(2 * L, b, lower=True)

    assert len(unordered(two, batch[0], batch[0])) == 1


def test_after_is_the_identity():
    x, code = jnp.arange(6.0).reshape(2, 3), jnp.array([0, 7], jnp.int32)
    np.testing.assert_array_equal(jax.vmap(after)(x, code), x)
    np.testing.assert_array_equal(jax.vmap(after, (0, None))(x, code[0]), x)
    twice = jax.vmap(jax.vmap(after, (None, 0), 0), (0, None))
    np.testing.assert_array_equal(twice(x, code), np.stack((x, x), 1))
    assert "select" not in str(jax.make_jaxpr(jax.jit(after))(x, code[0]))
    slope = jax.vmap(jax.grad(lambda x, code: jnp.sum(after(x, code) ** 2)))
    np.testing.assert_array_equal(slope(x, code), 2 * x)
    transpose = jax.linear_transpose(lambda x: after(x, code[0]), x)
    np.testing.assert_array_equal(transpose(x)[0], x)
