"""Stabilised biconjugate gradients."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import AbstractLinearOperator, conj, linearise
from lx_operators.internal import max_norm

from .._checks import check_options, check_square, check_state
from .._iteration import (
    Course,
    Monitor,
    Norm,
    advance,
    begin,
    check_tolerances,
    conjugated,
    first_guess,
    peaks,
    preconditioner,
    scaled,
    solution,
    step_limit,
    transposed,
)
from .._loops import while_loop
from .._solver import AbstractLinearSolver
from .._vectors import dot, norm2, once, plain_norm2, product, quotient, spaces, where


class BiCGStabState(eqx.Module):
    """What `BiCGStab.init` returns."""

    operator: AbstractLinearOperator


class BiCGStab(AbstractLinearSolver[BiCGStabState]):
    """Stabilised biconjugate gradients, for square nonsingular operators.

    van der Vorst 1992, doi:10.1137/0913035, with the preconditioner on the right. What
    is not textbook: its two half steps are one and the same,

        w = A M c,   a = ⟨d, r⟩ / ⟨d, w⟩,   x += a M c,   r -= a w,

    with d = r̂ and c = r + β (p - ω v) in the first (then p = c, v = w, α = a), and
    with d = w and c = r in the second (then ω = a). So the iteration may end after
    either. Where an inner product is lost in rounding, it starts afresh from the true
    residual; if that happens at once again, it has broken down. Before success is
    claimed, the true residual is computed; if it does not pass, the iteration starts
    afresh.

    A step is a half step: one product with the operator and one with the
    preconditioner, if any. A check is one more of each, and no step. Seven vectors are
    kept: b, x, r, r̂, p, v and the product.

    A singular operator, or one with ⟨x, A x⟩ = 0 for all x, such as a skew-symmetric
    one, ends in `breakdown` or `max_steps_reached`. As for `GMRES`, a consistent
    singular system may be solved, and the solution need not be of least norm.

    Args:
        rtol, atol: relative and absolute tolerance, of the residual beside b and of the
            last update beside the solution, elementwise.
        norm: from a pytree to a real scalar.
        max_steps: limit of steps, that is, of products; ten times the size by default.
            With `rtol = atol = 0` exactly this many steps are made.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`; `True` for room for all steps, or how many.
        progress: show a progress bar.

    Options: `preconditioner`, an operator that approximates the inverse; `y0`, a first
    guess.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not square.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [-1.0, 3.0]]))
    solution = lx.linear_solve(operator, jnp.ones(2), lx.BiCGStab(rtol=1e-6, atol=1e-6))
    ```
    """

    rtol: ArrayLike
    atol: ArrayLike
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_tolerances(self.rtol, self.atol, self.max_steps, "BiCGStab")

    def init(self, operator, options):
        check_square(operator, "BiCGStab")
        check_options(options, ("preconditioner", "y0"), "BiCGStab")
        preconditioner(options, operator, "BiCGStab")
        return BiCGStabState(linearise(operator))

    def compute(self, state, vector, options):
        check_state(state, BiCGStabState, "BiCGStab")
        X, Y = spaces(state.operator)
        given = scaled(vector, Y, self.rtol, self.atol, self.norm)
        b, goal, unit = given.b, given.goal, given.unit
        limit = step_limit(self.max_steps, X)
        observer = Monitor(self.history, self.progress, limit, "BiCGStab")
        A = product(state.operator)
        M = preconditioner(options, state.operator, "BiCGStab")
        M = (lambda c: c) if M is None else product(M, X)
        y0 = first_guess(options, X, "BiCGStab")

        def step(s: _Loop) -> _Loop:
            check, claimed, second = s.course.check, s.course.claimed, s.second
            # the direction, and its product; or A x to replace the residual
            ρ = once(dot(s.r_hat, s.r))
            β = once(where(second, 0, quotient(ρ, s.ρ) * s.χ))
            c = s.r + β * (s.p - s.ω * s.v)
            y = M(c)
            w = A(where(check, s.x, y))

            # the projection; d is a unit vector
            size = once(norm2(w))
            d = where(second, w / where(size > 0, size, 1), s.r_hat)
            dr, dw = once(dot(d, s.r)), once(dot(d, w))
            lost = ~(jnp.abs(dr) > 4 * X.eps * s.ν) | ~(jnp.abs(dw) > 4 * X.eps * size)
            a = once(where(check | lost, 0, quotient(dr, dw)))
            x = s.x + a * y
            r = where(check, b, s.r) - where(check, 1, a) * w
            broken = goal.unless_fixed(lost & (s.ν > 0) & ~check)

            floor = s.course.floor(goal, X)
            residual = Y, r, goal.scale(b, given.peaks, floor, Y)
            update = X, a * y, goal.scale(x, peaks(X, x), floor, X)
            course = advance(
                s.course,
                goal,
                goal.ratio(residual, update),
                settled=claimed,
                broken=broken & s.fresh,
                finite=jnp.isfinite(size) & jnp.isfinite(s.ν),
                limit=limit,
                due=broken,
            )
            ν = once(plain_norm2(r))
            first = ~check & ~second
            return _Loop(
                x=x,
                r=r,
                r_hat=where(check, r / where(ν > 0, ν, 1), s.r_hat),
                p=where(first, c, s.p),
                v=where(first, w, s.v),
                ν=ν,
                ρ=where(first, where(ρ == 0, 1, ρ), s.ρ),
                # α after the first half, α / ω after the second; 0 starts afresh
                χ=where(
                    check | lost, 0, where(second, quotient(s.χ, where(lost, 1, a)), a)
                ),
                ω=where(second, a, s.ω),
                second=first,
                fresh=check,
                course=course,
                history=observer.record(s.history, course, lambda: ν * unit),
            )

        x = X.zeros() if y0 is None else where(given.zero, 0, y0 / unit)
        course = begin(given, limit, check=y0 is not None)
        ν = plain_norm2(b)
        zero = jnp.zeros((), X.dtype)
        start = _Loop(
            x=x,
            r=b,
            r_hat=b / where(ν > 0, ν, 1),
            p=X.zeros(),
            v=X.zeros(),
            ν=ν,
            ρ=jnp.ones((), X.dtype),
            χ=zero,
            ω=zero,
            second=jnp.array(False),
            fresh=jnp.array(True),
            course=course,
            history=observer.start(course, lambda: ν * unit, X),
        )
        inputs = self, state, vector, options
        end = while_loop(lambda s: s.course.running, step, start, inputs)
        stats = observer.stats(end, limit)
        x, result = solution(end.x, given, end.course, X, vector)
        return x, result, stats

    def transpose(self, state, options):
        return BiCGStabState(state.operator.T), transposed(options)

    def conj(self, state, options):
        return BiCGStabState(conj(state.operator)), conjugated(options)

    def assume_full_rank(self):
        return True


class _Loop(NamedTuple):
    """The letters of van der Vorst; b, x and r in units of `unit`."""

    x: Array
    r: Array
    r_hat: Array
    p: Array
    v: Array
    ν: Array
    """‖r‖."""
    ρ: Array
    χ: Array
    ω: Array
    second: Array
    """The next step is a second half."""
    fresh: Array
    """The last pass was a start."""
    course: Course
    history: Array | None
