"""QR: its laws, least squares, minimum norm, damping. That success is success, for
square systems: in `test_lu.py`."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from lx_operators import MatrixLinearOperator
from lx_solvers import QR
from lx_solvers._slogdet import slogdet_of
from lx_solvers.direct import _reflectors

SHAPES = [(0, 0), (0, 3), (3, 0), (1, 1), (5, 5), (9, 4), (4, 9)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_laws(obeys_laws, draw, dtype, shape):
    obeys_laws(QR(), draw(dtype, *shape))


@pytest.mark.parametrize("shape", [(60, 40), (40, 60)], ids=str)
def test_is_as_good_as_lapack(draw, run, dtype, shape):
    """Aᴴr of a least-squares solution, and r of one of minimum norm, in proportion."""
    A, b = draw(dtype, *shape), draw(dtype, shape[0])
    x, result, _ = run(QR(), A, b)
    assert result == "successful"
    eps, norm = np.finfo(dtype).eps, np.linalg.norm(A, 2)

    def error(x):
        r = b - A @ x
        if shape[0] > shape[1]:
            r = A.conj().T @ r / norm
        return np.linalg.norm(r) / (norm * np.linalg.norm(x) + np.linalg.norm(b)) / eps

    assert error(x) <= 10 * max(error(np.linalg.lstsq(A, b)[0]), 1)
    # of minimum norm: orthogonal to the null space
    null = np.linalg.svd(A)[2][min(shape) :]
    assert np.linalg.norm(null @ x) <= 100 * eps * np.linalg.norm(x)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30)], ids=str)
def test_rank_deficient_is_singular(draw, run, dtype, shape):
    m, n = shape
    k = min(shape) - 1
    low = draw(dtype, m, k) @ draw(dtype, k, n)
    repeated = draw(dtype, m, n)
    repeated[:, 0] = repeated[:, 1]
    repeated[0] = repeated[1]
    for matrix in (low, repeated, np.zeros(shape, dtype), np.ones(shape, dtype)):
        assert run(QR(), matrix, draw(dtype, m))[1] == "singular"


def test_column_scales_do_no_harm(draw, run, dtype):
    A, b = draw(dtype, 30, 10), draw(dtype, 30)
    scale = np.geomspace(1, 1e-18, 10).astype(dtype)
    x, result, _ = run(QR(), A * scale, b)
    assert result == "successful"
    wanted = np.linalg.lstsq(A, b)[0]
    np.testing.assert_allclose(
        x * scale, wanted, rtol=0, atol=100 * np.finfo(dtype).eps
    )


def test_every_row_is_solved(run, dtype):
    """A cyclic shift with one element of 2⁻²⁰: x₁ is so large that reflections lose the
    others in rounding errors (Gregory and Karney's Forsythe matrix)."""
    A = np.eye(12, k=1, dtype=dtype)
    A[-1, 0] = 2.0**-20
    b = np.linspace(1, 2, 12).astype(dtype)
    x, result, stats = run(QR(), A, b)
    assert result == "successful"
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(x, np.append(b[-1] * 2.0**20, b[:-1]), rtol=100 * eps)
    assert stats["backward_error"] < eps**0.75


def test_near_the_largest_float(draw, run, dtype):
    """A + λI, for λ of 3/4 of the largest number."""
    largest = np.finfo(dtype).max
    A = np.tril(draw(dtype, 6, 6)) + dtype.type(0.75 * largest) * np.eye(6, dtype=dtype)
    x, result, _ = run(QR(), A, np.full(6, 0.5 * largest, dtype))
    assert result == "successful"
    np.testing.assert_allclose(x, np.full(6, 2 / 3), rtol=1e2 * np.finfo(dtype).eps)


def ridge(A, b, damp):
    """(AᴴA + damp²)⁻¹Aᴴb in sixty digits."""
    with mpmath.workdps(60):
        A, b = mpmath.matrix(A.tolist()), mpmath.matrix(b.tolist())
        H = A.transpose_conj()
        x = mpmath.lu_solve(H * A + mpmath.mpf(damp) ** 2 * mpmath.eye(A.cols), H * b)
        return np.array([complex(e) for e in x])


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)], ids=str)
def test_damping(draw, run, dtype, shape):
    A, b = draw(dtype, *shape), draw(dtype, shape[0])
    for damp in (1e-12, 1e-3, 1.0, 1e6):
        x, result, _ = run(QR(damp=jnp.asarray(damp)), A, b)
        wanted = ridge(A, b, damp)
        assert result == "successful"
        scale = abs(wanted).max()
        assert abs(x - wanted).max() <= 1e3 * np.finfo(dtype).eps * scale


