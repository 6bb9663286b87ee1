"""What an iterative solver is to reach: tolerances, and the convergence test.

**The tolerances** are 1e-5 in single and 1e-8 in double precision if `rtol` is not
given; `atol` is 0 then, as no absolute size is right for every problem.

**The test.** By `criterion="elementwise"` a residual r passes if, in the solver's
`norm`,

    norm(|rᵢ| / (atol + rtol · max(|bᵢ|, floor · |b|∞))) ≤ 1

with |b|∞ taken over the leaf that bᵢ stands in (over all of b if that leaf is zero).
The `floor` is what makes zeros, or very small elements, of b harmless when `atol` is
zero: they are judged relative to the largest of their leaf. It starts at 10⁻³, so that
the test is elementwise for all but the smallest elements; where rounding keeps these
from it, that is, where the true residual stops decreasing, it rises to 1, and the test
is normwise (`_phases.py`). The same test, with the solution instead of b, is asked of
the last update.

By `criterion="two_norm"` it passes if ‖r‖₂ ≤ max(rtol ‖b‖₂, atol); nothing is asked of
the last update, and `norm` is not used.

A NaN passes no test: every pass of a loop has inner products, which show it.

**The scale.** b is divided by a power of two near its largest element, hence exactly,
and products by one near the operator's norm, once that is seen. So nothing overflows or
underflows that need not, and a solve takes the same steps at every scale.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, PyTree, Scalar
from lx_operators.internal import (
    Frozen,
    describe,
    max_norm,
    same_shapes,
    structure_of,
    two_norm,
    vary,
    varying_axes,
)

from .._scaling import (
    largest,
    norm2,
    plain_norm2,
    power_of_two,
    reciprocal_scale,
)
from .._sizes import sqrt_of
from ._scalars import barrier, over, scalar_at, stacked, times, where
from ._spaces import Space

Norm = Callable[[PyTree[Array]], Scalar]
_Solver = TypeVar("_Solver")
Part = tuple[Space, Array, list[Array]]
STRICT = 1e-3  # the least `floor`
ENERGY_NORM = "energy_norm"  # nothing is asked of the residual but to be computed anew
CRITERIA = ("elementwise", "two_norm")


class Aims(Protocol):
    """The fields of an iterative solver that say what to reach, and when to stop."""

    @property
    def rtol(self) -> ArrayLike | None: ...
    @property
    def atol(self) -> ArrayLike | None: ...
    @property
    def norm(self) -> Norm: ...
    @property
    def criterion(self) -> str: ...
    @property
    def max_steps(self) -> int | None: ...


def check_aims(solver: Aims, name: str, criteria: tuple[str, ...] = CRITERIA) -> None:
    """The tolerances, the step limit and the criterion of a solver make sense."""
    check_tolerances(solver.rtol, solver.atol, solver.max_steps, name)
    if solver.criterion not in criteria:
        listed = ", ".join(map(repr, criteria[:-1]))
        raise ValueError(
            f"`criterion` of `{name}` must be {listed} or {criteria[-1]!r}, but got "
            f"{solver.criterion!r}."
        )


# What SciPy's iterative solvers call their arguments, and what to pass here.
_OF_SCIPY = {
    "tol": "`rtol`, relative to the right-hand side, or `atol`, absolute, such as "
    "`{solver}(rtol={value!r})`",
    "maxiter": "`max_steps`",
    "M": "`preconditioner`, or an operator in the options of the solve",
    "x0": '`options={{"y0": x0}}` to the solve',
    "callback": "`history=True`, which records the residuals",
}


def takes_rtol_and_atol(cls: type[_Solver]) -> type[_Solver]:
    """Makes SciPy's name of an argument a `TypeError` that says what to write."""
    init = cls.__init__

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        for name, instead in _OF_SCIPY.items():
            if name in kwargs:
                instead = instead.format(solver=cls.__name__, value=kwargs[name])
                raise TypeError(
                    f"`{cls.__name__}` has no argument `{name}`; pass {instead}."
                )
        init(self, *args, **kwargs)

    cls.__init__ = checked
    return cls


def resolved(
    rtol: ArrayLike | None, atol: ArrayLike | None, dtype: Any
) -> tuple[ArrayLike, ArrayLike]:
    """The tolerances, with the defaults for a dtype in place of None."""
    if rtol is None:
        rtol = 1e-5 if jnp.finfo(dtype).bits <= 32 else 1e-8
    return rtol, 0.0 if atol is None else atol


