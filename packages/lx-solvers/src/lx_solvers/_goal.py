"""What an iterative solver is to reach: tolerances, and the convergence test.

**The test.** A residual r passes if, in the solver's `norm`,

    norm(|rᵢ| / (atol + rtol · max(|bᵢ|, floor · |b|∞))) ≤ 1

with |b|∞ taken over the leaf that bᵢ stands in (over all of b if that leaf is zero).
The `floor` is what makes zeros, or very small elements, of b harmless when `atol` is
zero: they are judged beside the largest of their leaf. It starts at 10⁻³, so that the
test is elementwise for all but the smallest elements; where rounding keeps these from
it, that is, where the true residual stops decreasing, it rises to 1, and the test is
normwise (`_course.py`). The same test, with the solution instead of b, is asked of the
last update. A NaN passes no test: every pass of a loop has inner products, which show
it (a maximum need not: XLA drops NaNs from long ones on some processors).

**The scale.** b is divided by a power of two near its largest element, hence exactly,
and products by one near the operator's norm, once that is seen. So nothing overflows or
underflows that need not, and a solve takes the same steps at every scale.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

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
)

from ._scaling import largest, power_of_two, reciprocal_scale
from ._vectors import Space, packed, scalar_at, where

Norm = Callable[[PyTree[Array]], Scalar]
Part = tuple[Space, Array, list[Array]]
STRICT = 1e-3  # the least `floor`


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


class Goal(NamedTuple):
    """Tolerances, in the units in which b is near 1."""

    rtol: Array
    numbers: Array
    """The unit, `atol`, `reach`, and of each leaf of b the largest magnitude. One
    array, which is taken apart where it is used, as each array costs time to compile.
    """
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
    def reach(self) -> Array:
        """No residual whose 2-norm is larger passes."""
        return scalar_at(self.numbers, 2)

    @property
    def peaks(self) -> list[Array]:
        return [scalar_at(self.numbers, i) for i in range(3, self.numbers.size)]

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

    def in_reach(self, size: Array) -> Bool[Array, ""]:
        """Whether a residual of this 2-norm may pass: false only if it cannot. Of a
        norm that is NaN, or whose squares overflowed, it is to be seen."""
        return (size <= self.reach) | ~jax.lax.is_finite(size)

    def ratio(self, *parts: Part) -> Scalar:
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
        return functools.reduce(jax.lax.max, norms)

    def even(self, scale: list[Array], space: Space) -> Any:
        """The `norm` of ones."""
        if self.norm is max_norm:
            return 1.0
        if self.norm is two_norm:
            return math.sqrt(sum(leaf.size for leaf in scale))
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
        return jnp.asarray(self.norm(relative), self.rtol.dtype)


def expected(goal: Goal, scale: list[Array], space: Space) -> Scalar:
    """The 2-norm of a residual that, evenly spread, passes by half."""
    # no element of `scale` is larger, so that no square of it overflows
    most = goal.atol + goal.rtol * _peak(goal.peaks, space)
    shrink = reciprocal_scale(most)
    squares = (jnp.sum((leaf * shrink) ** 2) for leaf in scale)
    size = jnp.sqrt(sum(squares, space.zero())) * reciprocal_scale(shrink)
    return size / (2 * goal.even(scale, space))


def _at_least(least: Array, x: Array) -> Array:
    """max(|xᵢ|, least). Of real x not by way of |x| or -x: where x does not change in a
    loop, XLA would keep that as one more vector."""
    if jnp.iscomplexobj(x):
        return jnp.maximum(jax.lax.abs(x), least)
    return jax.lax.max(jnp.maximum(x, least), -jnp.minimum(x, -least))


def peaks(space: Space, array: Array) -> list[Array]:
    """Of each leaf the largest magnitude; of a zero leaf that of all."""
    each = [largest(jnp.abs(leaf)) for leaf in space.leaves(array)]
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
    shrink = reciprocal_scale(unit)  # exactly 1 / unit, without a quotient
    reach = jnp.full((), jnp.inf, space.real_dtype)
    if norm in (max_norm, two_norm):  # no tolerance is above atol + rtol · |b|∞
        twice = 2 * math.sqrt(space.size)  # so that rounding is no matter
        reach = twice * (atol * shrink + rtol * (peak * shrink))
    numbers = packed(unit, atol * shrink, reach, *(p * shrink for p in each))
    goal = Goal(rtol, numbers, norm, fixed)
    return Scaled(b / unit, goal, jax.lax.is_finite(peak), peak == 0)
