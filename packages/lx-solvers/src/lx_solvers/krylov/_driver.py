"""The driver of Krylov methods: all that is not the method.

A method is a recurrence (`Recurrence`): it says what to multiply by A, and from the
product how far to go. The driver owns the rest, once: the scale of b, tolerances, the
phases of a solve (`_phases.py`), the one product in the loop's body, true residuals,
exits, step limits, history and progress, and the packing of scalars into arrays.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, conj, linearise

from .._checks import check_options, check_square, check_state
from .._control_flow import while_loop
from .._results import judged, named
from .._scaling import norm2, plain_norm2
from .._sizes import sqrt_of
from .._solution import RESULTS
from .._solver import Options
from ..preconditioners._preconditioner import AbstractPreconditioner, told
from ._guess import start_from, useless
from ._history import Monitor
from ._options import (
    conjugated,
    effective,
    first_guess,
    heeded,
    preconditioner,
    set_up,
    stopping_rule,
    transposed,
)
from ._phases import Exit, Phases, advance, begin, outcome, step_limit
from ._recurrence import Pass, Recurrence, Step, check_step
from ._scalars import Packed, barrier, pack, times, unpack, where
from ._spaces import Space, as_matvec, signed, spaces
from ._stability import C, Left, ending, scaled_norm2
from ._tolerances import Aims, RightHandSide, overall, peaks, right_hand_side

Outcome = tuple[PyTree[Array], RESULTS, dict[str, Any]]


class KrylovState(eqx.Module):
    """What `init` of an iterative solver returns."""

    operator: AbstractLinearOperator
    sign: int = eqx.field(static=True, default=1)
    """1 or -1: the method sees this times the operator."""
    preconditioner: AbstractLinearOperator | None = None
    """What the solver's own preconditioner became."""
    left: AbstractLinearOperator | None = None
    """What multiplies residuals: LSMR's and LSQR's preconditioner, transposed."""


class Solver(Aims, Protocol):
    """An iterative solver, as the driver sees it: its fields."""

    @property
    def history(self) -> int | bool: ...
    @property
    def progress(self) -> bool: ...


class _Loop(NamedTuple):
    """x and r are in units of `unit`."""

    x: Array
    r: Array
    ν: Array
    """‖r‖."""
    carried: Packed
    """The method's state, and a lower bound of ‖A‖."""
    phases: Phases
    history: Array | None


def prepare(
    operator: AbstractLinearOperator,
    options: Options,
    name: str,
    recipe: AbstractPreconditioner | None = None,
) -> KrylovState:
    """`init` of a solver of square systems that takes a preconditioner and a first
    guess.

    Args:
        operator, options: as for `AbstractLinearSolver.init`.
        name: what messages call the solver.
        recipe: the solver's field `preconditioner`.

    Raises:
        ValueError: the operator is not square; a bad preconditioner.
    """
    check_square(operator, name)
    check_options(options, ("preconditioner", "y0", "stop"), name)
    preconditioner(options, operator, name)
    operator = linearise(operator)
    return KrylovState(operator, preconditioner=set_up(recipe, operator, options, name))


@dataclasses.dataclass(frozen=True)
class Iteration:
    """A Krylov method at work on one system, pass by pass."""

    start: _Loop
    step: Callable[[_Loop], _Loop]
    """The next pass, which makes a step or a check."""
    finish: Callable[[_Loop], Outcome]
    solution: Callable[[_Loop], PyTree[Array]]
    residual_norm: Callable[[_Loop], Array]
    inputs: Any
    """All that `step` closes over."""

    def stop(self, loop: _Loop) -> _Loop:
        """The same, with its last check next, if it is still running."""
        return loop._replace(phases=loop.phases.stopped())

    def outcome(self) -> Outcome:
        """The outcome of all passes."""
        running = lambda loop: loop.phases.running  # noqa: E731
        return self.finish(while_loop(running, self.step, self.start, self.inputs))


def solve(*args: Any, **kwargs: Any) -> Outcome:
    """`compute` of a Krylov method: the `iteration` of the same arguments, run to its
    end."""
    return iteration(*args, **kwargs).outcome()


