"""Conjugate gradients."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike
from lx_operators import (
    AbstractLinearOperator,
    conj,
    is_negative_semidefinite,
    is_positive_semidefinite,
    linearise,
)
from lx_operators.internal import max_norm

from .._checks import check_options, check_square, check_state
from .._course import Course, advance, begin
from .._goal import Norm, check_tolerances, peaks, scaled
from .._iteration import (
    conjugated,
    first_guess,
    preconditioner,
    solution,
    step_limit,
    transposed,
)
from .._loops import while_loop
from .._monitor import Monitor
from .._scaling import norm2, plain_norm2, real_dot
from .._solver import AbstractLinearSolver
from .._vectors import once, packed, product, signed, spaces, unpacked, where


class _Loop(NamedTuple):
    """The letters of Barrett et al.; b, x and r in units of `unit`."""

    x: Array
    r: Array
    ν: Array
    """‖r‖."""
    p: Array
    numbers: Array
    """What scales z, β, and the ρ that the next β is relative to."""
    course: Course
    history: Array | None


class CGState(eqx.Module):
    """What `CG.init` returns: the operator, and 1 or -1 to make it positive."""

    operator: AbstractLinearOperator
    sign: int = eqx.field(static=True)


class CG(AbstractLinearSolver[CGState]):
    """Conjugate gradients, for Hermitian positive (or negative) definite operators.

    Hestenes and Stiefel 1952, doi:10.6028/jres.049.044, with preconditioner as in
    Barrett et al. 1994, fig. 2.5, doi:10.1137/1.9781611971538. What is not textbook:
    every `stabilise_every` steps, and before success is claimed, the recurred residual
    is replaced by the true one (van der Vorst and Ye 2000,
    doi:10.1137/S1064827599353865); if it does not pass then, the iteration starts
    afresh from where it is.

    A step is one product with the operator and one with the preconditioner, if any; a
    replacement is one more product with the operator, and no step. Five vectors are
    kept: b, x, r, p and the product.

    Semidefinite systems are solved where they are consistent, by the solution of least
    norm if y0 is zero; inconsistent ones end in `max_steps_reached` or `breakdown`. So
    does an operator that is not as its tags say.

    Args:
        rtol, atol: relative and absolute tolerance, of the residual beside b and of the
            last update beside the solution, elementwise.
        norm: from a pytree to a real scalar.
        stabilise_every: after how many steps the residual is computed anew; None: only
            before success is claimed.
        max_steps: limit of steps; ten times the size by default. With
            `rtol = atol = 0` exactly this many steps are made.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`; `True` for room for all steps, or how many.
        progress: show a progress bar.

    Options: `preconditioner`, an operator that approximates the inverse, of the sign of
    the operator or positive, tagged so; `y0`, a first guess.

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

    rtol: ArrayLike
    atol: ArrayLike
    norm: Norm = eqx.field(static=True, default=max_norm)
    stabilise_every: int | None = eqx.field(static=True, default=10)
    max_steps: int | None = None
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_tolerances(self.rtol, self.atol, self.max_steps, "CG")
        every = self.stabilise_every
        if every is not None and every < 1:
            raise ValueError(
                f"`stabilise_every` of `CG` must be None or at least 1, but got "
                f"{every}."
            )

    def init(self, operator, options):
        check_square(operator, "CG")
        check_options(options, ("preconditioner", "y0"), "CG")
        M = preconditioner(options, operator, "CG")
        if M is not None and not _semidefinite(M):
            raise ValueError(
                "the option 'preconditioner' of `CG` must be tagged "
                f"`positive_semidefinite_tag`, but got {M!r}."
            )
        if not _semidefinite(operator):
            raise ValueError(
                "`CG` needs an operator that is tagged `positive_semidefinite_tag` or "
                f"`negative_semidefinite_tag`, but got {operator!r}. For Hermitian "
                "indefinite operators use `MINRES`, for others `GMRES`, or "
                "`Normal(CG(...))`."
            )
        return CGState(linearise(operator), _sign(operator))

    def compute(self, state, vector, options):
        check_state(state, CGState, "CG")
        X, Y = spaces(state.operator)
        given = scaled(vector, Y, self.rtol, self.atol, self.norm)
        goal, unit = given.goal, given.unit
        limit = step_limit(self.max_steps, X)
        every = limit + 1 if self.stabilise_every is None else self.stabilise_every
        observer = Monitor(self.history, self.progress, limit, "CG")

        A = signed(product(state.operator), state.sign)
        M = preconditioner(options, state.operator, "CG")
        M = None if M is None else signed(product(M, X), _sign(M))
        b = state.sign * given.b
        y0 = first_guess(options, X, "CG")

        def step(s: _Loop) -> _Loop:
            check, claimed = s.course.check, s.course.claimed
            *_, last = unpacked(s.numbers)
            # The direction. Scaled by ν it has M's size, whatever r's. A checking pass
            # has z = 0 and β = 1, and leaves it as it is.
            ν = s.ν
            z, ρ, scale = s.r, ν, where(check | (ν == 0), 0, 1 / ν)
            if M is not None:
                z = M(once(scale) * s.r)
                ρ, scale = once(real_dot(s.r, z)), jnp.ones_like(ν)
            # a claim that did not pass its check: the recurrence is off, start afresh
            kept = where(check, where(claimed, jnp.inf, last), ρ)
            numbers = packed(scale, where(check, 1, ρ / last), kept)
            scale, β, _ = unpacked(numbers)
            p = scale * z + β * s.p

            # the one product: A p, or A x to replace the residual
            Aq = A(where(check, s.x, p))
            α = once(ρ / real_dot(p, Aq))  # 0 if the product overflowed
            curved = (ρ > 0) & (α > 0) & (α < jnp.inf)
            taken = where(curved & ~check, α, 0)
            x = s.x + taken * p
            r = where(check, b, s.r) - where(check, 1, taken) * Aq
            next_ν = once(plain_norm2(r))

            def test(course: Course):
                floor = course.floor(goal, X)
                # `taken`, but where ρ < 0, which ends the solve
                moved = where((α > 0) & (α < jnp.inf) & ~course.check, α, 0) * p
                residual = Y, r, goal.scale(b, given.peaks, floor, Y)
                update = X, moved, goal.scale(x, peaks(X, x), floor, X)
                return (goal.ratio(residual, update),)

            wanted = check | goal.in_reach(next_ν)
            (ratio,) = s.course.ratios(goal, wanted, test)
            num_steps = s.course.num_steps + 1
            course = advance(
                s.course,
                goal,
                ratio,
                settled=claimed,
                broken=~curved & (ν > 0) & ~check,
                finite=jnp.isfinite(ρ) & ((ρ == 0) | (jnp.abs(α) > 0)),
                limit=limit,
                due=(jax.lax.rem(num_steps, jnp.int32(every)) == 0)
                & (num_steps < limit),
            )
            history = observer.record(s.history, course, lambda: norm2(r) * unit)
            return _Loop(x, r, next_ν, p, numbers, course, history)

        x = X.zeros() if y0 is None else where(given.zero, 0, y0 / unit)
        course = begin(given, limit, check=y0 is not None)
        history = observer.start(course, lambda: norm2(b) * unit, X)
        numbers = jnp.asarray(np.array([0, 1, 1], X.real_dtype))
        start = _Loop(x, b, plain_norm2(b), X.zeros(), numbers, course, history)
        inputs = self, state, vector, options
        end = while_loop(lambda s: s.course.running, step, start, inputs)
        stats = observer.stats(end, limit)
        x, result = solution(end.x, given, end.course, X, vector)
        return x, result, stats

    def transpose(self, state, options):
        return CGState(state.operator.T, state.sign), transposed(options)

    def conj(self, state, options):
        return CGState(conj(state.operator), state.sign), conjugated(options)

    def assume_full_rank(self):
        return True


def _semidefinite(operator: AbstractLinearOperator) -> bool:
    return is_positive_semidefinite(operator) or is_negative_semidefinite(operator)


def _sign(operator: AbstractLinearOperator) -> int:
    return 1 if is_positive_semidefinite(operator) else -1
