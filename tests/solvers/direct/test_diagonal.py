"""Diagonal: its laws, zeros, thresholds."""

import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import DiagonalLinearOperator, MatrixLinearOperator, diagonal_tag
from lx_solvers import RESULTS, Diagonal


@pytest.mark.parametrize("n", [0, 1, 5])
def test_laws(obeys_laws, draw, dtype, n):
    A = np.diag(draw(dtype, n))
    obeys_laws(Diagonal(), A, diagonal_tag)
    obeys_laws(Diagonal(well_posed=True), A, diagonal_tag)
    if n > 1:
        A[1, 1] = 0
        obeys_laws(Diagonal(), A, diagonal_tag)


def test_zero_is_singular_if_well_posed(run, dtype):
    A = np.diag(np.array([1, 0, 2], dtype))
    b = np.ones(3, dtype)
    assert run(Diagonal(well_posed=True), A, b, diagonal_tag)[1] == "singular"
    x, result, _ = run(Diagonal(well_posed=False), A, b, diagonal_tag)
    assert result == "successful"
    np.testing.assert_array_equal(x, np.array([1, 0, 0.5]))


def test_thresholds(run):
    eps = np.finfo(np.float64).eps
    d, b = np.array([1.0, 7 * eps, 5.9 * eps]), np.ones(3)
    x, _, _ = run(Diagonal(), np.diag(d), b, diagonal_tag)
    np.testing.assert_array_equal(x, [1, 1 / d[1], 0])  # 2·3·eps
    x, _, _ = run(Diagonal(rcond=1e-20), np.diag(d), b, diagonal_tag)
    np.testing.assert_array_equal(x, 1 / d)
    x, _, _ = run(Diagonal(well_posed=True), np.diag(d), b, diagonal_tag)
    np.testing.assert_array_equal(x, 1 / d)


@pytest.mark.parametrize("well_posed", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite(run, dtype, well_posed, bad):
    solver, d, b = Diagonal(well_posed), np.ones(3, dtype), np.ones(3, dtype)
    spoiled = d.copy()
    spoiled[1] = bad
    assert run(solver, np.diag(spoiled), b, diagonal_tag)[1] == "nonfinite_input"
    assert run(solver, np.diag(d), spoiled, diagonal_tag)[1] == "nonfinite_input"


def test_pytrees_of_mixed_dtypes():
    operator = DiagonalLinearOperator({"a": jnp.full(2, 2.0, "f4"), "b": jnp.array(4j)})
    solver = Diagonal()
    state = solver.init(operator, {})
    b = {"a": jnp.ones(2, "f4"), "b": jnp.array(1.0 + 0j)}
    x, result, _ = solver.compute(state, b, {})
    assert result == RESULTS.successful
    assert x["a"].dtype == np.float32
    np.testing.assert_array_equal(x["a"], [0.5, 0.5])
    np.testing.assert_array_equal(x["b"], -0.25j)


def test_undiagonal_is_an_error():
    with pytest.raises(ValueError, match="diagonal_tag"):
        Diagonal().init(MatrixLinearOperator(jnp.eye(2)), {})


def test_slogdet(draw, slogdet, dtype):
    slogdet(Diagonal(), np.diag(draw(dtype, 6)), diagonal_tag)
