"""Refined: certified data, exact residuals, mixed precision, rescue, honest failure."""

import json
from fractions import Fraction
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.linalg
from lx_operators import MatrixLinearOperator, positive_semidefinite_tag
from lx_solvers import LU, QR, RESULTS, Cholesky, PivotedQR, Refined
from lx_solvers._slogdet import slogdet_of
from lx_solvers.wrappers._doubled import residual

DATA = json.loads((Path(__file__).parents[2] / "data" / "nist_strd.json").read_text())
# What data rounded to float64 allow, in correct digits.
CEILING = {"Norris": 14.0, "Pontius": 13.5, "Filip": 7.7, "Longley": 14.7}
CEILING["Wampler2"] = 13.2


@eqx.filter_jit
def solve(solver, operator, vector):
    state = solver.init(operator, {})
    return solver.compute(state, vector, {})


def digits(x, exact):
    errors = [
        abs(Fraction(float(a)) - Fraction(e)) / abs(Fraction(e))
        for a, e in zip(x, exact)
    ]
    return -np.log10(float(max(*errors, Fraction(1, 10**16))))


@pytest.mark.parametrize(
    "name, inner",
    [
        *((name, QR()) for name in DATA),
        ("Filip", PivotedQR()),
        ("Longley", PivotedQR()),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_certified_data(name, inner):
    """Within one digit of what the data allow."""
    data = DATA[name]
    X = np.array([[float(Fraction(v)) for v in row] for row in data["X"]])
    y = np.array([float(Fraction(v)) for v in data["y"]])
    x, result, _ = solve(Refined(inner), MatrixLinearOperator(X), y)
    assert result == RESULTS.successful
    assert digits(np.asarray(x), data["exact_coef"]) >= CEILING.get(name, 16.0) - 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("n", [1, 5, 33, 100])
def test_residual_is_exact_to_rounding(dtype, n):
    """Where b is A x rounded, nothing is left of it but what was rounded away."""
    generator = np.random.default_rng(n)
    A, x = generator.normal(size=(4, n)), generator.normal(size=n)
    if np.issubdtype(dtype, np.complexfloating):
        A, x = A + 1j * generator.normal(size=A.shape), x * (1 + 0.3j)
    A, x = A.astype(dtype), x.astype(dtype)
    with mpmath.workdps(60):
        exact = mpmath.matrix(A.tolist()) * mpmath.matrix(x.tolist())
        b = np.array([complex(e) for e in exact])
        b = (b if np.iscomplexobj(A) else b.real).astype(dtype)
        wanted = np.array([complex(c - e) for c, e in zip(b.tolist(), exact)])
    for product in (residual, jax.jit(residual)):
        got = product(jnp.asarray(b), jnp.asarray(A), jnp.asarray(x))
        eps = np.finfo(dtype).eps
        limit = 10 * eps * abs(wanted).max() + 100 * n * eps**2
        assert abs(np.asarray(got) - wanted).max() <= limit


@pytest.mark.parametrize(
    "dtype, narrow",
    [(np.float64, None), (np.complex64, None), (np.complex128, np.float32)],
)
@pytest.mark.parametrize("shape", [(16, 16), (20, 10), (10, 20)], ids=str)
def test_solutions_are_accurate(dtype, shape, narrow):
    """Not only the residual is small: the solution is right, at a condition of 1e4."""
    generator = np.random.default_rng(3)

    def draw(*shape):
        x = generator.normal(size=shape)
        if np.issubdtype(dtype, np.complexfloating):
            x = x + 1j * generator.normal(size=shape)
        return x.astype(dtype)

    k = min(shape)
    U, V = np.linalg.qr(draw(shape[0], k))[0], np.linalg.qr(draw(shape[1], k))[0]
    A = ((U * np.geomspace(1, 1e-4, k)) @ V.conj().T).astype(dtype)
    solver = Refined(LU() if shape[0] == shape[1] else QR(), precision=narrow)
    state = eqx.filter_jit(solver.init)(MatrixLinearOperator(jnp.asarray(A)), {})
    flipped = solver.conj(solver.transpose(state, {})[0], {})[0]
    for known, matrix in ((state, A), (flipped, A.conj().T)):
        b = draw(len(matrix))
        x, result, stats = eqx.filter_jit(solver.compute)(known, jnp.asarray(b), {})
        with mpmath.workdps(40):
            M, c = mpmath.matrix(matrix.tolist()), mpmath.matrix(b.tolist())
            H = M.transpose_conj()
            if M.rows >= M.cols:
                exact = mpmath.lu_solve(H * M, H * c)
            else:
                exact = H * mpmath.lu_solve(M * H, c)
            exact = np.array([complex(e) for e in exact])
        assert result == RESULTS.successful and x.dtype == dtype
        assert stats["num_steps"] <= 10
        assert (
            abs(np.asarray(x) - exact).max()
            <= 4 * np.finfo(dtype).eps * abs(exact).max()
        )


def growth(n):
    matrix = np.eye(n) - np.tril(np.ones((n, n)), -1)
    matrix[:, -1] = 1
    return matrix


def test_rescues_lu_from_growth():
    A, b = growth(60), np.random.default_rng(0).normal(size=60)
    operator = MatrixLinearOperator(A)
    assert solve(LU(), operator, b)[1] == RESULTS.unstable
    x, result, _ = solve(Refined(LU()), operator, b)
    assert result == RESULTS.successful
    np.testing.assert_allclose(x, np.linalg.lstsq(A, b)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128])
def test_growth_is_rescued_or_reported(dtype):
    generator = np.random.default_rng(0)
    A = (
        growth(60) * (1 + 0.5j if np.issubdtype(dtype, np.complexfloating) else 1)
    ).astype(dtype)
    for _ in range(4):
        b = generator.normal(size=60).astype(dtype)
        x, result, _ = solve(Refined(LU()), MatrixLinearOperator(A), b)
        if result == RESULTS.successful:
            limit = 1e3 * np.finfo(dtype).eps
            np.testing.assert_allclose(x, np.linalg.lstsq(A, b)[0], rtol=0, atol=limit)
        else:
            assert result == RESULTS.unstable


@pytest.mark.parametrize("narrow", [None, np.float32])
def test_singular_is_reported(narrow):
    generator = np.random.default_rng(0)
    A = generator.normal(size=(9, 8)) @ generator.normal(size=(8, 9))
    b = generator.normal(size=9)
    solver = Refined(LU(), precision=narrow)
    assert solve(solver, MatrixLinearOperator(A), b)[1] == RESULTS.singular
    tall = MatrixLinearOperator(np.ones((4, 2)))
    solver = Refined(QR(), precision=narrow)
    assert solve(solver, tall, np.arange(4.0))[1] == RESULTS.singular


def test_too_narrow_is_reported():
    """Condition 1e12, factors in float32: no digit can be had."""
    A, b = scipy.linalg.hilbert(9), np.random.default_rng(1).normal(size=9)
    operator = MatrixLinearOperator(A)
    result = solve(Refined(LU(), precision=jnp.float32), operator, b)[1]
    assert result != RESULTS.successful
    x, result, _ = solve(Refined(LU()), operator, b)
    assert result == RESULTS.successful
    with mpmath.workdps(40):
        exact = mpmath.lu_solve(mpmath.matrix(A.tolist()), mpmath.matrix(b.tolist()))
    np.testing.assert_allclose(x, [float(e) for e in exact], rtol=1e-14)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e20, 1e200])
