"""What every iterative solver shares: tolerances and the convergence test, step limits,
how a loop ends, first guesses, preconditioners, results.

**The test.** A residual r passes if, in the solver's `norm`,

    norm(|rᵢ| / (atol + rtol · max(|bᵢ|, floor · |b|∞))) ≤ 1

with |b|∞ taken over the leaf that bᵢ stands in (over all of b if that leaf is zero).
The `floor` is what makes zeros, or very small elements, of b harmless when `atol` is
zero: they are judged beside the largest of their leaf. It starts at 10⁻³, so that the
test is elementwise for all but the smallest elements; where rounding keeps these from
it, that is, where the true residual stops decreasing, it rises to 1, and the test is
normwise (`advance`). The same test, with the solution instead of b, is asked of the
last update. A NaN passes no test: every pass of a loop has inner products, which show
it (a maximum need not: XLA drops NaNs from long ones on some processors).

**The claim.** `converged` is said only of a residual that was computed as b - A x.
Every loop has a pass for that, which shares the one product in the loop's body.

**Steps** are products with the operator (LSMR, LSQR: pairs of one with it and one with
its adjoint), also in BiCGStab, whose textbook step has two, and in GMRES, where a cycle
is no step. What a start or a check costs is not counted. `max_steps` limits the steps,
by default to ten times the size.

**The scale.** b is divided by a power of two near its largest element, hence exactly,
and products by one near the operator's norm, once that is seen. So nothing overflows or
underflows that need not, and a solve takes the same steps at every scale.
"""

import dataclasses
import enum
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Int, PyTree, Scalar
from lx_operators import AbstractLinearOperator, conj
from lx_operators.internal import (
    Frozen,
    describe,
    max_norm,
    same_shapes,
    structure_of,
    two_norm,
)

from ._results import code, judged, named
from ._solution import RESULTS
from ._solver import Options
from ._vectors import (
    Space,
    binade,
    largest,
    once,
    packed,
    power_of_two,
    scalar_at,
    where,
)

Norm = Callable[[PyTree[Array]], Scalar]


# Arguments


def check_tolerances(
    rtol: ArrayLike, atol: ArrayLike, max_steps: int | None, solver: str
) -> None:
    """Tolerances are not negative, and some limit ends the iteration.

    Tolerances that are being traced cannot be checked.
    """
    for name, value in (("rtol", rtol), ("atol", atol)):
        _check_kind(name, value, solver, np.floating, "a real number")
        known = concrete(value)
        if known is not None and not known >= 0:
            raise ValueError(
                f"`{name}` of `{solver}` must not be negative, but got {value}; use 0 "
                "to leave this tolerance out."
            )
    if max_steps is None and concrete(rtol) == 0 and concrete(atol) == 0:
        raise ValueError(
            f"`{solver}` with `rtol=0` and `atol=0` needs `max_steps`: it then runs "
            "exactly that many steps."
        )
    if max_steps is not None:
        _check_kind("max_steps", max_steps, solver, np.integer, "an integer, or None")
    known = None if max_steps is None else concrete(max_steps)
    if known is not None and known < 0:
        raise ValueError(
            f"`max_steps` of `{solver}` must not be negative, but got {max_steps}."
        )


def _check_kind(name: str, value: Any, solver: str, kind: type, wanted: str) -> None:
    number = isinstance(value, int | float | np.ndarray | np.generic | jax.Array)
    dtype = jnp.result_type(value) if number else np.dtype(object)
    if not any(jnp.issubdtype(dtype, k) for k in (np.integer, kind)):
        raise ValueError(
            f"`{name}` of `{solver}` must be {wanted}, but got {value!r} of type "
            f"`{type(value).__name__}`."
        )


def concrete(value: Any) -> float | None:
    """A number, unless it is being traced."""
    if isinstance(value, jax.core.Tracer) or jnp.ndim(value) != 0:
        return None
    return float(value)


def step_limit(max_steps: int | None, space: Space) -> int:
    """Ten times the size, unless given; never more than can be counted."""
    limit = 10 * space.size if max_steps is None else max_steps
    return min(limit, 2**31 - 2) if isinstance(limit, int) else limit


# The test


