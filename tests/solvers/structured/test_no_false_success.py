"""Operators of every structure, graded, nearly and exactly singular: what is called
successful is the solution, or has a backward error of rounding."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lxs
import mpmath
import numpy as np
import pytest

KINDS = ("plain", "rows", "columns", "near", "singular")
N = 3


class Draw:
    """Parts of one operator; in double precision, to be rounded by `put`."""

    def __init__(self, seed, dtype, kind):
        self.rng = np.random.default_rng(seed)
        self.dtype, self.kind = dtype, kind

    def normal(self, *shape):
        x = self.rng.normal(size=shape)
        if np.issubdtype(self.dtype, np.complexfloating):
            x = x + 1j * self.rng.normal(size=shape)
        return x

    def powers(self, n, most=40):
        return 2.0 ** np.round(self.rng.uniform(-most, most, n))

    def small(self):
        return 0.0 if self.kind == "singular" else 10.0 ** self.rng.uniform(-14, -2)

    def square(self, n=N):
        A = self.normal(n, n)
        if self.kind in ("near", "singular"):
            U, s, V = np.linalg.svd(A)
            s[-1] = self.small()
            A = (U * s) @ V
        rows = self.powers(n)[:, None] if self.kind == "rows" else 1
        return A * rows * (self.powers(n) if self.kind == "columns" else 1)

    def definite(self, n=N):
        U = np.linalg.qr(self.normal(n, n))[0]
        d = self.rng.uniform(0.5, 2, n)
        if self.kind in ("near", "singular"):
            d[-1] = self.small()
        s = self.powers(n, 20) if self.kind in ("rows", "columns") else np.ones(n)
        A = (U * d) @ U.conj().T * s[:, None] * s
        return (A + A.conj().T) / 2

    def put(self, x):
        return jnp.asarray(np.asarray(x).astype(self.dtype))

    def like(self, structure):
        return jax.tree.map(lambda leaf: self.put(self.normal(*leaf.shape)), structure)

    def matrix(self, x, *tags):
        return lxo.MatrixLinearOperator(self.put(x), tags)


DEFINITE = lxo.positive_semidefinite_tag


def _triangular(draw):
    A = np.tril(draw.square())
    if draw.kind in ("near", "singular"):
        A[1, 1] = draw.small()
    return draw.matrix(A, lxo.lower_triangular_tag)


def _circulant(draw):
    values = np.fft.fft(draw.normal(4))
    if draw.kind in ("near", "singular"):
        values[0] = draw.small()
    column = np.fft.ifft(values)
    real = not np.issubdtype(draw.dtype, np.complexfloating)
    return lxo.CirculantLinearOperator(draw.put(column.real if real else column))


def _toeplitz(draw):
    t = draw.normal(2 * N - 1)
    if draw.kind in ("rows", "columns"):
        t = t * draw.powers(2 * N - 1)
    if draw.kind in ("near", "singular"):
        t = 1 + draw.small() * t
    return lxo.ToeplitzLinearOperator(draw.put(t[N - 1 :]), draw.put(t[N - 1 :: -1]))


def _kronecker(draw):
    A, B = draw.square(2), draw.normal(2, 2)
    return lxo.KroneckerLinearOperator(draw.matrix(A), draw.matrix(B))


def _kronecker_definite(draw):
    A, B = draw.definite(2), draw.definite(2)
    return lxo.KroneckerLinearOperator(
        draw.matrix(A, DEFINITE), draw.matrix(B, DEFINITE)
    )


def _kronecker_sum(draw):
    A, B = np.triu(draw.square(2)), np.triu(draw.normal(2, 2))
    if draw.kind in ("near", "singular"):
        B[1, 1] = -A[0, 0] * (1 + draw.small())
    return lxo.KroneckerSumLinearOperator(draw.matrix(A), draw.matrix(B))


def _low_rank(draw):
    d, U, C = draw.normal(N), draw.normal(N, 1), np.ones((1, 1))
    s = draw.powers(N, 20) if draw.kind in ("rows", "columns") else np.ones(N)
    if draw.kind == "near":  # the update is so large that A is lost beside it
        U = U * 10.0 ** draw.rng.uniform(2, 13)
    if draw.kind == "singular":
        d, U, C = np.ones(N), np.eye(N)[:, :1], -C
    A = lxo.DiagonalLinearOperator(draw.put(d * s * s))
    return lxo.LowRankUpdateLinearOperator(A, draw.put(U * s[:, None]), draw.put(C))


def _blocks(draw):
    A = draw.square(4)
    return lxo.BlockLinearOperator(
        [[draw.matrix(A[i : i + 2, j : j + 2]) for j in (0, 2)] for i in (0, 2)]
    )


def _block_diagonal(draw):
    return lxo.BlockDiagonalLinearOperator(
        [draw.matrix(draw.square(2)), draw.matrix(draw.normal(2, 2))]
    )


AUTO = lxs.AutoLinearSolver(well_posed=True)
CASES = {
    "LU": (lxs.LU(), lambda draw: draw.matrix(draw.square())),
    "QR": (lxs.QR(), lambda draw: draw.matrix(draw.square())),
    "Cholesky": (lxs.Cholesky(), lambda draw: draw.matrix(draw.definite(), DEFINITE)),
    "Triangular": (lxs.Triangular(), _triangular),
    "Circulant": (lxs.Circulant(well_posed=True), _circulant),
    "Toeplitz": (lxs.Toeplitz(), _toeplitz),
    "Kronecker": (lxs.Kronecker(lxs.LU()), _kronecker),
    "KroneckerEigh": (lxs.KroneckerEigh(well_posed=True), _kronecker_definite),
    "Sylvester": (lxs.Sylvester(), _kronecker_sum),
    "Woodbury": (lxs.Woodbury(lxs.Diagonal(well_posed=True)), _low_rank),
    "BlockElimination": (lxs.BlockElimination(AUTO), _blocks),
    "BlockDiagonal": (lxs.BlockDiagonal(AUTO), _block_diagonal),
}


@eqx.filter_jit
def _solve(solver, operator, b):
    x, result, _ = solver.compute(solver.init(operator, {}), b, {})
    return x, result


def _exact(operator):
    """The matrix, from the operator's parts: exact where they are multiplied."""

    def dense(x):
        return mpmath.matrix(np.asarray(x).tolist())

    def of(op):
        return dense(op.as_matrix())

    def kron(A, B):
        out = mpmath.matrix(A.rows * B.rows, A.cols * B.cols)
        for i, j in np.ndindex(A.rows, A.cols):
            for k, l in np.ndindex(B.rows, B.cols):
                out[i * B.rows + k, j * B.cols + l] = A[i, j] * B[k, l]
        return out

    if isinstance(operator, lxo.KroneckerLinearOperator):
        return kron(*map(of, operator.operators))
    if isinstance(operator, lxo.KroneckerSumLinearOperator):
        A, B = map(of, operator.operators)
        return kron(A, mpmath.eye(B.rows)) + kron(mpmath.eye(A.rows), B)
    if isinstance(operator, lxo.LowRankUpdateLinearOperator):
        U, C = of(operator.U), of(operator.C)
        return of(operator.operator) + U * C * U.transpose_conj()
    return of(operator)


