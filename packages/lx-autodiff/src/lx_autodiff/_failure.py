"""What a failed solve says."""

from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree
from lx_operators.internal import summary
from lx_solvers import RESULTS, Solution

Stage = Literal["forward", "tangent", "transposed"]

_STAGES = {
    "forward": "A linear solve failed",
    "tangent": "A linear solve in a forward-mode derivative failed",
    "transposed": "A linear solve with the transpose, for a derivative, failed",
}

_FURTHER = {  # ways out beside that in the item's own text
    "max_steps_reached": (
        "Or loosen `rtol` and `atol`, or pass a preconditioner in `options`."
    )
}

_WAY_OUT = "To have failures in `Solution.result` instead, pass `throw=False`."


_NAMES = (
    "max_steps_reached",
    "singular",
    "breakdown",
    "stagnation",
    "conlim",
    "nonfinite_input",
    "unstable",
)


def _message(name: str, operator: Any, solver: Any, stage: Stage, figures: str) -> str:
    """Which solve failed, of what, how, and what to try."""
    lines = (
        f"{_STAGES[stage]}: {name}.",
        RESULTS[getattr(RESULTS, name)],
        _FURTHER.get(name, ""),
        f"Operator: {summary(operator)}",
        f"Solver: {solver!r}",
        figures,
        _WAY_OUT,
    )
    return "\n".join(line for line in lines if line)


def raise_on_failure(
    value: PyTree[Array], result: RESULTS, operator: Any, solver: Any, stage: Stage
) -> PyTree[Array]:
    """`value`, whose computation raises at run time if the solve failed."""
    if not jtu.tree_leaves(value):  # no array to hang the error on
        return value
    texts = [_message(name, operator, solver, stage, "") for name in _NAMES]
    hits = [result == getattr(RESULTS, name) for name in _NAMES]
    index = sum(i * hit.astype(jnp.int32) for i, hit in enumerate(hits))
    failed = result != RESULTS.successful
    return eqx.branched_error_if(value, failed, index, texts)


def raise_now(solution: Solution, operator: Any, solver: Any) -> None:
    """Raise for a solve that is known to have failed, with the figures it reached."""
    hits = {n: bool(jnp.any(solution.result == getattr(RESULTS, n))) for n in _NAMES}
    name = next(name for name, hit in hits.items() if hit)
    figures = ", ".join(
        f"{key} = {x}" for key, x in solution.stats.items() if jnp.ndim(x) == 0
    )
    figures = figures and f"Reached: {figures}"
    raise eqx.EquinoxRuntimeError(_message(name, operator, solver, "forward", figures))