class Goal(NamedTuple):
    """Tolerances, in the units in which b is near 1."""

    rtol: Array
    numbers: Array
    """The unit, `atol`, and of each leaf of b the largest magnitude. One array, which
    is taken apart where it is used, as each array costs time to compile."""
    norm: Norm
    fixed: Bool[Array, ""] | bool
    """Both tolerances are zero: run to the step limit, and call that success."""

    @property
    def unit(self) -> Array:
        return scalar_at(self.numbers, 0)

    @property
    def atol(self) -> Array:
        return scalar_at(self.numbers, 1)

    @property
    def peaks(self) -> list[Array]:
        return [scalar_at(self.numbers, i) for i in range(2, self.numbers.size)]

    def unless_fixed(self, condition: Any) -> Array:
        """`condition`, where a loop may end before the step limit."""
        if isinstance(self.fixed, bool):
            return jnp.zeros_like(condition) if self.fixed else condition
        return condition & ~self.fixed

    def floor(self, space: Space) -> Array:
        """The smallest `floor` of the test. It does not change in a loop."""
        rtol = where(self.rtol == 0, 1, self.rtol)
        strict, loose = np.asarray([STRICT, 1], rtol.dtype)
        return jax.lax.clamp(strict, 32 * space.eps / rtol, loose)

    def scale(
        self, reference: Array, peaks: list[Array], floor: Array, space: Space
    ) -> list[Array]:
        """atol + rtol · max(|refᵢ|, floor · peak), for each leaf."""
        return [
            self.atol + self.rtol * _at_least(floor * peak, leaf)
            for leaf, peak in zip(space.leaves(reference), peaks, strict=True)
        ]

    def ratio(self, *parts: tuple[Space, Array, list[Array]]) -> Scalar:
        """The `norm` of arrays beside their scales, at most 1 if all pass: of the worst
        of them, element by element, where their structures are alike.

        Args:
            parts: arrays, each with its space and its `scale`.
        """
        worst: dict[Frozen, list[Array]] = {}
        for space, array, scale in parts:
            relative = [
                where(leaf == 0, 0, jnp.abs(leaf) / unit)
                for leaf, unit in zip(space.leaves(array), scale, strict=True)
            ]
            if (so_far := worst.get(space.structure)) is not None:
                relative = list(map(jax.lax.max, so_far, relative))
            worst[space.structure] = relative
        norms = [
            self._norm(jtu.tree_unflatten(structure.treedef, relative))
            for structure, relative in worst.items()
        ]
        return once(functools.reduce(jax.lax.max, norms))

    def even(self, scale: list[Array], space: Space) -> Any:
        """The `norm` of ones."""
        if self.norm is max_norm:
            return 1.0
        if self.norm is two_norm:
            return math.sqrt(sum(leaf.size for leaf in scale))
        return self.norm(
            jtu.tree_unflatten(space.structure.treedef, map(jnp.ones_like, scale))
        )

    def _norm(self, relative: PyTree[Array]) -> Scalar:
        """The `norm` of what is compared with 1, so that squares may overflow and
        underflow."""
        leaves = jtu.tree_leaves(relative)
        if self.norm is max_norm and leaves:
            return functools.reduce(jax.lax.max, map(largest, leaves))
        if self.norm is two_norm and leaves:
            return jax.lax.sqrt(sum(jnp.sum(leaf * leaf) for leaf in leaves))
        return self.norm(relative)


def expected(goal: Goal, scale: list[Array], space: Space) -> Scalar:
    """The 2-norm of a residual that, evenly spread, passes by half."""
    squares = sum((jnp.sum(leaf**2) for leaf in scale), jnp.zeros((), space.real_dtype))
    return jnp.sqrt(squares) / (2 * goal.even(scale, space))


def _at_least(least: Array, x: Array) -> Array:
    """max(|xᵢ|, least). Of real x not by way of |x| or -x: where x does not change in a
    loop, XLA would keep that as one more vector."""
    if jnp.iscomplexobj(x):
        return jnp.maximum(jax.lax.abs(x), least)
    return jax.lax.max(jnp.maximum(x, least), -jnp.minimum(x, -least))


def peaks(space: Space, array: Array) -> list[Array]:
    """Of each leaf the largest magnitude; of a zero leaf that of all."""
    each = [largest(leaf) for leaf in space.leaves(array)]
    if len(each) == 1:
        return each
    every = _peak(each, space)
    return [where(peak == 0, every, peak) for peak in each]


def _peak(each: list[Array], space: Space) -> Array:
    return functools.reduce(jax.lax.max, each) if each else space.zero()


class Scaled(NamedTuple):
    """A right-hand side whose largest element is between 1 and 2, and its goal."""

    b: Array
    goal: Goal
    finite: Bool[Array, ""]
    zero: Bool[Array, ""]

    @property
    def unit(self) -> Array:
        return self.goal.unit

    @property
    def peaks(self) -> list[Array]:
        return self.goal.peaks


