"""What LSQR and LSMR make of an operator and its preconditioner, and of the transposes
of both.

A preconditioner of least-squares problems is a right factor M, such that A M is better
conditioned.
"""

from jaxtyping import ArrayLike
from lx_operators import AbstractLinearOperator, linearise

from .._checks import check_options
from .._solver import Options
from ..preconditioners._preconditioner import AbstractPreconditioner
from ._damping import undamped
from ._driver import KrylovState
from ._options import effective, preconditioner, right_factor, transposed


def prepare(
    operator: AbstractLinearOperator,
    options: Options,
    damp: ArrayLike,
    name: str,
    recipe: AbstractPreconditioner | None,
) -> KrylovState:
    """`init` of LSMR and LSQR.

    Raises:
        ValueError: a bad preconditioner, or one with damping.
    """
    check_options(options, ("preconditioner", "y0", "stop"), name)
    given = options.get("preconditioner")
    if not (given is None and recipe is None) and not undamped(damp):
        raise ValueError(
            f"`{name}` takes damping or a preconditioner, but not both: "
            "it would damp the preconditioned unknowns, not the solution."
        )
    preconditioner(options, operator, name)
    operator, M = linearise(operator), None
    if recipe is not None and given is None:
        M = right_factor(recipe, operator, name)
    return KrylovState(operator, preconditioner=M)


def transposed_problem(
    state: KrylovState, options: Options, name: str
) -> tuple[KrylovState, Options]:
    """The state and the options for Aᵀ.

    If A's columns are independent, M does not change the solution, and that of the
    transposed problem is the one of least norm of Mᵀ Aᵀ y = Mᵀ c. So M stays, on the
    left. If the columns are dependent, the one has least ‖M⁻¹ x‖, the other least ‖Mᵀ
    (c - Aᵀ y)‖.

    Raises:
        ValueError: a preconditioner for more columns than rows. The solution is then
            the one of least ‖M⁻¹ x‖, no transpose of which such a method solves for.
    """
    m, n = state.operator.out_size(), state.operator.in_size()
    if m < n and "preconditioner" in effective(options, state):
        raise ValueError(
            f"`{name}` with a preconditioner on an operator with more columns than "
            f"rows ({m} by {n}) has no transposed solve, hence no derivatives; leave "
            "out the preconditioner, or use `Normal(CG(...))`, which takes one."
        )
    options = transposed(effective(options, state))
    M, left = options.pop("preconditioner", None), None
    if m >= n:
        M, left = None, M
    if state.left is not None:
        M = state.left.T
    return KrylovState(state.operator.T, preconditioner=M, left=left), options
