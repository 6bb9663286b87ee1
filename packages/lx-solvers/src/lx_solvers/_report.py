"""Reports on solves, in a few lines: as text, and as HTML in notebooks."""

import dataclasses
import html
import math
from typing import Any

import jax
import jax.core
import jax.tree_util as jtu
import numpy as np
from jaxtyping import ArrayLike, PyTree
from lx_operators import AbstractLinearOperator
from lx_operators.internal import describe, same_shapes, structure_of

from ._solution import RESULTS, Solution

# The statistics that are said in words; others keep their names.
_WORDS = {
    "rank": "rank",
    "rank_deficient": "rank deficient",
    "growth": "growth of elements",
    "backward_error": "backward error",
    "norm_r": "norm of the residual",
    "norm_Ar": "norm of Aᴴr",
    "norm_A": "norm of A, estimated",
    "norm_x": "norm of x",
    "istop": "istop",
}
_BARS = "▁▂▃▄▅▆▇█"
_COLUMNS = 40  # of a history drawn in text


@dataclasses.dataclass(frozen=True, repr=False)
class Report:
    """What `report` returns: prints as text, and shows as HTML in a notebook."""

    facts: tuple[tuple[str, str], ...]
    """Names and values, as they are printed."""
    advice: tuple[str, ...]
    """What to do next: empty after a success."""
    history: np.ndarray
    """The norms of the residuals, one for each step; without the padding."""

    def __str__(self) -> str:
        facts = list(self.facts)
        if len(self.history):
            facts.append(("history", f"{sparkline(self.history)}  {self._course()}"))
        width = max(len(name) for name, _ in facts)
        lines = [f"{name:<{width}}  {value}" for name, value in facts]
        return "\n".join([*lines, *(f"Next: {text}" for text in self.advice)])

    __repr__ = __str__

    def _course(self) -> str:
        return f"{self.history[0]:.1e} to {self.history[-1]:.1e}"

    def _repr_html_(self) -> str:
        """What notebooks show: a table, and the history as a picture."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for name, value in self.facts
        )
        advice = "".join(f"<p>{html.escape(text)}</p>" for text in self.advice)
        return f"<table>{rows}</table>{advice}{_picture(self.history)}"


def report(
    solution: Solution,
    operator: AbstractLinearOperator | None = None,
    vector: PyTree[ArrayLike] | None = None,
    *,
    bounds: Any = None,
) -> Report:
    """Reports how a solve ended, its figures, and what to do next.

    The report prints as text, `print(lx.report(solution))`, and shows as a table with a
    picture of the history in a notebook. It holds the status, the steps, what the
    solver estimated (rank, backward error, condition of the factors; for that of A see
    `cond`), the history of residuals of an iterative solver made with `history=True`,
    and, after a failure, what to try.

    Args:
        solution: what `linear_solve` returned. For a batch, the report gives counts and
            ranges.
        operator, vector: A and b of that solve. With both, the report has the residual
            ‖b - Ax‖₂ / ‖b‖₂, computed from them.
        bounds: what `error_bounds` returned for the solution.

    Returns:
        A report, which prints itself.

    Raises:
        ValueError: inside `jit` or another transformation, where values are not known;
            or if the solution does not fit the operator and the vector.

    ```python
    A = lx.DiagonalLinearOperator(jnp.array([1.0, 10.0, 100.0]))
    b = jnp.ones(3)
    solver = lx.GMRES(rtol=1e-5, atol=0.0, history=True)
    print(lx.report(lx.linear_solve(A, b, solver), A, b))
    ```
    """
    if not isinstance(solution, Solution):
        raise ValueError(
            "`solution` must be what `linear_solve` returned, but got a value of type "
            f"`{type(solution).__name__}`."
        )
    if any(isinstance(x, jax.core.Tracer) for x in jtu.tree_leaves(_shown(solution))):
        raise ValueError(
            "`report` needs values, which are not known inside `jit` or another "
            "transformation. Return the solution and report it outside."
        )
    facts = [("status", _counted(np.asarray(solution.status)))]
    if (operator is None) != (vector is None):
        raise ValueError("`operator` and `vector` must be given together, or neither.")
    if operator is not None:
        facts.append(
            ("relative residual", _number(_residual(operator, vector, solution)))
        )
    facts += _statistics(solution.stats)
    if bounds is not None:
        facts += [
            ("backward error, bound", _number(bounds.backward_error)),
            ("condition number, bound", _number(bounds.condition)),
            ("relative error, bound", _number(bounds.forward_error)),
        ]
    return Report(tuple(facts), _advice(solution), history(solution))


def history(solution: Solution) -> np.ndarray:
    """The residuals of the steps that were made; of a batch, those of the member that
    took most steps."""
    residuals = np.asarray(solution.stats.get("residuals", ()))
    if residuals.ndim > 1:
        residuals = residuals.reshape(-1, residuals.shape[-1])
        residuals = residuals[np.argmax(np.sum(np.isfinite(residuals), axis=1))]
    (made,) = np.nonzero(~np.isnan(residuals))
    return residuals[: made[-1] + 1] if made.size else residuals[:0]


def sparkline(values: np.ndarray) -> str:
    """Positive numbers as a row of bars, on a logarithmic scale."""
    heights = _logarithms(values)
    if len(heights) > _COLUMNS:
        parts = np.array_split(heights, _COLUMNS)
        heights = np.array([part[-1] for part in parts])
    low, high = np.nanmin(heights), np.nanmax(heights)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        " " if math.isnan(x) else _BARS[round((x - low) * scale)] for x in heights
    )


def _logarithms(values: np.ndarray) -> np.ndarray:
    """log₁₀, where zero is a tenth of the least other value, and NaN for no value."""
    values = np.asarray(values, np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    positive = values[values > 0]
    least = positive.min() / 10 if positive.size else 1.0
    return np.log10(np.where(values == 0, least, values))


def _shown(solution: Solution) -> Any:
    return solution.value, solution.result, solution.stats


def _counted(names: np.ndarray) -> str:
    if names.ndim == 0:
        return str(names)
    kinds, counts = np.unique(names, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return ", ".join(f"{counts[i]} {kinds[i]}" for i in order)


def _statistics(stats: dict[str, Any]) -> list[tuple[str, str]]:
    facts = []
    if "num_steps" in stats:
        limit = _number(stats.get("max_steps"))
        steps = [_number(stats["num_steps"]), *([limit] if limit else [])]
        facts.append(("steps", " of ".join(steps)))
    if "reciprocal_condition" in stats:
        rcond = np.asarray(stats["reciprocal_condition"], np.float64)
        condition = np.where(rcond > 0, 1 / np.where(rcond > 0, rcond, 1), np.inf)
        facts.append(("condition of the factors", _number(condition)))
    if "cond_A" in stats:
        facts.append(("condition number, estimated", _number(stats["cond_A"])))
    said = {"num_steps", "max_steps", "reciprocal_condition", "cond_A", "residuals"}
    for name, value in stats.items():
        if name not in said and (value := _number(value)):
            facts.append((_WORDS.get(name, name), value))
    return facts


def _number(value: Any) -> str:
    """A number, or the range of several; nothing of what is no number."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return ""
    if array.dtype.kind not in "biuf" or array.size == 0:
        return ""
    least, most = _text(array.min()), _text(array.max())
    return least if least == most else f"{least} to {most}"


