"""Cholesky: its laws, and that success is success."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from lx_operators import (
    MatrixLinearOperator,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
    symmetric_tag,
)
from lx_solvers import Cholesky


def gram(draw, dtype, n, k):
    X = draw(dtype, n, k)
    return (X @ X.conj().T).astype(dtype)


@pytest.mark.parametrize("n", [0, 1, 6])
def test_laws(obeys_laws, draw, dtype, n):
    A = gram(draw, dtype, n, n) + n * np.eye(n, dtype=dtype)
    obeys_laws(Cholesky(), A, positive_semidefinite_tag)
    obeys_laws(Cholesky(), -A, negative_semidefinite_tag)


def test_not_definite_is_singular(draw, run, dtype):
    n, b = 20, draw(dtype, 20)
    X = draw(dtype, n, n)
    weights = np.abs(draw(np.float64, n, n)) + np.abs(draw(np.float64, n, n))
    weights = weights + weights.T
    for matrix in (
        gram(draw, dtype, n, n - 1),
        gram(draw, dtype, n, 3),
        np.zeros((n, n), dtype),
        -np.eye(n, dtype=dtype),
        (X + X.conj().T).astype(dtype),
        (np.diag(weights.sum(1)) - weights).astype(dtype),  # the Laplacian of a graph
    ):
        assert run(Cholesky(), matrix, b, positive_semidefinite_tag)[1] == "singular"


def test_scales_do_no_harm(draw, run, backward_error, dtype):
    n = 20
    D = np.diag(np.geomspace(1, 1e-15, n)).astype(dtype)
    A = (D @ gram(draw, dtype, n, 2 * n) @ D).astype(dtype)
    for scale in (1.0, 1e-5, 1e20):
        matrix = A * dtype.type(scale)
        b = (matrix @ draw(dtype, n)).astype(dtype)
        x, result, _ = run(Cholesky(), matrix, b, positive_semidefinite_tag)
        assert result == "successful"
        assert backward_error(matrix, x, b) < 20


@pytest.mark.parametrize("n", [4, 8, 10, 12, 14])
def test_hilbert_is_accurate_or_reported(draw, run, backward_error, dtype, n):
    matrix, b = scipy.linalg.hilbert(n).astype(dtype), draw(dtype, n)
    x, result, _ = run(Cholesky(), matrix, b, positive_semidefinite_tag)
    if n == 4 or n == 14:
        assert result == ("successful" if n == 4 else "singular")
    if result == "successful":
        assert backward_error(matrix, x, b) < 20


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite(draw, run, dtype, bad):
    A, b = gram(draw, dtype, 5, 9), draw(dtype, 5)
    for i, j in [(0, 0), (4, 4), (4, 0), (3, 2)]:
        spoiled = A.copy()
        spoiled[i, j] = spoiled[j, i] = bad
        result = run(Cholesky(), spoiled, b, positive_semidefinite_tag)[1]
        assert result == "nonfinite_input"
    b[0] = bad
    assert run(Cholesky(), A, b, positive_semidefinite_tag)[1] == "nonfinite_input"


@pytest.mark.parametrize("tags", [(), symmetric_tag])
def test_untagged_is_an_error(tags):
    with pytest.raises(ValueError, match="positive_semidefinite_tag"):
        Cholesky().init(MatrixLinearOperator(jnp.eye(2), tags), {})


def test_slogdet(draw, slogdet, dtype):
    A = gram(draw, dtype, 5, 8)
    slogdet(Cholesky(), A, positive_semidefinite_tag)
    slogdet(Cholesky(), -A, negative_semidefinite_tag)
