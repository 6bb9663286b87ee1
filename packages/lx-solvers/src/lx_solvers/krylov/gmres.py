"""Generalised minimal residuals, restarted."""

from typing import Any

import equinox as eqx
from jaxtyping import ArrayLike
from lx_operators.internal import max_norm

from .._checks import check_state
from .._solver import AbstractLinearSolver
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._arnoldi import arnoldi, check_cycle
from ._options import effective, preconditioner
from ._spaces import as_matvec, spaces
from ._tolerances import Norm, check_aims, takes_rtol_and_atol


@takes_rtol_and_atol
class GMRES(AbstractLinearSolver[driver.KrylovState]):
    """Restarted GMRES, for square nonsingular operators.

    Saad and Schultz 1986, doi:10.1137/0907058, with the preconditioner on the right
    (Saad 2003, alg. 9.5, doi:10.1137/1.9780898718003), so that the residual is that of
    the system itself. Beyond the textbook method, the basis is orthogonalised by two
    passes of classical Gram-Schmidt (Giraud, Langou and Rozložník 2005,
    doi:10.1016/j.camwa.2005.08.009), and once the recurred residual is small enough,
    the true one is computed; if it is too large, the cycle simply goes on.

    A step is one product with the operator and one with the preconditioner, if any; a
    check, or the end of a cycle, costs one more of each, but does not count as a step.
    `restart + 4` vectors are kept: the basis, b, x and the product. The size of the
    last update, which must be within its tolerance, is estimated from the solution's
    coordinates in the basis.

    For a singular operator the result is `singular` if the Krylov space shows it. It
    may not: a consistent singular system may have a solution in the Krylov space of b.
    That solution is returned as a success, because its residual is small enough, but it
    need not have the least norm. For singular operators use `LSMR` or a rank-revealing
    solver. No test could do better: for b = (1, 0), products with [[1, 1], [0, 0]] and
    with the nonsingular [[1, 1], [0, 1]] are the same, and (1, 0) solves both systems.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the step limit; ten times the size by default. With
            `rtol = atol = 0` exactly this many steps are made.
        restart: steps in a cycle.
        stagnation_iters: how many cycles in a row may reduce the residual by less than
            a thousandth.
        preconditioner: a recipe such as `Jacobi()`, or a direct solver, set up from the
            operator.
        criterion: "elementwise": each element of the residual is within its tolerance
            relative to b, and each of the last update relative to the solution;
            "two_norm": ‖b - A x‖₂ ≤ max(rtol ‖b‖₂, atol), which takes fewer steps.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`: `True`, or the number of entries to record.
        progress: show a progress bar.

    Options: `preconditioner`, an operator that approximates the inverse; `y0`, an
    initial guess, which is ignored if it leaves a residual above ‖b‖ / eps.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not square.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [-1.0, 3.0]]))
    solution = lx.linear_solve(operator, jnp.ones(2), lx.GMRES(rtol=1e-6, atol=1e-6))
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
        check_aims(self, "GMRES")
        check_cycle(self.restart, self.stagnation_iters, "GMRES")

    def init(self, operator, options):
        return driver.prepare(operator, options, "GMRES", self.preconditioner)

    def compute(self, state, vector, options):
        return self.outcome(state, vector, options)

    def outcome(self, state, vector, options, norm_A: ArrayLike = 0):
        """As `compute`.

        Args:
            norm_A: a lower bound of ‖A‖, if one is known already.
        """
        check_state(state, driver.KrylovState, "GMRES")
        options = effective(options, state)
        M = preconditioner(options, state.operator, "GMRES")
        X, _ = spaces(state.operator)
        right = None if M is None else lambda v, step: as_matvec(M, X)(v)
        given = self, "GMRES", state, right, vector, options
        return arnoldi(*given, flexible=False, norm_A=norm_A)

    def transpose(self, state, options):
        return driver.transposed_state(state, options)

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return True