def _text(number: Any) -> str:
    if number.dtype.kind == "b":
        return "yes" if number else "no"
    return str(number) if number.dtype.kind in "iu" else f"{float(number):.3g}"


def _residual(operator: Any, vector: Any, solution: Solution) -> np.ndarray:
    got, wanted = structure_of(solution.value), operator.in_structure()
    if not same_shapes(got, wanted):
        raise ValueError(
            f"`solution.value` has structure {describe(got)}, but the operator's input "
            f"{describe(wanted)}: `operator` and `vector` must be those of the solve. "
            "For a solve with `rhs_axis`, leave them out."
        )
    products = jtu.tree_leaves(operator.mv(solution.value))
    given = [np.asarray(b) for b in jtu.tree_leaves(vector)]
    r = _norm([b - np.asarray(y) for b, y in zip(given, products, strict=True)])
    size = _norm(given)
    return np.asarray(r / size if size else r)


def _norm(leaves: list[np.ndarray]) -> float:
    return math.hypot(*(float(np.linalg.norm(np.ravel(x))) for x in leaves))


def _advice(solution: Solution) -> tuple[str, ...]:
    names = dict.fromkeys(np.ravel(np.asarray(solution.status)).tolist())
    texts = (str(RESULTS[getattr(RESULTS, name)]) for name in names)
    return tuple(text for text in texts if text)


def _picture(residuals: np.ndarray) -> str:
    """The history as an SVG of its own, on a logarithmic scale."""
    if not len(residuals):
        return ""
    width, height, left = 320, 110, 62
    y = _logarithms(residuals)
    low, high = np.nanmin(y), np.nanmax(y)
    span = max(high - low, 1e-300)
    x = left + (width - left - 8) * np.arange(len(y)) / max(len(y) - 1, 1)
    y = 8 + (height - 32) * (high - y) / span
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y) if not math.isnan(b))
    style = "font:11px sans-serif;fill:currentColor"
    return (
        f"<svg role='img' aria-label='history of the residuals' width='{width}' "
        f"height='{height}' viewBox='0 0 {width} {height}'>"
        "<g fill='none' stroke='currentColor'>"
        f"<path stroke-opacity='0.5' d='M{left} 4V{height - 20}H{width - 4}'/>"
        f"<polyline stroke-width='1.5' points='{points}'/></g>"
        f"<g style='{style}'><text x='2' y='14'>{10**high:.1e}</text>"
        f"<text x='2' y='{height - 22}'>{10**low:.1e}</text>"
        f"<text x='{left}' y='{height - 5}'>0</text>"
        f"<text x='{width - 4}' y='{height - 5}' text-anchor='end'>"
        f"step {len(residuals) - 1}</text></g></svg>"
    )
