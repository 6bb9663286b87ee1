"""What a solve says of itself: matrices that other libraries get wrong in silence."""

import importlib.util
import logging
from fractions import Fraction

import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
import pytest
import scipy.sparse as sp
from lx_autodiff import linear_solve
from lx_solvers.sparse._superlu import SuperLU

BACKENDS = ["superlu"] + ["rslab"] * (importlib.util.find_spec("rslab") is not None)
each_backend = pytest.mark.parametrize("backend", BACKENDS)
DEFINITE = lxo.positive_semidefinite_tag
SYMMETRIC = lxo.symmetric_tag


def grid(n, dtype="float64", neumann=False):
    """The five-point Laplacian."""
    T = sp.diags_array(
        [-np.ones(n - 1), 2 * np.ones(n), -np.ones(n - 1)], offsets=[-1, 0, 1]
    )
    T = T.tolil()
    if neumann:
        T[0, 0] = T[-1, -1] = 1
    eye = sp.eye_array(n)
    return sp.csr_array(sp.kron(eye, T) + sp.kron(T, eye)).astype(dtype)


def status(A, b, solver, tags=()):
    operator = lxo.SparseLinearOperator.from_scipy(sp.csr_array(A), tags)
    b = jnp.asarray(b, operator.values.dtype)
    return linear_solve(operator, b, solver, throw=False)


@each_backend
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_singular_up_to_rounding(backend, dtype):
    """With Neumann sides the constants are null vectors, and factors exist all the
    same. A multiple of the identity makes it regular again."""
    A = grid(20, dtype, neumann=True)
    b = np.random.default_rng(0).standard_normal(400)
    for solver, tags in (
        (lx.SparseLU(backend), ()),
        (lx.SparseCholesky(backend), DEFINITE),
    ):
        told = status(A, b, solver, tags).status
        assert told in ("singular", "not_definite")[: 1 + bool(tags)]
        shifted = A + np.asarray(1e-4, dtype) * sp.eye_array(400, dtype=dtype)
        assert status(shifted, b, solver, tags).status == "successful"


@each_backend
def test_graded_rows_are_no_failure(backend):
    """Rows from 1e-12 to 1e12 with vectors that are not: a residual that is small in
    the scaled system is refined until it is small in the given one."""
    rng = np.random.default_rng(0)
    mask = (rng.random((12, 12)) < 0.25) | np.eye(12, dtype=bool)
    pattern = lxo.SparsityPattern.from_dense(mask)

    @jax.jit
    @jax.vmap
    def successful(values, b):
        operator = lxo.SparseLinearOperator(values, pattern)
        return linear_solve(operator, b, lx.SparseLU(backend), throw=False).successful

    for seed in range(6):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=(40, pattern.size))
        values *= 10.0 ** rng.uniform(-12, 12, (40, 12))[:, np.asarray(pattern.rows)]
        assert successful(values, rng.normal(size=(40, 12))).all()


@each_backend
def test_graded(backend):
    """Rows, columns, and both, from 1e-12 to 1e12."""
    A = grid(10).toarray() + np.diag(np.linspace(0, 1, 100))
    scale = np.geomspace(1e-12, 1e12, 100)
    x = np.random.default_rng(0).standard_normal(100)
    for rows, columns in ((scale, 1), (1, scale), (scale, scale)):
        graded = np.reshape(rows, (-1, 1)) * A * columns
        solution = status(graded, graded @ (x / columns), lx.SparseLU(backend))
        assert solution.status == "successful"
        np.testing.assert_allclose(solution.value * columns, x, rtol=1e-6)
    graded = scale[:, None] * A * scale
    solution = status(
        graded, graded @ (x / scale), lx.SparseCholesky(backend), DEFINITE
    )
    np.testing.assert_allclose(solution.value * scale, x, rtol=1e-6)
    if backend == "rslab":  # indefinite, and graded without order
        scale = np.random.default_rng(1).permutation(scale)
        graded = scale[:, None] * (A - 2.6 * np.eye(100)) * scale
        graded = (graded + graded.T) / 2
        solution = status(graded, graded @ (x / scale), lx.SparseLDL(), SYMMETRIC)
        assert solution.status == "successful"
        np.testing.assert_allclose(solution.value * scale, x, rtol=0, atol=1e-6)


