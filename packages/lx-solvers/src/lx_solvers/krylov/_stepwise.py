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
    """Where an iteration stands: a pytree of arrays, which a loop can carry."""

    loop: Any

    @property
    def running(self) -> Bool[Array, ""]:
        """Whether there is a step to be made."""
        return self.loop.phases.running

    @property
    def num_steps(self) -> Int[Array, ""]:
        """How many steps were made."""
        return self.loop.phases.num_steps


class StepByStep(eqx.Module):
    """A Krylov method at work on one system; made by `step_by_step`."""

    solver: AbstractLinearSolver
    state: Any
    vector: PyTree[Array]
    options: Options

    def _iteration(self) -> Any:
        solver: Any = self.solver
        return solver.iteration(self.state, self.vector, self.options)

    @eqx.filter_jit
    def start(self) -> IterationState:
        """Before the first step."""
        return IterationState(self._iteration().start)

    @eqx.filter_jit
    def step(self, at: IterationState) -> IterationState:
        """After one pass, which has one product with the operator: a step, or a check,
        in which the residual is computed anew, and which does not count as a step. An
        iteration that has ended stays as it is."""
        step = self._iteration().step
        loop = jax.lax.cond(at.running, step, lambda loop: loop, at.loop)
        return IterationState(loop)

    @eqx.filter_jit
    def value(self, at: IterationState) -> PyTree[Array]:
        """The solution so far."""
        return self._iteration().solution(at.loop)

    @eqx.filter_jit
    def residual_norm(self, at: IterationState) -> Scalar:
        """The 2-norm of its residual, as it was recurred."""
        return self._iteration().residual_norm(at.loop)

    @eqx.filter_jit
    def finish(self, at: IterationState) -> Solution:
        """The solution, with its status and statistics. An iteration that has not ended
        yet makes its last check, with one product, and is `stopped` if the residual
        does not pass."""
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
    """A Krylov method for a loop of the caller's own, which makes one step at a time.

    `start`, `step` and `finish` are compiled; they may also be called inside `jit`,
    `lax.while_loop` or `scan`, which carry an `IterationState`. All steps to the end
    give what `linear_solve` gives. Nothing here has a derivative by implicit
    differentiation; use `linear_solve` for that.

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
