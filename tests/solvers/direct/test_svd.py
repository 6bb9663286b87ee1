"""SVD and what it shares with PivotedQR: the pseudoinverse at any shape and rank."""

import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from lx_solvers import SVD, PivotedQR

SOLVERS = [SVD, PivotedQR]
SHAPES = [(0, 3), (3, 0), (5, 5), (9, 4), (4, 9)]
each_solver = pytest.mark.parametrize("solver", SOLVERS)


@each_solver
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_laws(obeys_laws, draw, dtype, shape, solver):
    obeys_laws(solver(), draw(dtype, *shape))


@each_solver
@pytest.mark.parametrize("shape", [(6, 6), (5, 9)], ids=str)
def test_laws_of_low_rank(obeys_laws, draw, dtype, shape, solver):
    m, n = shape
    obeys_laws(solver(), draw(dtype, m, 3) @ draw(dtype, 3, n))


@each_solver
def test_rank(draw, run, dtype, solver):
    for m, n, k in [(20, 20, 20), (20, 20, 7), (30, 10, 9), (10, 30, 1), (5, 4, 0)]:
        A = draw(dtype, m, k) @ draw(dtype, k, n) if k else np.zeros((m, n), dtype)
        x, result, stats = run(solver(), A, draw(dtype, m))
        assert result == "successful" and stats["rank"] == k
    assert (x == 0).all()


@each_solver
def test_rcond(draw, run, dtype, solver):
    U, V = (np.linalg.qr(draw(dtype, 6, 6))[0] for _ in range(2))
    A = ((U * np.array([4, 2, 1, 1e-3, 1e-3, 1e-4])) @ V).astype(dtype)
    b = draw(dtype, 6)
    x, _, stats = run(solver(rcond=1e-2), A, b)
    assert stats["rank"] == 3
    # pivoting leaves out rows of R, of the order of the threshold
    wanted = np.linalg.pinv(A, rcond=1e-2) @ b
    close = 1e-2 if solver is PivotedQR else 1e3 * np.finfo(dtype).eps
    np.testing.assert_allclose(x, wanted, rtol=0, atol=close * abs(wanted).max())


@each_solver
def test_inconsistent_is_least_squares(draw, run, dtype, solver):
    A, b = draw(dtype, 20, 4) @ draw(dtype, 4, 12), draw(dtype, 20)
    x, _, _ = run(solver(), A, b)
    wanted = np.linalg.pinv(A, rcond=1e-5) @ b
    limit = 1e3 * np.finfo(dtype).eps * abs(wanted).max()
    np.testing.assert_allclose(x, wanted, rtol=0, atol=limit)


@each_solver
def test_any_scale(draw, run, dtype, solver):
    A, b = draw(dtype, 8, 3) @ draw(dtype, 3, 5), draw(dtype, 8)
    wanted, _, _ = run(solver(), A, b)
    for exponent in (-90, -30, 60):
        scale = dtype.type(2.0**exponent)
        x, result, stats = run(solver(), A * scale, b * scale)
        assert result == "successful" and stats["rank"] == 3
        limit = 100 * np.finfo(dtype).eps * abs(wanted).max()
        np.testing.assert_allclose(x, wanted, rtol=0, atol=limit)


@each_solver
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite(draw, run, dtype, solver, bad):
    A, b = draw(dtype, 4, 3), draw(dtype, 4)
    spoiled = A.copy()
    spoiled[1, 2] = bad
    assert run(solver(), spoiled, b)[1] == "nonfinite_input"
    b[1] = bad
    assert run(solver(), A, b)[1] == "nonfinite_input"


def ridge(A, b, damp):
    """(AᴴA + damp²)⁻¹Aᴴb in sixty digits."""
    with mpmath.workdps(60):
        A, b = mpmath.matrix(A.tolist()), mpmath.matrix(b.tolist())
        H = A.transpose_conj()
        x = mpmath.lu_solve(H * A + mpmath.mpf(damp) ** 2 * mpmath.eye(A.cols), H * b)
        return np.array([complex(e) for e in x])


@each_solver
@pytest.mark.parametrize("shape", [(6, 4), (4, 6)], ids=str)
@pytest.mark.parametrize("rank", [4, 2])
def test_damping(draw, run, dtype, solver, shape, rank):
    A = draw(dtype, shape[0], rank) @ draw(dtype, rank, shape[1])
    b = draw(dtype, shape[0])
    for damp in (0.01, 1.0, 1e6):
        x, result, _ = run(solver(damp=jnp.asarray(damp)), A, b)
        wanted = ridge(A, b, damp)
        assert result == "successful"
        # a change of A by eps changes the solution by up to eps/damp²
        limit = 1e3 * np.finfo(dtype).eps * max(1, damp**-2)
        assert abs(x - wanted).max() <= limit * abs(wanted).max()


@each_solver
@pytest.mark.parametrize("exponent", [-150, -20, 20, 150])
def test_damping_of_any_size(draw, run, solver, exponent):
    damp = 10.0**exponent
    A, b = draw(np.float64, 6, 4) * min(damp, 1), draw(np.float64, 6)
    x, result, _ = run(solver(damp=damp), A, b)
    assert result == "successful"
    np.testing.assert_allclose(x, ridge(A, b, damp).real, rtol=1e-11)


@each_solver
def test_traced_damping(draw, run, solver):
    A, b = draw(np.float64, 6, 4), draw(np.float64, 6)
    x, _, _ = run(solver(damp=jnp.asarray(0.3)), A, b)
    np.testing.assert_allclose(x, ridge(A, b, 0.3).real, rtol=1e-12)


@each_solver
@pytest.mark.parametrize("damp", [-1.0, float("nan"), float("inf")])
def test_bad_damping_is_an_error(solver, damp):
    with pytest.raises(ValueError, match="damp"):
        solver(damp=damp)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_ends_on_nonfinite(draw, run, dtype, bad):
    """LAPACK's iteration alone would not end on some infinities."""
    for shape in [(6, 6), (7, 4), (4, 7)]:
        A = draw(dtype, *shape)
        A[0, 0] = bad
        assert run(SVD(), A, draw(dtype, len(A)))[1] == "nonfinite_input"


@pytest.mark.parametrize("damp", [0.0, 0.5], ids=["plain", "damped"])
def test_at_the_end_of_the_range(draw, run, dtype, damp):
    """1/σ is no normal number, or σ itself is infinite."""
    huge = 2.0 ** (np.finfo(dtype).maxexp - 3)
    A, x = np.clip(draw(dtype, 6, 4).real, -4, 4).astype(dtype), draw(dtype, 4)
    b = A @ x
    wanted, _, _ = run(SVD(damp=damp), A, b)
    got, result, stats = run(SVD(damp=huge * damp), huge * A, (huge / 64) * b)
    assert result == "successful" and stats["rank"] == 4
    limit = 1e3 * np.finfo(dtype).eps * abs(wanted).max()
    np.testing.assert_allclose(64 * got, wanted, rtol=0, atol=limit)