def _flat(x):
    leaves = (np.ravel(leaf).tolist() for leaf in jax.tree.leaves(x))
    return mpmath.matrix(sum(leaves, []))


def _errors(A, x, b):
    """The relative error of x, a bound of it for rounding errors in the elements, by
    size, and the backward error; None if A is singular."""
    try:
        inverse = A**-1
    except ZeroDivisionError:
        return None
    truth, sizes = inverse * b, A.apply(abs)
    norm = max(truth.apply(abs))
    error = max((x - truth).apply(abs)) / norm
    lost = inverse.apply(abs) * (sizes * truth.apply(abs) + b.apply(abs))
    scale = mpmath.mnorm(A, "inf") * max(x.apply(abs)) + max(b.apply(abs))
    return error, max(lost) / norm, max((b - A * x).apply(abs)) / scale


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("name", CASES)
def test_success_is_success(name, dtype):
    solver, make = CASES[name]
    eps, successes = float(np.finfo(dtype).eps), 0
    for kind in KINDS:
        for seed in range(5):
            draw = Draw(seed, np.dtype(dtype), kind)
            operator = make(draw)
            b = draw.like(operator.out_structure())
            x, result = _solve(solver, operator, b)
            if lxs.RESULTS[result] != lxs.RESULTS[lxs.RESULTS.successful]:
                continue
            successes += 1
            with mpmath.workdps(150):
                x, b = _flat(x), _flat(b)
                found = _errors(_exact(operator), x, b)
                assert found is not None, f"{kind}, {seed}: the operator is singular"
                error, lost, backward = found
                fine = error <= 1e3 * eps * max(lost, 1) or backward <= eps**0.5
                assert fine, f"{kind}, {seed}: {error}, {lost}, {backward}"
    assert successes >= 5


@pytest.mark.parametrize("exponent", range(10, 18))
def test_residuals_out_of_range_are_no_success(exponent):
    """1 + u² for a large u: the residual of what cancelled overflows, and so does what
    it is compared with."""
    u = jnp.full((1, 1), 10.0**exponent, jnp.float32)
    operator = lxo.LowRankUpdateLinearOperator(
        lxo.DiagonalLinearOperator(jnp.ones(1, jnp.float32)), u
    )
    for x in (1.0, -1e-10, 1e3):
        b = jnp.full(1, x * 10.0 ** (2 * exponent), jnp.float32)
        got, result = _solve(CASES["Woodbury"][0], operator, b)
        if lxs.RESULTS[result] == lxs.RESULTS[lxs.RESULTS.successful]:
            np.testing.assert_allclose(got, [x], rtol=1e-2)
