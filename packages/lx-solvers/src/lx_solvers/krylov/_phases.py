"""What each pass of an iterative solve does, and how the solve ends.

**Phases.** A pass makes a step, or it is a check: it computes the residual as b - A x
with the one product in the loop's body. `CHECK` replaces the recurred residual; `CLAIM`
does so because the recurred residual and the last update passed; `LAST` because the
solve is to end, for a reason that is kept as `pending`. `converged` is claimed only in
a check: in the last one if the residual passes, in others if the last update did too.
With a preconditioner, a last check that does not pass is followed by `PROBE`, which
multiplies the residual, as other products may say little of ‖A‖ (`_stability.py`).

**Steps** are products with the operator (LSMR, LSQR: pairs of one with it and one with
its adjoint), also in BiCGStab, whose textbook step has two, and in GMRES, where a cycle
is no step. What a start or a check costs is not counted. `max_steps` limits the steps,
by default to ten times the size.
"""

import dataclasses
import enum
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Int, Scalar

from .._control_flow import cond
from .._results import code
from .._scaling import binade
from .._sizes import is_known
from .._solution import RESULTS
from ._scalars import barrier, packed, scalar_at, where
from ._spaces import Space
from ._tolerances import STRICT, RightHandSide, Tolerances


class Exit(enum.IntEnum):
    """How a loop ended: the number of that result; `running` while it has not."""

    running = -1
    converged = int(code(RESULTS.successful))
    tired = int(code(RESULTS.max_steps_reached))
    breakdown = int(code(RESULTS.breakdown))
    stagnated = int(code(RESULTS.stagnation))
    nonfinite = int(code(RESULTS.nonfinite_input))
    singular = int(code(RESULTS.singular))
    ill_conditioned = int(code(RESULTS.conlim))
    stopped = int(code(RESULTS.stopped))


def first_of(*exits: tuple[Any, Array | Exit]) -> Array:
    """The exit of the first condition that holds; `running` if none does."""
    first = jnp.int32(Exit.running)
    for condition, exit in reversed(exits):
        first = where(condition, jnp.int32(exit), first)
    return first


STEP, CHECK, CLAIM, LAST, PROBE = range(5)
_FAR = 1 << 20


@jtu.register_dataclass
@dataclasses.dataclass(frozen=True)
class Phases:
    """Where a solve stands: one small array, as each array of a loop's state costs time
    to compile. What is read from it is read once in each pass of the loop."""

    counts: Int[Array, "6"]

    @functools.cached_property
    def num_steps(self) -> Array:
        return scalar_at(self.counts, 0)

    @functools.cached_property
    def exit(self) -> Array:
        return scalar_at(self.counts, 1)

    @functools.cached_property
    def running(self) -> Array:
        return self.exit == Exit.running

    @functools.cached_property
    def phase(self) -> Array:
        """What the next pass does."""
        return scalar_at(self.counts, 2)

    @functools.cached_property
    def check(self) -> Array:
        """The next pass makes no step, but computes r = b - A x."""
        return self.phase != STEP

    @functools.cached_property
    def claimed(self) -> Array:
        """It does so because the recurred residual and the last update passed."""
        return self.phase == CLAIM

    @functools.cached_property
    def last(self) -> Array:
        """It is the last pass."""
        return self.phase == LAST

    @functools.cached_property
    def probe(self) -> Array:
        """It multiplies the residual, and changes nothing."""
        return self.phase == PROBE

    @functools.cached_property
    def best(self) -> Array:
        """The binade of the least true residual, relative to its tolerance."""
        return scalar_at(self.counts, 3)

    @functools.cached_property
    def first(self) -> Array:
        """The next pass is the first check, of an initial guess."""
        return self.check & (self.num_steps == 0) & (self.best == _FAR)

    @functools.cached_property
    def misses(self) -> Array:
        """How many true residuals in a row were no better: 0 or 1; and two more once
        the test is normwise."""
        return scalar_at(self.counts, 4)

    @functools.cached_property
    def pending(self) -> Array:
        """How the solve ends if the last pass finds nothing better."""
        return scalar_at(self.counts, 5)

    @functools.cached_property
    def relaxed(self) -> Array:
        """The test is normwise."""
        return self.misses >= 2

    def stopped(self) -> "Phases":
        """The same, to end with the next pass, unless it has ended."""
        phase = where(self.last | self.probe, self.phase, jnp.int32(LAST))
        pending = where(self.last | self.probe, self.pending, jnp.int32(Exit.stopped))
        counts = self.num_steps, self.exit, phase, self.best, self.misses, pending
        return Phases(where(self.running, _stack(*counts), self.counts))

    def floor(self, goal: Tolerances, space: Space) -> Array:
        """The `floor` of the test (`_tolerances.py`). An element's tolerance below the
        rounding errors of the whole cannot be met: neither once residuals stall, nor
        where the method cannot go on."""
        could = self.pending == Exit.tired
        could |= self.pending == Exit.stopped
        return where(self.relaxed | (self.last & ~could), 1, goal.floor(space))

    def ratios(
        self,
        goal: Tolerances,
        wanted: Array,
        of: Callable[["Phases"], tuple[Scalar, ...]],
        count: int = 1,
    ) -> tuple[Scalar, ...]:
        """Quotients of residuals and updates by their tolerances, computed only where
        `wanted`, else ∞: to compare long vectors with their tolerances takes as long as
        the rest of a step.

        Args:
            wanted: whether to compute them.
            of: from these phases, as another object, to the ratios. What it needs is
                computed inside, scalars by `unpacked` again: each scalar that enters
                a branch by itself is one more kernel.
            count: how many the ratios are.
        """

        def never(counts: Array | None = None) -> tuple[Array, ...]:
            return (jnp.full((), jnp.inf, goal.rtol.dtype),) * count

        if goal.fixed is True:
            return never()
        some = cond(wanted, lambda n: of(Phases(n)), never, self.counts)
        return tuple(map(barrier, some))


