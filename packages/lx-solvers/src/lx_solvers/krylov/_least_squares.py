"""What LSQR and LSMR share: Golub and Kahan's bidiagonalisation, and the convergence of
least-squares problems.

    β₁ u₁ = r₀,              α₁ v₁ = Aᴴ u₁,
    βₖ₊₁ uₖ₊₁ = A vₖ - αₖ uₖ,  αₖ₊₁ vₖ₊₁ = Aᴴ uₖ₊₁ - βₖ₊₁ vₖ

(Paige and Saunders 1982, eq. 3.1, doi:10.1145/355984.355989). The two methods differ in
what they make of the numbers α and β; both then move x along a direction that is a
recurrence of the vectors v, so that A times it, and with it the residual, is the same
recurrence of the vectors A v, which cost no product.

With a preconditioner M on the right, A M takes the place of A, and x that of M⁻¹ x, but
the directions are kept multiplied by M. The transposed problem of a tall A has Mᵀ on
the left, as L: L A takes the place of A, and L r that of r, but A v is kept as it is,
for the true residual. Damping: `_damping.py`.
"""

from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from .._checks import check_state
from .._control_flow import kept, while_some
from .._scaling import into_range, norm2, plain_norm2, real_dot, reciprocal_scale
from .._sizes import is_known
from .._solution import RESULTS
from .._solver import Options
from ._damping import augmented, better_than_none, undamped
from ._driver import KrylovState, Outcome, report
from ._guess import held, start_from, useless
from ._history import Monitor
from ._options import (
    effective,
    first_guess,
    preconditioner,
    stopping_rule,
)
from ._phases import Exit, Phases, advance, begin, step_limit
from ._scalars import (
    barrier,
    over,
    packed,
    scalar_at,
    significant,
    stacked,
    times,
    unpacked,
    where,
)
from ._spaces import as_matvec, as_matvecs, not_tall, spaces
from ._stability import C, Left, scaled_norm2
from ._tolerances import expected, peaks, right_hand_side


class Numbers(Protocol):
    """The scalar recurrences of a method, as a `NamedTuple` of scalars."""

    t: Any
    """The next direction is h = M v - t h."""
    f: Any
    """The step is along h̄ = h - f h̄; for a method that has no h̄, along h."""

    @property
    def normal(self) -> Array:
        """‖Aᴴ r‖."""
        ...

    @classmethod
    def start(cls, β: Any, α: Any) -> "Numbers":
        """With β₁ and α₁."""
        ...

    def step(self, β: Array, α: Array) -> tuple["Numbers", Array, Array]:
        """With βₖ₊₁ and αₖ₊₁: what comes next; the length φ of the step; and a number
        that stands for a singular value."""
        ...


class _Shared(NamedTuple):
    """The other scalars of a pass."""

    φ: Any
    α: Any
    shrink: Any
    """1 / σ, where σ is a power of two near ‖A‖."""
    A: Any
    """The largest ‖A v‖ or ‖Aᴴ u‖ seen."""
    most: Any
    least: Any
    """The extremes of what stands for singular values."""
    cond: Any
    """Their ratio."""
    normal: Any
    """‖Aᴴ r‖ / ‖A‖."""


class _Loop(NamedTuple):
    """b, x and r in units of `unit`."""

    x: Array
    r: Array
    size: Array
    """‖r‖."""
    u: Array
    v: Array
    """Before a check x, which is then multiplied."""
    h: Array
    Ah: Array
    h_bar: Any  # None without bars
    Ah_bar: Any
    scalars: tuple[Array, Array]
    """The method's, in units of σ, and the shared ones."""
    plain: Any
    """A lower bound of ‖A‖, and ‖Aᴴ r‖ after a check; None without a preconditioner."""
    left: Array
    """The residual relative to its tolerance; ∞ where it was not computed."""
    phases: Phases
    history: Array | None


