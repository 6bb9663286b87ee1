"""Stabilised biconjugate gradients."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators.internal import max_norm

from .._scaling import dots, quotient, reciprocal_scale
from .._solver import AbstractLinearSolver
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._options import effective
from ._recurrence import Step
from ._scalars import barrier, times, together, where
from ._tolerances import Norm, check_aims, takes_rtol_and_atol
from .bicgstab_ell import StabilisedByDegree


class _Scalars(NamedTuple):
    a: Any
    ρ: Any
    χ: Any
    """What β is ρ / ρ_old times: α after the first half, α / ω after the second; 0 to
    start afresh."""
    r_hat_size: Any
    """‖r̂‖ as of the last step: after a start it is ‖r‖."""
    second: Any
    """The next step is a second half."""
    fresh: Any
    """The last pass was a start."""
    lost: Any
    """An inner product was lost in rounding."""
    A_norm: Any
    """A lower bound of ‖A‖."""


class _Next(NamedTuple):
    """What the next step begins with."""

    ν: Any
    """‖r‖."""
    ρ: Any
    """⟨r̂, r⟩."""
    β: Any


class _State(NamedTuple):
    """The letters of van der Vorst."""

    r_hat: Array
    p: Array
    """p after a first half, p - ω v after a second."""
    v: Array
    scalars: Any
    """`_Scalars`, together."""
    next: Any
    """`_Next`, together."""


class _Stabilised:
    """The recurrence, by half steps. It starts afresh in each check."""

    sees_checks = True

    def start(self, X, b):
        self.eps = X.eps
        zero, one = jnp.zeros((), X.dtype), jnp.ones((), X.dtype)
        no, yes = jnp.zeros((), bool), jnp.ones((), bool)
        scalars = _Scalars(zero, one, zero, X.zero() + 1, no, yes, no, X.zero())
        next = together(_Next(X.zero(), one, zero))
        return _State(b, X.zeros(), X.zeros(), together(scalars), next)

    def step(self, s, r, now):
        old, ν, check = s.scalars, now.ν, now.check
        second = old.second
        ρ, β = s.next.ρ, s.next.β
        ρ = where(old.fresh, (ν * ν).astype(ρ.dtype), ρ)  # of b it was not computed
        c = r + β * s.p
        y = now.M(c)
        w = now.A(y)

        # the projection, of w in units of ‖A‖. At first these are not known, and ‖w‖²
        # may be out of range; but ‖w‖ ≥ |⟨d, w⟩| / ‖d‖
        known = old.A_norm > 0
        shrink = reciprocal_scale(where(known, old.A_norm, 1))
        ŵ = times(shrink, w)
        q, square = map(barrier, dots((where(second, r, s.r_hat), ŵ), (ŵ, ŵ)))
        square = square.real
        r_hat_size = where(old.fresh, ν, old.r_hat_size)
        d_size = where(second, ν, r_hat_size)
        size = jnp.sqrt(where(known | (square < jnp.inf), square, 0))
        size = jnp.maximum(size, jnp.abs(q) / d_size)
        tiny = 4 * self.eps
        lost = ~(jnp.abs(q) > tiny * size * d_size) | ~(
            where(second, size, jnp.abs(ρ)) > where(second, 0, tiny * ν * r_hat_size)
        )
        divisor = where(second, square.astype(q.dtype), q)
        a = quotient(where(second, q.conj(), ρ), where(lost, 1, divisor))
        a = where(check | lost, 0, times(shrink, a))
        first = ~check & ~second
        χ = where(second, quotient(old.χ, where(a == 0, 1, a)), a)
        # c = r where β = 0
        stretch = where((β == 0) & (ν > 0), size * reciprocal_scale(shrink) / ν, 0)
        stretch = where(stretch < jnp.inf, stretch, 0)
        new = together(
            _Scalars(
                a=a,
                ρ=where(first, where(ρ == 0, 1, ρ), old.ρ),
                χ=where(check | lost, 0, χ),
                r_hat_size=r_hat_size,
                second=first,
                fresh=check,
                lost=lost,
                A_norm=where(check, old.A_norm, jnp.maximum(old.A_norm, stretch)),
            )
        )

        p = where(first, c, s.p - new.a * s.v)
        r = now.anew(r - new.a * w)
        r_hat = where(check, r, s.r_hat)
        square, ρ = map(barrier, dots((r, r), (r_hat, r)))
        β = where(new.second, 0, quotient(ρ, new.ρ) * new.χ)
        next = together(_Next(jnp.sqrt(square.real), ρ, β))
        return Step(
            lambda: new.a,
            y,
            None,
            _State(r_hat, p, w, new, next),
            r=r,
            ν=next.ν,
            broken=new.lost & old.fresh,
            finite=jnp.isfinite(q) & jnp.isfinite(ν),
            due=new.lost & (ν > 0),
        )


@takes_rtol_and_atol
class BiCGStab(AbstractLinearSolver[driver.KrylovState]):
    """Stabilised biconjugate gradients, for square nonsingular operators.

    van der Vorst 1992, doi:10.1137/0913035, with the preconditioner on the right.
    Unlike in the textbooks, its two half steps are one and the same,

        w = A M c,   a = ⟨d, r⟩ / ⟨d, w⟩,   x += a M c,   r -= a w,

    with d = r̂ and c = r + β p in the first (then p = c, v = w, α = a), and with d = w
    and c = r in the second (then p -= a v, as ω = a). So the iteration may end after
    either. If an inner product is lost in rounding, the iteration restarts from the
    true residual; if that happens again at once, it has broken down. Before success is
    claimed, the true residual is computed; if it is too large, the iteration restarts.

    A step is a half step: one product with the operator and one with the
    preconditioner, if any. A check takes one more of each, and does not count as a
    step. Seven vectors are kept: b, x, r, r̂, p, v and the product.

    With `ell` above 1 it is BiCGstab(ℓ) (Sleijpen and Fokkema 1993, *ETNA* 1, 11-32):
    the residual's polynomial gets factors of degree ℓ instead of 1, which may have
    complex zeros. So it also converges when eigenvalues are near the imaginary axis, as
    for waves, rotations and convection. It then keeps 2 ℓ + 7 vectors, and 2 ℓ + 2 more
    with a preconditioner; and r̂ is not r, but has a random part.

    For a singular operator the solve ends in `breakdown` or `max_steps_reached`; with
    `ell = 1` so does one with ⟨x, A x⟩ = 0 for all x, such as a skew-symmetric one. As
    for `GMRES`, a consistent singular system may be solved, but the solution need not
    have the least norm.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the limit of steps, that is, of products; ten times the size by
            default. With `rtol = atol = 0` exactly this many steps are made.
        ell: ℓ, at least 1; more than 4 does not help in double precision, nor more than
            2 in single.
        preconditioner: a recipe such as `Jacobi()`, or a direct solver, set up from the
            operator.
        criterion: "elementwise": each element of the residual is within its tolerance
            relative to b, and each of the last update relative to the solution;
            "two_norm": ‖b - A x‖₂ ≤ max(rtol ‖b‖₂, atol), which takes fewer steps.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`: `True`, or the number of entries to record.
        progress: show a progress bar.

    Options: `preconditioner`, an operator that approximates the inverse; `y0`, an
    initial guess.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not square.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [-1.0, 3.0]]))
    solution = lx.linear_solve(operator, jnp.ones(2), lx.BiCGStab(rtol=1e-6, atol=1e-6))
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    ell: int = eqx.field(static=True, default=1, kw_only=True)
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "BiCGStab")
        if self.ell < 1:
            raise ValueError(
                f"`ell` of `BiCGStab` must be at least 1, but got {self.ell}."
            )

    def init(self, operator, options):
        return driver.prepare(operator, options, "BiCGStab", self.preconditioner)

    def compute(self, state, vector, options):
        return self.iteration(state, vector, options).outcome()

    def iteration(self, state, vector, options):
        """As `compute`, pass by pass."""
        method, norm_A = _Stabilised(), lambda s: s.scalars.A_norm
        if self.ell > 1:
            M = effective(options, state).get("preconditioner")
            method, norm_A = StabilisedByDegree(self.ell, M is not None), None
        return driver.iteration(
            method, self, "BiCGStab", state, vector, options, norm_A=norm_A
        )

    def transpose(self, state, options):
        return driver.transposed_state(state, options)

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return True
