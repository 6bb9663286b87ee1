"""What every iterative solver is tested with."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lo
import numpy as np
import pytest
from lx_solvers import RESULTS
from lx_solvers.krylov.bicgstab import BiCGStab
from lx_solvers.krylov.cg import CG
from lx_solvers.krylov.fgmres import FGMRES
from lx_solvers.krylov.gmres import GMRES
from lx_solvers.krylov.lsmr import LSMR
from lx_solvers.krylov.lsqr import LSQR
from lx_solvers.krylov.minres import MINRES

PSD, HERMITIAN = lo.positive_semidefinite_tag, lo.hermitian_tag


class Method(NamedTuple):
    make: Callable[..., Any]
    tags: Any
    adjoint: bool
    """Each step has a product with the adjoint too."""
    start: int
    """Products before the first step, without a first guess."""


METHODS = {
    "CG": Method(CG, PSD, False, 0),
    "BiCGStab": Method(BiCGStab, (), False, 0),
    "GMRES": Method(GMRES, (), False, 0),
    "FGMRES": Method(FGMRES, (), False, 0),
    "MINRES": Method(MINRES, HERMITIAN, False, 1),
    "LSMR": Method(LSMR, (), True, 1),
    "LSQR": Method(LSQR, (), True, 1),
}

_NAMES = (
    "successful",
    "max_steps_reached",
    "singular",
    "breakdown",
    "stagnation",
    "conlim",
    "nonfinite_input",
)
RESULT_NAMES = {RESULTS[getattr(RESULTS, name)]: name for name in _NAMES}


def traced(solver):
    """Tolerances and step limit as arrays, so that one compilation serves them all."""
    for field in ("rtol", "atol", "max_steps"):
        value = getattr(solver, field)
        if value is not None:
            where = attrgetter(field)
            solver = eqx.tree_at(where, solver, jnp.asarray(value))
    return solver


@eqx.filter_jit
def compute(solver, operator, vector, options):
    state = solver.init(operator, options)
    return solver.compute(state, vector, options)


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


@pytest.fixture
def method(name):
    return METHODS[name]


@pytest.fixture(params=["float32", "float64", "complex64", "complex128"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.fixture
def draw(rng):
    def draw(dtype, *shape):
        x = rng.normal(size=shape)
        if np.issubdtype(dtype, np.complexfloating):
            x = x + 1j * rng.normal(size=shape)
        return x.astype(dtype)

    return draw


@pytest.fixture
def spectral(draw):
    """A Hermitian matrix of these eigenvalues, or a matrix of these singular values."""

    def spectral(dtype, values, shape=None):
        values = np.asarray(values, float)
        wide = np.result_type(dtype, np.float64)
        m, n = shape or (values.size, values.size)
        u, _ = np.linalg.qr(draw(wide, m, values.size))
        v = u if shape is None else np.linalg.qr(draw(wide, n, values.size))[0]
        a = (u * values) @ v.conj().T
        return ((a + a.conj().T) / 2 if shape is None else a).astype(dtype)

    return spectral


@pytest.fixture
def suited(spectral):
    """An easy matrix of size n, such as the method is made for."""

    def suited(name, dtype, n):
        if name == "CG":
            return spectral(dtype, np.linspace(1, 5, n))
        if name == "MINRES":
            values = np.linspace(1, 3, n)
            return spectral(dtype, np.where(np.arange(n) % 3 == 0, -values, values))
        if name in ("LSMR", "LSQR"):
            return spectral(dtype, np.linspace(1, 4, n), (n, n))
        a = 2 * np.eye(n) + 0.5 * spectral(dtype, np.linspace(0.5, 1, n), (n, n))
        return a.astype(dtype)

    return suited


@pytest.fixture
def run():
    """A solve: the solution, the name of the result, the statistics."""

    def run(solver, matrix, vector, tags=(), **options):
        if not solver.history:
            solver = traced(solver)
        operator = matrix
        if not isinstance(matrix, lo.AbstractLinearOperator):
            operator = lo.MatrixLinearOperator(jnp.asarray(matrix), tags)
        vector = jax.tree.map(jnp.asarray, vector)
        x, result, stats = compute(solver, operator, vector, options)
        return jax.tree.map(np.asarray, x), RESULT_NAMES[RESULTS[result]], stats

    return run


@pytest.fixture
def residual():
    """‖b - A x‖∞ / ‖b‖∞, in double precision."""

    def residual(matrix, x, b):
        wide = np.result_type(matrix, np.float64)
        a, x, b = (np.asarray(z).astype(wide) for z in (matrix, x, b))
        scale = np.abs(b).max()
        return np.abs(b / scale - a @ (x / scale)).max()

    return residual
