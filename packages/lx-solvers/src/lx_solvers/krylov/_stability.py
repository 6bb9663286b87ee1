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

from typing import Any

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


def backward_error(
    r: Array, Ax: Array, b: Array, slope: Array | None = None, cond: Any = 1
) -> Array:
    """The backward error of x.

    Args:
        r, b: ‖b - A x‖ and ‖b‖.
        Ax: ‖A‖ ‖x‖, or a lower bound of it.
        slope: ‖Aᴴ (b - A x)‖ / ‖A‖, or an upper bound of it, if x is to solve a
            least-squares problem.
        cond: an estimate of the condition number, for the same.
    """
    error = over(r, Ax + b)
    if slope is None:
        return error
    return jnp.minimum(error, over(slope, jnp.maximum(Ax / cond, r)))


def ending(exit: Array, error: Array, Ax: Array, b: Array, eps: float) -> Array:
    """The exit of a solve that missed its tolerance: `converged` if the solution is
    backward stable, `singular` if it is so only because x is so large that rounding
    errors alone exceed `HOPELESS` ‖b‖. If the residual does, the exit stays as it was.

    Args:
        exit: how the loop ended.
        error: the backward error, by the true residual.
        Ax, b: as in `backward_error`.
        eps: of the arithmetic.
    """
    missed = exit == Exit.tired
    for other in (Exit.stagnated, Exit.breakdown, Exit.stopped):
        missed = missed | (exit == other)
    stable = where(leaves_much(error, Ax, b), exit, jnp.int32(Exit.converged))
    stable = where(eps * Ax > HOPELESS * b, jnp.int32(Exit.singular), stable)
    return where(missed & (error <= C * eps), stable, exit)


def leaves_much(error: Array, Ax: Array, b: Array) -> Array:
    """Whether the residual of this backward error is a notable part of ‖b‖: C eps lets
    it be 32 % of it before eps ‖A‖ ‖x‖ is `HOPELESS`. A system that is singular in
    exact numbers and has no solution is solved so, once x is large enough."""
    return error * (Ax + b) > HOPELESS * b