def check_tolerances(
    rtol: ArrayLike | None, atol: ArrayLike | None, max_steps: int | None, solver: str
) -> None:
    """Tolerances are not negative, and some limit ends the iteration.

    Tolerances that are being traced cannot be checked.
    """
    atol = 0.0 if atol is None else atol
    for name, value in (("rtol", rtol), ("atol", atol)):
        if value is None:
            continue
        _check_kind(name, value, solver, np.floating, "a real number")
        known = concrete(value)
        if known is not None and not known >= 0:
            raise ValueError(
                f"`{name}` of `{solver}` must not be negative, but got {value}; use 0 "
                "to leave this tolerance out."
            )
    zeros = [tol is not None and concrete(tol) == 0 for tol in (rtol, atol)]
    if max_steps is None and all(zeros):
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


class Tolerances(NamedTuple):
    """Tolerances, in the units in which b is near 1. All that a pass reads of them is
    one array: XLA repeats what is cheap wherever it is used, and each copy takes time
    to compile."""

    rtol: Array
    numbers: Array
    """`unit`, `shrink`, `atol`, `reach`, and the largest magnitude of each leaf of
    b."""
    norm: Norm | None
    """None: the 2-norm of the residual alone counts."""
    two_norm: Array | None
    """The tolerance of that."""
    fixed: Bool[Array, ""] | bool
    """Both tolerances are zero: run to the step limit, and call that success."""

    @property
    def unit(self) -> Array:
        """A power of two, by which b is divided."""
        return scalar_at(self.numbers, 0)

    @property
    def shrink(self) -> Array:
        """Exactly 1 / `unit`."""
        return scalar_at(self.numbers, 1)

    @property
    def atol(self) -> Array:
        return scalar_at(self.numbers, 2)

    @property
    def reach(self) -> Array:
        """No residual of a larger 2-norm passes the elementwise test."""
        return scalar_at(self.numbers, 3)

    @property
    def peaks(self) -> list[Array]:
        """The largest magnitude of each leaf of b."""
        return [scalar_at(self.numbers, i) for i in range(4, len(self.numbers))]

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
        atol = self.atol
        return [
            atol + self.rtol * jnp.maximum(jnp.abs(leaf), floor * peak)
            for leaf, peak in zip(space.leaves(reference), peaks, strict=True)
        ]

    def in_reach(self, size: Array) -> Bool[Array, ""]:
        """Whether a residual of this 2-norm may pass: false only if it cannot. NaN and
        overflowed norms are always checked."""
        if self.two_norm is None and self.norm not in (max_norm, two_norm):
            return jnp.ones_like(size, bool)
        most = self.reach if self.two_norm is None else self.two_norm
        return (size <= most) | ~jax.lax.is_finite(size)

    def residual_ratio(
        self, r: Array, b: Array, peaks: list[Array], floor: Array, Y: Space
    ) -> Scalar:
        """How far a residual is from passing: it does if this is at most 1."""
        if self.two_norm is not None:
            return over(norm2(r), self.two_norm)
        return self.ratio((Y, r, self.scale(b, peaks, floor, Y)))

    def ratio(self, *parts: Part) -> Scalar:
        """The `norm` of arrays divided by their scales, at most 1 if all pass. Where
        structures are alike, the larger quotient counts in each element.

        Args:
            parts: arrays, each with its space and its `scale`.
        """
        worst: dict[Frozen, list[Array]] = {}
        for space, array, scale in parts:
            relative = [
                over(jnp.abs(leaf), unit)
                for leaf, unit in zip(space.leaves(array), scale, strict=True)
            ]
            if (so_far := worst.get(space.structure)) is not None:
                relative = list(map(jax.lax.max, so_far, relative))
            worst[space.structure] = relative
        norms = [
            self._norm(jtu.tree_unflatten(structure.treedef, relative))
            for structure, relative in worst.items()
        ]
        return functools.reduce(jax.lax.max, norms)

    def even(self, scale: list[Array], space: Space) -> Any:
        """The `norm` of ones."""
        if self.norm is max_norm:
            return 1.0
        if self.norm is two_norm or self.norm is None:
            return sqrt_of(sum(leaf.size for leaf in scale))
        ones = map(jnp.ones_like, scale)
        return self._norm(jtu.tree_unflatten(space.structure.treedef, ones))

    def _norm(self, relative: PyTree[Array]) -> Scalar:
        """The `norm` of what is compared with 1, so that squares may overflow and
        underflow."""
        leaves = jtu.tree_leaves(relative)
        if self.norm is max_norm and leaves:
            return functools.reduce(jax.lax.max, map(largest, leaves))
        if self.norm is two_norm and leaves:
            return jax.lax.sqrt(sum(jnp.sum(leaf * leaf) for leaf in leaves))
        assert self.norm is not None
        return jnp.asarray(self.norm(relative), self.rtol.dtype)


