"""The normal equations."""

import dataclasses
import warnings
from typing import Any

import equinox as eqx
from jaxtyping import Array, ArrayLike, Real
from lx_operators import AbstractLinearOperator, conj, linearise

from .._checks import check_state, is_zero
from .._projection import leaves_no_residual
from .._solver import AbstractLinearSolver
from ..direct._factors import check_damp
from ..krylov._options import conjugated, transposed
from ..krylov.cg import CG
from ..preconditioners._preconditioner import AbstractPreconditioner
from ._corrections import corrected
from ._equations import equations, inner_options, normalised


class NormalState(eqx.Module):
    """What `Normal.init` returns."""

    operator: AbstractLinearOperator
    """σA, where σ is a power of two near 1 / ‖A‖."""
    σ: Real[Array, ""]
    d: Real[Array, ""] | None
    """σ · damp; None without damping."""
    A_norm: Real[Array, ""]
    """A lower bound of ‖σA‖."""
    inner: Any
    tall: bool = eqx.field(static=True)
    """Solve AᴴA x = Aᴴb; else A Aᴴ w = b, and x = Aᴴ w."""


class Normal(AbstractLinearSolver[NormalState]):
    """The normal equations and a solver for definite operators, for operators of any
    shape and full rank.

    With at least as many rows as columns x solves AᴴA x = Aᴴb, which is the
    least-squares solution; with more columns x = Aᴴw and A Aᴴ w = b, which is the
    solution of least norm. The condition number is the square of A's: `LSMR` and `QR`
    are more accurate. A is divided by a power of two near its norm first, so that AᴴA
    neither overflows nor underflows.

    Success is judged on the problem itself, because the normal equations' residual may
    be small when r = b - A x is not. One of three conditions must hold, in the 2-norm:

    - ‖r‖ ≤ atol √m + rtol ‖b‖;
    - with more rows than columns, ‖Aᴴr‖ ≤ rtol ‖r‖ ‖Aᴴb‖ / ‖b‖, in which the last ratio
      stands for ‖A‖;
    - rounding allows no smaller residual: ‖r‖ ≤ c eps (‖A‖‖x‖ + ‖b‖), or, with at least
      as many rows as columns, ‖Aᴴr‖ ≤ c eps ‖A‖‖r‖; or, with more rows than columns and
      once a correction neither halved r's excess nor moved x by more than one percent,
      ‖Aᴴr‖ ≤ c eps ‖A‖ (‖A‖‖x‖ + ‖r‖). Here c = 32, and ‖A‖ is a lower bound from
      products. Where eps ‖A‖‖x‖ > 0.01 ‖b‖, so that x is nothing but rounding errors,
      the result is `singular`.

    As long as none of these holds and r becomes smaller, the inner solver is applied to
    the remaining residual (Björck 1996, section 6.6.5, doi:10.1137/1.9781611971484).
    The tolerances are the inner solver's; the square root of the rounding unit and 0 if
    it has none.

    With an inner solver for semidefinite systems, such as `CG`, the operator may be
    rank-deficient. With at least as many rows as columns the solution is then that of
    least squares and, without an initial guess, of least norm; with more columns that
    is so if the system is consistent; if not, the solve fails (`LSMR` solves it). A
    square operator counts as rank-deficient if ‖Aᴴr‖ ≤ c eps ‖A‖‖r‖ but r is not small:
    `stats["rank_deficient"]` is then true, and derivatives are NaN. With an iterative
    inner solver derivatives are those of A†b at constant rank. For a rank-deficient
    operator, in reverse mode and if b - A x is not zero, some of the normal equations
    that they need may have no solution; derivatives are then NaN (those of `LSMR` and
    `SVD` are not). For rank-deficient operators, `CG(criterion="two_norm")` is the best
    inner solver: the elementwise criterion may ask for one more step than there are
    independent rows, which follows rounding errors. Allowing rank-deficient operators
    costs one further solve, unless the operator is tagged `nonsingular_tag`. Direct
    inner solvers refuse singular normal equations.

    Each application of the inner solver costs one product with A and one with Aᴴ beyond
    its own; `init` costs one with A, and the right-hand side, with at least as many
    rows as columns, one with Aᴴ. Three vectors of the size of b and two of the
    size of x are kept beyond its own (with damping and more columns than rows, one more
    of the size of b).

    Args:
        inner_solver: a solver for positive definite operators, such as `CG`, `Cholesky`
            or `AutoLinearSolver(well_posed=True)`.
        damp: minimise ‖Ax - b‖² + damp²‖x‖² instead (ridge regression, Tikhonov
            regularisation; λ = damp²), by (AᴴA + damp² I) x = Aᴴb, or with more columns
            than rows by (A Aᴴ + damp² I) w = b. Above, A and b are then
            [A; damp I] and [b; 0], or [A, damp I] and b.

    Options: those of the inner solver, with `preconditioner` an operator M that
    approximates A⁻¹ (from A's output structure to its input structure), passed on as
    M Mᴴ if tall, and Mᴴ M if wide; and `y0`, an initial guess of x, which is ignored
    if it leaves a residual above ‖b‖ / eps. For a wide operator it is used only with a
    preconditioner, as Mᴴ y0.

    Statistics: those of the inner solver, for the normal equations of A divided by the
    power of two; `backward_error`, the least of ‖r‖ / (‖A‖‖x‖ + ‖b‖) and, with more
    rows than columns, ‖Aᴴr‖ / (‖A‖ (‖A‖‖x‖ + ‖r‖)); `rank_deficient`.

    Raises:
        ValueError: negative damping; a preconditioner or initial guess of another
            structure; or the inner solver raises it.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    solver = lx.Normal(lx.CG(rtol=1e-6, atol=1e-6))
    solution = lx.linear_solve(operator, jnp.ones(3), solver)
    ```
    """

    inner_solver: AbstractLinearSolver
    damp: ArrayLike = eqx.field(default=0.0, kw_only=True)

    def __check_init__(self):
        check_damp(self.damp)

    def setup(self, operator):
        inner = self.inner_solver
        recipe: Any = getattr(inner, "preconditioner", None)
        if type(inner).setup is AbstractLinearSolver.setup and (
            recipe is None or type(recipe).setup is AbstractPreconditioner.setup
        ):
            return self  # nothing to do, so no product is made
        A, _, d, _, tall = self._scaled(operator)
        ready = inner.setup(equations(A, d, tall))
        return self if ready is inner else dataclasses.replace(self, inner_solver=ready)

    def init(self, operator, options):
        A, σ, d, A_norm, tall = self._scaled(operator)
        options = inner_options(A, σ, tall, options)
        inner = self.inner_solver.init(equations(A, d, tall), options)
        return NormalState(A, σ, d, A_norm, inner, tall)

    def _scaled(self, operator: AbstractLinearOperator) -> tuple:
        operator = linearise(operator)
        tall = operator.out_size() >= operator.in_size()
        damp = None if is_zero(self.damp) else self.damp
        return *normalised(operator, damp), tall

    def compute(self, state, vector, options):
        check_state(state, NormalState, "Normal")
        return corrected(self.inner_solver, state, vector, options)

    def transpose(self, state, options):
        # (AᵀᴴAᵀ, or AᵀAᵀᴴ) is the conjugate of (A Aᴴ, or AᴴA)
        inner, _ = self.inner_solver.conj(state.inner, {})
        state = dataclasses.replace(
            state, operator=state.operator.T, inner=inner, tall=not state.tall
        )
        return state, transposed(options)

    def conj(self, state, options):
        inner, _ = self.inner_solver.conj(state.inner, {})
        state = dataclasses.replace(state, operator=conj(state.operator), inner=inner)
        return state, conjugated(options)

    def assume_full_rank(self):
        inner = self.inner_solver
        if not is_zero(self.damp):
            return True
        # an iterative solver also solves singular normal equations
        return inner.assume_full_rank() and not hasattr(inner, "rtol")


@leaves_no_residual.register
def _(state: NormalState) -> bool:
    """If square, others are `rank_deficient`; if wide, others fail."""
    A = state.operator
    return not state.tall or A.out_size() == A.in_size()


def NormalCG(*args: Any, **kwargs: Any) -> Normal:
    """The former name of `Normal(CG(...))`.

    Args:
        args, kwargs: those of `CG`.

    Returns:
        `Normal(CG(*args, **kwargs))`.
    """
    warnings.warn(
        "`NormalCG(...)` is deprecated; use `Normal(CG(...))`.",
        DeprecationWarning,
        stacklevel=2,
    )
    return Normal(CG(*args, **kwargs))