def iteration(
    method: Recurrence,
    solver: Solver,
    name: str,
    state: KrylovState,
    vector: PyTree[Array],
    options: Options,
    *,
    every: int | None = None,
    sign_of_M: Callable[[AbstractLinearOperator], int] | None = None,
    check_first: bool = False,
    failure: Exit = Exit.breakdown,
    norm_A: Callable[[Any], Array] | None = None,
    stats: Callable[[Any, Array], dict[str, Any]] | None = None,
    slope: Callable[[Any], Array] | None = None,
) -> Iteration:
    """A Krylov method at work on one system.

    Args:
        method: the recurrence.
        solver: whose fields are the tolerances, `max_steps`, `history`, `progress`.
        name: what messages call it.
        state, vector, options: as for `AbstractLinearSolver.compute`.
        every: after how many steps the residual is computed anew; None: only before
            success is claimed.
        sign_of_M: 1, or -1 for a preconditioner that is to be negated; by default 1.
        check_first: whether the first pass is a check, even without an initial guess.
        failure: how a step that is `broken` ends the solve.
        norm_A: a lower bound of ‖A‖ without a preconditioner, from the method's state,
            if that keeps one. The driver then keeps none, and asks for no `stretch`.
        stats: further statistics, from the method's last state and the power of two
            that b was divided by.
        slope: ‖A r‖ / ‖A‖ of the true residual, from the method's last state, if the
            method solves least-squares problems; ∞ where it is not known.

    Raises:
        ValueError: a state of another solver, a vector or options of other structures.
    """
    check_state(state, KrylovState, name)
    options = effective(options, state)
    X, Y = spaces(state.operator)
    given = right_hand_side(vector, Y, solver)
    goal = given.goal
    unit = goal.unit
    limit = step_limit(solver.max_steps, X)
    monitor = Monitor(solver.history, solver.progress, limit, name)
    A = signed(as_matvec(state.operator, X, Y), state.sign)
    M: Any = preconditioner(options, state.operator, name)
    if M is not None:
        M = signed(as_matvec(M, X), 1 if sign_of_M is None else sign_of_M(M))
    b = given.b if state.sign == 1 else -given.b
    y0 = first_guess(options, X, name)
    rule = stopping_rule(options, name)
    initial = method.start(X, b)
    # ‖x‖ is between 1 and √n times |x|∞, which comes with the test; a norm would be
    # three more kernels to decide when to look at what the solve has reached
    middle = sqrt_of(X.size) ** 0.5

    bound = norm_A if M is None else None

    def stored(state: Any, size_A: Array) -> Packed:
        return pack((state, size_A) if bound is None else state)

    def taken_apart(carried: Packed) -> tuple[Any, Array]:
        """The method's state, and the bound of ‖A‖."""
        if bound is None:
            return unpack(carried, (initial, X.zero()))
        state = unpack(carried, initial)
        return state, bound(state)

    def one_pass(loop: _Loop) -> _Loop:
        old, size_A = taken_apart(loop.carried)
        check, claimed = loop.phases.check, loop.phases.claimed
        now = Pass(A, M, b, loop, goal, start.ν, size_A, y0 is not None)
        step: Step = method.step(old, loop.r, now)
        q = now.product

        def length() -> Array:
            α = jnp.asarray(step.α() if callable(step.α) else step.α)
            return α if jnp.issubdtype(α.dtype, jnp.inexact) else α.astype(X.real_dtype)

        check_step(step, now, initial, name)
        stays = check | step.broken
        taken = where(stays, 0, length())
        x = where(stays, loop.x, loop.x + times(taken, step.p))  # p may be NaN
        if step.r is None:
            Ap = q if step.Ap is q else where(check, q, step.Ap)
            by = times(where(check, 1, taken), Ap)
            r = where(check, b, loop.r) - by
        else:
            true = b - q if now.renewed is None else now.renewed
            r = where(check, true, step.r)
        ν = barrier(plain_norm2(r)) if step.ν is None else step.ν

        def test(phases: Phases):
            floor, sizes = phases.floor(goal, X), peaks(X, x)
            if goal.norm is None:
                ratio = goal.residual_ratio(r, b, goal.peaks, floor, Y)
                return ratio, overall(sizes, X.zero())
            α = length()
            # what is recurred is less than what rounding leaves: there is nothing to
            # be gained from further steps, however much the last one moved
            _, size_A = taken_apart(loop.carried)
            left = ν <= X.eps * size_A * overall(sizes, X.zero())
            taken = where(phases.check | left | ~(jnp.abs(α) < jnp.inf), 0, α)
            moved = X, times(taken, step.p), goal.scale(x, sizes, floor, X)
            residual = Y, r, goal.scale(b, goal.peaks, floor, Y)
            return goal.ratio(residual, moved), overall(sizes, X.zero())

        again = False
        if y0 is not None:
            again = loop.phases.first & useless(ν, start.ν, X.eps)
            x = where(again, 0, x)
        near = goal.in_reach(ν)
        wanted = check | (near if step.idle is False else near & ~step.idle)
        wanted &= loop.phases.running  # members of a batch that have ended: nothing
        ratio, x_peak = loop.phases.ratios(goal, wanted, test, count=2)
        num_steps = loop.phases.num_steps + 1
        stopped = False
        if rule is not None:
            said = rule(ν * unit, X.solution(times(unit, x)), num_steps)
            stopped = ~check & jnp.asarray(said, bool)
        due = step.due
        if every is not None:
            due = due | (jax.lax.rem(num_steps, jnp.int32(every)) == 0)
        phases = advance(
            loop.phases,
            goal,
            ratio,
            settled=claimed,
            broken=step.broken & (loop.ν > 0) & ~check,
            finite=where(check, ~jnp.isnan(ν), step.finite),
            limit=limit,
            due=due,
            nothing=ν == 0,
            noise=(jnp.abs(ν - loop.ν) > 0.1 * loop.ν)
            & (ν <= C * X.eps * (size_A * middle * x_peak + start.ν)),
            failure=failure,
            probe=M is not None,
            solved=step.solved,
            stopped=stopped,
            again=again,
        )

        state = step.state
        if not method.sees_checks:
            state = _kept(check, claimed, initial, old, state)
        if bound is None:
            if step.ν is not None and step.stretch is not None:
                stretch = step.stretch
            elif M is None and step.stretch is not None:
                stretch = where(check | step.broken, 0, step.stretch)
            else:
                stretch = norm2(q) / norm2(now.vector)
                stretch = where(stretch > 0, stretch, 0)  # no vector, no product
            stretch = jnp.minimum(stretch, jnp.finfo(size_A.dtype).max)
            size_A = jnp.maximum(size_A, stretch)
        if M is not None:
            ν = where(loop.phases.probe, loop.ν, ν)
        carried = stored(state, size_A)
        history = monitor.record(
            loop.history,
            phases,
            lambda: where(loop.phases.probe, ν, norm2(r)) * unit,
        )
        return _Loop(x, r, ν, carried, phases, history)

    x, given = start_from(y0, given, X)
    phases = begin(given, limit, check=check_first or y0 is not None)
    history = monitor.start(phases, lambda: norm2(b) * unit, X)
    carried = stored(initial, X.zero())
    start = _Loop(x, b, plain_norm2(b), carried, phases, history)
    inputs = solver, state, vector, options

    def finish(end: _Loop) -> Outcome:
        last, size_A = taken_apart(end.carried)
        more = None if stats is None else stats(last, unit)
        norms = size_A, start.ν, end.ν
        left = None if slope is None else slope(last)
        used = options.get("preconditioner")
        given_ = limit, monitor, given, X, vector
        return report(end, *given_, *norms, left, more=more, M=used)

    return Iteration(
        start,
        one_pass,
        finish,
        solution=lambda loop: X.solution(times(unit, loop.x)),
        residual_norm=lambda loop: loop.ν * unit,
        inputs=inputs,
    )


