"""Pictures of operators. They need matplotlib: `pip install matplotlib`."""

from typing import Any

import jax
import numpy as np

from ._functions import reject, sparse_form
from ._operator import AbstractLinearOperator
from ._properties import is_hermitian
from ._structures import size_of, structures_of
from .sparse.as_sparse import as_sparse
from .sparse.pattern import SparsityPattern
from .verification.by_lanczos import ritz_values
from .verification.vectors import times, wide

__all__ = ["plot_spectrum", "spy"]


def spy(operator: Any, ax: Any = None, **keywords: Any) -> Any:
    """Draws where a sparse operator has entries.

    Args:
        operator: a sparse operator, a composite of sparse operators, or a
            `SparsityPattern`.
        ax: the matplotlib axes to draw on; by default new ones.
        **keywords: keywords for `matplotlib.axes.Axes.scatter`, such as `s` or `color`.

    Returns:
        The axes.

    Raises:
        ValueError: if the operator's entries are not known.
        ImportError: if matplotlib is not installed.

    ```python
    lx.spy(lx.SparseLinearOperator.from_dense(jnp.eye(5)))
    ```
    """
    if isinstance(operator, SparsityPattern):
        pattern = operator
    else:
        found = None
        if isinstance(operator, AbstractLinearOperator):
            found = sparse_form(operator) or as_sparse(operator)
        if found is None:
            raise ValueError(
                "`spy` draws sparse operators and patterns, but where this has entries "
                f"is not known: {operator!r}."
            )
        pattern = found.pattern
    rows, columns = np.asarray(pattern.rows), np.asarray(pattern.columns)
    ax = _axes(ax, "spy")
    m, n = pattern.shape
    size = (150 / max(m, n, 1)) ** 2
    ax.scatter(columns, rows, **{"s": max(size, 0.05), "marker": "s", **keywords})
    ax.set(xlim=(-0.5, n - 0.5), ylim=(m - 0.5, -0.5), aspect="equal")
    ax.set_title(f"{pattern.size} entries, {100 * pattern.density:.2g} %")
    return ax


def plot_spectrum(
    operator: AbstractLinearOperator,
    ax: Any = None,
    *,
    steps: int = 100,
    max_size: int = 500,
    **keywords: Any,
) -> Any:
    """Draws the eigenvalues of a square operator in the complex plane.

    Up to `max_size` unknowns the matrix is formed, and NumPy computes all eigenvalues.
    For larger operators the picture shows Ritz values: eigenvalues of the projection
    onto a Krylov space of a random vector, after `steps` steps of Lanczos's method for
    Hermitian operators and of Arnoldi's for others (Saad 2011,
    doi:10.1137/1.9781611970739, chapter 6). They find the ends of the spectrum and
    isolated eigenvalues first. The title says which of the two is shown.

    How fast an iterative solver converges depends on this picture. To see what a
    preconditioner does to it, draw `M.as_operator(A) @ A` too.

    Args:
        operator: A, square. For a Hermitian one, tag it as such: its eigenvalues are
            then computed as real numbers.
        ax: the matplotlib axes to draw on; by default new ones.
        steps: the number of Ritz values, each of which costs one product with A.
        max_size: the largest matrix that is formed.
        **keywords: keywords for `matplotlib.axes.Axes.scatter`, such as `label`.

    Returns:
        The axes.

    Raises:
        ValueError: if the operator is not square, or has a product that is not finite.
        ImportError: if matplotlib is not installed.

    ```python
    matrix = jnp.array([[1.0, 2.0], [-2.0, 1.0]])
    lx.plot_spectrum(lx.MatrixLinearOperator(matrix))  # 1 + 2i and 1 - 2i
    ```
    """
    if not isinstance(operator, AbstractLinearOperator):
        reject(operator, "`plot_spectrum`")
    ins, outs = structures_of(operator)
    n = size_of(ins)
    if n != size_of(outs):
        raise ValueError(
            "`plot_spectrum` needs a square operator, but got one with "
            f"{size_of(outs)} rows and {n} columns. `A.H @ A` is square, and its "
            "eigenvalues are the squares of A's singular values."
        )
    hermitian = is_hermitian(operator)
    if n <= max_size:
        matrix = wide(operator.as_matrix())
        finite = np.all(np.isfinite(matrix))
        eigenvalues = np.linalg.eigvalsh if hermitian else np.linalg.eigvals
        values = eigenvalues(matrix) if finite else np.full(1, np.nan)
        title = f"{n} eigenvalues"
    else:
        values = ritz_values(
            lambda v: times(operator, v),
            ins,
            jax.random.key(0),
            steps,
            hermitian=hermitian,
        )
        title = f"{values.size} Ritz values of {n} eigenvalues"
    if not np.all(np.isfinite(values)):
        raise ValueError(
            "`plot_spectrum` met a product with the operator that holds NaN or "
            "infinity. Look for it with `jax.config.update('jax_debug_nans', True)`."
        )
    ax = _axes(ax, "plot_spectrum")
    ax.scatter(np.real(values), np.imag(values), **{"s": 12, **keywords})
    ax.set(xlabel="real part", ylabel="imaginary part", title=title)
    return ax


def _axes(ax: Any, function: str) -> Any:
    """The axes that were given, or new ones."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"`{function}` needs matplotlib: `pip install matplotlib`."
        ) from error
    return plt.subplots()[1]