def test_float32_factors_at_any_scale(scale):
    generator = np.random.default_rng(5)
    A, b = generator.normal(size=(8, 8)), generator.normal(size=8)
    solver = Refined(LU(), precision=jnp.float32)
    x, result, _ = solve(solver, MatrixLinearOperator(A * scale), b * scale)
    assert result == RESULTS.successful
    np.testing.assert_allclose(x, np.linalg.solve(A, b), rtol=1e-12)


def test_keeps_tags():
    A, b = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.0, 0.0])
    operator = MatrixLinearOperator(A, positive_semidefinite_tag)
    x, result, _ = solve(Refined(Cholesky(), precision=jnp.float32), operator, b)
    assert result == RESULTS.successful
    np.testing.assert_allclose(x, [2 / 3, -1 / 3], rtol=1e-15)


def test_steps():
    generator = np.random.default_rng(5)
    A, b = generator.normal(size=(20, 20)), generator.normal(size=20)
    operator, exact = MatrixLinearOperator(A), np.linalg.solve(A, b)
    errors = []
    for steps in (0, 1, 5):
        x, result, stats = solve(Refined(LU(), steps, jnp.float32), operator, b)
        assert stats["num_steps"] <= steps == stats["max_steps"]
        errors.append(abs(np.asarray(x) - exact).max())
    assert result == RESULTS.successful
    assert errors[0] > 1e3 * errors[1] > 1e3 * errors[2]


