"""Krylov methods step by step, in a loop of the caller's own."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PyTree, Scalar
from lx_operators import AbstractLinearOperator

from .._results import judged
from .._solution import Solution
from .._solver import AbstractLinearSolver, Options


class IterationState(eqx.Module):
    """The state of an iteration: a pytree of arrays, which a loop can carry."""

    loop: Any

    @property
    def running(self) -> Bool[Array, ""]:
        """Whether the iteration goes on."""
        return self.loop.phases.running

    @property
    def num_steps(self) -> Int[Array, ""]:
        """The number of steps so far."""
        return self.loop.phases.num_steps


class StepByStep(eqx.Module):
    """A Krylov method that runs step by step on one system; `step_by_step` makes it."""

    solver: AbstractLinearSolver
    state: Any
    vector: PyTree[Array]
    options: Options

    def _iteration(self) -> Any:
        solver: Any = self.solver
        return solver.iteration(self.state, self.vector, self.options)

    @eqx.filter_jit
    def start(self) -> IterationState:
        """The state before the first step."""
        return IterationState(self._iteration().start)

    @eqx.filter_jit
    def step(self, at: IterationState) -> IterationState:
        """The state after one pass, which has one product with the operator. A pass is
        a step, or a check that recomputes the residual and does not count as a step. An
        iteration that has ended does not change."""
        step = self._iteration().step
        loop = jax.lax.cond(at.running, step, lambda loop: loop, at.loop)
        return IterationState(loop)

    @eqx.filter_jit
    def value(self, at: IterationState) -> PyTree[Array]:
        """The solution so far."""
        return self._iteration().solution(at.loop)

    @eqx.filter_jit
    def residual_norm(self, at: IterationState) -> Scalar:
        """The 2-norm of its residual, as the recurrence has it."""
        return self._iteration().residual_norm(at.loop)

    @eqx.filter_jit
    def finish(self, at: IterationState) -> Solution:
        """The solution, with its status and statistics. If the iteration has not ended
        yet, the residual is checked, with one product, and the status is `stopped` if
        it is not within the tolerance."""
        iteration = self._iteration()
        loop = iteration.stop(at.loop)
        loop = jax.lax.while_loop(
            lambda loop: loop.phases.running, iteration.step, loop
        )
        value, result, stats = iteration.finish(loop)
        result = judged(result, self.vector, value)
        stats = jax.tree.map(jnp.asarray, stats)
        return Solution(value, result, stats, self.state)


def step_by_step(
    operator: AbstractLinearOperator,
    vector: PyTree[Array],
    solver: AbstractLinearSolver,
    *,
    options: Options | None = None,
) -> StepByStep:
    """A Krylov method for your own loop, which makes one step at a time.

    `start`, `step` and `finish` are compiled; they may also be called inside `jit`,
    `lax.while_loop` or `scan`, which carry an `IterationState`. If you make all steps
    to the end, the result is that of `linear_solve`. Derivatives here do not use
    implicit differentiation; use `linear_solve` for that.

    Args:
        operator: A.
        vector: b, of the operator's output structure, dtypes included.
        solver: `CG`, `MINRES`, `SYMMLQ`, `MINRESQLP`, `COCG`, `BiCGStab` or `IDR`, or
            any solver with a method `iteration` (*Write a Krylov method* in the
            documentation). The solution of `GMRES` is known only at the end of a cycle.
        options: as for `linear_solve`.

    Raises:
        ValueError: a solver of another kind.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1.0], [1.0, 3.0]]), lx.positive_semidefinite_tag
    )
    iteration = lx.step_by_step(operator, jnp.array([1.0, 2.0]), lx.CG(rtol=1e-6))
    at = iteration.start()
    while at.running:
        at = iteration.step(at)
        print(at.num_steps, iteration.residual_norm(at))
    solution = iteration.finish(at)
    ```
    """
    if not hasattr(solver, "iteration"):
        raise ValueError(
            "`step_by_step` needs a Krylov method with short recurrences, such as `CG` "
            f"or `MINRES`, but got {solver!r}."
        )
    options = {} if options is None else options
    solver = solver.setup(operator)
    return StepByStep(solver, solver.init(operator, options), vector, options)
