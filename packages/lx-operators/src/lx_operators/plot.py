"""Pictures of operators. They need matplotlib: `pip install "lx-operators[plot]"`."""

from typing import Any

import numpy as np

from ._functions import sparse_form
from ._operator import AbstractLinearOperator
from .sparse.as_sparse import as_sparse
from .sparse.pattern import SparsityPattern

__all__ = ["spy"]


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
    from lx_operators.plot import spy

    spy(lx.SparseLinearOperator.from_dense(jnp.eye(5)))
    ```
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            '`spy` needs matplotlib: `pip install "lx-operators[plot]"`.'
        ) from error
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
    ax = plt.subplots()[1] if ax is None else ax
    m, n = pattern.shape
    size = (150 / max(m, n, 1)) ** 2
    ax.scatter(columns, rows, **{"s": max(size, 0.05), "marker": "s", **keywords})
    ax.set(xlim=(-0.5, n - 0.5), ylim=(m - 0.5, -0.5), aspect="equal")
    ax.set_title(f"{pattern.size} entries, {100 * pattern.density:.2g} %")
    return ax
