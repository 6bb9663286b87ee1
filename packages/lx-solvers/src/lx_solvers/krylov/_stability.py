"""Backward stability: what an iterative solve can reach at best.

x solves A x = b as well as rounding allows if it is the exact solution of a system that
differs from A and b by relative rounding errors. The least such difference, the
backward error (Rigal and Gaches 1967, doi:10.1145/321406.321416), is

    η = ‖b - A x‖ / (‖A‖ ‖x‖ + ‖b‖),

and for least-squares problems, up to a modest factor, the smaller of it and

    ‖Aᴴ r‖ / (‖A‖ max(σ ‖x‖, ‖r‖)),

with σ the smallest singular value (Waldén, Karlson and Sun 1995,
doi:10.1002/nla.1680020308; with ‖r‖ alone, Stewart 1977, doi:10.1137/1019104). A lower
bound of ‖A‖ makes these larger, never smaller. See the decision record
`docs/decisions/0006-backward-stability.md`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from .._scaling import plain_norm2
from ._phases import Exit
from ._scalars import over, times, where

C = 32  # an error of at most C eps is that of rounding
HOPELESS = 0.01  # of ‖b‖: where rounding errors of A x exceed this, A is singular;
# and a residual that does so is no success


def scaled_norm2(norm_A: Array, x: Array) -> Array:
    """‖A‖ ‖x‖. As this is at least ‖A x‖, squares do not underflow where ‖x‖ matters;
    where they overflow, A is singular."""
    return plain_norm2(times(norm_A, x))


class Left(NamedTuple):
    """What a solution x leaves of A x = b."""

    r: Array
    """‖b - A x‖."""
    Ax: Array
    """‖A‖ ‖x‖, or a lower bound of it."""
    b: Array
    """‖b‖."""
    slope: Array | None = None
    """‖Aᴴ (b - A x)‖ / ‖A‖, or an upper bound of it, if x is to solve a least-squares
    problem."""
    cond: Any = 1
    """An estimate of the condition number, for the same."""

    @property
    def error(self) -> Array:
        """The backward error of x."""
        error = over(self.r, self.Ax + self.b)
        if self.slope is None:
            return error
        return jnp.minimum(error, over(self.slope, self._least_change))

    @property
    def _least_change(self) -> Array:
        return jnp.maximum(self.Ax / self.cond, self.r)

    def within(self, most: Any) -> Array:
        """Whether the backward error is at most this. Without a quotient, of which XLA
        would make a kernel."""
        within = self.r <= most * (self.Ax + self.b)
        if self.slope is None:
            return within
        return within | (self.slope <= most * self._least_change)

    @property
    def much(self) -> Array:
        """Whether a residual of this backward error is a notable part of ‖b‖: C eps
        lets it be 32 % of it before eps ‖A‖ ‖x‖ is `HOPELESS`. A system that is
        singular in exact numbers and has no solution is solved so, once x is large
        enough."""
        least = HOPELESS * self.b
        much = self.r > least
        if self.slope is None:
            return much
        return much & (self.slope * (self.Ax + self.b) > least * self._least_change)


def backward_error(
    r: Array, Ax: Array, b: Array, slope: Array | None = None, cond: Any = 1
) -> Array:
    """The backward error of x, of the fields of `Left`, for authors of methods."""
    return Left(r, Ax, b, slope, cond).error


def ending(exit: Array, left: Left, eps: float) -> Array:
    """The exit of a solve that missed its tolerance: `converged` if the solution is
    backward stable, `singular` if it is so only because x is so large that rounding
    errors alone exceed `HOPELESS` ‖b‖. If the residual does, the exit stays as it was.

    Args:
        exit: how the loop ended.
        left: what it left, by the true residual.
        eps: of the arithmetic.
    """
    missed = exit == Exit.tired
    for other in (Exit.stagnated, Exit.breakdown, Exit.singular, Exit.stopped):
        missed = missed | (exit == other)
    stable = where(left.much, exit, jnp.int32(Exit.converged))
    hopeless = eps * left.Ax > HOPELESS * left.b
    stable = where(hopeless, jnp.int32(Exit.singular), stable)
    return where(missed & left.within(C * eps), stable, exit)