def scaled(
    vector: PyTree[Array], space: Space, rtol: ArrayLike, atol: ArrayLike, norm: Norm
) -> Scaled:
    """b / unit, with a power of two as unit.

    Raises:
        ValueError: the vector is not of the space, so the state belongs to another
            operator.
    """
    wanted = space.structure.thaw()
    if not same_shapes(structure_of(vector), wanted):
        raise ValueError(
            f"the vector has structure {describe(structure_of(vector))}, but `state` "
            f"belongs to an operator of output structure {describe(wanted)}; build a "
            "state for this operator with `solver.init(operator, options)`."
        )
    b = space.ravel(vector)
    each = peaks(space, b)
    peak = _peak(each, space)
    unit = power_of_two(peak)
    known = [concrete(tol) for tol in (rtol, atol)]
    fixed = (rtol == 0) & (atol == 0) if None in known else known == [0, 0]
    rtol, atol = (jnp.asarray(tol, space.real_dtype) for tol in (rtol, atol))
    numbers = packed(unit, atol / unit, *(p / unit for p in each))
    goal = Goal(rtol, numbers, norm, fixed)
    return Scaled(b / unit, goal, jax.lax.is_finite(peak), peak == 0)


# Ends


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


def outcome(course: "Course", goal: Goal) -> RESULTS:
    """The result that an exit stands for."""
    exit = course.exit
    if goal.fixed is not False:
        tired = (exit == Exit.tired) & goal.fixed
        exit = where(tired, jnp.int32(Exit.converged), exit)
    return named(exit)


# The course of a solve


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
        """See above. An element's tolerance below the rounding errors of the whole
        cannot be met."""
        return where(self.relaxed, 1, goal.floor(space))


STRICT = 1e-3
STEP, CHECK, CLAIM = range(3)
_FAR = 1 << 20


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


def _stack(*counts: Any) -> Array:
    return packed(*(jax.lax.convert_element_type(c, jnp.int32) for c in counts))


# Options


def first_guess(options: Options, space: Space, solver: str) -> PyTree[Array] | None:
    """`options["y0"]`, checked, as an array; None if there is none."""
    y0 = options.get("y0")
    if y0 is None:
        return None
    wanted = space.structure.thaw()
    if not same_shapes(structure_of(y0), wanted):
        raise ValueError(
            f"the option 'y0' of `{solver}` has structure "
            f"{describe(structure_of(y0))}, but the operator's input structure "
            f"{describe(wanted)} is wanted."
        )
    return space.ravel(y0)


def preconditioner(
    options: Options, operator: AbstractLinearOperator, solver: str
) -> AbstractLinearOperator | None:
    """`options["preconditioner"]`, checked; None if there is none."""
    M = options.get("preconditioner")
    if M is None:
        return None
    if not isinstance(M, AbstractLinearOperator):
        hint = (
            "; wrap it as `MatrixLinearOperator(array)`" if hasattr(M, "shape") else ""
        )
        raise ValueError(
            f"the option 'preconditioner' of `{solver}` must be a linear operator, but "
            f"got a value of type `{type(M).__name__}`{hint}."
        )
    wanted = operator.in_structure()
    for name, got in (("input", M.in_structure()), ("output", M.out_structure())):
        if not same_shapes(got, wanted):
            raise ValueError(
                f"the option 'preconditioner' of `{solver}` has {name} structure "
                f"{describe(got)}, but the operator's input structure "
                f"{describe(wanted)} is wanted: it approximates the inverse."
            )
    return M


def transposed(options: Options) -> Options:
    """The options for Aᵀ: the transposed preconditioner, and no first guess."""
    return _mapped(lambda M: M.T, options)


def conjugated(options: Options) -> Options:
    """The options for Ā: the conjugated preconditioner, and no first guess."""
    return _mapped(conj, options)


def _mapped(fn: Callable, options: Options) -> Options:
    options = {name: value for name, value in options.items() if name != "y0"}
    if isinstance(options.get("preconditioner"), AbstractLinearOperator):
        options["preconditioner"] = fn(options["preconditioner"])
    return options


# Reports


def solution(
    x: Array, b: Scaled, course: Course, space: Space, vector: PyTree[Array]
) -> tuple[PyTree[Array], RESULTS]:
    """x, in its own units (NaN where the input was not finite), and how the solve
    ended: with no success where that overflows.

    Args:
        b: `vector`, scaled, whose solution is x.
    """
    x = x * b.unit
    value = space.solution(where(course.exit == Exit.nonfinite, jnp.nan, x))
    return value, judged(outcome(course, b.goal), vector, value)
