"""Pictures of solves. They need matplotlib."""

from typing import Any

import numpy as np

from ._report import history
from ._solution import Solution


def plot_convergence(*solutions: Solution, ax: Any = None, **labelled: Solution) -> Any:
    """Draws the residuals of iterative solves over their steps.

    The vertical axis is logarithmic and relative to the residual before the first
    step, which is ‖b‖ unless the solve had an initial guess. Only the steps that were
    made are drawn.

    Args:
        *solutions: solutions of `linear_solve` by a solver with `history=True`; of a
            batch, the member that took the most steps is drawn.
        ax: the matplotlib axes to draw on; by default new ones.
        **labelled: solutions with a name for the legend.

    Returns:
        The axes.

    Raises:
        ValueError: no solution is given, or one has no history.
        ImportError: matplotlib is not installed (`pip install matplotlib`).

    ```python
    A = lx.DiagonalLinearOperator(jnp.array([1.0, 10.0, 100.0]))
    solver = lx.GMRES(rtol=1e-5, atol=0.0, history=True)
    lx.plot_convergence(GMRES=lx.linear_solve(A, jnp.ones(3), solver))
    ```
    """
    curves = [("", solution) for solution in solutions] + list(labelled.items())
    if not curves:
        raise ValueError("`plot_convergence` needs at least one solution.")
    for _, solution in curves:
        if not isinstance(solution, Solution):
            raise ValueError(
                "`plot_convergence` draws what `linear_solve` returned, but got a "
                f"value of type `{type(solution).__name__}`."
            )
        if "residuals" not in solution.stats:
            raise ValueError(
                "the solution has no history of residuals. Make the solver with "
                "`history=True`, as in `CG(rtol, atol, history=True)`; direct solvers "
                "have none."
            )
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "`plot_convergence` needs matplotlib: `pip install matplotlib`."
        ) from error
    ax = plt.subplots()[1] if ax is None else ax
    for name, solution in curves:
        residuals = history(solution)
        first = residuals[0] if len(residuals) and residuals[0] > 0 else 1.0
        ax.semilogy(np.arange(len(residuals)), residuals / first, label=name or None)
    ax.set(xlabel="step", ylabel="relative residual")
    if labelled:
        ax.legend()
    return ax
