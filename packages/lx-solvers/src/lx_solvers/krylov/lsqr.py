"""LSQR: least squares with monotone ‖r‖."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators.internal import two_norm

from .._solver import AbstractLinearSolver
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._damping import check_damping
from ._least_squares import least_squares
from ._right_factors import prepare, transposed_problem
from ._scalars import rotation
from ._tolerances import Norm, check_aims, takes_rtol_and_atol


class _Numbers(NamedTuple):
    """The letters of Paige and Saunders."""

    t: Any
    f: Any
    ρ_bar: Any
    φ_bar: Any

    @property
    def normal(self) -> Array:
        return jnp.abs(self.φ_bar * self.ρ_bar)  # eq. 5.3

    @classmethod
    def start(cls, β: Any, α: Any) -> "_Numbers":
        return cls(t=0, f=0, ρ_bar=α, φ_bar=β)

    def step(self, β: Array, α: Array) -> tuple["_Numbers", Array, Array]:
        c, s, ρ = rotation(self.ρ_bar, β)
        θ, ρ_bar = s * α, -c * α
        φ, φ_bar = c * self.φ_bar, s * self.φ_bar
        return _Numbers(θ / ρ, jnp.zeros_like(φ), ρ_bar, φ_bar), φ / ρ, ρ


@takes_rtol_and_atol
class LSQR(AbstractLinearSolver[driver.KrylovState]):
    """LSQR, for operators of any shape and rank: the least-squares solution, of least
    norm where there are several. Its residual decreases in every step. With `LSMR`, the
    residual of the normal equations does, so `LSMR` can usually stop earlier.

    Paige and Saunders 1982, doi:10.1145/355984.355989, algorithm of section 4. Beyond
    the textbook method, the residual is carried along as a vector; damping adds rows to
    the operator; and before success is claimed, b - A x and Aᴴ (b - A x) are
    recomputed, in the same way as at the start.

    A step is one product with the operator and one with its adjoint (and one each with
    the preconditioner and its adjoint); the start is one more of each, and so is a
    check. b, r, u, a direction's image and the product are kept, five vectors of the
    size of b; and x, v, a direction and the adjoint product, four of the size of x.

    Args:
        rtol, atol, norm, max_steps, conlim, damp: as for `LSMR`.
        preconditioner, criterion, history, progress: as for `LSMR`.

    Options: `stop`, a function of the residual's 2-norm, the solution and the number of
    steps that ends the solve; `preconditioner`, an operator M, such that A M is better
    conditioned (the reciprocal norms of A's columns, say); the solution is then the one
    of least ‖M⁻¹ x‖. `y0`, an initial guess, which is ignored if it leaves a residual
    above ‖b‖ / eps, or if the operator has more columns than rows: the part of it that
    A annihilates would stay in the solution. Other rank-deficient operators get the
    least-squares solution nearest to `y0`; to remove that part would cost as much as a
    solve without `y0`, which gives the solution of least norm. With damping `y0` is
    used for any shape, unless it leaves more of [b; 0] than zero does.

    Statistics: `norm_r` = ‖b - A x‖, `norm_Ar` = ‖Aᴴ (b - A x) - λ² x‖, `norm_x`, all
    in the 2-norm; `norm_A`, a lower bound of the 2-norm of A, and `cond_A`, an estimate
    of its condition number, damping included; and `istop`: 0 for b = 0, 1 if the
    residual is within its tolerance, 2 for a least-squares solution, 3 for `conlim`, 4
    for `max_steps`, 5 for stagnation, 6 for input that is not finite, 7 for a stopping
    rule; `least_squares`: whether success was claimed of a least-squares solution, not
    of one whose residual is within its tolerance or that of rounding.

    Raises:
        ValueError: negative tolerances, damping or limit; both tolerances zero without
            `max_steps`; damping and a preconditioner.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    solution = lx.linear_solve(operator, jnp.ones(3), lx.LSQR(rtol=1e-6, atol=1e-6))
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=two_norm)
    max_steps: int | None = None
    conlim: ArrayLike = 1e8
    damp: ArrayLike = eqx.field(default=0.0, kw_only=True)
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "LSQR")
        check_damping(self.damp, self.conlim, "LSQR")

    def init(self, operator, options):
        return prepare(operator, options, self.damp, "LSQR", self.preconditioner)

    def compute(self, state, vector, options):
        return least_squares(
            self, "LSQR", state, vector, options, _Numbers, barred=False
        )

    def transpose(self, state, options):
        return transposed_problem(state, options, "LSQR")

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return False
