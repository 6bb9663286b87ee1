"""LSMR: least squares with monotone ‖Aᴴ r‖."""

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
    """The letters of Fong and Saunders."""

    t: Any
    f: Any
    α_bar: Any
    ζ_bar: Any
    ρ: Any
    ρ_bar: Any
    c_bar: Any
    s_bar: Any

    @property
    def normal(self) -> Array:
        return jnp.abs(self.ζ_bar)

    @classmethod
    def start(cls, β: Any, α: Any) -> "_Numbers":
        return cls(t=0, f=0, α_bar=α, ζ_bar=α * β, ρ=1, ρ_bar=1, c_bar=1, s_bar=0)

    def step(self, β: Array, α: Array) -> tuple["_Numbers", Array, Array]:
        # P: R's column, and ρ c̄, θ̄ = ρ s̄
        c, s, ρ, ρc_bar, θ_bar = rotation(self.α_bar, β, self.c_bar, self.s_bar)
        θ, α_bar = s * α, c * α
        c_bar, s_bar, ρ_bar = rotation(ρc_bar, θ)  # P̄: R̄'s column
        ζ, ζ_bar = c_bar * self.ζ_bar, -s_bar * self.ζ_bar
        f = θ_bar * ρ / (self.ρ * self.ρ_bar)
        new = _Numbers(θ / ρ, f, α_bar, ζ_bar, ρ, ρ_bar, c_bar, s_bar)
        return new, ζ / (ρ * ρ_bar), ρ_bar


@takes_rtol_and_atol
class LSMR(AbstractLinearSolver[driver.KrylovState]):
    """LSMR, for operators of any shape and rank: the least-squares solution, of least
    norm where there are several.

    Fong and Saunders 2011, doi:10.1137/10079687X, algorithm of section 2.8. Beyond the
    textbook method, the residual is carried along as a vector; damping adds rows to the
    operator; and before success is claimed, b - A x and Aᴴ (b - A x) are recomputed, in
    the same way as at the start.

    A solve succeeds if the residual is within its tolerance. It also succeeds with a
    least-squares solution: if ‖Aᴴ r‖ ≤ rtol ‖A‖ ‖r‖, and the part of the residual in
    the range of A, which is at most ‖Aᴴ r‖ divided by the estimated smallest singular
    value, is within its tolerance; or if ‖Aᴴ r‖ is zero up to rounding errors,
    however large the last update was. If A has no more rows than columns, a residual
    means that A is singular, and ‖Aᴴ r‖ must be no larger than rounding errors of r
    make it. With damping, A and r are those of [A; λ] x = [b; 0], and r is judged by
    its 2-norm.

    A step is one product with the operator and one with its adjoint (and one each with
    the preconditioner and its adjoint); the start is one more of each, and so is a
    check. b, r, u, two directions' images and the product are kept, six vectors of the
    size of b; and x, v, two directions and the adjoint product, five of the size of x.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the step limit; ten times the solution's size by default. With
            `rtol = atol = 0` exactly this many steps are made.
        conlim: stop if the estimated condition number exceeds this (or a tenth of the
            reciprocal of the rounding unit); 0 for no limit.
        damp: λ ≥ 0: minimise ‖A x - b‖² + λ² ‖x‖².
        preconditioner: a recipe that has the form of a right factor M, such as
            `Jacobi()`, set up from the operator. Of many solutions, the one of least
            ‖M⁻¹ x‖ is then found, not that of least ‖x‖.
        criterion: "elementwise": each element of the residual is within its tolerance
            relative to b, and each of the last update relative to the solution;
            "two_norm": ‖b - A x‖₂ ≤ max(rtol ‖b‖₂, atol), which takes fewer steps.
        history: record the 2-norm of b - A x before and after each step in
            `stats["residuals"]`: `True`, or the number of entries to record.
        progress: show a progress bar.

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
    solution = lx.linear_solve(operator, jnp.ones(3), lx.LSMR(rtol=1e-6, atol=1e-6))
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
        check_aims(self, "LSMR")
        check_damping(self.damp, self.conlim, "LSMR")

    def init(self, operator, options):
        return prepare(operator, options, self.damp, "LSMR", self.preconditioner)

    def compute(self, state, vector, options):
        return least_squares(
            self, "LSMR", state, vector, options, _Numbers, barred=True
        )

    def transpose(self, state, options):
        return transposed_problem(state, options, "LSMR")

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return False
