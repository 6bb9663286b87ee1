"""Bad numbers: for every input a correct answer, or a result that says it is none."""

import functools
from fractions import Fraction
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tests.faults.cases import repeatable

TIGHT: dict[str, Any] = {"rtol": 1e-6, "atol": 0.0}


class Kind(NamedTuple):
    solver: lx.AbstractLinearSolver
    shape: tuple[int, int] = (4, 4)
    tags: tuple = ()
    shaped: Any = lambda A: A  # what makes a matrix fit the tags
    operator: Any = lx.MatrixLinearOperator


def _definite(A):
    with np.errstate(all="ignore"):
        return A @ A.T + np.diag(np.abs(A).sum(0))


def _symmetric(A):
    return np.triu(A) + np.triu(A, 1).T


def _banded(A):
    return np.triu(np.tril(A, 1), -1)


KINDS = {
    "LU": Kind(lx.LU()),
    "Refined": Kind(lx.Refined(lx.LU())),
    "GMRES": Kind(lx.GMRES(**TIGHT)),
    "BiCGStab": Kind(lx.BiCGStab(**TIGHT)),
    "Cholesky": Kind(lx.Cholesky(), (4, 4), (lx.positive_semidefinite_tag,), _definite),
    "CG": Kind(lx.CG(**TIGHT), (4, 4), (lx.positive_semidefinite_tag,), _definite),
    "MINRES": Kind(lx.MINRES(**TIGHT), (4, 4), (lx.symmetric_tag,), _symmetric),
    "Eigh": Kind(lx.Eigh(), (4, 4), (lx.symmetric_tag,), _symmetric),
    "Triangular": Kind(lx.Triangular(), (4, 4), (lx.lower_triangular_tag,), np.tril),
    "Tridiagonal": Kind(lx.Tridiagonal(), (4, 4), (lx.tridiagonal_tag,), _banded),
    "Diagonal": Kind(
        lx.Diagonal(), (4, 4), (lx.diagonal_tag,), lambda A: np.diag(np.diag(A))
    ),
    "QR": Kind(lx.QR(), (5, 3)),
    "QR, wide": Kind(lx.QR(), (3, 5)),
    "PivotedQR": Kind(lx.PivotedQR(), (5, 3)),
    "SVD": Kind(lx.SVD(), (3, 5)),
    "LSMR": Kind(lx.LSMR(**TIGHT), (5, 3)),
    "Normal": Kind(lx.Normal(lx.CG(**TIGHT)), (5, 3)),
}

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0]
SPECIAL += [s * v for s in (1, -1) for v in (1e300, 1e150, 1e-150, 1e-300, 5e-324)]


@functools.cache
def _solve(name):
    kind = KINDS[name]

    @eqx.filter_jit
    def solve(A, b):
        operator = lx.MatrixLinearOperator(A, kind.tags)
        solution = lx.linear_solve(operator, b, kind.solver, throw=False)
        bad = solution.result == lx.RESULTS.nonfinite_input
        return solution.value, solution.result == lx.RESULTS.successful, bad

    return solve


@st.composite
def arrays(draw, shape):
    """Numbers of one scale, with special ones among them; some rows or columns equal or
    zero."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    x = rng.integers(-9, 10, shape) + draw(st.sampled_from([0.0, 0.0, 1e-9]))
    with np.errstate(all="ignore"):
        x = x * 10.0 ** draw(st.integers(-1, 1) | st.integers(-320, 299))
    for axis in range(len(shape)):
        i, j = (draw(st.integers(0, shape[axis] - 1)) for _ in range(2))
        match draw(st.sampled_from(["", "", "", "zero", "equal"])):
            case "zero":
                np.moveaxis(x, axis, 0)[i] = 0
            case "equal":
                np.moveaxis(x, axis, 0)[i] = np.moveaxis(x, axis, 0)[j]
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        position = tuple(draw(st.integers(0, n - 1)) for n in shape)
        x[position] = draw(st.sampled_from(SPECIAL))
    return x


@pytest.mark.parametrize("name", KINDS)
@repeatable(60)
@given(data=st.data())
def test_values(name, data):
    kind = KINDS[name]
    A = kind.shaped(data.draw(arrays(kind.shape)))
    b = data.draw(arrays(kind.shape[:1]))
    x, success, nonfinite = _solve(name)(jnp.asarray(A), jnp.asarray(b))
    A, b = _flushed(A), _flushed(b)
    if not (np.isfinite(A).all() and np.isfinite(b).all()):
        # an iterative solver does not look at A for b = 0
        assert nonfinite or (_tolerance(kind.solver) and not (b.any() or x.any()))
    else:
        assert not nonfinite
        assert not success or _solves(A, b, np.asarray(x), kind)


def _flushed(x):
    """As the compiler sees it: subnormal numbers are zero."""
    return np.where(np.abs(x) < np.finfo(float).tiny, 0.0, x)


def _exact(x):
    return np.vectorize(Fraction, otypes=[object])(x)


def _norm(x) -> Fraction:
    return max(abs(x).ravel())


def _tolerance(solver) -> float:
    """The tolerance of an iterative solver; 0 for others."""
    return getattr(getattr(solver, "inner_solver", solver), "rtol", 0)


def _solves(A, b, x, kind):
    """Whether the residual, or what of it is in the range of A, is what was asked for,
    or what a stable method leaves. In rationals: nothing overflows."""
    if not np.isfinite(x).all():
        return False
    A, b, x = map(_exact, (A, b, x))
    r, rtol = b - A @ x, Fraction(_tolerance(kind.solver))
    size = 5 * _norm(b) if rtol else _norm(A) * _norm(x) + _norm(b)
    small, lost = (
        rtol or Fraction(1e-8),
        5 * _norm(A) * Fraction(float(np.finfo(float).tiny)),
    )
    if _norm(r) <= small * size + lost:  # x may underflow
        return True
    return _norm(A.T @ r) <= _norm(A) * (10 * small * max(size, _norm(r)) + 5 * lost)