def test_out_of_steps_is_told():
    A = scipy.linalg.hilbert(6)
    operator, b = MatrixLinearOperator(A), np.ones(6)
    for steps in (0, 1):  # in float32 a correction gains about a digit
        result = solve(Refined(LU(), steps, jnp.float32), operator, b)[1]
        assert result == RESULTS.max_steps_reached
    # the residual of the last x is known: a step that suffices is a success
    x, result, stats = solve(Refined(LU(), 0), operator, b)
    assert result == RESULTS.successful and stats["num_steps"] == 0
    wanted = mpmath.lu_solve(mpmath.matrix(A.tolist()), mpmath.matrix(b.tolist()))
    np.testing.assert_allclose(x, [float(e) for e in wanted], rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.float64])
def test_rows_and_columns_of_any_scale(dtype):
    """R⁻¹AC⁻¹ is well conditioned: the elements of Cx are right, relative to the
    largest, and success is claimed wherever A, b and x are in range."""
    generator, n, count = np.random.default_rng(1), 4, 0
    limits = np.finfo(dtype)
    sizes = (12, 24, 30) if limits.bits == 32 else (100, 200, 250)

    def in_range(array):
        array = abs(array)
        return ((array <= limits.max) & (array >= limits.tiny)).all()

    for of_rows in (0, *sizes):
        for of_columns in sizes:
            for _ in range(3):
                B = 3 * np.eye(n) + generator.normal(size=(n, n))
                if np.issubdtype(dtype, np.complexfloating):
                    B = B * (1 + 0.3j)
                R, C = (
                    2.0 ** np.round(generator.uniform(-k, k, n) * np.log2(10))
                    for k in (of_rows, of_columns)
                )
                b = B @ generator.normal(size=n) * R
                with np.errstate(all="ignore"):
                    A, b = (B * R[:, None] * C).astype(dtype), b.astype(dtype)
                exact = np.linalg.solve(B, b / R)
                if not in_range(A) or not in_range(b) or not in_range(exact / C):
                    continue
                count += 1
                for inner in (LU(), QR()):
                    x, result, _ = solve(Refined(inner), MatrixLinearOperator(A), b)
                    assert result == RESULTS.successful
                    error = abs(np.asarray(x).astype(B.dtype) * C - exact).max()
                    assert error <= 1e2 * limits.eps * abs(exact).max()
    assert count >= 10


@pytest.mark.parametrize("scale", [1e12, 1e17])
def test_scales_of_definite_operators(scale):
    """They stay definite."""
    generator = np.random.default_rng(2)
    B = generator.normal(size=(6, 4))
    B, D = B.T @ B, np.array([1.0, scale, 1 / scale, 1.0])
    A = (B * D[:, None] * D).astype(np.float32)
    b = (B @ np.ones(4) * D).astype(np.float32)
    operator = MatrixLinearOperator(A, positive_semidefinite_tag)
    x, result, _ = solve(Refined(Cholesky()), operator, b)
    assert result == RESULTS.successful
    np.testing.assert_allclose(np.asarray(x) * D, np.ones(4), rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite(bad):
    A, b = np.eye(3), np.ones(3)
    spoiled = np.diag([1.0, bad, 1.0])
    for matrix, vector in ((spoiled, b), (A, spoiled[1] + 1)):
        result = solve(Refined(LU()), MatrixLinearOperator(matrix), vector)[1]
        assert result == RESULTS.nonfinite_input


def test_zero_vector_and_no_unknowns():
    x, result, _ = solve(Refined(LU()), MatrixLinearOperator(np.eye(3)), np.zeros(3))
    assert result == RESULTS.successful and (x == 0).all()
    for shape in ((0, 0), (0, 3), (3, 0)):
        operator = MatrixLinearOperator(np.zeros(shape))
        x, result, _ = solve(Refined(QR()), operator, np.ones(shape[0]))
        assert result == RESULTS.successful and x.shape == shape[1:]


def test_batches():
    generator = np.random.default_rng(6)
    A, b = generator.normal(size=(4, 7, 5)), generator.normal(size=(4, 7))
    solver = Refined(QR())
    x, result, _ = jax.vmap(lambda A, b: solve(solver, MatrixLinearOperator(A), b))(
        A, b
    )
    assert (result == RESULTS.successful).all()
    wanted = [np.linalg.lstsq(m, v)[0] for m, v in zip(A, b)]
    np.testing.assert_allclose(x, wanted, rtol=1e-12, atol=1e-13)


def test_slogdet():
    A = np.random.default_rng(7).normal(size=(5, 5)) * 1e100
    state = Refined(LU()).init(MatrixLinearOperator(A), {})
    np.testing.assert_allclose(slogdet_of(state), np.linalg.slogdet(A), rtol=1e-12)


def test_bad_arguments_are_errors():
    with pytest.raises(ValueError, match="steps"):
        Refined(LU(), steps=-1)
    with pytest.raises(ValueError, match="precision"):
        Refined(LU(), precision=jnp.int32)
