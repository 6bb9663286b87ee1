"""Spectra: all eigenvalues of small operators, Ritz values of large ones."""

import jax.numpy as jnp
import lx_operators as lx
import numpy as np
import pytest

pytest.importorskip("matplotlib").use("agg")

from lx_operators.plot import plot_spectrum  # noqa: E402


def _drawn(ax, i=-1):
    x, y = np.asarray(ax.collections[i].get_offsets()).T
    return np.sort_complex(x + 1j * y)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.float64])
def test_all_eigenvalues(dtype, rng=np.random.default_rng(0)):
    real, imag = rng.normal(size=(2, 6, 6))
    matrix = real + 1j * imag if np.dtype(dtype).kind == "c" else real
    matrix = matrix.astype(dtype)
    ax = plot_spectrum(lx.MatrixLinearOperator(jnp.asarray(matrix)))
    truth = np.sort_complex(np.linalg.eigvals(matrix))
    np.testing.assert_allclose(_drawn(ax), truth, atol=1e-5)
    assert ax.get_title() == "6 eigenvalues"
    hermitian = matrix + matrix.conj().T
    operator = lx.MatrixLinearOperator(jnp.asarray(hermitian), lx.hermitian_tag)
    assert plot_spectrum(operator, ax, color="C1", label="hermitian") is ax
    truth = np.sort(np.linalg.eigvalsh(hermitian))
    np.testing.assert_allclose(_drawn(ax), truth, atol=1e-5)


@pytest.mark.parametrize("tag", [lx.symmetric_tag, ()])
def test_ritz_values(tag):
    """The isolated eigenvalues of a large operator are found, others lie within."""
    n = 3000
    diagonal = np.linspace(1.0, 2.0, n)
    diagonal[:3] = -4.0, 5.0, 7.0
    off = np.zeros(n - 1)
    if not tag:
        off[-1] = 5.0  # a block [[a, 5], [-5, b]]: a complex pair
    pair = np.array([[diagonal[-2], 5.0], [-5.0, diagonal[-1]]])
    operator = lx.TridiagonalLinearOperator(*map(jnp.asarray, (diagonal, -off, off)))
    operator = lx.TaggedLinearOperator(operator, tag) if tag else operator
    ax = plot_spectrum(operator, steps=40)
    values = _drawn(ax)
    assert values.size == 40 and "40 Ritz values" in ax.get_title()
    isolated = [-4.0, 5.0, 7.0, *(() if tag else np.linalg.eigvals(pair))]
    for eigenvalue in isolated:
        assert np.min(np.abs(values - eigenvalue)) < 1e-4
    if tag:
        assert np.all(values.imag == 0) and values.real.min() > -4.001


def test_errors():
    with pytest.raises(ValueError, match="`A.H @ A` is square"):
        plot_spectrum(lx.MatrixLinearOperator(jnp.ones((3, 2))))
    with pytest.raises(ValueError, match="wrap the array"):
        plot_spectrum(jnp.ones((3, 3)))  # pyright: ignore
    with pytest.raises(ValueError, match="jax_debug_nans"):
        plot_spectrum(lx.MatrixLinearOperator(jnp.full((2, 2), jnp.nan)))
    with pytest.raises(ValueError, match="jax_debug_nans"):
        bad = lx.DiagonalLinearOperator(jnp.ones(1000).at[3].set(jnp.inf))
        plot_spectrum(bad)
