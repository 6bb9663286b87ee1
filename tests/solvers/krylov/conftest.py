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
from lx_solvers.krylov.cocg import COCG
from lx_solvers.krylov.fgmres import FGMRES
from lx_solvers.krylov.gmres import GMRES
from lx_solvers.krylov.idr import IDR
from lx_solvers.krylov.lsmr import LSMR
from lx_solvers.krylov.lsqr import LSQR
from lx_solvers.krylov.minres import MINRES
from lx_solvers.krylov.symmlq import SYMMLQ

PSD, HERMITIAN = lo.positive_semidefinite_tag, lo.hermitian_tag
ALL = ("float32", "float64", "complex64", "complex128")
SOME = ("float64", "complex64")

N = 16
"""One size for nearly all systems: they share a compilation."""


class Method(NamedTuple):
    make: Callable[..., Any]
    tags: Any
    adjoint: bool
    """Each step has a product with the adjoint too."""
    start: int
    """Products before the first step, without a first guess."""
    dtypes: tuple[str, ...] = ALL
    """What is tested."""
    variant: bool = False
    """Its loop is also that of another method, or nearly so."""


def at_once(*tolerances, **parameters):
    """CG with one reduction a step."""
    return CG(*tolerances, single_reduction=True, **parameters)


METHODS = {
    "CG": Method(CG, PSD, False, 0),
    "CG, at once": Method(at_once, PSD, False, 0, SOME, variant=True),
    "BiCGStab": Method(BiCGStab, (), False, 0),
    "GMRES": Method(GMRES, (), False, 0),
    "FGMRES": Method(FGMRES, (), False, 0, SOME, variant=True),
    "MINRES": Method(MINRES, HERMITIAN, False, 1),
    "LSMR": Method(LSMR, (), True, 1),
    "LSQR": Method(LSQR, (), True, 1, SOME, variant=True),
    "IDR": Method(IDR, (), False, 0, ("complex64",), variant=True),
    "SYMMLQ": Method(SYMMLQ, HERMITIAN, False, 1, ("complex64",), variant=True),
    "COCG": Method(COCG, lo.symmetric_tag, False, 0, ("complex64",), variant=True),
}

_NAMES = (
    "successful",
    "max_steps_reached",
    "singular",
    "breakdown",
    "stagnation",
    "conlim",
    "nonfinite_input",
    "stopped",
)
RESULT_NAMES = {RESULTS[getattr(RESULTS, name)]: name for name in _NAMES}


def each_loop(test):
    """Marks a test that runs for one of two methods with a common loop, as the steps do
    not matter."""
    test.each_loop = True
    return test


def pytest_generate_tests(metafunc):
    """Tests of one method run in one process, which compiles its loop once."""
    wanted = [key for key in ("name", "dtype") if key in metafunc.fixturenames]
    if "name" in wanted:
        cases = [
            (name, np.dtype(dtype))[: len(wanted)]
            for name, method in METHODS.items()
            if not (method.variant and hasattr(metafunc.function, "each_loop"))
            for dtype in method.dtypes[: None if "dtype" in wanted else 1]
        ]
        group = pytest.mark.xdist_group
        values = [pytest.param(*case, marks=group(case[0])) for case in cases]
        ids = ["-".join(map(str, case)) for case in cases]
        metafunc.parametrize(wanted, values, ids=ids)


@pytest.fixture
def method(name):
    return METHODS[name]


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
def suited(spectral, draw):
    """An easy matrix of size n, such as the method is made for."""

    def suited(name, dtype, n=N):
        if name.startswith("CG"):
            return spectral(dtype, np.linspace(1, 5, n))
        if name in ("MINRES", "SYMMLQ"):
            values = np.linspace(1, 3, n)
            return spectral(dtype, np.where(np.arange(n) % 3 == 0, -values, values))
        if name in ("LSMR", "LSQR"):
            return spectral(dtype, np.linspace(1, 4, n), (n, n))
        if name == "COCG":
            q = np.linalg.qr(draw(np.float64, n, n))[0]
            values = np.linspace(1, 2, n) * np.linspace(1, 1j, n)
            a = (q * (values if np.dtype(dtype).kind == "c" else abs(values))) @ q.T
            return ((a + a.T) / 2).astype(dtype)
        a = 2 * np.eye(n) + 0.5 * spectral(dtype, np.linspace(0.5, 1, n), (n, n))
        return a.astype(dtype)

    return suited


@eqx.filter_jit
def compute(solver, state, vector, options):
    return solver.compute(state, vector, options)


def traced(solver, size):
    """The numbers of a solver as arrays, so that one compilation serves them all; but
    no damping stays none."""
    if solver.max_steps is None:
        limit = attrgetter("max_steps")
        solver = eqx.tree_at(limit, solver, 10 * size, is_leaf=lambda x: x is None)
    arrays = jax.tree.map(jnp.asarray, solver)
    if getattr(solver, "damp", None) == 0:
        arrays = eqx.tree_at(attrgetter("damp"), arrays, 0.0)
    return arrays


class Outcome(NamedTuple):
    x: Any
    result: str
    """Its name."""
    steps: int
    stats: dict[str, Any]


def outcome(x, result, stats):
    x, stats = jax.tree.map(np.asarray, (x, stats))
    return Outcome(x, RESULT_NAMES[RESULTS[result]], int(stats["num_steps"]), stats)


@pytest.fixture
def run():
    """A solve, compiled once for arguments of the same shapes and dtypes."""

    def run(solver, matrix, vector, tags=(), **options):
        operator = matrix
        if not isinstance(matrix, lo.AbstractLinearOperator):
            operator = lo.MatrixLinearOperator(jnp.asarray(matrix), tags)
        if not solver.history:
            solver = traced(solver, operator.in_size())
        state = solver.init(operator, options)
        vector = jax.tree.map(jnp.asarray, vector)
        return outcome(*compute(solver, state, vector, options))

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


def tolerance(dtype):
    return 1e-4 if np.finfo(dtype).bits == 32 else 1e-9


def krylov_minimum(a, b, steps):
    """min ‖b - A x‖ over the Krylov space, by an orthonormal basis of it."""
    basis = []
    v = b
    for _ in range(steps):
        for u in basis * 2:
            v = v - np.vdot(u, v) * u
        basis.append(v / np.linalg.norm(v))
        v = a @ basis[-1]
    q = np.stack(basis, 1)
    return q @ np.linalg.lstsq(a @ q, b, rcond=None)[0]


def stable(a, x, b, eps=2.0**-52, c=32):
    """Whether x is a backward stable solution, by NumPy, and not too large: within what
    a lower bound of ‖A‖ allows."""
    norm = np.linalg.norm
    size = norm(a, 2) * norm(x)
    error = norm(b - a @ x) / (size + norm(b))
    return error <= c * eps and eps * size <= 0.3 * norm(b)