@each_backend
def test_tiny_pivots(backend):
    """Pivots on the diagonal that must not be taken."""
    A = grid(6).toarray()
    np.fill_diagonal(A, 1e-20)
    x = np.random.default_rng(0).standard_normal(36)
    A[::2, ::2] += 1e-3 * np.eye(18)
    solution = status(A, A @ x, lx.SparseLU(backend))
    condition = np.linalg.cond(A)
    assert solution.status == "successful"
    np.testing.assert_allclose(solution.value, x, rtol=0, atol=1e-15 * condition * 100)


def test_structurally_singular():
    A = grid(4).toarray()
    A[5] = 0
    A[5, 3], A[6], A[7] = 1.0, 0, 0
    A[6, 3], A[7, 3] = 2.0, 5.0  # three rows with one column
    solution = status(A, np.ones(16), lx.SparseLU())
    assert solution.status == "singular"
    assert int(solution.stats["unmatched_row"]) in (5, 6, 7)
    assert int(solution.stats["unmatched_column"]) >= 0
    empty = grid(4).tolil()
    empty[:, [9]] = 0
    solution = status(empty, np.ones(16), lx.SparseLU())
    assert solution.status == "singular"
    assert int(solution.stats["unmatched_column"]) == 9


@each_backend
def test_not_definite(backend):
    A = grid(5) - 1.0 * sp.eye_array(25)
    solution = status(A, np.ones(25), lx.SparseCholesky(backend), DEFINITE)
    assert solution.status == "not_definite"


@pytest.mark.skipif(len(BACKENDS) == 1, reason="rslab is not installed")
def test_inertia():
    A = grid(8) - 2.6 * sp.eye_array(64)
    eigenvalues = np.linalg.eigvalsh(A.toarray())
    for B in (A, A * (1 + 0j)):
        solution = status(B, np.ones(64), lx.SparseLDL(), lxo.hermitian_tag)
        wanted = [(eigenvalues > 0).sum(), (eigenvalues < 0).sum(), 0]
        assert solution.stats["inertia"].tolist() == wanted


class Broken(SuperLU):
    def factor(self, analysis, matrix, kind):
        raise self.error


class OutOfMemory(Broken):
    error = MemoryError()


class Bug(Broken):
    error = KeyError("a bug")


def test_failures_of_the_host():
    """Nothing raises but `linear_solve`, and that with the reason."""
    log = logging.getLogger("lx_solvers")
    handlers, log.handlers = log.handlers, [logging.NullHandler()]
    try:
        for backend, name in (
            (OutOfMemory(), "out_of_memory"),
            (Bug(), "host_failure"),
        ):
            solver = lx.SparseLU(backend)
            assert status(grid(3), np.ones(9), solver).status == name
            operator = lxo.SparseLinearOperator.from_scipy(grid(3))

            def run(operator=operator, solver=solver):
                return linear_solve(operator, jnp.ones(9), solver).value

            with pytest.raises(Exception, match="memory|unexpectedly"):
                run()
    finally:
        log.handlers = handlers


class Poor(SuperLU):
    """Whose factors are of another matrix."""

    def factor(self, analysis, matrix, kind):
        values = matrix.values * np.linspace(1, self.off, matrix.values.size)
        return super().factor(analysis, matrix._replace(values=values), kind)


class Slightly(Poor):
    off = 1 + 1e-6


class Far(Poor):
    off = 30.0


def test_bad_factors_are_refined_or_said_to_be_bad():
    A, b = grid(6) + sp.eye_array(36), np.random.default_rng(0).standard_normal(36)
    solution = status(A, b, lx.SparseLU(Slightly()))
    assert solution.status == "successful" and int(solution.stats["refinement_steps"])
    np.testing.assert_allclose(A @ solution.value, b, atol=1e-13)
    assert status(A, b, lx.SparseLU(Far())).status != "successful"


def test_least_squares_of_deficient_rank():
    A = np.vstack([grid(3).toarray(), np.eye(9)])
    A[:, 3] = A[:, 4]
    b = np.random.default_rng(0).standard_normal(18)
    assert status(A, b, lx.SparseLeastSquares()).status == "singular"
    for M, solver in (
        (A, lx.SparseLeastSquares(damp=0.5)),
        (A.T, lx.SparseLeastSquares(0.5)),
    ):
        b = b[: len(M)]
        solution = status(M, b, solver)
        wanted = np.linalg.solve(M.T @ M + 0.25 * np.eye(M.shape[1]), M.T @ b)
        assert solution.status == "successful"
        np.testing.assert_allclose(solution.value, wanted, rtol=1e-9)


