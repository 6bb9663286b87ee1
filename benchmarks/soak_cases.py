"""Solves of the soak test, each checked by NumPy or SciPy.

A case is a solver, a transformation and a problem whose numbers are drawn anew each
time. Shapes and patterns are few, so that all programs are compiled in one round.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

PSD = lx.positive_semidefinite_tag
RNG = np.random.default_rng(1)
# Two batched LAPACK calls at once can hang in XLA: docs/guides/batching.md.
BATCHED = threading.Lock()


class Case(NamedTuple):
    name: str
    run: Callable[[np.random.Generator], float]
    """The largest error, relative to the largest number, of one solve."""
    tolerance: float


@functools.partial(jax.jit, static_argnums=(0, 1))
def _solved(build: Any, solver: Any, values: Any, b: Any, given: Any) -> Any:
    return lx.linear_solve(build(values, given), b, solver, throw=False).value


def _eagerly(build: Any, solver: Any, values: Any, b: Any, given: Any) -> Any:
    return lx.linear_solve(build(values, given), b, solver).value


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gradient(build: Any, solver: Any, values: Any, b: Any, given: Any, w: Any) -> Any:
    def value(values: Any, b: Any) -> Any:
        x = lx.linear_solve(build(values, given), b, solver, throw=False).value
        return jnp.sum(w * x)

    return jax.grad(value, (0, 1))(values, b)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _tangent(build: Any, solver: Any, values: Any, b: Any, given: Any, w: Any) -> Any:
    def value(values: Any, b: Any) -> Any:
        return lx.linear_solve(build(values, given), b, solver, throw=False).value

    return jax.jvp(value, (values, b), (w * jnp.ones_like(values), b))[1]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _many(build: Any, solver: Any, values: Any, b: Any, given: Any) -> Any:
    solve = functools.partial(_solved, build, solver)
    return jax.vmap(solve, in_axes=(0, 0, None))(values, b, given)


def error(got: Any, want: Any) -> float:
    got = np.asarray(got)
    scale = max(np.max(np.abs(want), initial=0), 1e-30)
    return float(np.max(np.abs(got - want), initial=0) / scale)


TRANSFORMATIONS = ("eager", "jit", "grad", "jvp", "vmap")


def check(
    how: str,
    build: Any,
    solver: Any,
    draw: Callable[[np.random.Generator], tuple[np.ndarray, Any]],
    given: Any,
    coordinates: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> float:
    """One solve under a transformation, and its error.

    Args:
        how: one of `TRANSFORMATIONS`.
        build: from values and `given` to an operator.
        draw: values, and the matrix they make.
        coordinates: rows and columns of the values, for derivatives.
    """
    values, A = draw(rng)
    n = A.shape[0]
    b, w = rng.normal(size=(2, n))
    solve = spla.factorized(A.tocsc()) if sp.issparse(A) else _dense_solve(A)
    x = solve(b)
    if how in ("eager", "jit"):
        run = _eagerly if how == "eager" else _solved
        return error(run(build, solver, values, b, given), x)
    i, j = coordinates
    if how == "grad":
        g, gb = _gradient(build, solver, values, b, given, w)
        back = spla.factorized(A.T.tocsc()) if sp.issparse(A) else _dense_solve(A.T)
        z = back(w)
        return max(error(gb, z), error(g.reshape(-1), -z[i] * x[j]))
    if how == "jvp":
        got = _tangent(build, solver, values, b, given, 0.5)
        dA_x = np.bincount(i, 0.5 * x[j], n)
        return error(got, solve(b - dA_x))
    with BATCHED:
        more = [draw(rng) for _ in range(3)]
        stacked = np.stack([each for each, _ in more])
        got = jax.block_until_ready(
            _many(build, solver, stacked, np.stack([b, w, b]), given)
        )
    wants = [_solve(A, v) for (_, A), v in zip(more, (b, w, b))]
    return max(error(x, want) for x, want in zip(got, wants))


def _dense_solve(A: np.ndarray) -> Callable:
    return functools.partial(np.linalg.solve, A)


def _solve(A: Any, b: np.ndarray) -> np.ndarray:
    return np.asarray(
        spla.spsolve(A.tocsc(), b) if sp.issparse(A) else _dense_solve(A)(b)
    )


def _dense(values: Any, given: Any) -> Any:
    return lx.MatrixLinearOperator(values)


def _definite(values: Any, given: Any) -> Any:
    return lx.MatrixLinearOperator(values, PSD)


def _sparse(values: Any, pattern: Any) -> Any:
    return lx.SparseLinearOperator(values, pattern)


def _sparse_definite(values: Any, pattern: Any) -> Any:
    return lx.SparseLinearOperator(values, pattern, PSD)


def _stencil(values: Any, given: Any) -> Any:
    def product(x: Any) -> Any:
        padded = jnp.pad(x, 1)
        return (3 + values) * x - padded[:-2] - padded[2:]

    return lx.FunctionLinearOperator(product, values, PSD)


def patterns(count: int, n: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Random symmetric patterns: rows, columns, and where the mirrored entries are."""
    out = []
    for _ in range(count):
        A: Any = sp.random_array((n, n), density=3 / n, rng=RNG)
        A = sp.csr_array(A + A.T + sp.eye_array(n))
        A.data[:] = np.arange(A.nnz) + 1
        mirror = sp.csr_array(A.T).data.astype(int) - 1
        rows = np.repeat(np.arange(n), np.diff(A.indptr))
        out.append((rows, A.indices, mirror))
    return out


