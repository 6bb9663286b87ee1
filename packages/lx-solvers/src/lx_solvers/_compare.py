"""Preconditioners side by side, on one problem."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PyTree
from lx_operators import (
    AbstractLinearOperator,
    is_negative_semidefinite,
    is_positive_semidefinite,
)

from ._results import NAMES, code
from ._solver import AbstractLinearSolver
from .krylov.cg import CG
from .krylov.gmres import GMRES


class Trial(NamedTuple):
    """How one preconditioner did."""

    name: str
    status: str
    """The name of the result; or the text of the error."""
    steps: int
    host: float
    """Seconds of work on the host."""
    init: float
    """Seconds to set up from the operator, compiled."""
    compute: float
    """Seconds to solve for one vector, compiled."""
    residuals: np.ndarray


class Comparison:
    """What `compare` returns: prints as a table."""

    def __init__(self, trials: Sequence[Trial]):
        self.trials = tuple(trials)

    def __str__(self) -> str:
        width = max([len(trial.name) for trial in self.trials] + [14])
        head = f"{'preconditioner':<{width}} {'steps':>6} {'host':>9} {'set-up':>9} "
        lines = [head + f"{'solve':>9}  status"]
        for trial in self.trials:
            times = (trial.host, trial.init, trial.compute)
            shown = " ".join(f"{1e3 * t:>6.3g} ms" for t in times)
            lines.append(
                f"{trial.name:<{width}} {trial.steps:>6} {shown}  {trial.status}"
            )
        return "\n".join(lines)

    __repr__ = __str__

    def plot(self, ax: Any = None) -> Any:
        """The residuals over the steps, on a logarithmic scale.

        Args:
            ax: axes of Matplotlib; new ones by default.

        Returns:
            The axes.

        Raises:
            ImportError: Matplotlib is not installed.
        """
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError(
                    "`plot` needs Matplotlib, which is not installed: "
                    "`pip install matplotlib`."
                ) from error
            _, ax = plt.subplots()
        for trial in self.trials:
            if trial.residuals.size:
                ax.semilogy(trial.residuals / trial.residuals[0], label=trial.name)
        ax.set_xlabel("steps")
        ax.set_ylabel("‖b - A x‖ / ‖b‖")
        ax.legend()
        return ax


def compare(
    operator: AbstractLinearOperator,
    vector: PyTree[Array],
    preconditioners: Sequence[Any] | Mapping[str, Any],
    solver: AbstractLinearSolver | None = None,
) -> Comparison:
    """Solves one system with several preconditioners, and reports steps and times.

    Args:
        operator: A, concrete.
        vector: b.
        preconditioners: what a solver takes as `preconditioner`, None included; in a
            dictionary by names.
        solver: an iterative solver; by default `CG` or `GMRES` as the operator is
            known to be semidefinite or not, `rtol=1e-8` in the 2-norm and at most 1000
            steps. History is recorded in any case.

    Returns:
        A `Comparison`, which prints as a table: steps, milliseconds of work on the
        host, of the compiled set-up and of the compiled solve, and status. Its
        `trials` hold the numbers, and `plot()` draws the residuals.

    ```python
    n = 50
    chain = lx.TridiagonalLinearOperator(
        2 * jnp.ones(n), -jnp.ones(n - 1), -jnp.ones(n - 1)
    )
    operator = lx.TaggedLinearOperator(chain, lx.positive_semidefinite_tag)
    print(lx.compare(operator, jnp.ones(n), [None, lx.Jacobi(), lx.Chebyshev(4)]))
    ```
    """
    if not isinstance(preconditioners, Mapping):
        preconditioners = {_name(given): given for given in preconditioners}
    trials = []
    for name, given in preconditioners.items():
        chosen: Any = _solver(operator, solver, given)
        trials.append(_trial(name, chosen, operator, vector))
    return Comparison(trials)


def _name(given: Any) -> str:
    return "none" if given is None else str(given) if given == "auto" else repr(given)


def _solver(operator: Any, solver: Any, given: Any) -> Any:
    if solver is None:
        definite = is_positive_semidefinite(operator)
        kind: Any = CG if definite or is_negative_semidefinite(operator) else GMRES
        aims = dict(rtol=1e-8, atol=0.0, max_steps=1000, criterion="two_norm")
        return kind(**aims, history=True, preconditioner=given)
    fields = {name: getattr(solver, name) for name in solver.__dataclass_fields__}
    return type(solver)(**(fields | dict(history=True, preconditioner=given)))


def _trial(name: str, solver: Any, operator: Any, vector: Any) -> Trial:
    init = eqx.filter_jit(lambda solver, A: solver.init(A, {}))
    compute = eqx.filter_jit(lambda solver, state, b: solver.compute(state, b, {}))
    try:
        host, solver = _timed(solver.setup, operator)
        init(solver, operator)
        before, state = _timed(init, solver, operator, runs=3)
        compute(solver, state, vector)
        each, (_, result, stats) = _timed(compute, solver, state, vector, runs=3)
    except ValueError as error:
        return Trial(name, str(error), 0, 0.0, 0.0, 0.0, np.zeros(0))
    steps = int(stats["num_steps"])
    residuals = np.asarray(stats["residuals"])[: steps + 1]
    status = NAMES[int(code(result))]
    return Trial(name, status, steps, host, before, each, residuals)


def _timed(fn: Any, *args: Any, runs: int = 1) -> tuple[float, Any]:
    """The least time of several runs, and what is returned."""
    times, out = [], None
    for _ in range(runs):
        start = time.perf_counter()
        out = jax.block_until_ready(fn(*args))
        times.append(time.perf_counter() - start)
    return min(times), out