@pytest.mark.parametrize("exponent", [-150, -20, 20, 150])
def test_damping_of_any_size(draw, run, exponent):
    """λ = damp² from 1e-300 to near the largest number. Where it is tiny, A has to be:
    damping then still makes up for a lost rank."""
    damp = 10.0**exponent
    A, b = draw(np.float64, 6, 4), draw(np.float64, 6)
    A[:, 0] = A[:, 1]
    A = A * min(damp, 1)
    x, result, _ = run(QR(damp=damp), A, b)
    wanted = ridge(A, b, damp).real
    assert result == "successful"
    np.testing.assert_allclose(x, wanted, rtol=1e-11)


def test_damped_laws(obeys_laws, draw, dtype):
    def truth(A):
        m, n = A.shape
        return np.linalg.pinv(np.vstack([A, 0.5 * np.eye(n)]))[:, :m]

    A = draw(dtype, 5, 3)
    solver = QR(damp=0.5)
    operator = MatrixLinearOperator(jnp.asarray(A))
    state = solver.init(operator, {})
    for change, matrix in (
        (lambda s: s, A),
        (lambda s: solver.transpose(s, {})[0], A.T),
    ):
        b = draw(dtype, len(matrix))
        x, _, _ = solver.compute(change(state), jnp.asarray(b), {})
        np.testing.assert_allclose(
            x, truth(matrix) @ b, rtol=0, atol=100 * np.finfo(dtype).eps
        )


@pytest.mark.parametrize("damp", [-1.0, float("nan"), float("inf")])
def test_bad_damping_is_an_error(damp):
    with pytest.raises(ValueError, match="damp"):
        QR(damp=damp)


@pytest.mark.parametrize("shape", [(7, 5), (100, 33)], ids=str)
def test_blocks_of_reflectors(draw, dtype, shape):
    """Q by blocks, for versions of JAX without `ormqr`."""
    m, k = shape
    A, C = draw(dtype, m, k), draw(dtype, m, 3)
    A[:, 1] = 0  # H₂ is another kind of reflection, or none
    h, taus = jnp.linalg.qr(jnp.asarray(A), mode="raw")
    Q = np.linalg.qr(A, mode="complete")[0]
    eps = np.finfo(dtype).eps
    for adjoint, product in ((False, Q @ C), (True, Q.conj().T @ C)):
        blocked = jax.jit(_reflectors.blocked, static_argnums=3)
        got = blocked(h.T, taus, C, adjoint)
        np.testing.assert_allclose(got, product, rtol=0, atol=100 * m * eps)


def test_many_vectors_share_the_reflectors(draw):
    """500 vectors: no array holds the reflectors 500 times."""
    h, taus = jnp.linalg.qr(jnp.asarray(draw(np.float64, 20, 20)), mode="raw")
    many = jax.vmap(lambda c: _reflectors.times_q(h.T, taus, c, adjoint=True))
    jaxpr = jax.make_jaxpr(many)(jnp.ones((500, 20)))

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (v.aval.size for v in equation.outvars)
            for inner in jax.tree.leaves(
                equation.params, is_leaf=lambda p: hasattr(p, "eqns")
            ):
                if hasattr(inner, "eqns"):
                    yield from sizes(inner)

    assert max(sizes(jaxpr.jaxpr)) <= 500 * 20


def test_slogdet(draw, slogdet, dtype):
    for n in (0, 1, 30):
        slogdet(QR(), draw(dtype, n, n))


def test_slogdet_of_rectangular_is_an_error():
    state = QR().init(MatrixLinearOperator(jnp.ones((3, 2))), {})
    with pytest.raises(ValueError, match="square"):
        slogdet_of(state)


def test_part_of_the_system_is_zero(run, dtype):
    """What is solved by zeros, but for the rounding errors of the other part, is
    solved: well and ill conditioned."""
    eps = np.finfo(dtype).eps
    for seed, condition in enumerate((1e0, 1e1, eps**-0.5 / 10)):
        draw = np.random.default_rng(seed)
        u, v = (np.linalg.qr(draw.normal(size=(5, 5)))[0] for _ in range(2))
        A = np.zeros((9, 9), dtype)
        A[:5, :5] = (u * np.geomspace(1, 1 / condition, 5)) @ v.T
        A[5:] = draw.normal(size=(4, 9))
        A[5:, 5:] += 3 * np.eye(4)
        order = draw.permutation(9)
        b = np.append(np.zeros(5), draw.normal(size=4)).astype(dtype)[order]
        A = A[order][:, draw.permutation(9)]
        x, result, _ = run(QR(), A, b)
        assert result == "successful"
        sizes = np.abs(A) @ np.abs(x) + np.abs(b)
        assert (np.abs(A @ x - b) <= 1e2 * eps * max(sizes)).all()