def _kept(check: Any, claimed: Any, initial: Any, old: Any, new: Any) -> Any:
    """The state after a pass: in a check the old one, after a claim with the scalars to
    start from."""

    def each(first: Any, last: Any, next: Any) -> Array:
        last = last if jnp.ndim(first) else where(claimed, first, last)
        return where(check, last, next)

    return jax.tree.map(each, initial, old, new)


def report(
    end: Any,
    limit: Any,
    monitor: Monitor,
    given: RightHandSide,
    X: Space,
    vector: PyTree[Array],
    norm_A: Array,
    norm_b: Array,
    norm_r: Array,
    slope: Array | None = None,
    cond: Array | int = 1,
    more: dict[str, Any] | None = None,
    M: Any = None,
) -> Outcome:
    """The solution in its own units, how the solve ended, and the statistics.

    A solve that missed its tolerance is judged by its backward error. NaN stands for
    the solution where the input was not finite, and no solution that overflows is a
    success.

    Args:
        end: the loop's last state: `x`, `phases`, `history`.
        limit, monitor, given, X, vector: what the solve began with.
        norm_A, norm_b, norm_r: a lower bound of ‖A‖, and, in units of b, ‖b‖ and the
            true ‖r‖.
        slope, cond: ‖Aᴴ r‖ / ‖A‖ and an estimate of the condition number, if this is a
            least-squares problem.
        more: other statistics.
        M: the preconditioner; one that could not be set up ends the solve so.
    """
    left = Left(norm_r, scaled_norm2(norm_A, end.x), norm_b, slope, cond)
    exit = ending(outcome(end.phases, given.goal), left, X.eps)
    lost = end.phases.exit == Exit.nonfinite  # which `ending` leaves as it is
    value = X.solution(where(lost, jnp.nan, times(given.goal.unit, end.x)))
    more = {**(more or {}), **told(M)}
    stats = monitor.stats(end, limit, backward_error=left.error, **more)
    return value, heeded(M, vector, judged(named(exit), vector, value)), stats


def transposed_state(
    state: KrylovState, options: Options
) -> tuple[KrylovState, Options]:
    """State and options for Aᵀ."""
    M = state.preconditioner
    M = None if M is None else M.T
    return KrylovState(state.operator.T, state.sign, M), transposed(options)


def conjugated_state(
    state: KrylovState, options: Options
) -> tuple[KrylovState, Options]:
    """State and options for Ā."""
    M = state.preconditioner
    M, L = (None if F is None else conj(F) for F in (M, state.left))
    return KrylovState(conj(state.operator), state.sign, M, L), conjugated(options)