def begin(b: RightHandSide, limit: int | Array, *, check: bool) -> Phases:
    """Before the first pass. If b = 0, that is a check, which shows whether the
    operator is finite, and is then the only one.

    Args:
        check: whether the first pass is to be a check, whatever b.
    """
    phase = where(limit <= 0, jnp.int32(LAST), STEP)
    phase = where(True if check else b.zero, jnp.int32(CLAIM), phase)
    exit = first_of((~b.finite, Exit.nonfinite))
    return Phases(_stack(0, exit, phase, _FAR, 0, Exit.tired))


def advance(
    last: Phases,
    goal: Tolerances,
    ratio: Array,
    *,
    settled: ArrayLike,
    broken: ArrayLike,
    finite: Array,
    limit: ArrayLike,
    due: ArrayLike,
    nothing: ArrayLike = False,
    stagnant: ArrayLike = False,
    noise: ArrayLike = False,
    probe: bool = False,
    solved: ArrayLike = False,
    again: ArrayLike = False,
    stopped: ArrayLike = False,
    failure: Exit = Exit.breakdown,
) -> Phases:
    """After a pass.

    A true residual that does not pass is reviewed: two in a row that are no better than
    the best, and near the goal, are a stall. The first stall makes the test normwise,
    the second is stagnation.

    Args:
        ratio: residual and last update, relative to their tolerances; in a check the
            true residual.
        settled: in a check, whether the last update passed.
        broken: a step could not be made, which ends in `failure`.
        finite: the pass met only finite numbers.
        limit: the step limit.
        due: a check is due after this step, whatever the residual.
        nothing: the residual is zero. If it is so from the start, that passes any
            tolerance, zero too.
        stagnant: a check that found no progress for too long.
        noise: the true residual is that of a backward stable solution, and not
            what was recurred: if it is no better than the best, the solve ends.
        probe: whether to multiply the residual before the solve ends without success.
        solved: whether the pass, if it is a step, found the solve at its end.
        again: whether to make a claiming check next, whatever this one found.
        stopped: whether the user's rule ends the solve after this pass.
    """
    if goal.fixed is True:  # nothing is asked of the residual, and so nothing computed
        ratio = jnp.full_like(ratio, jnp.inf)
    check, claimed, relaxed = last.check, last.claimed, last.relaxed
    steps = last.num_steps + (~check).astype(jnp.int32)
    close = goal.unless_fixed(ratio <= 1)

    size = binade(ratio)
    no_better = (size >= last.best) & (claimed | (ratio <= 1 / STRICT))
    missed = where(no_better, last.misses + 1, where(relaxed, jnp.int32(2), 0))
    relax = check & ~relaxed & (missed == 2)
    stuck = claimed & no_better & (last.misses >= 3)
    stuck = stuck if stagnant is False else check & (stagnant | stuck)
    stuck = stuck if noise is False else stuck | check & noise & (size >= last.best)
    lost = ~finite

    passed = close if settled is True else close & (settled | last.last)
    passed = passed & finite  # a maximum, also one in a user's norm, may drop NaNs
    judged = check & ~last.probe if probe else check
    ends = []
    if solved is not False:
        ends = [(goal.unless_fixed(solved & ~check & finite), Exit.converged)]
    exit = first_of(
        (judged & (passed | (nothing & (steps == 0))), Exit.converged),
        *ends,
        (lost & (steps <= 1), Exit.nonfinite),
        (goal.unless_fixed(lost), Exit.breakdown),
    )
    over = last.probe if probe else last.last
    exit = where((exit == Exit.running) & over, last.pending, exit)
    ruled = [] if stopped is False else [(stopped, Exit.stopped)]
    pending = first_of(
        (goal.unless_fixed(broken), failure),
        *ruled,
        (goal.unless_fixed(stuck), Exit.stagnated),
        (steps >= limit, Exit.tired),
    )
    phase = where(due & ~check, jnp.int32(CHECK), STEP)
    phase = where(close & ~check, jnp.int32(CLAIM), phase)
    phase = where(pending != Exit.running, jnp.int32(LAST), phase)
    if again is not False:
        phase = where(again, jnp.int32(CLAIM), phase)
    if probe:
        phase = where(last.last, jnp.int32(PROBE), phase)
        pending = where(last.last, last.pending, pending)
    best = where(check, where(relax, _FAR, jax.lax.min(last.best, size)), last.best)
    misses = where(check, missed, last.misses)
    return Phases(_stack(steps, exit, phase, best, misses, pending))


def outcome(phases: Phases, goal: Tolerances) -> Array:
    """The exit, as `Exit.converged` where the step limit was all that was asked for."""
    exit = phases.exit
    if goal.fixed is not False:
        tired = (exit == Exit.tired) & goal.fixed
        exit = where(tired, jnp.int32(Exit.converged), exit)
    return exit


def _stack(*counts: Any) -> Array:
    return packed(*map(_as_int32, counts))


_as_int32 = functools.partial(jax.lax.convert_element_type, new_dtype=jnp.int32)


def step_limit(max_steps: int | None, space: Space) -> int | Array:
    """Ten times the size, unless given; never more than can be counted."""
    limit = 10 * space.size if max_steps is None else max_steps
    if max_steps is None and not is_known(space.size):
        return jnp.asarray(limit, jnp.int32)
    most = np.iinfo(np.int32).max - 1
    if isinstance(limit, int):
        return min(limit, most)
    limit = jnp.asarray(limit)
    return jnp.minimum(limit, most).astype(jnp.int32)
