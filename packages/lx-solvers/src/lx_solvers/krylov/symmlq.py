"""SYMMLQ, for Hermitian operators: the iterate of least error."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import is_hermitian, is_positive_semidefinite
from lx_operators.internal import max_norm

from .._checks import check_state
from .._scaling import hypot, largest, real_dot, reciprocal_scale
from .._solver import AbstractLinearSolver
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._options import effective, not_hermitian, not_known
from ._phases import Exit
from ._recurrence import Step
from ._scalars import barrier, times, together, where
from ._tolerances import Norm, check_aims, takes_rtol_and_atol


class _Lanczos(NamedTuple):
    β: Any
    """0 after a start."""
    A_norm: Any
    size: Any
    """The size of the residual that the process started from."""


class _Factor(NamedTuple):
    """The last reflection, and what it left of L z = β₁ e₁."""

    c: Any
    s: Any
    ζ: Any
    """The last coordinate z; the solution has not moved by it yet."""
    ρ: Any
    """What is known of the next right-hand side."""
    δ: Any
    back: Any
    """How far the solution went along w, beyond the iterate of least error."""


class _State(NamedTuple):
    """The letters of Paige and Saunders."""

    v_old: Array
    v: Array
    u: Any
    """M v, with a preconditioner; else None."""
    w: Array
    lanczos: Any
    factor: Any
    """`_Lanczos` and `_Factor`, each together."""


class _LeastError:
    """The recurrence. It starts afresh in each check, and with one.

    The step along the last direction d = c w + s v is made a pass later, when the
    product with v is known. The residual is then ρ v + ρ' v', of Lanczos' vectors.
    """

    sees_checks = True

    def __init__(self, preconditioned: bool):
        self.preconditioned = preconditioned

    def start(self, X, b):
        self.least = 8 * X.eps
        none, zero = X.zeros(), X.zero()
        u = none if self.preconditioned else None
        factor = together(_Factor(zero - 1, zero, zero, zero, zero, zero))
        lanczos = together(_Lanczos(zero, zero, zero))
        return _State(none, none, u, none, lanczos, factor)

    def step(self, s, r, now):
        check, last, old = now.check, s.lanczos, s.factor

        # Lanczos' step; or a start from the true residual
        u = s.v if now.plain else s.u
        Au = now.A(u)
        α = where(check, 0, barrier(real_dot(u, Au)))
        v = now.anew(Au - (times(α, s.v) + times(last.β, s.v_old)))
        shrink = reciprocal_scale(largest(v))
        v = v / reciprocal_scale(shrink).astype(v.dtype)
        Mv = now.M(v)
        square = barrier(real_dot(v, Mv))
        length = jnp.sqrt(jnp.maximum(square, 0))
        β = length * reciprocal_scale(shrink)
        A_norm = jnp.maximum(last.A_norm, hypot(last.β, α, β))
        A_norm = where(check, last.A_norm, A_norm)
        some = where(check, length > 0, β > self.least * A_norm)
        β = barrier(where(some, β, 0))
        inverse = where(some, 1 / where(some, length, 1), 0)
        v = times(inverse, v)

        # T = L Q: a reflection of its last two columns
        δ, γ_last = old.c * old.δ + old.s * α, old.s * old.δ - old.c * α
        ρ = old.ρ - δ * old.ζ
        γ = hypot(γ_last, β)
        flat = ~check & (γ <= self.least * A_norm)
        inverse_γ = 1 / where(γ == 0, 1, γ)
        c, s_ = γ_last * inverse_γ, β * inverse_γ
        ρ_next = -old.s * β * old.ζ

        # on to the Galerkin solution, if its residual is small enough
        further = where(γ_last == 0, 0, ρ / where(γ_last == 0, 1, γ_last))
        left = β * (old.s * old.ζ - old.c * further)
        done = (jnp.abs(left) <= now.rtol * last.size) & ~check & (γ_last != 0)
        further = where(done, further, 0)
        along_w = old.c * old.ζ - old.back + old.s * further
        along_u = old.s * old.ζ - old.c * further
        first, second = where(done, 0, ρ), where(done, -left, ρ_next)
        factor = _Factor(c, s_, ρ * inverse_γ, ρ_next, -old.c * β, further)
        zero = jnp.zeros_like(β)
        begun = _Factor(zero - 1, zero, zero, β, zero, zero)
        pairs = zip(begun, factor, strict=True)
        return Step(
            jnp.ones_like(β),
            times(along_w, s.w) + times(along_u, u),
            None,
            _State(
                s.v,
                v,
                None if now.plain else times(inverse, Mv),
                where(check, 0, times(old.s, s.w) - times(old.c, u)),
                together(
                    _Lanczos(
                        β=where(check, 0, β),
                        A_norm=A_norm,
                        size=where(check, β, last.size),
                    )
                ),
                together(_Factor(*(where(check, *pair) for pair in pairs))),
            ),
            r=times(first, s.v) + times(second, v),
            broken=(square < 0) | flat,
            finite=jnp.isfinite(square) & jnp.isfinite(α),
        )


@takes_rtol_and_atol
class SYMMLQ(AbstractLinearSolver[driver.KrylovState]):
    """SYMMLQ, for Hermitian operators, definite or not.

    Paige and Saunders 1975, doi:10.1137/0712047. `MINRES` minimises the residual; this
    method minimises the error ‖x - A⁻¹ b‖, over the vectors A y with y in the Krylov
    space. So the error falls in each step, but the residual need not. It usually takes
    as many steps as `MINRES`. It is useful for ill-conditioned systems: the residual
    that rounding errors leave grows as the condition number, and not as its square
    (Sleijpen, van der Vorst and Modersitzki 2000, doi:10.1137/S0895479897323087).

    At the end, the Galerkin solution is returned if its residual is within `rtol`, as
    in section 5 of the paper. Beyond the textbook method, b - A x is recomputed before
    success is claimed; if it is too large, the iteration restarts, in the same way as
    it starts.

    A consistent singular system is solved, with the solution of least norm if there is
    neither an initial guess nor a preconditioner. An inconsistent one ends in
    `singular` or `max_steps_reached`: use `MINRESQLP`.

    A step is one product with the operator and one with the preconditioner, if any; the
    start and each check take one more of each. x moves one step after the product, so
    it does not move in the first step. Seven vectors are kept: b, x, r, two of the
    basis, a direction and the product; and one more with a preconditioner.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the step limit; ten times the size by default. With
            `rtol = atol = 0` exactly this many steps are made.
        preconditioner: a recipe such as `Jacobi(absolute=True)`, set up from the
            operator, and known to be positive semidefinite. The error is then minimised
            in the norm of its inverse.
        criterion: "elementwise": each element of the residual is within its tolerance
            relative to b, and each of the last update relative to the solution;
            "two_norm": ‖b - A x‖₂ ≤ max(rtol ‖b‖₂, atol), which takes fewer steps.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`: `True`, or the number of entries to record.
        progress: show a progress bar.

    Options: `preconditioner`, a positive definite operator that approximates the
    inverse of the operator's absolute value, tagged positive semidefinite; `y0`, an
    initial guess.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not known to be Hermitian, a preconditioner not known to be semidefinite.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[1.0, 2.0], [2.0, -3.0]]), lx.symmetric_tag
    )
    solution = lx.linear_solve(operator, jnp.ones(2), lx.SYMMLQ(rtol=1e-6, atol=1e-6))
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "SYMMLQ")

    def init(self, operator, options):
        state = driver.prepare(operator, options, "SYMMLQ", self.preconditioner)
        M = effective(options, state).get("preconditioner")
        if M is not None and not is_positive_semidefinite(M):
            raise not_known(M, "positive semidefinite", "SYMMLQ")
        if not is_hermitian(operator):
            raise not_hermitian(operator, "SYMMLQ", "For others use `GMRES` or `LSMR`.")
        return state

    def compute(self, state, vector, options):
        return self.iteration(state, vector, options).outcome()

    def iteration(self, state, vector, options):
        """As `compute`, pass by pass."""
        check_state(state, driver.KrylovState, "SYMMLQ")
        M = effective(options, state).get("preconditioner")
        return driver.iteration(
            _LeastError(M is not None),
            self,
            "SYMMLQ",
            state,
            vector,
            options,
            check_first=True,
            failure=Exit.singular,
            norm_A=lambda s: s.lanczos.A_norm,
        )

    def transpose(self, state, options):
        return driver.transposed_state(state, options)

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return False