def least_squares(
    solver: Any,
    name: str,
    state: KrylovState,
    vector: PyTree[Array],
    options: Options,
    kind: Any,
    *,
    barred: bool,
) -> Outcome:
    """The loop of LSQR and LSMR.

    Args:
        solver: its fields are the parameters.
        kind: the method's `Numbers`.
        barred: whether the method has the second direction h̄.
    """
    check_state(state, KrylovState, name)
    options = effective(options, state)
    operator = state.operator
    X, Y = spaces(operator)
    given = right_hand_side(vector, Y, solver)
    goal, unit = given.goal, given.unit
    limit = step_limit(solver.max_steps, X)
    monitor = Monitor(solver.history, solver.progress, limit, name)
    rule = stopping_rule(options, name)
    A, AH = as_matvecs(operator)
    undamp = _same
    b, λ = given.b, jnp.asarray(solver.damp).astype(X.real_dtype)
    if not undamped(solver.damp):
        A, AH, b, undamp = augmented(A, AH, b, λ, X.shape)
    M = preconditioner(options, operator, name)
    preconditioned = not (M is None and state.left is None)
    M, MH = (_same, _same) if M is None else (as_matvec(M, X), as_matvec(M.H, X))
    L, scaled = state.left, state.left is not None
    L, LH = (_same, _same) if L is None else (as_matvec(L, Y), as_matvec(L.H, Y))
    # of a wide operator no initial guess helps: it would stay in the solution
    maybe = X.size != Y.size and (not is_known(X.size, Y.size) or X.size > Y.size)
    wide = maybe and undamped(solver.damp)
    y0 = None if wide else first_guess(options, X, name)
    # a residual then means that A is singular
    strict = undamped(solver.damp) and not_tall(X, Y)
    conlim = jnp.asarray(solver.conlim).astype(X.real_dtype)
    conlim = where(conlim == 0, jnp.inf, jnp.minimum(conlim, 0.1 / X.eps))
    norm_b = plain_norm2(given.b)

    # what a vector of the bidiagonalisation is worth, when there is no more than
    # rounding
    rounding = np.asarray(8 * X.eps, X.real_dtype)

    def condition(cond: Array, Ax: Array) -> Array:
        """An estimate of the condition number; of a strict test, ≥ ‖A‖ ‖x‖ / ‖b‖."""
        return jnp.maximum(cond, where(strict, jnp.maximum(over(Ax, norm_b), 1), 1))

    def split(scalars: tuple[Array, Array]) -> tuple[Any, _Shared]:
        numbers, shared = map(unpacked, scalars)
        return kind(*numbers), _Shared(*shared)

    def step(s: _Loop) -> _Loop:
        check, claimed, running = s.phases.check, s.phases.claimed, s.phases.running
        old, last = split(s.scalars)

        # one product and one adjoint product: a step, or a start from x
        q = where(check, s.v, M(s.v))
        x, Aq = s.x, A(q)
        if y0 is not None:
            Aq = where(s.phases.first, held(Aq), Aq)
        if not undamped(solver.damp):
            x, Aq = better_than_none(x, Aq, b, check)
        new = where(check, b - Aq, Aq)
        û = times(where(check, 1, last.shrink), L(new))
        û = û - times(where(check, 0, last.α), s.u)
        size = (norm2 if scaled else plain_norm2)(û)
        least = rounding * last.A * last.shrink
        β, normed, least = significant(~check, size, least, least)
        u = times(normed, û)
        LHu = LH(u)
        AHu = AH(LHu)
        v̂ = times(last.shrink, MH(AHu)) - times(where(check, 0, β), s.v)
        size = plain_norm2(v̂)
        # if α is lost with the σ of the first check, which is 1, another makes the next
        first = check & (last.A == 0) & (last.shrink == 1)
        other = where(first, into_range(size), 1)
        α, normed, other = significant(True, size, least, other)
        lost = other != 1
        v = times(normed, v̂)
        reset = False
        if y0 is not None:
            reset = s.phases.first & useless(β, norm_b, X.eps)

        # the numbers, in units of σ, which a check finds from α
        next, φ, ρ = old.step(β, α)
        found = where(check, α * reciprocal_scale(last.shrink), last.α)
        size_A = jnp.maximum(jnp.maximum(last.A, found), λ)
        shrink = where(lost, other, reciprocal_scale(size_A))
        shrink = where(check, shrink, last.shrink)
        α = where(check, found * shrink, α)
        start = kind.start(β, α)
        numbers = packed(*(where(check, *pair) for pair in zip(start, next)))
        next, σ = kind(*unpacked(numbers)), reciprocal_scale(shrink)
        column = σ * jnp.sqrt(last.α**2 + β**2)
        norm_A = jnp.maximum(last.A, where(check, where(lost, 0, found), column))
        most = jnp.maximum(last.most, where(check, 0, ρ * σ))
        least = jnp.minimum(last.least, where(check, jnp.inf, ρ * σ))
        shared = packed(
            *_Shared(
                φ=where(check, 0, φ * shrink),
                α=α,
                shrink=shrink,
                A=norm_A,
                most=most,
                least=least,
                cond=most / least,
                normal=next.normal * σ / where(norm_A > 0, norm_A, 1),
            )
        )
        next, now = split(scalars := (numbers, shared))
        f, φ = next.f, now.φ

        # the directions
        h, Ah = q - times(old.t, s.h), Aq - times(old.t, s.Ah)
        bars: Any = (None, None)
        if barred:
            bars = h - times(f, s.h_bar), Ah - times(f, s.Ah_bar)
        h_bar, Ah_bar = bars
        Δ, AΔ = bars if barred else (h, Ah)
        x = kept(running, where(reset, 0, x + times(φ, Δ)), s.x)
        by = where(check, Aq, times(φ, AΔ))
        r = kept(running, where(check, b, s.r) - by, s.r)

        plain = None
        if preconditioned:  # ‖A‖ and ‖Aᴴ r‖, where the numbers are those of L A M
            length = norm2(AHu)  # ‖u‖ = 1
            reached = over(length, norm2(LHu)) if scaled else length
            size_A = jnp.maximum(s.plain[0], reached)
            plain = stacked([size_A, β * length])

        # the test: of the residual, or of the part of it that can be reduced, which is
        # nothing, whatever the tolerance, below the rounding errors
        size = barrier(jnp.sqrt(real_dot(r, r)))
        size_L = norm2(L(r)) if scaled else size

        def is_reduced(now: _Shared) -> Array:
            stable = where(strict, C * X.eps, rounding)  # a branch makes its constants
            return (now.normal <= stable * size_L) & (size < jnp.inf)

        def test(phases: Phases):
            now, floor = _Shared(*unpacked(shared)), phases.floor(goal, X)
            allowed = expected(goal, given.b, given.peaks, floor, Y)
            size_A = now.A if plain is None else scalar_at(plain, 0)
            Ax = size_A * plain_norm2(x)
            reducible = condition(now.cond, Ax) * now.normal / allowed
            nonzero = where(size > 0, size_L, 1)
            small = now.normal / (nonzero * goal.rtol + nonzero * goal.atol)
            # the recurred Aᴴ r has no rounding errors of A x in it
            errors = C * X.eps * (size + where(phases.check, Ax, 0))
            noise = where(strict, over(now.normal, errors), 0)
            reducible = jnp.maximum(reducible, jnp.maximum(small, noise))
            reducible = where(is_reduced(now), 0, reducible)
            if undamped(solver.damp):
                left = goal.residual_ratio(undamp(r), given.b, given.peaks, floor, Y)
            else:
                left = size / allowed
            ratio = jnp.minimum(left, reducible)
            if goal.norm is not None:
                update = X, times(now.φ, Δ), goal.scale(x, peaks(X, x), floor, X)
                # nothing comes after the step that reduces all there is
                settled = where(is_reduced(now), 0, goal.ratio(update))
                ratio = jnp.maximum(ratio, settled)
            return left, ratio

        smaller = jnp.minimum(size, jnp.maximum(now.cond, 1) * now.normal)
        wanted = check | is_reduced(now) | goal.in_reach(smaller)
        wanted &= running & ~lost  # members that have ended ask for nothing
        left, ratio = s.phases.ratios(goal, wanted, test, count=2)
        stopped = False
        if rule is not None:
            sizes = norm2(undamp(r)) * unit, X.solution(times(unit, x))
            stopped = ~check & jnp.asarray(rule(*sizes, s.phases.num_steps + 1), bool)
        phases = advance(
            s.phases,
            goal,
            ratio,
            settled=claimed,
            broken=(now.cond > conlim) & (ratio > 1) & ~check,
            finite=lost | (jnp.isfinite(α) & jnp.isfinite(β)),
            limit=limit,
            due=False,
            nothing=size == 0,
            again=lost | reset,
            stopped=stopped,
            failure=Exit.ill_conditioned,
        )
        history = monitor.record(s.history, phases, lambda: norm2(undamp(r)) * unit)
        v = where(phases.check, x, v)
        directions = u, v, h, Ah, h_bar, Ah_bar  # of which nothing is to last
        lasting: Any = size, scalars, plain, left, phases, history
        old = s.size, s.scalars, s.plain, s.left, s.phases, s.history
        size, *lasting = kept(running, lasting, old)
        return _Loop(x, r, size, *directions, *lasting)

    none = X.zeros()
    x, given = start_from(y0, given, X)
    phases = begin(given, limit, check=True)
    shared = _Shared(φ=0, α=0, shrink=1, A=0, most=0, least=np.inf, cond=0, normal=0)
    numbers, shared = (
        jnp.asarray(np.array(z, X.real_dtype)) for z in (kind.start(0, 0), shared)
    )
    start = _Loop(
        x=x,
        r=b,
        size=norm_b,
        u=jnp.zeros_like(b),
        v=x,
        h=none,
        Ah=jnp.zeros_like(b),
        h_bar=none if barred else None,
        Ah_bar=jnp.zeros_like(b) if barred else None,
        scalars=(numbers, shared),
        plain=jnp.zeros(2, X.real_dtype) if preconditioned else None,
        left=X.zero(),
        phases=phases,
        history=monitor.start(phases, lambda: norm2(given.b) * unit, X),
    )
    inputs = solver, state, vector, options
    end = while_some(lambda s: s.phases.running, step, start, inputs)
    (numbers, shared), exit = split(end.scalars), end.phases.exit
    istop = where(end.left <= 1, 1, 2)
    for code, number in _ISTOP.items():
        istop = where(exit == code, number, istop)
    norm_A, slope = shared.A, shared.normal
    if preconditioned:
        norm_A, slope = unpacked(end.plain)
        slope = None if scaled else over(slope, norm_A)
    size, Ax = end.size, scaled_norm2(norm_A, end.x)
    # a solve that was cut short may not have met the smallest singular values
    cond = where(exit == Exit.tired, jnp.inf, shared.cond)
    value, result, stats = report(
        end,
        limit,
        monitor,
        given,
        X,
        vector,
        norm_A,
        norm_b,
        size,
        slope,
        condition(cond, Ax),
        dict(
            istop=where(given.zero & (exit == Exit.converged), 0, istop).astype(
                jnp.int32
            ),
            norm_r=norm2(undamp(end.r)) * unit,
            norm_Ar=numbers.normal / shared.shrink * unit,
            norm_A=shared.A,
            cond_A=where(shared.most > 0, shared.cond, 1),
            norm_x=norm2(end.x) * unit,
        ),
        M=options.get("preconditioner"),
    )
    stable = Left(size, Ax, norm_b).within(C * X.eps)
    solved = (end.left <= 1) | stable | given.zero
    stats["least_squares"] = (result == RESULTS.successful) & ~solved
    return value, result, stats


_ISTOP = {
    Exit.ill_conditioned: 3,
    Exit.tired: 4,
    Exit.stagnated: 5,
    Exit.nonfinite: 6,
    Exit.stopped: 7,
}


def _same(v: Array) -> Array:
    return v
