"""How an iterative solve goes, pass by pass, and how it ends.

**The claim.** `converged` is said only of a residual that was computed as b - A x.
Every loop has a pass for that, which shares the one product in the loop's body.

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
from jaxtyping import Array, ArrayLike, Int, Scalar

from ._goal import STRICT, Goal, Scaled
from ._loops import cond
from ._results import code, named
from ._scaling import binade
from ._solution import RESULTS
from ._vectors import Space, once, packed, scalar_at, where


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


def first_of(*exits: tuple[Any, Exit]) -> Array:
    """The exit of the first condition that holds; `running` if none does."""
    first = jnp.int32(Exit.running)
    for condition, exit in reversed(exits):
        first = where(condition, jnp.int32(exit), first)
    return first


STEP, CHECK, CLAIM = range(3)  # what a pass does
_FAR = 1 << 20


@jtu.register_dataclass
@dataclasses.dataclass(frozen=True)
class Course:
    """Where a solve stands: one small array, as each array of a loop's state costs time
    to compile. What is read from it is read once in each pass of the loop."""

    counts: Int[Array, "5"]

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
        """It makes no step, but computes r = b - A x."""
        return self.phase != STEP

    @functools.cached_property
    def claimed(self) -> Array:
        """It does so as the recurred residual and the last update passed."""
        return self.phase == CLAIM

    @functools.cached_property
    def best(self) -> Array:
        """The binade of the least true residual beside its tolerance."""
        return scalar_at(self.counts, 3)

    @functools.cached_property
    def misses(self) -> Array:
        """True residuals in a row that were no better: 0 or 1, and once the test is
        normwise, two more."""
        return scalar_at(self.counts, 4)

    @functools.cached_property
    def relaxed(self) -> Array:
        """The test is normwise."""
        return self.misses >= 2

    def floor(self, goal: Goal, space: Space) -> Array:
        """Of the test (`_goal.py`). An element's tolerance below the rounding errors
        of the whole cannot be met."""
        return where(self.relaxed, 1, goal.floor(space))

    def ratios(
        self,
        goal: Goal,
        wanted: Array,
        of: Callable[["Course"], tuple[Scalar, ...]],
        count: int = 1,
    ) -> tuple[Scalar, ...]:
        """What is made of `Goal.ratio`s, where that may be at most 1, or is to be known
        anyway; else ∞. To compare long vectors with their tolerances takes as long as
        the rest of a step.

        Args:
            wanted: whether it is asked for.
            of: from this course, as another object, to the ratios. What it needs is
                computed inside, scalars by `unpacked` again: each scalar that enters
                a branch by itself is one more kernel.
            count: how many the ratios are.
        """
        never = (jnp.full((), jnp.inf, goal.rtol.dtype),) * count
        if goal.fixed is True:
            return never
        some = cond(wanted, lambda n: of(Course(n)), lambda _: never, self.counts)
        return tuple(map(once, some))


def begin(b: Scaled, limit: ArrayLike, *, check: bool) -> Course:
    """Before the first pass. Of b = 0 it computes the residual, which shows whether the
    operator is finite, and is then the only one.

    Args:
        check: whether the first pass is to compute the residual, whatever b.
    """
    first = True if check else b.goal.unless_fixed(b.zero)
    exit = first_of(
        (~b.finite, Exit.nonfinite),
        (False if check else ~first & (jnp.asarray(limit) <= 0), Exit.tired),
    )
    return Course(_stack(0, exit, where(first, jnp.int32(CLAIM), STEP), _FAR, 0))


def advance(
    last: Course,
    goal: Goal,
    ratio: Array,
    *,
    settled: ArrayLike,
    broken: ArrayLike,
    finite: Array,
    limit: ArrayLike,
    due: ArrayLike,
    stagnant: ArrayLike = False,
    failure: Exit = Exit.breakdown,
) -> Course:
    """After a pass.

    A true residual that does not pass is reviewed: two in a row that are no better than
    the best, and near the goal, are a stall. The first stall makes the test normwise,
    the second is stagnation.

    Args:
        ratio: residual and last update beside their tolerances; in a checking pass the
            true residual.
        settled: in a checking pass, whether the last update passed.
        broken: a step could not be made, which ends in `failure`.
        finite: the pass met only finite numbers.
        limit: of steps.
        due: after this step a check is due, whatever the residual.
        stagnant: a check that found no progress for too long.
    """
    if goal.fixed is True:  # nothing is asked of the residual, and so nothing computed
        ratio = jnp.full_like(ratio, jnp.inf)
    check, claimed, relaxed = last.check, last.claimed, last.relaxed
    stepped = ~check
    steps = last.num_steps + stepped.astype(jnp.int32)
    close = goal.unless_fixed(ratio <= 1)
    phase = where(due, jnp.int32(CHECK), STEP)
    phase = where(check, STEP, where(close, CLAIM, phase))

    size = binade(ratio)
    no_better = (size >= last.best) & (claimed | (ratio <= 1 / STRICT))
    missed = where(no_better, last.misses + 1, where(relaxed, jnp.int32(2), 0))
    relax = check & ~relaxed & (missed == 2)
    stuck = claimed & no_better & (last.misses >= 3)
    stuck = stuck if stagnant is False else check & (stagnant | stuck)
    lost = ~finite

    exit = first_of(
        (check & close if settled is True else check & settled & close, Exit.converged),
        (lost & (steps <= 1), Exit.nonfinite),
        (goal.unless_fixed(lost), Exit.breakdown),
        (goal.unless_fixed(broken), failure),
        ((steps >= limit) & (phase == STEP), Exit.tired),
        (goal.unless_fixed(stuck), Exit.stagnated),
    )
    best = where(check, where(relax, _FAR, jax.lax.min(last.best, size)), last.best)
    misses = where(check, missed, last.misses)
    return Course(_stack(steps, exit, phase, best, misses))


def outcome(course: Course, goal: Goal) -> RESULTS:
    """The result that an exit stands for."""
    exit = course.exit
    if goal.fixed is not False:
        tired = (exit == Exit.tired) & goal.fixed
        exit = where(tired, jnp.int32(Exit.converged), exit)
    return named(exit)


def _stack(*counts: Any) -> Array:
    return packed(*(jax.lax.convert_element_type(c, jnp.int32) for c in counts))
