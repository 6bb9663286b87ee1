"""Residual history and progress of an iterative solve."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._phases import Phases
from ._spaces import Space
from ._tolerances import concrete


class Monitor:
    """Residual history and progress; of no cost when neither is asked for."""

    def __init__(self, history: int | bool, progress: bool, limit: Any, name: str):
        # `history=True` is room for every step
        if history is True and concrete(limit) is None:
            raise ValueError(
                f"`history=True` of `{name}` needs a `max_steps` that is not traced; "
                "give the number of entries instead."
            )
        self.length = limit + 1 if history is True else int(history)
        self.bar = _Bar(name, limit) if progress else None

    def start(
        self, phases: Phases, residual: Callable[[], Array], space: Space
    ) -> Array | None:
        """The history at step 0, and NaN where no step has been made yet."""
        if not self.length:
            return None
        history = jnp.full(self.length, jnp.nan, space.real_dtype)
        return history.at[phases.num_steps].set(residual(), mode="drop")

    def record(
        self, history: Array | None, phases: Phases, residual: Callable[[], Array]
    ) -> Array | None:
        """The history with the residual after the steps so far."""
        if history is None and self.bar is None:
            return None
        value = residual()
        if self.bar is not None:
            # in the loop only: outside, a call would have no place in time
            jax.debug.callback(self.bar.show, phases.num_steps, value)
        if history is None:
            return None
        return history.at[phases.num_steps].set(value, mode="drop")

    def stats(self, end: Any, max_steps: int, **more: Any) -> dict[str, Any]:
        """The statistics of a loop that ended so."""
        if self.bar is not None:
            jax.debug.callback(self.bar.close, end.phases.num_steps)
        stats = {"num_steps": end.phases.num_steps, "max_steps": max_steps, **more}
        if end.history is not None:
            stats["residuals"] = end.history
        return stats


class _Bar:
    """A progress bar on the host, made anew for each run of a compiled solve."""

    def __init__(self, name: str, total: int):
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError(
                "`progress=True` needs tqdm, which is not installed: "
                "`pip install tqdm`."
            ) from None
        self.make = lambda: tqdm(desc=name, total=int(total), unit="step")
        self.bar = None

    def show(self, num_steps: Any, residual: Any) -> None:
        """Called after each pass."""
        self.bar = self.make() if self.bar is None else self.bar
        self.bar.set_postfix_str(f"residual {float(residual):.2e}", refresh=False)
        self.bar.update(max(int(num_steps) - self.bar.n, 0))

    def close(self, num_steps: Any) -> None:
        """Called at the end."""
        if self.bar is not None:
            self.bar.close()
        self.bar = None
