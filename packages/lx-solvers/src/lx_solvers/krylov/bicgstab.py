"""Stabilised biconjugate gradients."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike
from lx_operators import AbstractLinearOperator, conj, linearise
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
from .._scaling import (
    dot,
    largest,
    norm2,
    plain_norm2,
    quotient,
    real_dot,
    reciprocal_scale,
)
from .._solver import AbstractLinearSolver
from .._vectors import once, packed, product, spaces, unpacked, where


class BiCGStabState(eqx.Module):
    """What `BiCGStab.init` returns."""

    operator: AbstractLinearOperator


class BiCGStab(AbstractLinearSolver[BiCGStabState]):
    """Stabilised biconjugate gradients, for square nonsingular operators.

    van der Vorst 1992, doi:10.1137/0913035, with the preconditioner on the right. What
    is not textbook: its two half steps are one and the same,

        w = A M c,   a = ⟨d, r⟩ / ⟨d, w⟩,   x += a M c,   r -= a w,

    with d = r̂ and c = r + β p in the first (then p = c, v = w, α = a), and with d = w
    and c = r in the second (then p -= a v, as ω = a). So the iteration may end after
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
            check, claimed = s.course.check, s.course.claimed
            old = _Numbers(*unpacked(s.numbers))
            second, fresh = old.second.real > 0, old.fresh.real > 0
            # the direction, and its product; or A x to replace the residual
            ν, ρ = s.ν, once(dot(s.r_hat, s.r))
            c = s.r + where(second, 0, quotient(ρ, old.ρ) * old.χ) * s.p
            y = M(c)
            w = A(where(check, s.x, y))

            # the projection, of w in units of its size
            shrink = reciprocal_scale(largest(w))
            ŵ = shrink * w
            square = once(real_dot(ŵ, ŵ))
            size = jnp.sqrt(square)
            q = once(dot(where(second, s.r, s.r_hat), ŵ))
            r_hat_size = where(fresh, ν, old.r_hat_size.real)
            tiny = 4 * X.eps
            lost = ~(jnp.abs(q) > tiny * size * where(second, ν, r_hat_size)) | ~(
                where(second, size, jnp.abs(ρ))
                > where(second, 0, tiny * ν * r_hat_size)
            )
            a = quotient(
                where(second, q.conj(), ρ),
                where(lost, 1, where(second, square.astype(X.dtype), q)),
            )
            a = where(check | lost, 0, a * shrink)
            first = ~check & ~second
            numbers = _Numbers(
                a=a,
                ρ=where(first, where(ρ == 0, 1, ρ), old.ρ),
                # α after the first half, α / ω after the second; 0 starts afresh
                χ=where(
                    check | lost,
                    0,
                    where(second, quotient(old.χ, where(a == 0, 1, a)), a),
                ),
                r_hat_size=r_hat_size,
                second=first,
                fresh=check,
                lost=lost,
            )
            numbers = packed(*(jnp.asarray(z, X.dtype) for z in numbers))
            new = _Numbers(*unpacked(numbers))
            a, lost = new.a, new.lost.real > 0
            x = s.x + a * y
            r = where(check, b, s.r) - where(check, 1, a) * w
            broken = goal.unless_fixed(lost & (ν > 0) & ~check)

            next_ν = once(plain_norm2(r))

            def test(course: Course):
                floor, a = course.floor(goal, X), _Numbers(*unpacked(numbers)).a
                residual = Y, r, goal.scale(b, given.peaks, floor, Y)
                update = X, a * y, goal.scale(x, peaks(X, x), floor, X)
                return (goal.ratio(residual, update),)

            wanted = check | goal.in_reach(next_ν)
            (ratio,) = s.course.ratios(goal, wanted, test)
            course = advance(
                s.course,
                goal,
                ratio,
                settled=claimed,
                broken=broken & fresh,
                finite=jnp.isfinite(square) & jnp.isfinite(ν),
                limit=limit,
                due=broken,
            )
            history = observer.record(s.history, course, lambda: norm2(r) * unit)
            return _Loop(
                x=x,
                r=r,
                ν=next_ν,
                r_hat=where(check, r, s.r_hat),
                p=where(first, c, s.p - a * s.v),
                v=w,
                numbers=numbers,
                course=course,
                history=history,
            )

        x = X.zeros() if y0 is None else where(given.zero, 0, y0 / unit)
        course = begin(given, limit, check=y0 is not None)
        numbers = _Numbers(a=0, ρ=1, χ=0, r_hat_size=1, second=0, fresh=1, lost=0)
        start = _Loop(
            x=x,
            r=b,
            ν=plain_norm2(b),
            r_hat=b,
            p=X.zeros(),
            v=X.zeros(),
            numbers=jnp.asarray(np.array(numbers, X.dtype)),
            course=course,
            history=observer.start(course, lambda: norm2(b) * unit, X),
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


class _Numbers(NamedTuple):
    """The scalars of a pass."""

    a: Any
    ρ: Any
    χ: Any
    r_hat_size: Any
    """‖r̂‖ as of the last step: after a start it is ν that counts."""
    second: Any
    """The next step is a second half."""
    fresh: Any
    """The last pass was a start."""
    lost: Any
    """An inner product was lost in rounding."""


class _Loop(NamedTuple):
    """The letters of van der Vorst; b, x and r in units of `unit`."""

    x: Array
    r: Array
    ν: Array
    """‖r‖."""
    r_hat: Array
    p: Array
    """p after a first half, p - ω v after a second."""
    v: Array
    numbers: Array
    course: Course
    history: Array | None
