"""Minimal residuals, for Hermitian operators."""

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
    """The size of what becomes the next vector of the basis."""
    inverse: Any
    """Its reciprocal, in other units."""


class _Rotations(NamedTuple):
    c: Any
    s: Any
    δ: Any
    ε: Any
    φ: Any
    """‖r‖, in the norm of the preconditioner."""
    τ: Any
    inverse_γ: Any
    flat: Any
    """A r = 0, but not r: b is not in the range."""

    @classmethod
    def start(cls, β: Any) -> "_Rotations":
        """From a residual of size β. There is no direction yet."""
        zero = jnp.zeros_like(β)
        no = jnp.zeros((), bool)
        return cls(zero - 1, zero, zero, zero, β, zero, zero, no)


class _State(NamedTuple):
    """The letters of Choi, Paige and Saunders."""

    v_old: Array
    v: Array
    u: Any
    """M v, with a preconditioner; else None."""
    d_old: Array
    d: Array
    lanczos: Any
    rotations: Any
    """`_Lanczos` and `_Rotations`, each together."""


class _MinimalResiduals:
    """The recurrence. It starts afresh in each check, and with one."""

    sees_checks = True

    def __init__(self, preconditioned: bool):
        self.preconditioned = preconditioned

    def start(self, X, b):
        none, zero = X.zeros(), X.zero()
        self.least = 8 * X.eps
        u = none if self.preconditioned else None
        lanczos = together(_Lanczos(zero, zero, zero, zero))
        rotations = together(_Rotations.start(zero))
        return _State(none, none, u, none, none, lanczos, rotations)

    def step(self, s, r, now):
        check, least = now.check, self.least
        last, old = s.lanczos, s.rotations

        # Lanczos' step; or a start from the true residual
        u = s.v if now.plain else s.u
        Au = now.A(u)
        α = where(check, 0, barrier(real_dot(u, Au)))
        w = now.anew(Au - (times(α, s.v) + times(last.β, s.v_old)))
        shrink = reciprocal_scale(largest(w))
        # divided, not multiplied: XLA would repeat all this wherever w is used
        w = w / reciprocal_scale(shrink).astype(w.dtype)
        Mw = now.M(w)
        square = barrier(real_dot(w, Mw))
        size = jnp.sqrt(jnp.maximum(square, 0))
        β = size * reciprocal_scale(shrink)
        A_norm = jnp.maximum(last.A_norm, hypot(last.β, α, β))
        A_norm = where(check, last.A_norm, A_norm)
        some = where(check, size > 0, β > least * A_norm)
        lanczos = together(
            _Lanczos(
                β=where(some & ~check, β, 0),
                A_norm=A_norm,
                size=where(some, β, 0),
                inverse=where(some, 1 / size, 0),
            )
        )
        A_norm, β = lanczos.A_norm, lanczos.size
        v = times(lanczos.inverse, w)
        Mv = None if now.plain else times(lanczos.inverse, Mw)

        # the rotations; ψ is ‖A r‖ of the residual so far
        δ, γ = old.c * old.δ + old.s * α, old.s * old.δ - old.c * α
        ψ = old.φ * hypot(γ, old.c * β)
        c, s_, inverse_γ = _rotation(γ, β)
        τ, φ = c * old.φ, s_ * old.φ
        slope = ψ / where(A_norm > 0, A_norm, 1)
        flat = ~check & (old.φ > 0) & (slope <= 8 * least * old.φ)
        new = _Rotations(
            c=c,
            s=s_,
            δ=-old.c * β,
            ε=old.s * β,
            φ=φ,
            τ=where(flat, 0, τ),
            inverse_γ=inverse_γ,
            flat=flat,
        )
        begun = _Rotations.start(β)
        new = together(
            _Rotations(*(where(check, *pair) for pair in zip(begun, new, strict=True)))
        )

        # after a start the recurrences have nothing to look back on
        d = u - times(δ, s.d) - times(old.ε, s.d_old)
        d = times(new.inverse_γ, d)
        recurred = times(new.s * new.s, r) - times(new.φ * new.c, v)
        return Step(
            lambda: new.τ,
            d,
            None,
            _State(s.v, v, Mv, s.d, d, lanczos, new),
            r=where(new.flat, r, recurred),
            broken=(square < 0) | new.flat,
            finite=jnp.isfinite(square) & jnp.isfinite(α),
        )


def _rotation(a: Array, b: Array) -> tuple[Array, ...]:
    """c, s and 1 / ρ of Givens' rotation that takes (a, b) to (ρ, 0); ρ = 1 for
    (0, 0)."""
    ρ = hypot(a, b)
    inverse = barrier(1 / where(ρ == 0, 1, ρ))
    return a * inverse, b * inverse, inverse


@takes_rtol_and_atol
class MINRES(AbstractLinearSolver[driver.KrylovState]):
    """Minimal residuals, for Hermitian operators, definite or not.

    Paige and Saunders 1975, doi:10.1137/0712047, in the letters of Choi, Paige and
    Saunders 2011, table 2.2, doi:10.1137/100787921, with preconditioner as in its
    section 6.1. Beyond the textbook method, the residual is carried along as a vector,
    rₖ = s² rₖ₋₁ - φ c vₖ₊₁. Before success is claimed, b - A x is recomputed; if it is
    too large, the iteration restarts, in the same way as it starts.

    A consistent singular system is solved, with the solution of least norm if there is
    neither an initial guess nor a preconditioner. An inconsistent one, for which A r
    vanishes and r does not, ends in `singular` or `max_steps_reached`: use `MINRESQLP`.
    Here, because of rounding errors, ‖A r‖ / (‖A‖ ‖r‖) falls only to about 1e-8 in
    double precision, and rises again.

    A step is one product with the operator and one with the preconditioner, if any; the
    start and each check take one more of each. Eight vectors are kept: b, x, r, two of
    the basis, two directions and the product; and one more with a preconditioner.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the step limit; ten times the size by default. With
            `rtol = atol = 0` exactly this many steps are made.
        preconditioner: a recipe such as `Jacobi(absolute=True)`, set up from the
            operator, and known to be positive semidefinite.
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
    solution = lx.linear_solve(operator, jnp.ones(2), lx.MINRES(rtol=1e-6, atol=1e-6))
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
        check_aims(self, "MINRES")

    def init(self, operator, options):
        state = driver.prepare(operator, options, "MINRES", self.preconditioner)
        M = effective(options, state).get("preconditioner")
        if M is not None and not is_positive_semidefinite(M):
            raise not_known(M, "positive semidefinite", "MINRES")
        if not is_hermitian(operator):
            raise not_hermitian(operator, "MINRES", "For others use `GMRES` or `LSMR`.")
        return state

    def compute(self, state, vector, options):
        return self.iteration(state, vector, options).outcome()

    def iteration(self, state, vector, options):
        """As `compute`, pass by pass."""
        check_state(state, driver.KrylovState, "MINRES")
        M = effective(options, state).get("preconditioner")
        return driver.iteration(
            _MinimalResiduals(M is not None),
            self,
            "MINRES",
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
