"""In a batch, the LAPACK calls of one solve run one after another: two at once could
deadlock on two cores."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lx_autodiff import linear_solve, slogdet
from lx_operators import (
    BlockDiagonalLinearOperator,
    KroneckerLinearOperator,
    KroneckerSumLinearOperator,
    MatrixLinearOperator,
    positive_semidefinite_tag,
)
from lx_solvers import (
    CG,
    GCRODR,
    LU,
    QR,
    RESULTS,
    SVD,
    Additive,
    BiCGStab,
    BlockJacobi,
    Cholesky,
    Eigh,
    PivotedQR,
)
from lx_solvers._sequence import after

BATCH, N = 3, 12
SOLVERS = [LU(), QR(), Cholesky(), Eigh(), SVD(), PivotedQR()]


def solve(A, b, solver):
    operator = MatrixLinearOperator(A, positive_semidefinite_tag)
    solution = linear_solve(operator, b, solver, throw=False)
    return solution.value, solution.result == RESULTS.successful


NAMES = re.compile(r"%[\w.-]+")


def calls(text):
    """The LAPACK calls of each computation of optimised HLO, loops and branches that
    have some among them; each with everything it depends on."""
    computations = {}
    for part in re.split(r"\n(?=%|ENTRY )", text):
        if match := re.match(r"(?:ENTRY )?(%[\w.-]+) ", part):
            computations[match[1]] = part.splitlines()[1:]

    @functools.cache
    def calls_lapack(name):
        return any(map(is_call, computations[name]))

    def is_call(line):
        own = "custom-call(" in line and "lapack" in line
        return own or any(
            calls_lapack(x) for x in NAMES.findall(line) if x in computations
        )

    for lines in computations.values():
        before, found = {}, {}
        for line in lines:
            if match := re.match(r"\s*(?:ROOT )?(%[\w.-]+) = (.*)", line):
                name, rest = match.groups()
                direct = [x for x in NAMES.findall(rest) if x in before]
                before[name] = set(direct).union(*(before[x] for x in direct))
                if is_call(rest):
                    found[name] = before[name]
        yield found


def unordered(f, *args):
    every = list(calls(jax.jit(f).lower(*args).compile().as_text()))
    assert any(every)  # LAPACK is there to be ordered
    return [
        (x, y)
        for found in every
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


TIGHT = {"rtol": 1e-8, "atol": 1e-8}
ITERATIVE = [
    GCRODR(restart=6, recycle=2, **TIGHT),
    BiCGStab(ell=2, **TIGHT),
    CG(preconditioner=LU(), **TIGHT),
    CG(preconditioner=Additive(BlockJacobi(3), Cholesky()), **TIGHT),
]


@pytest.mark.parametrize("solver", ITERATIVE, ids=lambda s: type(s).__name__)
def test_iterative(batch, solver):
    """Small systems in each step, and factors in a preconditioner."""
    f = jax.vmap(lambda A, b: solve(A, b, solver))
    assert unordered(f, *batch) == []


def parts(A):
    return [MatrixLinearOperator(A[i : i + 4, i : i + 4]) for i in (0, 4)]


COMPOSITES = [
    BlockDiagonalLinearOperator,
    lambda parts: KroneckerLinearOperator(*parts),
    lambda parts: KroneckerSumLinearOperator(*parts),  # Schur forms
]


@pytest.mark.parametrize("made", COMPOSITES, ids=["blocks", "product", "sum"])
def test_parts(batch, made):
    """Factors of a composite, its solves, and the gradients of both."""
    A, _ = batch

    def total(A):
        operator = made(parts(A))
        b = jax.tree.map(lambda s: jnp.ones(s.shape), operator.out_structure())
        x = linear_solve(operator, b, throw=False).value
        return sum(map(jnp.sum, jax.tree.leaves(x)))

    assert unordered(jax.vmap(jax.grad(total)), A) == []
    logdet = jax.grad(lambda A: slogdet(made(parts(A)))[1])
    assert unordered(jax.vmap(logdet), A) == []


def test_shared_vector(batch):
    """The matrices alone are a batch."""
    A, b = batch
    f = jax.vmap(jax.vmap(lambda A, b: solve(A, b, LU()), (None, 0)), (0, None))
    assert unordered(f, A, b) == []
    assert unordered(jax.vmap(jax.grad(lambda A: slogdet(dense(A))[1])), A) == []


def dense(A):
    return MatrixLinearOperator(A, positive_semidefinite_tag)


def test_the_check_sees_what_is_not_ordered(batch):
    def two(A, b):
        L = jnp.tril(A)
        half = jax.lax.linalg.triangular_solve
        return half(L, b, lower=True), half(2 * L, b, lower=True)

    def steps(A, b):
        return jax.lax.fori_loop(0, 3, lambda _, c: two(A, sum(c)), (b, b))

    for f in (two, steps):
        assert len(unordered(f, batch[0], batch[0])) == 1


def test_after_is_the_identity():
    x, code = jnp.arange(6.0).reshape(2, 3), jnp.array([0, 7], jnp.int32)
    np.testing.assert_array_equal(jax.vmap(after)(x, code), x)
    np.testing.assert_array_equal(jax.vmap(after, (0, None))(x, code[0]), x)
    np.testing.assert_array_equal(jax.vmap(after, (None, 0))(x[0], code), [x[0]] * 2)
    twice = jax.vmap(jax.vmap(after, (None, 0), 0), (0, None))
    np.testing.assert_array_equal(twice(x, code), np.stack((x, x), 1))
    by_one = jax.vmap(jax.vmap(after, (0, None)), (None, 0))  # x, then its first
    np.testing.assert_array_equal(by_one(x, code), np.stack((x, x)))
    assert "select" in str(jax.make_jaxpr(by_one)(x, code))
    assert "select" not in str(jax.make_jaxpr(jax.jit(after))(x, code[0]))
    slope = jax.vmap(jax.grad(lambda x, code: jnp.sum(after(x, code) ** 2)))
    np.testing.assert_array_equal(slope(x, code), 2 * x)
    transpose = jax.linear_transpose(lambda x: after(x, code[0]), x)
    np.testing.assert_array_equal(transpose(x)[0], x)
