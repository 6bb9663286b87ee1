"""Factors of an earlier operator."""

from typing import Any

from .._solver import AbstractLinearSolver
from ._adapted import SolverPreconditioner
from ._preconditioner import AbstractPreconditioner, definite_tags, stopped


class StaleFactors(AbstractPreconditioner[Any]):
    """The factors of an earlier, similar operator: in time stepping and Newton
    iterations one factorisation can then serve several systems.

    Args:
        solver: the direct solver.
        state: what `solver.init` returned for the earlier operator, or the `state` of a
            `Solution`. That operator must have the same structure, and be definite if
            this one is; the latter is assumed, not checked.

    ```python
    earlier = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1.0], [1.0, 3.0]]), lx.positive_semidefinite_tag
    )
    state = lx.linear_solve(earlier, jnp.ones(2), lx.Cholesky()).state
    solver = lx.CG(preconditioner=lx.StaleFactors(lx.Cholesky(), state))
    operator = lx.TaggedLinearOperator(1.1 * earlier, lx.positive_semidefinite_tag)
    solution = lx.linear_solve(operator, jnp.ones(2), solver)
    ```
    """

    factors: SolverPreconditioner
    state: Any

    def __init__(self, solver: AbstractLinearSolver, state: Any):
        self.factors = SolverPreconditioner(solver)
        self.state = stopped(state)

    def init(self, operator, options):
        return self.factors.begun(self.state, operator)

    def apply(self, state, vector):
        return self.factors.apply(state, vector)

    def transpose(self, state, options):
        return self.factors.transpose(state, options)

    def conj(self, state, options):
        return self.factors.conj(state, options)

    def tags(self, operator):
        return definite_tags(operator)

    def is_constant(self):
        return self.factors.is_constant()

    def status(self, state):
        return self.factors.status(state)
