"""Residuals of methods whose solutions are initial guesses for another: what they are
to reach, so that the other finds nothing left to do."""

import jax.numpy as jnp
from jaxtyping import Array

from .._scaling import plain_norm2
from ._scalars import times, where
from ._spaces import Product, Space
from ._tolerances import RightHandSide, expected, peaks


def begun(
    given: RightHandSide, b: Array, y0: Array | None, A: Product, X: Space
) -> tuple[Array, Array]:
    """x to start from, in units of b, and its residual: those of y0, if there is one
    and it is of use, or else zero and b."""
    if y0 is None:
        return jnp.zeros_like(b), b
    x = times(1 / given.unit, y0)
    r = b - A(x)
    useless = ~(plain_norm2(r) <= plain_norm2(b) / X.eps)
    return where(useless, 0, x), where(useless, b, r)


def first_aim(given: RightHandSide, X: Space, Y: Space) -> Array:
    """The 2-norm of a residual that is expected to pass with some room."""
    floor = given.goal.floor(X)
    return expected(given.goal, given.b, peaks(Y, given.b), floor, Y) / 4


def next_aim(
    given: RightHandSide, r: Array, left: Array, aim: Array, X: Space, Y: Space
) -> Array:
    """The same after a true residual r, of 2-norm `left`: less if it does not pass,
    although it reached `aim`; more if it passes already."""
    goal, floor = given.goal, given.goal.floor(X)
    ratio = goal.residual_ratio(r, given.b, given.peaks, floor, Y)
    missed = (ratio > 1) & (left <= aim)
    aim = where(missed, jnp.minimum(aim, 0.5 * left) / jnp.maximum(ratio, 1), aim)
    return where(ratio <= 1, jnp.maximum(aim, left), aim)
