"""Eigh: its laws, at any rank and signature."""

import jax.numpy as jnp
import numpy as np
import pytest
from lx_operators import (
    MatrixLinearOperator,
    hermitian_tag,
    positive_semidefinite_tag,
    symmetric_tag,
)
from lx_solvers import Eigh
from lx_solvers._slogdet import slogdet_of


@pytest.mark.parametrize("n", [0, 1, 6])
def test_laws(obeys_laws, draw, dtype, n):
    X = draw(dtype, n, n)
    obeys_laws(Eigh(), (X + X.conj().T).astype(dtype), hermitian_tag)


def test_laws_of_low_rank(obeys_laws, draw, dtype):
    X = draw(dtype, 7, 3)
    indefinite = (X * np.array([1, -2, 3], dtype)) @ X.conj().T
    obeys_laws(
        Eigh(), (indefinite + indefinite.conj().T) / dtype.type(2), hermitian_tag
    )
    obeys_laws(Eigh(), X @ X.conj().T, positive_semidefinite_tag)


def test_rank_and_rcond(draw, run, dtype):
    Q = np.linalg.qr(draw(dtype, 4, 4))[0]
    A = (Q * np.array([2, -1, 1e-3, 0])) @ Q.conj().T
    A = ((A + A.conj().T) / 2).astype(dtype)
    b = draw(dtype, 4)
    for rcond, rank in ((None, 3), (1e-2, 2), (0.6, 1)):
        x, result, stats = run(Eigh(rcond), A, b, hermitian_tag)
        assert result == "successful" and stats["rank"] == rank
        kept = np.array([0.5, -1, 1e3, 0]) * (np.arange(4) < rank)
        wanted = (Q * kept) @ (Q.conj().T @ b)
        limit = 1e5 * np.finfo(dtype).eps * abs(wanted).max()
        np.testing.assert_allclose(x, wanted, rtol=0, atol=limit)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nonfinite(draw, run, dtype, bad):
    A, b = np.eye(3, dtype=dtype), draw(dtype, 3)
    A[1, 1] = bad
    assert run(Eigh(), A, b, hermitian_tag)[1] == "nonfinite_input"
    b[1] = bad
    assert run(Eigh(), np.eye(3, dtype=dtype), b, hermitian_tag)[1] == "nonfinite_input"


def test_untagged_is_an_error():
    with pytest.raises(ValueError, match="hermitian_tag"):
        Eigh().init(MatrixLinearOperator(jnp.eye(2)), {})
    with pytest.raises(ValueError, match="hermitian_tag"):
        Eigh().init(MatrixLinearOperator(jnp.eye(2, dtype=complex), symmetric_tag), {})


def test_slogdet(draw, slogdet, dtype):
    X = draw(dtype, 5, 5)
    slogdet(Eigh(), (X + X.conj().T).astype(dtype), hermitian_tag)


def test_slogdet_of_low_rank(draw):
    X = draw(np.float64, 5, 3)
    operator = MatrixLinearOperator(jnp.asarray(X @ X.T), positive_semidefinite_tag)
    sign, logabs = slogdet_of(Eigh().init(operator, {}))
    assert sign == 0 and logabs == -np.inf


def test_at_the_end_of_the_range(draw, run, dtype):
    """1/λ is no normal number, or λ itself is infinite."""
    huge = 2.0 ** (np.finfo(dtype).maxexp - 3)
    X, x = np.clip(draw(dtype, 4, 4).real, -2, 2), draw(dtype, 4)
    A = (X + X.T).astype(dtype)
    got, result, _ = run(Eigh(), huge * A, (huge / 64) * (A @ x), hermitian_tag)
    assert result == "successful"
    limit = 1e3 * np.finfo(dtype).eps * np.linalg.cond(A) * abs(x).max()
    np.testing.assert_allclose(64 * got, x, rtol=0, atol=limit)
