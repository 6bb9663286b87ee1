"""Conjugate gradients."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import (
    is_negative_semidefinite,
    is_positive_semidefinite,
)
from lx_operators.internal import max_norm

from .._scaling import real_dot
from .._solver import AbstractLinearSolver
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._options import effective, not_known, unknown
from ._recurrence import Step
from ._scalars import barrier, stacked, times, together, where
from ._single_reduction import SingleReduction
from ._tolerances import (
    CRITERIA,
    ENERGY_NORM,
    Norm,
    check_aims,
    takes_rtol_and_atol,
)


class _Known(NamedTuple):
    """The scalars that a step knows before its product: one kernel computes them all.
    The letters are those of Barrett et al."""

    a: Any
    β: Any
    """p ← a z + β p."""
    ρ: Any
    length: Any
    """An upper bound of ‖p‖, without a preconditioner."""
    earlier: Any
    """β² ⟨p, A p⟩ of the last direction, where it is a part of ⟨z, A z⟩."""
    recurred: Any
    """‖r‖ as it was recurred, if the last pass was a check; else ∞."""
    norm_A: Any
    """A lower bound of ‖A‖ from the steps before, without a preconditioner."""
    null: Any
    """⟨p, A p⟩ of a null vector p is this at most, by rounding errors alone; 0 with a
    preconditioner."""


class _State(NamedTuple):
    p: Array
    known: Any
    """`_Known`, together."""
    α: Any
    gains: Array | None
    """By how much the last steps lessened ‖e‖²_A, if that is asked for."""
    near: Any
    """The estimate of ‖e‖_A is within its tolerance, if that is asked for."""


class _ConjugateGradients:
    """The recurrence. With r / ‖r‖ in place of r, z has the size of M."""

    sees_checks = True

    def __init__(self, error_delay: int | None, by_error: bool, norm_A: Any):
        self.error_delay, self.by_error = error_delay, by_error
        self.norm_A = norm_A

    def start(self, X, b):
        zero, inf, delay = X.zero(), X.zero() + jnp.inf, self.error_delay
        known = _Known(zero, zero, inf, zero, zero, inf, zero + self.norm_A, zero)
        gains = None if delay is None else jnp.full(delay, jnp.inf, X.real_dtype)
        near = jnp.zeros((), bool) if self.by_error else None
        return _State(X.zeros(), together(known), zero + 1, gains, near)

    def step(self, s, r, now):
        ν, eps = now.ν, jnp.finfo(now.ν.dtype).eps
        last = s.known
        recurred = last.recurred
        scale = where(ν == 0, 0, 1 / ν)
        z = r if now.plain else now.M(times(scale, r))
        ρ = ν if now.plain else barrier(real_dot(r, z))
        # directions are conjugate only to residuals that are near the recurred ones
        off = (ν > 1.001 * recurred) | (1.001 * ν < recurred)
        afresh = ~(last.ρ > 0) | ((recurred < jnp.inf) & off)
        β = where(afresh, 0, ρ / last.ρ)
        length = 1 + β * last.length  # without a preconditioner
        # where p and the last p are conjugate; unless that is lost in rounding
        exact = (recurred == jnp.inf) & (length**2 < 0.01 / eps)
        length = now.kept(length, last.length)
        norm_A = jnp.maximum(last.norm_A, _stretch(last, s.α))
        known = together(
            _Known(
                a=where(now.check, 0, scale if now.plain else jnp.ones_like(ν)),
                β=where(now.check, 1, β),
                ρ=now.kept(ρ, last.ρ, jnp.inf),
                length=length,
                earlier=now.kept(where(exact, β * ρ / s.α, 0), last.earlier),
                recurred=where(now.check, ν, jnp.inf),
                norm_A=norm_A,
                null=(8 * eps * now.plain) ** 2 * norm_A * length**2,
            )
        )
        p = times(known.a, z) + times(known.β, s.p)
        Ap = now.A(p)
        ρ = known.ρ
        α = barrier(now.kept(ρ / real_dot(p, Ap), s.α))

        broken = ~((ρ > 0) & (α > 0) & (α < jnp.inf)) | (ρ <= α * known.null)
        gains = s.gains
        if gains is not None:
            later = jnp.concatenate([gains[1:], stacked([α * ρ])])
            gains = where(now.check | broken, gains, later)
        near, solved = s.near, False
        if near is not None and gains is not None:
            energy = real_dot(now.x, now.b - r)  # ‖x‖²_A
            aim = jnp.maximum(now.rtol**2 * energy, now.atol**2)
            solved = near & ~off & (recurred < jnp.inf) & ~broken
            near = now.kept(~broken & (_squared_error(gains) <= aim), near)
        return Step(
            α,
            p,
            Ap,
            _State(p, known, α, gains, near),
            broken=broken,
            finite=jnp.isfinite(ρ) & ((ρ == 0) | (jnp.abs(α) > 0)),  # 0 on overflow
            due=False if near is None else near,
            solved=solved,
        )


def _stretch(last: Any, α: Array) -> Array:
    """A lower bound of ‖A‖ from a step, without a preconditioner; 0 if it was not made.

    ⟨p, A p⟩ is ρ / α. Where p and the last p are conjugate, it and β² times the last
    one are ⟨z, A z⟩, with ‖z‖ = 1; elsewhere it is ⟨p, A p⟩ / ‖p‖² at most.
    """
    ρ, earlier = last.ρ, last.earlier
    squared = where(earlier > 0, 1, last.length**2)
    stretch = ρ / (α * squared) + earlier
    made = (ρ < jnp.inf) & (α > 0) & (α < jnp.inf)
    return where(made, jnp.minimum(stretch, jnp.finfo(α.dtype).max), 0)


def _squared_error(gains: Array) -> Array:
    """An estimate of ‖e‖²_A before the last `gains`: their sum, and of what comes after
    as much as there was in the worst case, relative to the last one."""
    after = jnp.cumsum(gains[::-1])[::-1]
    worst = jnp.max(where(gains > 0, after / where(gains > 0, gains, 1), 1))
    return after[0] + worst * gains[-1]


@takes_rtol_and_atol
class CG(AbstractLinearSolver[driver.KrylovState]):
    """Conjugate gradients, for Hermitian positive (or negative) definite operators.

    Hestenes and Stiefel 1952, doi:10.6028/jres.049.044, with preconditioner as in
    Barrett et al. 1994, fig. 2.5, doi:10.1137/1.9781611971538. Beyond the textbook
    method, every `stabilise_every` steps, and before success is claimed, the recurred
    residual is replaced by the true one (van der Vorst and Ye 2000,
    doi:10.1137/S1064827599353865). If the true one is too large, or differs from the
    recurred one, the iteration restarts from the current solution.

    A step is one product with the operator and one with the preconditioner, if any; a
    replacement costs one more product, but does not count as a step. Five vectors are
    kept: b, x, r, p and the product.

    Consistent semidefinite systems are solved, with the solution of least norm if `y0`
    is zero. Inconsistent ones end in `breakdown`, `singular` or `max_steps_reached`: no
    step is made along a direction that is a null vector up to rounding. The same
    happens if the operator's tags are false. If the tolerance is smaller than rounding
    allows, the solve is successful if the solution is backward stable: see
    `stats["backward_error"]`.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        stabilise_every: after how many steps the residual is recomputed; None: only
            before success is claimed.
        max_steps: the step limit; ten times the size by default. With
            `rtol = atol = 0` exactly this many steps are made.
        preconditioner: a recipe such as `Jacobi()`, or a direct solver, set up from the
            operator. It must be known to be semidefinite.
        error_delay: estimate the error ‖x - A⁻¹ b‖_A in the energy norm, with a delay
            of this many steps. `stats["energy_error"]`² is the amount by which the last
            `error_delay` steps reduced the square of the error. So it is a lower bound
            of the error that many steps before the end; the error of the returned
            solution is smaller (Meurant and Tichý 2013, doi:10.1007/s11075-012-9591-9).
            The more steps, the closer the bound; ten are often enough.
        criterion: "elementwise": each element of the residual is within its tolerance
            relative to b, and each of the last update relative to the solution;
            "two_norm": ‖b - A x‖₂ ≤ max(rtol ‖b‖₂, atol), which takes fewer steps;
            "energy_norm": the error, not the residual, ‖x - A⁻¹ b‖_A ≤ max(rtol
            ‖x‖_A, atol). It is estimated from the last `error_delay` steps (10 by
            default), and those to come are extrapolated from these. Before success is
            claimed, the true residual is computed and must agree with the recurred one.
            The estimate is not a bound: it is too low if convergence stalls for longer
            than the delay.
        single_reduction: compute all inner products of a step at once (Chronopoulos and
            Gear 1989, doi:10.1016/0377-0427(89)90045-9). On many devices a step then
            waits for one sum over all of them; otherwise for two, or with a
            preconditioner four. In exact arithmetic the iterates are the same; with
            rounding, the numbers of steps agreed within 6 % for condition numbers up to
            1e8. The first step, and the first after each restart, computes a product
            but does not move x. One more vector is kept.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`: `True`, or the number of entries to record.
        progress: show a progress bar.

    Options: `preconditioner`, an operator that approximates the inverse: positive
    semidefinite or, if A is negative, negative, and tagged so; `y0`, an initial guess,
    which is ignored if it leaves a residual above ‖b‖ / eps.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not known to be semidefinite.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1.0], [1.0, 3.0]]), lx.positive_semidefinite_tag
    )
    solution = lx.linear_solve(operator, jnp.ones(2), lx.CG(rtol=1e-6, atol=1e-6))
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=max_norm)
    stabilise_every: int | None = eqx.field(static=True, default=10)
    max_steps: int | None = None
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    error_delay: int | None = eqx.field(static=True, default=None, kw_only=True)
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    single_reduction: bool = eqx.field(static=True, default=False, kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "CG", (*CRITERIA, ENERGY_NORM))
        every = self.stabilise_every
        if every is not None and every < 1:
            raise ValueError(
                f"`stabilise_every` of `CG` must be None or at least 1, but got "
                f"{every}."
            )
        delay = self.error_delay
        if delay is not None and delay < 1:
            raise ValueError(
                f"`error_delay` of `CG` must be None or at least 1, but got {delay}."
            )
        by_error = delay is not None or self.criterion == ENERGY_NORM
        if self.single_reduction and by_error:
            raise ValueError(
                "`CG(single_reduction=True)` estimates no error: leave `error_delay` "
                f'and `criterion="{ENERGY_NORM}"` out, or `single_reduction`.'
            )

    def init(self, operator, options):
        state = driver.prepare(operator, options, "CG", self.preconditioner)
        M = effective(options, state).get("preconditioner")
        if M is not None and sign_of(M) == 0:
            raise not_known(M, "semidefinite", "CG")
        sign = sign_of(operator)
        if sign == 0:
            raise unknown(
                operator,
                "semidefinite",
                "CG",
                "positive_semidefinite_tag",
                "For Hermitian indefinite operators use `MINRES`, for others `GMRES`, "
                "or `Normal(CG(...))`.",
            )
        return dataclasses.replace(state, sign=sign)

    def compute(self, state, vector, options):
        return self.iteration(state, vector, options).outcome()

    def iteration(self, state, vector, options, norm_A: ArrayLike = 0):
        """As `compute`, pass by pass.

        Args:
            norm_A: a lower bound of ‖A‖, if one is known already.
        """
        by_error = self.criterion == ENERGY_NORM
        delay = 10 if by_error and self.error_delay is None else self.error_delay
        method: Any = _ConjugateGradients(delay, by_error, norm_A)
        if self.single_reduction:
            method = SingleReduction()
        return driver.iteration(
            method,
            self,
            "CG",
            state,
            vector,
            options,
            every=self.stabilise_every,
            sign_of_M=sign_of,
            norm_A=None if self.single_reduction else lambda s: s.known.norm_A,
            stats=None if delay is None else _energy,
        )

    def transpose(self, state, options):
        return driver.transposed_state(state, options)

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return True


def _energy(last: _State, unit: Array) -> dict[str, Any]:
    assert last.gains is not None
    known = where(last.gains < jnp.inf, last.gains, 0)
    return {"energy_error": jnp.sqrt(jnp.sum(known)) * unit}


def sign_of(operator: Any) -> int:
    """1 for a positive semidefinite operator, -1 for a negative one, 0 for others."""
    if is_positive_semidefinite(operator):
        return 1
    return -1 if is_negative_semidefinite(operator) else 0