def expected(
    goal: Tolerances, b: Array, peaks: list[Array], floor: Array, space: Space
) -> Scalar:
    """The 2-norm of a residual that, evenly spread, passes by half."""
    if goal.two_norm is not None:
        return goal.two_norm / 2
    scale = goal.scale(b, peaks, floor, space)
    # no element of `scale` is larger, so that no square of it overflows
    most = goal.atol + goal.rtol * overall(goal.peaks, space.zero())
    shrink = reciprocal_scale(most)
    squares = (jnp.sum((leaf * shrink) ** 2) for leaf in scale)
    size = jnp.sqrt(sum(squares, space.zero())) * reciprocal_scale(shrink)
    return size / (2 * goal.even(scale, space))


def peaks(space: Space, array: Array) -> list[Array]:
    """The largest magnitude in each leaf; for a zero leaf, the largest of all."""
    each = [largest(jnp.abs(leaf)) for leaf in space.leaves(array)]
    if len(each) == 1:
        return each
    every = overall(each, space.zero())
    return [where(one == 0, every, one) for one in each]


def overall(each: Sequence[Array], zero: Array) -> Array:
    """The largest of the leaves' largest magnitudes."""
    return functools.reduce(jax.lax.max, each) if each else zero


class RightHandSide(NamedTuple):
    """b, divided by a power of two so that its largest element is between 1 and 2, and
    the tolerances in these units."""

    b: Array
    goal: Tolerances
    finite: Bool[Array, ""]
    zero: Bool[Array, ""]

    @property
    def unit(self) -> Array:
        return self.goal.unit

    @property
    def peaks(self) -> list[Array]:
        return self.goal.peaks


def right_hand_side(vector: PyTree[Array], space: Space, solver: Aims) -> RightHandSide:
    """b / unit, with a power of two as unit.

    Raises:
        ValueError: the vector is not of the space; the state is another operator's.
    """
    wanted = space.structure.thaw()
    if not same_shapes(structure_of(vector), wanted):
        raise ValueError(
            f"the vector has structure {describe(structure_of(vector))}, but `state` "
            f"belongs to an operator of output structure {describe(wanted)}; build a "
            "state for this operator with `solver.init(operator, options)`."
        )
    b = space.vector(vector)
    each = peaks(space, b)
    rtol, atol = resolved(solver.rtol, solver.atol, space.real_dtype)
    known = [*map(concrete, (rtol, atol))]
    rtol, atol = (jnp.asarray(tol).astype(space.real_dtype) for tol in (rtol, atol))
    fixed = (rtol == 0) & (atol == 0) if None in known else known == [0, 0]
    norm = solver.norm if solver.criterion == "elementwise" else None
    rtol, atol = vary((rtol, atol), varying_axes(b))  # for branches that read them
    goal = Tolerances(rtol, _numbers(rtol, atol, each, space, norm), norm, None, fixed)
    b = times(goal.shrink, b)
    if solver.criterion == ENERGY_NORM:
        goal = goal._replace(two_norm=space.zero())
    elif norm is None:
        goal = goal._replace(two_norm=jnp.maximum(rtol * plain_norm2(b), goal.atol))
    peak = overall(each, space.zero())
    return RightHandSide(b, goal, jax.lax.is_finite(peak), peak == 0)


def _numbers(
    rtol: Array, atol: Array, each: list[Array], space: Space, norm: Norm | None
) -> Array:
    """`Tolerances.numbers`, of the largest magnitude of each leaf of b."""
    peak = overall(each, space.zero())
    unit = power_of_two(peak)
    shrink = reciprocal_scale(unit)
    atol = atol * shrink
    # no element's tolerance is above atol + rtol |b|∞, and by the 2-norm of quotients
    # only one element may be as large; more, so that rounding is no matter
    even = 1.0 if norm is two_norm else sqrt_of(space.size)
    reach = 1.05 * even * (atol + rtol * (peak * shrink))
    scalars = stacked([unit, shrink, atol, reach])
    return barrier(jnp.concatenate([scalars, *([shrink * stacked(each)] * bool(each))]))
