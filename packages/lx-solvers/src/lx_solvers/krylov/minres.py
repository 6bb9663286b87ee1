"""Minimal residuals, for Hermitian operators."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike
from lx_operators import (
    AbstractLinearOperator,
    conj,
    is_hermitian,
    is_positive_semidefinite,
    linearise,
)
from lx_operators.internal import max_norm

from .._checks import check_options, check_square, check_state
from .._course import Course, Exit, advance, begin
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
from .._scaling import hypot, largest, norm2, plain_norm2, real_dot, reciprocal_scale
from .._solver import AbstractLinearSolver
from .._vectors import once, packed, product, spaces, unpacked, where


class MINRESState(eqx.Module):
    """What `MINRES.init` returns."""

    operator: AbstractLinearOperator


class MINRES(AbstractLinearSolver[MINRESState]):
    """Minimal residuals, for Hermitian operators, definite or not.

    Paige and Saunders 1975, doi:10.1137/0712047, in the letters of Choi, Paige and
    Saunders 2011, table 2.2, doi:10.1137/100787921, with preconditioner as in its
    section 6.1. What is not textbook: the residual is carried along as a vector, rₖ =
    s² rₖ₋₁ - φ c vₖ₊₁; and before success is claimed, b - A x is computed anew, and if
    it does not pass, the iteration starts afresh, which is also how every solve starts.

    A singular system is solved where it is consistent, by the solution of least norm if
    there is neither first guess nor preconditioner; an inconsistent one, for which A r
    vanishes and r does not, ends in `singular` or `max_steps_reached`: use `LSMR`.

    A step is one product with the operator and one with the preconditioner, if any; the
    start is one more of each, and so is a check. Eight vectors are kept: b, x, r, two
    of the basis, two directions and the product; and one more with a preconditioner.

    Args:
        rtol, atol: relative and absolute tolerance, of the residual beside b and of the
            last update beside the solution, elementwise.
        norm: from a pytree to a real scalar.
        max_steps: limit of steps; ten times the size by default. With
            `rtol = atol = 0` exactly this many steps are made.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`; `True` for room for all steps, or how many.
        progress: show a progress bar.

    Options: `preconditioner`, a positive definite operator that approximates the
    inverse of the operator's absolute value, tagged positive semidefinite; `y0`, a
    first guess.

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

    rtol: ArrayLike
    atol: ArrayLike
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_tolerances(self.rtol, self.atol, self.max_steps, "MINRES")

    def init(self, operator, options):
        check_square(operator, "MINRES")
        check_options(options, ("preconditioner", "y0"), "MINRES")
        M = preconditioner(options, operator, "MINRES")
        if M is not None and not is_positive_semidefinite(M):
            raise ValueError(
                "the option 'preconditioner' of `MINRES` must be tagged "
                f"`positive_semidefinite_tag`, but got {M!r}."
            )
        if not is_hermitian(operator):
            raise ValueError(
                "`MINRES` needs an operator that is known to be Hermitian (tagged "
                "`hermitian_tag`; if real, `symmetric_tag`), but got "
                f"{operator!r}. For others use `GMRES` or `LSMR`."
            )
        return MINRESState(linearise(operator))

    def compute(self, state, vector, options):
        check_state(state, MINRESState, "MINRES")
        X, Y = spaces(state.operator)
        given = scaled(vector, Y, self.rtol, self.atol, self.norm)
        b, goal, unit = given.b, given.goal, given.unit
        limit = step_limit(self.max_steps, X)
        observer = Monitor(self.history, self.progress, limit, "MINRES")
        A = product(state.operator)
        M = preconditioner(options, state.operator, "MINRES")
        plain = M is None
        M: Any = None if plain else product(M, X)
        y0 = first_guess(options, X, "MINRES")
        least = 8 * X.eps

        def step(s: _Loop) -> _Loop:
            check, claimed = s.course.check, s.course.claimed
            last, old = _Lanczos(*unpacked(s.lanczos)), _Numbers(*unpacked(s.numbers))

            # Lanczos' step, or a start from x
            u = s.v if plain else s.u
            Aq = A(where(check, s.x, u))
            α = where(check, 0, once(real_dot(u, Aq)))
            w = where(check, b, Aq) - where(check, Aq, α * s.v + last.β * s.v_old)
            shrink = reciprocal_scale(largest(w))
            # divided, not multiplied: XLA would repeat all this wherever w is used
            w = w / reciprocal_scale(shrink)
            Mw = w if plain else M(w)
            square = once(real_dot(w, Mw))
            size = jnp.sqrt(jnp.maximum(square, 0))
            β = size / shrink
            A_norm = jnp.maximum(last.A_norm, hypot(last.β, α, β))
            A_norm = where(check, last.A_norm, A_norm)
            some = where(check, size > 0, β > least * A_norm)
            lanczos = packed(
                *_Lanczos(
                    β=where(some & ~check, β, 0),
                    A_norm=A_norm,
                    size=where(some, β, 0),
                    inverse=where(some, 1 / size, 0),
                )
            )
            _, A_norm, β, inverse = unpacked(lanczos)
            v, u = w * inverse, None if plain else Mw * inverse

            # the rotations; ψ is ‖A r‖ of the residual so far
            δ, γ = old.c * old.δ + old.s * α, old.s * old.δ - old.c * α
            ψ = old.φ * hypot(γ, old.c * β)
            c, s_, inverse_γ = _rotation(γ, β)
            τ, φ = c * old.φ, s_ * old.φ

            # A r = 0, but not r: b is not in the range
            slope = ψ / where(A_norm > 0, A_norm, 1)
            flat = ~check & (old.φ > 0) & (slope <= 8 * least * old.φ)
            new = _Numbers(
                c=c,
                s=s_,
                δ=-old.c * β,
                ε=old.s * β,
                φ=φ,
                τ=where(flat, 0, τ),
                inverse_γ=inverse_γ,
                flat=flat.astype(β.dtype),
            )
            begun = _Numbers.start(β)
            numbers = packed(*(where(check, *pair) for pair in zip(begun, new)))
            new = _Numbers(*unpacked(numbers))
            flat = new.flat > 0

            # after a start the recurrences have nothing to look back on
            d = (s.v if plain else s.u) - δ * s.d - old.ε * s.d_old
            d = d * new.inverse_γ
            x = s.x + new.τ * d
            r = where(flat, s.r, new.s * new.s * s.r - (new.φ * new.c) * v)
            r = where(check, w / shrink, r)

            def test(course: Course):
                floor, τ = course.floor(goal, X), _Numbers(*unpacked(numbers)).τ
                residual = Y, r, goal.scale(b, given.peaks, floor, Y)
                update = X, τ * d, goal.scale(x, peaks(X, x), floor, X)
                return (goal.ratio(residual, update),)

            wanted = check | goal.in_reach(plain_norm2(r))
            (ratio,) = s.course.ratios(goal, wanted, test)
            course = advance(
                s.course,
                goal,
                ratio,
                settled=claimed,
                broken=((square < 0) | flat) & (ratio > 1),
                finite=jnp.isfinite(square) & jnp.isfinite(α),
                limit=limit,
                due=False,
                failure=Exit.singular,
            )
            history = observer.record(s.history, course, lambda: norm2(r) * unit)
            return _Loop(
                x=x,
                r=r,
                v_old=s.v,
                v=v,
                u=u,
                d_old=s.d,
                d=d,
                lanczos=lanczos,
                numbers=numbers,
                course=course,
                history=history,
            )

        none = X.zeros()
        x = none if y0 is None else where(given.zero, 0, y0 / unit)
        course = begin(given, limit, check=True)
        start = _Loop(
            x=x,
            r=b,
            v_old=none,
            v=none,
            u=None if plain else none,
            d_old=none,
            d=none,
            lanczos=jnp.asarray(np.array(_Lanczos(0, 0, 0, 0), X.real_dtype)),
            numbers=jnp.asarray(np.array(_Numbers.start(0), X.real_dtype)),
            course=course,
            history=observer.start(course, lambda: norm2(b) * unit, X),
        )
        inputs = self, state, vector, options
        end = while_loop(lambda s: s.course.running, step, start, inputs)
        stats = observer.stats(end, limit)
        x, result = solution(end.x, given, end.course, X, vector)
        return x, result, stats

    def transpose(self, state, options):
        return MINRESState(state.operator.T), transposed(options)

    def conj(self, state, options):
        return MINRESState(conj(state.operator)), conjugated(options)

    def assume_full_rank(self):
        return False


class _Lanczos(NamedTuple):
    β: Any
    """0 after a start."""
    A_norm: Any
    size: Any
    """Of what becomes the next vector of the basis; and its inverse, in other units."""
    inverse: Any


class _Numbers(NamedTuple):
    """What the rotations leave."""

    c: Any
    s: Any
    δ: Any
    ε: Any
    φ: Any
    """‖r‖, in the norm of the preconditioner."""
    τ: Any
    inverse_γ: Any
    flat: Any

    @classmethod
    def start(cls, β: Any) -> "_Numbers":
        """Of a residual of size β. There is no direction yet."""
        return cls(c=-1, s=0, δ=0, ε=0, φ=β, τ=0, inverse_γ=0, flat=0)


class _Loop(NamedTuple):
    """The letters of Choi, Paige and Saunders; b, x and r in units of `unit`."""

    x: Array
    r: Array
    v_old: Array
    v: Array
    u: Any  # None without a preconditioner
    """M v, with a preconditioner."""
    d_old: Array
    d: Array
    lanczos: Array
    numbers: Array
    course: Course
    history: Array | None


def _rotation(a: Array, b: Array) -> tuple[Array, ...]:
    """c, s and 1 / ρ of Givens' rotation that takes (a, b) to (ρ, 0); ρ = 1 for
    (0, 0)."""
    ρ = hypot(a, b)
    ρ = where(ρ == 0, 1, ρ)
    return unpacked(packed(a / ρ, b / ρ, 1 / ρ))
