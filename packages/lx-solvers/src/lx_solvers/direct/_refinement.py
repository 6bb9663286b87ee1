"""Solutions of scaled square systems, checked row by row, and refined.

A row whose own terms are small may be lost in the rounding errors of others, which
elimination and reflections mix in. So every row of the answer is checked, by
|b - Fy| ≤ √eps (|F||y| + |b|), for which no scales matter (Oettli and Prager 1964,
doi:10.1007/BF01386090). If it fails, the answer is refined, which mends most (Higham
1991, doi:10.1007/BF01952790); if that does not help, it is `unstable`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact, Real

from .._control_flow import while_loop
from .._results import choose
from .._scaling import eps, largest, largest_and_least, largest_each
from .._solution import RESULTS
from ._equilibration import Scales
from ._factors import HIGHEST, judge

_SOLVES = 6  # at most, for one vector


class Square(NamedTuple):
    """F = R⁻¹AC⁻¹, stored in any form."""

    F: Inexact[Array, "..."]
    underflowed: Bool[Array, ""]


def as_square(F: Inexact[Array, "..."], A: Inexact[Array, "..."]) -> Square:
    """F, and whether any element of A was lost in it."""
    return Square(F, largest(jnp.where(F == 0, A, jnp.zeros_like(A))) > 0)


def dense_times(
    F: Inexact[Array, "n n"], Y: Inexact[Array, "n k"], adjoint: bool
) -> Inexact[Array, "n k"]:
    """F Y, or Fᵀ Y."""
    along = (((0,), (0 if adjoint else 1,)), ((), ()))
    return jax.lax.dot_general(Y, F, along, precision=HIGHEST).T


def refined(
    solve: Callable[[Inexact[Array, " n"]], Inexact[Array, " n"]],
    square: Square,
    scales: Scales,
    b: Inexact[Array, " n"],
    adjoint: bool,
    times: Callable[[Array, Array, bool], Array] = dense_times,
) -> tuple[Inexact[Array, " n"], Real[Array, ""]]:
    """The solution of Ax = b, or Aᴴx = b, and its backward error.

    Args:
        solve: by the factors of F, or of Fᴴ.
        square: F.
        scales: R and C of A = RFC.
        b: the right-hand side.
        adjoint: whether to solve with Fᴴ.
        times: like `dense_times`, for the form in which F is stored.

    Returns:
        x, and the `row_error` of the solution y of the scaled system.
    """
    F = square.F.conj() if adjoint else square.F
    tiny = jnp.finfo(b.dtype).tiny
    b = scales.right_hand_side(b, adjoint)

    def running(carry):
        k, *_, error = carry
        return (k < _SOLVES) & (error > eps(b.dtype) ** 0.75)

    def step(carry):
        k, y, _, r, _ = carry
        # behind a barrier, as XLA would make kernels before the loop of |b| and b = 0
        right, y = jax.lax.optimization_barrier((b, y + solve(r)))
        r = right - times(F, y[:, None], adjoint)[:, 0]
        x = scales.unscaled(y, adjoint)
        most, most_of_x = largest_each(y, jax.lax.abs(x))
        sized = jnp.stack((jnp.abs(y), significant_above(x, most_of_x))).T
        sizes, met = times(jnp.abs(F), sized, adjoint).T
        error, size = largest_and_least(row_errors(r, right, sizes, met, most), sizes)
        # elements below the normal numbers are unknown
        unknown = jnp.where(square.underflowed, tiny * most / (size + tiny), 0)
        return k + 1, y, x, r, jnp.maximum(error, unknown)

    real = jnp.finfo(b.dtype).dtype
    zeros = jnp.zeros_like(b)
    start = jnp.zeros((), jnp.int32), zeros, zeros, b, jnp.full((), jnp.inf, real)
    inputs = square, scales, b
    _, _, x, _, error = while_loop(running, step, start, inputs=inputs)
    return x, error


def judge_rows(backward_error: Real[Array, ""], dtype: Any) -> RESULTS:
    """The status of a solution: whether it solves every row."""
    return judge(unstable=~(backward_error <= eps(dtype) ** 0.5))


def row_error(
    r: Inexact[Array, "..."],
    b: Inexact[Array, "..."],
    sizes: Real[Array, "..."],
    met: Real[Array, "..."],
    y: Inexact[Array, "..."],
) -> Real[Array, ""]:
    """max |r| / (|F||y| + |b|) over the rows, the same for all scales of rows and
    columns. Rows in which all is below the normal numbers count as solved.

    If bᵢ = 0, all unknowns of row i may be zero except for the rounding errors of the
    others. If they are rounding errors in x, too, such a row is judged relative to ‖y‖
    (Arioli, Demmel and Duff, SIAM J. Matrix Anal. Appl. 10, 1989, 165–190; here the
    elements of F are of order one), so that it is within √eps if its residual is below
    64 eps ‖y‖.

    Args:
        r: the residual b - Fy.
        b: the right-hand side.
        sizes: |F||y|.
        met: |F| times `significant(x)`, where x = C⁻¹y: 0 if row i meets none of these.
        y: the solution.
    """
    return largest(row_errors(r, b, sizes, met, largest(y)))


def row_errors(
    r: Inexact[Array, "..."],
    b: Inexact[Array, "..."],
    sizes: Real[Array, "..."],
    met: Real[Array, "..."],
    most: Real[Array, "..."],
) -> Real[Array, "..."]:
    """The same of each row, if the largest element of y is known."""
    size = jax.lax.abs(b) + sizes
    tiny, u = jnp.finfo(size.dtype).tiny, eps(size.dtype)
    noise = jnp.maximum(64 * u**0.5 * most, tiny / u).astype(size.dtype)
    # a number is chosen, and not elements by one condition for all: LLVM would write
    # the loop over the rows twice
    least = jnp.where(most < tiny / u**2, tiny / u, tiny).astype(size.dtype)
    exempt = jnp.where(b == 0, noise, jnp.full_like(size, tiny / u))
    return jax.lax.abs(r) / jnp.maximum(size, jnp.where(met > 0, least, exempt))


def significant(x: Inexact[Array, "..."]) -> Real[Array, "..."]:
    """1 for elements of more than √eps ‖x‖, and 0 for others."""
    return significant_above(x, largest(jax.lax.abs(x)))


def significant_above(
    x: Inexact[Array, "..."], most: Real[Array, "..."]
) -> Real[Array, "..."]:
    """The same, if the largest element is known."""
    size = jax.lax.abs(x)
    return (size > eps(size.dtype) ** 0.5 * most).astype(size.dtype)


def judge_answer(
    backward_error: Real[Array, ""], rcond: Real[Array, ""], *, dtype: Any
) -> RESULTS:
    """The verdict on a solution x that was put into the equations.

    Args:
        backward_error: `unstable` if above √eps: x is not a solution. See `row_error`.
        rcond: ‖b‖/‖x‖ for an operator with rows and columns scaled: `singular` if it is
            rounding error, as (A + E)x = 0 then has a solution for E of relative size
            `rcond`.
        dtype: of x.
    """
    u = eps(dtype)
    # both are NaN or infinite where a pivot was zero: that is singular
    fine = choose(backward_error <= u**0.5, RESULTS.successful, RESULTS.unstable)
    fine = choose(rcond > 4 * u, fine, RESULTS.singular)
    return choose(backward_error > u**0.5, RESULTS.unstable, fine)


def ratio_or(x: Real[Array, ""], y: Real[Array, ""], default: float) -> Real[Array, ""]:
    """x / y, or the default if both are zero."""
    nothing = (x == 0) & (y == 0)
    return jnp.where(nothing, default, x / jnp.where(nothing, jnp.ones_like(y), y))
