"""Error bounds against errors, for systems whose exact solutions are known because they
are made of integers and powers of two."""

from fractions import Fraction

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_autodiff import error_bounds, linear_solve

CASES = 1000


def _unimodular(rng, n):
    """L and U of integers with ones on the diagonals: A = LU and A⁻¹ are integer."""
    entries = rng.choice([-2, -1, 0, 0, 1, 2], (2, n, n))
    eye = np.eye(n, dtype=int)
    return np.tril(entries[0], -1) + eye, np.triu(entries[1], 1) + eye


def _substituted(T, b, lower):
    """T⁻¹b, unit triangular, in integers."""
    x, n = b.copy(), len(b)
    for i in range(n) if lower else reversed(range(n)):
        x[i] -= T[i, :i] @ x[:i] if lower else T[i, i + 1 :] @ x[i + 1 :]
    return x


def _powers(rng, size, most):
    return 2.0 ** rng.integers(-most, most + 1, size)


def _square(rng, scale, n=12):
    """The larger the part of rank one, the worse the condition."""
    G, u, v = rng.integers(-999, 1000, (n, n)), *rng.integers(-9, 10, (2, n))
    A, x = G + 2 ** rng.integers(0, 20) * np.outer(u, v), rng.integers(-999, 1000, n)
    rows, columns = _powers(rng, n, scale), _powers(rng, n, scale)
    return rows[:, None] * A * columns, rows * (A @ x), x / columns


def _tall(rng, scale, m=14, n=9):
    """b = Ax + ρr, Aᵀr = 0."""
    L, U = _unimodular(rng, n)
    below, t = rng.integers(-3, 4, (m - n, n)), rng.integers(-3, 4, m - n)
    g = -below.T @ t  # of UᵀLᵀs
    s = _substituted(L.T, _substituted(U.T, g, lower=True), lower=False)
    A, r = np.concatenate((L @ U, below)), np.concatenate((s, t))
    assert not (A.T @ r).any()
    x, columns = rng.integers(-9, 10, n), _powers(rng, n, scale)
    return A * columns, A @ x + _powers(rng, (), 20) * r, x / columns


def _wide(rng, scale, m=9, n=14):
    """x = Aᵀw."""
    L, U = _unimodular(rng, m)
    A = np.concatenate((L @ U, rng.integers(-3, 4, (m, n - m))), axis=1)
    rows = _powers(rng, m, scale)
    x = A.T @ rng.integers(-9, 10, m)
    return rows[:, None] * A, rows * (A @ x), x


SHAPES = {"square": (_square, lxs.LU()), "tall": (_tall, lxs.QR())}
SHAPES["wide"] = (_wide, lxs.QR())


@pytest.fixture(scope="module", params=SHAPES)
def cases(request):
    """A thousand systems, their exact and computed solutions, and bounds. They are
    badly scaled where the bounds are to be elementwise."""
    make, solver = SHAPES[request.param]

    @eqx.filter_jit
    @eqx.filter_vmap
    def solved(A, b):
        operator = lxo.MatrixLinearOperator(A)
        solution = linear_solve(operator, b, solver, throw=False)
        return solution.value, {
            matrix: error_bounds(operator, b, solution, solver, matrix=matrix)
            for matrix in (True, False)
        }

    def solutions(scale):
        rng = np.random.default_rng(0)
        A, b, x = map(np.stack, zip(*(make(rng, scale) for _ in range(CASES))))
        return A, b, x, *jax.tree.map(np.asarray, solved(jnp.array(A), jnp.array(b)))

    return {True: solutions(8), False: solutions(0)}


@pytest.mark.parametrize("matrix", [True, False])
def test_bounds(cases, matrix):
    """The bound holds in all but one case of a thousand, and is within a factor of a
    hundred in the median."""
    _, _, x, got, bounds = cases[matrix]
    order = np.inf if matrix else 2
    bound = bounds[matrix].forward_error
    error = np.linalg.norm(got - x, order, 1) / np.linalg.norm(got, order, 1)
    assert np.sum(error <= bound) >= 0.999 * CASES
    wrong = error > 0
    assert wrong.sum() > CASES / 2
    assert np.median(bound[wrong] / error[wrong]) <= 100


def test_figures(cases):
    """Backward error and condition are what they are said to be: the one exactly, the
    other by the inverse, which the estimate does not miss by much."""
    A, b, _, got, bounds = cases[True]
    if A.shape[1] != A.shape[2]:
        return  # defined by an auxiliary vector
    found = bounds[True]
    for i in range(20):
        fractions = np.vectorize(Fraction)
        exact_A, exact_b, exact_x = map(fractions, (A[i], b[i], got[i]))
        r = abs(exact_b - exact_A @ exact_x)
        ratio = max(r / (abs(exact_A) @ abs(exact_x) + abs(exact_b)))
        assert float(ratio) == pytest.approx(found.backward_error[i], rel=1e-6)
    size = np.abs(A) @ np.abs(got)[..., None] + np.abs(b)[..., None]
    condition = np.max(np.abs(np.linalg.inv(A)) @ size, (1, 2)) / np.max(abs(got), 1)
    tame = condition < 1e10
    ratio = found.condition[tame] / condition[tame]
    assert tame.sum() > CASES / 2
    assert np.all(ratio <= 1.001)
    assert np.median(ratio) > 0.999
    assert np.all(ratio > 0.3)


