"""An initial guess: where a solve starts, and when it had better not."""

import jax.numpy as jnp
from jaxtyping import Array

from .._scaling import largest
from ._scalars import times, where
from ._spaces import Space
from ._tolerances import RightHandSide


def start_from(
    y0: Array | None, given: RightHandSide, X: Space
) -> tuple[Array, RightHandSide]:
    """The first x, in units of b; and b, which counts as not finite if y0 is not."""
    if y0 is None:
        return X.zeros(), given
    x = bounded(times(1 / given.unit, y0))
    finite = given.finite & jnp.isfinite(largest(y0))
    return where(given.zero, 0, x), given._replace(finite=finite)


def bounded(x: Array) -> Array:
    """x, with the largest number in place of what is not finite."""
    return where(jnp.isfinite(x), x, float(jnp.finfo(x.dtype).max))


def held(Ax: Array) -> Array:
    """A x of an initial guess, with elements whose squares are in range. Where that
    makes a difference, x is too large to be of use; if A is not finite, A 0 shows
    it."""
    most = float(jnp.finfo(Ax.dtype).max) ** 0.375
    return where(jnp.abs(Ax) <= most, Ax, most)


def useless(r: Array, b: Array, eps: float) -> Array:
    """Whether an initial guess that leaves ‖r‖ of ‖b‖ is not to be used: rounding
    errors of x alone would be as large as b. The solve then starts from zero."""
    return r > b / eps
