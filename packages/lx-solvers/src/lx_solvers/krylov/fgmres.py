"""Flexible GMRES."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import ArrayLike
from lx_operators import AbstractLinearOperator, linearise
from lx_operators.internal import max_norm

from .._checks import check_options, check_square, check_state
from .._solver import AbstractLinearSolver
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._arnoldi import arnoldi, check_cycle
from ._options import effective, preconditioner, set_up
from ._spaces import as_matvec, spaces
from ._tolerances import Norm, check_aims, takes_rtol_and_atol


@takes_rtol_and_atol
class FGMRES(AbstractLinearSolver[driver.KrylovState]):
    """GMRES with a preconditioner that may change with each step, such as another
    iterative solver, for square nonsingular operators.

    Saad 1993, doi:10.1137/0914028: the preconditioned basis is kept, and the solution
    is a combination of it. Everything else is as for `GMRES`. A step is one product
    with the operator and one use of the preconditioner; a check, or the end of a cycle,
    costs one more product, but does not count as a step. `2 restart + 5` vectors are
    kept.

    Args:
        rtol, atol, norm, max_steps, restart: as for `GMRES`.
        stagnation_iters, criterion, history, progress: as for `GMRES`.
        preconditioner: a recipe such as `Jacobi()`, or any other solver, set up from
            the operator.

    Options: `preconditioner`: an operator that approximates the inverse; or any
    function `(v, step) -> z` of a vector of the operator's input structure and of the
    number of steps so far, linear or not. Solves for derivatives use the transpose of
    an operator; for a function, they use no preconditioner. `y0`, as for `GMRES`.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not square.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[4.0, 2.0], [-1.0, 3.0]]))
    solver = lx.FGMRES(rtol=1e-6, atol=1e-6)
    solution = lx.linear_solve(
        operator, jnp.ones(2), solver, options={"preconditioner": lambda v, step: v / 4}
    )
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    restart: int = eqx.field(static=True, default=20)
    stagnation_iters: int = eqx.field(static=True, default=20)
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "FGMRES")
        check_cycle(self.restart, self.stagnation_iters, "FGMRES")

    def init(self, operator, options):
        check_square(operator, "FGMRES")
        check_options(options, ("preconditioner", "y0", "stop"), "FGMRES")
        _use(options, operator)
        operator = linearise(operator)
        M = set_up(self.preconditioner, operator, options, "FGMRES", flexible=True)
        return driver.KrylovState(operator, preconditioner=M)

    def compute(self, state, vector, options):
        check_state(state, driver.KrylovState, "FGMRES")
        options = effective(options, state)
        M = _use(options, state.operator)
        return arnoldi(self, "FGMRES", state, M, vector, options, flexible=True)

    def transpose(self, state, options):
        return driver.transposed_state(state, _fixed(options))

    def conj(self, state, options):
        return driver.conjugated_state(state, _fixed(options))

    def assume_full_rank(self):
        return True


def _use(options: dict, operator: AbstractLinearOperator) -> Callable | None:
    """The preconditioner as a function of arrays and the number of steps."""
    X, _ = spaces(operator)
    M = options.get("preconditioner")
    if M is None:
        return None
    if isinstance(M, AbstractLinearOperator) or not callable(M):
        checked: Any = preconditioner(options, operator, "FGMRES")
        right = as_matvec(checked, X)
        return lambda v, step: right(v)
    return lambda v, step: X.ravel(M(X.unravel(v), step))


def _fixed(options: dict) -> dict:
    """The options without a preconditioner that is a mere function."""
    return {
        name: value
        for name, value in options.items()
        if name != "preconditioner" or isinstance(value, AbstractLinearOperator)
    }
