"""`invert`: the pseudoinverse as an operator."""

from typing import Any

from lx_operators import AbstractLinearOperator, FunctionLinearOperator
from lx_operators.internal import inverse_tags, known
from lx_solvers import AbstractLinearSolver, AutoLinearSolver

from ._identity import solver_for
from ._linear_solve import check_solve, linear_solve
from ._partition import stop_gradient


def invert(
    operator: AbstractLinearOperator,
    solver: AbstractLinearSolver = AutoLinearSolver(well_posed=True),
    *,
    options: dict[str, Any] | None = None,
    throw: bool = True,
) -> FunctionLinearOperator:
    """The pseudoinverse A† as an operator: each product is a solve.

    The operator is factorised once, here. Products are differentiable with respect to
    `operator`, like `linear_solve`.

    Args:
        operator: A.
        solver, options, throw: as in `linear_solve`.

    Returns:
        A `FunctionLinearOperator` from A's output to its input structure, with the tags
        that inversion keeps: all but tridiagonal, and unit diagonal only of triangular
        or diagonal operators.

    Raises:
        ValueError: as in `linear_solve`.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[2.0, 1.0], [1.0, 3.0]]))
    vector = jnp.array([3.0, 4.0])
    inverse = lx.invert(operator, lx.LU())
    inverse.mv(vector)  # [1. 1.]
    (inverse @ operator).mv(vector)
    ```
    """
    check_solve(operator, solver)
    options = {} if options is None else options
    solver = solver_for(operator, solver)
    state = solver.init(*stop_gradient((operator, options)))

    def solve(vector):
        return linear_solve(
            operator, vector, solver, options=options, state=state, throw=throw
        ).value

    tags = inverse_tags(known(operator))
    return FunctionLinearOperator(solve, operator.out_structure(), tags)