@each_backend
def test_least_squares_near_rank_deficiency(backend):
    """A row or column that depends on others, and condition numbers up to 1e12: an
    accurate solution, or a failure."""
    rng, n = np.random.default_rng(1), 12
    pattern = lxo.SparsityPattern.from_dense(np.ones((n, n)))
    solver = lx.SparseLeastSquares(backend=backend)
    truth = rng.standard_normal(n)
    for kind in ("row", "column", 1e4, 1e6, 1e8, 1e10, 1e12):
        A = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.25) + np.eye(n)
        if kind == "row":
            A[6] = A[0] + A[1]
        elif kind == "column":
            A[:, 3] = A[:, 1] + A[:, 2]
        else:
            u, s, v = np.linalg.svd(A)
            A = (u * np.geomspace(1, 1 / kind, s.size)) @ v
        operator = lxo.SparseLinearOperator(jnp.asarray(A.ravel()), pattern)
        end = linear_solve(operator, jnp.asarray(A @ truth), solver, throw=False)
        if isinstance(kind, str):
            assert end.status == "singular"
        elif end.status == "successful":
            assert np.abs(end.value - truth).max() <= 1e3 * kind * 2e-16
        else:
            assert kind > 1e6 and end.status == "singular"


def test_gradient_in_the_damping():
    A = np.vstack([grid(3).toarray(), np.eye(9)])
    operator = lxo.SparseLinearOperator.from_dense(A)
    b = jnp.asarray(np.random.default_rng(0).standard_normal(18))

    def loss(damp):
        return jnp.sum(linear_solve(operator, b, lx.SparseLeastSquares(damp)).value)

    def dense(damp):
        M = A.T @ A + damp**2 * jnp.eye(9)
        return jnp.sum(jnp.linalg.solve(M, A.T @ b))

    d = jnp.asarray(0.3)
    np.testing.assert_allclose(jax.grad(loss)(d), jax.grad(dense)(d), rtol=1e-9)


def _exact_least_squares(A, b):
    """By the normal equations in rational arithmetic."""
    A, b = ([[Fraction(x) for x in row] for row in M] for M in (A, b[:, None]))
    columns = list(zip(*A, strict=True))
    dot = lambda x, y: sum(p * q for p, q in zip(x, y, strict=True))  # noqa: E731
    M = [[dot(x, y) for y in columns] + [dot(x, [r[0] for r in b])] for x in columns]
    for k in range(len(M)):
        M[k] = [x / M[k][k] for x in M[k]]
        for i in range(len(M)):
            if i != k:
                M[i] = [x - M[i][k] * y for x, y in zip(M[i], M[k], strict=True)]
    return np.array([float(row[-1]) for row in M])


@each_backend
@pytest.mark.parametrize("damp", [0.0, 0.3])
def test_graded_least_squares(backend, damp):
    """Rows and columns of any sizes are solved accurately: a large row is a constraint,
    and does not hide an error in a small one."""
    rng, (m, k) = np.random.default_rng(0), (14, 8)
    pattern = lxo.SparsityPattern.from_dense(np.ones((m, k)))
    solver = lx.SparseLeastSquares(damp, backend=backend)
    solve = jax.jit(
        lambda values, b: linear_solve(
            lxo.SparseLinearOperator(values, pattern), b, solver, throw=False
        )
    )
    for of_rows, of_columns in ((0, 12), (6, 0), (6, 6), *3 * [(12, 0)], (12, 12)):
        c = 10.0 ** rng.uniform(-of_columns, of_columns, k)
        r = 10.0 ** rng.uniform(-of_rows, of_rows, m)
        A = r[:, None] * rng.standard_normal((m, k)) * c
        whole = np.vstack((A, damp * np.eye(k)))
        for b in (r * rng.standard_normal(m), A @ (rng.standard_normal(k) / c)):
            end = solve(A.ravel(), b)
            assert end.status == "successful"
            wanted = _exact_least_squares(whole, np.append(b, np.zeros(k)))
            np.testing.assert_allclose(end.value, wanted, rtol=1e-9)