RNG = np.random.default_rng(0)


def _holds(operator, vector, solver, exact, **how):
    solution = linear_solve(operator, vector, solver)
    bounds = error_bounds(operator, vector, solution, solver, **how)
    order = 2 if how else np.inf
    got = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(solution.value)])
    error = np.linalg.norm(got - exact, order) / np.linalg.norm(got, order)
    bound = float(bounds.forward_error)
    assert error <= bound <= 1e4 * max(error, np.finfo(got.dtype).eps)
    return bounds


@pytest.mark.standard_promotion
@pytest.mark.parametrize("shape", [(7, 4), (4, 7), (5, 5)])
def test_single_precision(shape):
    """Complex, and complex with a real operator."""
    real, imag = RNG.standard_normal((2, *shape)).astype(np.float32)
    u, v = RNG.standard_normal((2, shape[0])).astype(np.float32)
    for A, b in ((real + 1j * imag, u + 0j), (real, u + 1j * v)):
        exact = np.linalg.lstsq(A.astype(complex), b.astype(complex))[0]
        operator = lxo.MatrixLinearOperator(jnp.array(A))
        _holds(operator, jnp.array(b), lxs.QR(), exact)


def test_pytrees_and_products():
    """What an iterative solver left over is in the bound."""
    d = {"a": jnp.arange(1.0, 4.0), "b": jnp.array([[7.0, 9.0]])}

    def fn(x):
        total = sum(jnp.sum(leaf) for leaf in jax.tree.leaves(x))
        return jax.tree.map(lambda a, b: a * b + total, d, x)

    structure = jax.eval_shape(lambda: d)
    tags = lxo.positive_semidefinite_tag
    operator = lxo.FunctionLinearOperator(fn, structure, tags)
    exact = np.linalg.solve(operator.as_matrix(), np.array([1.0, 2, 3, 7, 9]))
    solver = lxs.CG(rtol=1e-4, atol=1e-4)
    bounds = _holds(operator, d, solver, exact, matrix=False)
    _holds(operator, d, solver, exact)
    assert bounds.condition == pytest.approx(np.linalg.cond(operator.as_matrix()), 2)


def test_nothing_wrong():
    """A zero solution of a zero vector; an identity."""
    operator = lxo.IdentityLinearOperator(jax.ShapeDtypeStruct((3,), jnp.float64))
    for vector in (jnp.zeros(3), jnp.arange(3.0)):
        bounds = error_bounds(operator, vector, linear_solve(operator, vector))
        assert bounds.backward_error == bounds.forward_error == 0
        assert bounds.condition <= 2


def test_printed():
    """With its figures."""
    operator = lxo.DiagonalLinearOperator(jnp.array([1.0, 2.0]))
    vector = jnp.array([3.0, 4.0])
    bounds = error_bounds(operator, vector, linear_solve(operator, vector))
    figures = "backward_error=0., condition=2., forward_error=0."
    assert repr(bounds) == f"ErrorBounds({figures})"


@pytest.mark.parametrize("solver", [lxs.LU(), lxs.PivotedQR()])
def test_deficient_rank(solver):
    """Neither a condition number nor a bound."""
    operator, vector = lxo.MatrixLinearOperator(jnp.ones((2, 2))), jnp.ones(2)
    solution = linear_solve(operator, vector, solver, throw=False)
    bounds = error_bounds(operator, vector, solution, solver)
    assert np.isposinf([bounds.condition, bounds.forward_error]).all()


def test_wrong_use():
    operator, vector = lxo.MatrixLinearOperator(jnp.eye(2)), jnp.ones((2, 3))
    many = linear_solve(operator, vector, rhs_axis=1)
    with pytest.raises(ValueError, match="`jax.vmap`"):
        error_bounds(operator, vector[:, 0], many)
    with pytest.raises(ValueError, match="what `linear_solve` returned"):
        error_bounds(operator, vector[:, 0], many.value)  # pyright: ignore
    one = linear_solve(operator, vector[:, 0])
    with pytest.raises(ValueError, match=r"`QR.init`"):
        error_bounds(operator, vector[:, 0], one, lxs.QR())
    structure = [jax.ShapeDtypeStruct((2,), d) for d in (jnp.float32, jnp.complex64)]
    mixed = lxo.IdentityLinearOperator(structure)
    zeros = [jnp.zeros(2, s.dtype) for s in structure]
    with pytest.raises(ValueError, match="all real or all complex"):
        error_bounds(mixed, zeros, linear_solve(mixed, zeros))