def _sparse_draw(
    rows: np.ndarray, columns: np.ndarray, mirror: np.ndarray, n: int, symmetric: bool
) -> Callable:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, Any]:
        values = rng.normal(size=rows.size)
        if symmetric:
            values = (values + values[mirror]) / 2
        off = np.bincount(rows, np.where(rows == columns, 0, np.abs(values)), n)
        values = np.where(rows == columns, 1 + off[rows], values)
        return values, sp.csr_array((values, (rows, columns)), shape=(n, n))

    return draw


def _dense_draw(n: int, definite: bool) -> Callable:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        A = rng.normal(size=(n, n))
        A = A @ A.T / n + np.eye(n) if definite else A + 3 * np.sqrt(n) * np.eye(n)
        return A, A

    return draw


def _stencil_draw(n: int) -> Callable:
    def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        d = rng.uniform(0, 1, n)
        return d, np.diag(3 + d) - np.eye(n, k=1) - np.eye(n, k=-1)

    return draw


TIGHT: Any = {"rtol": 1e-11, "atol": 0.0}


def cases() -> Iterator[Case]:
    """All combinations."""
    n = 24
    i, j = np.indices((n, n))
    whole = i.reshape(-1), j.reshape(-1)
    for name, solver, definite in [
        ("LU", lx.LU(), False),
        ("QR", lx.QR(), False),
        ("Cholesky", lx.Cholesky(), True),
        ("AutoLinearSolver", lx.AutoLinearSolver(well_posed=True), False),
    ]:
        build, draw = _definite if definite else _dense, _dense_draw(n, definite)
        # the gradient of a factorisation that reads one triangle is symmetric
        hows = [how for how in TRANSFORMATIONS if not (definite and how == "grad")]
        for how in hows:
            run = functools.partial(check, how, build, solver, draw, None, whole)
            yield Case(f"{name}, dense, {how}", run, 1e-8)
    n = 40
    where = np.arange(n), np.arange(n)
    for how in TRANSFORMATIONS:
        solver = lx.CG(**TIGHT)
        run = functools.partial(
            check, how, _stencil, solver, _stencil_draw(n), None, where
        )
        yield Case(f"CG, function, {how}", run, 1e-7)
    n = 300
    for k, (rows, columns, mirror) in enumerate(patterns(3, n)):
        pattern = lx.SparsityPattern(rows, columns, (n, n))
        for name, solver, definite in [
            ("SparseLU", lx.SparseLU(), False),
            ("SparseCholesky", lx.SparseCholesky(), True),
            ("CG", lx.CG(**TIGHT, preconditioner=lx.Jacobi()), True),
            ("CG at once", lx.CG(**TIGHT, single_reduction=True), True),
            ("GMRES", lx.GMRES(**TIGHT), False),
            ("BiCGStab", lx.BiCGStab(**TIGHT, preconditioner=lx.Jacobi()), False),
            ("MINRES", lx.MINRES(**TIGHT), True),
            ("LSMR", lx.LSMR(**TIGHT), False),
        ]:
            build = _sparse_definite if definite else _sparse
            draw = _sparse_draw(rows, columns, mirror, n, definite)
            for how in TRANSFORMATIONS[k : k + 3]:
                run = functools.partial(
                    check, how, build, solver, draw, pattern, (rows, columns)
                )
                yield Case(f"{name}, pattern {k}, {how}", run, 1e-6)
