"""Operators from and to SciPy, against the products of dense matrices."""

import jax
import jax.numpy as jnp
import lx_operators as lxo
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

rng = np.random.default_rng(0)
A = rng.normal(size=(4, 3)) + 1j * rng.normal(size=(4, 3))


def _host(A):
    return scipy.sparse.linalg.LinearOperator(
        A.shape, lambda x: A @ x, rmatvec=lambda x: A.conj().T @ x, dtype=A.dtype
    )


@pytest.mark.parametrize("matrix", [A.real, A], ids=["real", "complex"])
def test_from_linear_operator(matrix):
    """Products of A, Aᵀ, Ā, Aᴴ, also under `jit` and `vmap`."""
    operator = lxo.aslinearoperator(_host(matrix))
    assert (operator.shape, operator.dtype) == (matrix.shape, matrix.dtype)
    views = {
        "A": (operator, matrix),
        "T": (operator.T, matrix.T),
        "conj": (lxo.conj(operator), matrix.conj()),
        "H": (operator.H, matrix.conj().T),
        "TT": (operator.T.T, matrix),
    }
    for name, (view, truth) in views.items():
        x = rng.normal(size=truth.shape[1]).astype(matrix.dtype)
        got = jax.jit(view.mv)(jnp.asarray(x))
        np.testing.assert_allclose(got, truth @ x, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(operator.as_matrix(), matrix)
    assert operator.T.T == operator


def test_no_transpose():
    operator = lxo.aslinearoperator(
        scipy.sparse.linalg.LinearOperator((2, 2), lambda x: 2 * x, dtype=float)
    )
    lacking = lxo.aslinearoperator(_NoAdjoint())
    np.testing.assert_allclose(operator.mv(jnp.ones(2)), [2.0, 2.0])
    with pytest.raises(ValueError, match="`rmatvec`"):
        lacking.T  # noqa: B018


class _NoAdjoint:
    shape, dtype = (2, 2), np.dtype(float)

    def matvec(self, x):
        return 2 * x


def test_from_matrices():
    x = jnp.asarray(rng.normal(size=3))
    for given in (A.real, jnp.asarray(A.real), scipy.sparse.csr_array(A.real)):
        operator = lxo.aslinearoperator(given)
        np.testing.assert_allclose(operator.mv(x), A.real @ x)
        assert lxo.aslinearoperator(operator) is operator
    with pytest.raises(ValueError, match="FunctionLinearOperator"):
        lxo.aslinearoperator(lambda x: x)


@pytest.mark.parametrize("matrix", [A.real, A], ids=["real", "complex"])
def test_to_scipy(matrix):
    """`matvec`, `matmat`, `rmatvec`, `rmatmat` are those of SciPy's own operator."""
    ours = lxo.to_scipy(lxo.MatrixLinearOperator(jnp.asarray(matrix)))
    assert (ours.shape, ours.dtype) == (matrix.shape, matrix.dtype)
    X, Y = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    np.testing.assert_allclose(ours @ X, matrix @ X)
    np.testing.assert_allclose(ours @ X[:, 0], matrix @ X[:, 0])
    np.testing.assert_allclose(ours.H @ Y, matrix.conj().T @ Y)
    np.testing.assert_allclose(ours.rmatvec(Y[:, 0]), matrix.conj().T @ Y[:, 0])


def test_pytrees_to_scipy():
    """Vectors are the leaves, raveled."""
    operator = lxo.DiagonalLinearOperator((jnp.ones((2, 2)), jnp.full(3, 2.0)))
    x = np.arange(7.0)
    scipys = lxo.to_scipy(operator)
    np.testing.assert_allclose(scipys @ x, operator.as_matrix() @ x)


def test_eigenvalues():
    """SciPy's Lanczos, on an operator of ours: 2 - 2 cos(πk/(n+1))."""
    n = 30
    chain = lxo.TridiagonalLinearOperator(
        2 * jnp.ones(n), -jnp.ones(n - 1), -jnp.ones(n - 1)
    )
    largest = scipy.sparse.linalg.eigsh(lxo.to_scipy(chain), k=1)[0]
    np.testing.assert_allclose(largest, 2 + 2 * np.cos(np.pi / (n + 1)))
