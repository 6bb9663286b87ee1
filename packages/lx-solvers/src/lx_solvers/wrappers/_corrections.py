"""The loop of `Normal`: the inner solver is applied to the residual of the normal
equations, until x is good enough for the problem itself."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from .._auto import chosen
from .._control_flow import while_loop
from .._results import code, judged, named
from .._scaling import hypot, largest, norm2, plain_norm2, reciprocal_scale
from .._sizes import sqrt_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver, Options
from ..krylov._driver import Outcome
from ..krylov._guess import bounded, held, useless
from ..krylov._phases import Exit, first_of, step_limit
from ..krylov._scalars import over, packed, times, together, unpacked, where
from ..krylov._spaces import Space, as_matvecs, spaces
from ..krylov._stability import HOPELESS, C
from ..krylov._tolerances import resolved
from ._equations import guess_of, inner_options, times_both

_UNSTABLE: Any = int(code(RESULTS.unstable))


class _Aim(NamedTuple):
    """What x is to reach, in units of b."""

    tall: bool
    square: bool
    """Without damping."""
    direct: bool
    """The inner solver has no tolerances."""
    eps: float
    limit: Any
    """The limit of the inner solver's steps in total."""
    rtol: Array
    fixed: Array
    """Both tolerances are zero: the inner solver makes so many steps, once."""
    b: Array
    """‖b‖."""
    allowed: Array
    """atol √m + rtol ‖b‖."""


class _Sizes(NamedTuple):
    """The 2-norms of a pass."""

    x: Array
    r: Array
    """The residual of the problem."""
    g: Array
    """The residual of the normal equations."""
    A: Any
    """‖Aᴴ r‖ / ‖r‖, a lower bound of ‖A‖, if A is tall."""
    Ax: Any
    """‖A x‖ / ‖x‖ if there was an initial guess; else 0."""
    damped: Any = 0.0
    """d² ‖z‖, for the z that the normal equations are solved for."""


class _Numbers(NamedTuple):
    """The scalars of a pass, of σA and of b in its unit."""

    A_norm: Any
    """The largest lower bound of ‖A‖ that was seen."""
    slope: Any
    """‖Aᴴb‖ / ‖b‖."""
    excess: Any
    """The residual, relative to what is allowed."""
    consistent: Any
    """The same of the residual alone; or divided by its rounding errors, if less."""
    backward: Any
    """The backward error."""
    zoom: Any
    """The factor of the inner solver's right-hand side; 0 at the end."""
    unzoom: Any
    """That of its solution."""
    exit: Any


class _Counts(NamedTuple):
    num_steps: Any
    result: Any
    """The status of the last solve or of the loop; `running` before the first."""
    more: Any
    """Whether to go on."""


class _Loop(NamedTuple):
    x: Array
    w: Any
    """x = Aᴴ w, where that is needed."""
    moved: Any
    """The norm of the last change of x, if A is tall and not square: for others, a
    small backward error is enough."""
    numbers: Any
    """`_Numbers`, together."""
    counts: Any
    """`_Counts`, together."""
    stats: Any


def corrected(
    solver: AbstractLinearSolver,
    state: Any,
    vector: PyTree[Array],
    options: Options,
) -> Outcome:
    """`compute` of `Normal`.

    Args:
        solver: the inner solver.
        state, vector, options: as for `AbstractLinearSolver.compute`.
    """
    inputs = solver, state, vector, options
    d, tall = state.d, state.tall
    X, Y = spaces(state.operator)
    W = X if tall else Y  # where the normal equations live
    # the very products of the normal equations, rounding included
    A, AH = as_matvecs(state.operator)
    y0 = guess_of(options, X, Y, tall)
    options = inner_options(state.operator, state.σ, tall, options)
    method = chosen(solver, state.inner)

    b = Y.ravel(vector)
    peak = largest(b)
    peak = where(peak == 0, 1, peak)
    # together, as XLA would compute them anew for each of their uses
    unit = reciprocal_scale(peak)
    unit, whole = unpacked(packed(unit, reciprocal_scale(unit)))
    b = times(unit, b)
    aim, atol = _aim(method, state, b, unit, X, Y)
    solve, other_stats = _traced_once(solver, state.inner, options, W)
    # without damping, squares underflow only of what is below rounding errors
    norm = plain_norm2 if d is None else norm2

    def left(s: _Loop) -> tuple[Array, Any, Array, _Sizes]:
        """x and w, what x leaves of the normal equations, and sizes."""
        x, w = s.x, s.w
        Ax = A(x)
        r, guessed = b - Ax, 0.0
        if y0 is not None:
            first = s.counts.result == Exit.running
            r = where(first, b - held(Ax), r)
            again = first & useless(norm(r), aim.b, X.eps)
            x, Ax, r = where(again, 0, x), where(again, 0, Ax), where(again, b, r)
            w = None if w is None else where(again, 0, w)
            guessed = over(norm(Ax), norm(x))
        g = AH(r) if tall else r
        sizes = _Sizes(norm(x), norm(r), norm(g), 0.0, guessed)
        if tall:
            sizes = sizes._replace(A=over(sizes.g, sizes.r))
        if d is None:
            return x, w, g, sizes
        z: Any = x if tall else w
        g = g - times(d * d, z)
        r_norm = hypot(sizes.r, d * sizes.x) if tall else norm(g)
        sizes = sizes._replace(r=r_norm, g=norm(g), damped=d * d * norm(z))
        return x, w, g, sizes

    def step(s: _Loop) -> _Loop:
        x, w, g, sizes = left(s)
        numbers = _judged(aim, sizes, s)
        # the inner solver's right-hand sides are of the size of b, to keep the meaning
        # of `atol`
        size = largest(g)
        zoom = reciprocal_scale(where(atol == 0, size, size / peak))
        # XLA would compute all this anew for each of its uses
        unzoom = reciprocal_scale(zoom)
        zoom = where(numbers.exit == Exit.running, zoom, 0)
        numbers = together(numbers._replace(zoom=zoom, unzoom=unzoom))
        unzoom, exit = numbers.unzoom, numbers.exit
        more = exit == Exit.running
        Δw, result, steps, stats = solve(times(numbers.zoom, g))
        Δw = times(unzoom, Δw)
        if "residuals" in stats:
            history = unzoom * stats["residuals"]
            stats["residuals"] = times_both(history, 1 / state.σ, whole)
        Δx = Δw if tall else AH(Δw)
        counts = _Counts(
            num_steps=s.counts.num_steps + where(more, steps, 0),
            result=where(more, result, exit.astype(jnp.int32)),
            more=more,
        )
        return _Loop(
            x=where(more, x + Δx, x),
            w=None if w is None else where(more, w + Δw, w),
            moved=None if s.moved is None else norm(Δx),
            numbers=numbers,
            counts=together(counts),
            stats=jtu.tree_map(functools.partial(where, more), stats, s.stats),
        )

    x, w, finite = X.zeros(), None if tall or d is None else Y.zeros(), True
    if y0 is not None:  # of x, or of w
        finite = jax.lax.is_finite(largest(y0))
        y0 = bounded(times_both(y0, unit, 1 / state.σ))
        guess = None if tall else times(1 / state.σ, y0)
        x = y0 if guess is None else AH(guess)
        w = None if d is None else guess
    shapes = jax.eval_shape(solve, W.zeros())[-1]
    zero = X.zero()
    numbers = _Numbers(*[zero] * 8)._replace(A_norm=state.A_norm)
    start = _Loop(
        x=x,
        w=w,
        moved=zero if aim.tall and not aim.square else None,
        numbers=together(numbers),
        counts=together(_Counts(np.int32(0), np.int32(Exit.running), np.bool_(1))),
        stats=jtu.tree_map(lambda z: jnp.zeros(z.shape, z.dtype), shapes),
    )
    end = while_loop(lambda s: s.counts.more, step, start, inputs)
    stats = eqx.combine(end.stats, other_stats[0])
    result = where(finite, end.counts.result, jnp.int32(Exit.nonfinite))
    if "num_steps" in stats:
        stats["num_steps"] = end.counts.num_steps
    stats["backward_error"] = end.numbers.backward
    if aim.square:
        least_squares = (result == Exit.converged) & (end.numbers.consistent > 1)
        stats["rank_deficient"] = least_squares
    x = times_both(end.x, state.σ, whole)
    value = X.solution(where(result == Exit.nonfinite, jnp.nan, x))
    return value, judged(named(result), vector, value), stats


def _aim(
    method: Any, state: Any, b: Array, unit: Array, X: Space, Y: Space
) -> tuple[_Aim, Array]:
    """What x is to reach, by the tolerances of the inner solver; and its `atol`."""
    rtol = getattr(method, "rtol", X.eps**0.5)
    rtol, atol = resolved(rtol, getattr(method, "atol", 0.0), X.real_dtype)
    rtol, atol = (jnp.asarray(tol, X.real_dtype) for tol in (rtol, atol))
    size = plain_norm2(b)
    aim = _Aim(
        tall=state.tall,
        square=X.size == Y.size and state.d is None,
        direct=not hasattr(method, "rtol"),
        eps=X.eps,
        limit=step_limit(getattr(method, "max_steps", None), X if state.tall else Y),
        rtol=rtol,
        fixed=(rtol == 0) & (atol == 0),
        b=size,
        allowed=rtol * size + atol * unit * sqrt_of(Y.size),
    )
    return aim, atol


def _traced_once(
    solver: AbstractLinearSolver, state: Any, options: Options, W: Space
) -> tuple[Callable, list[Any]]:
    """The inner solver: from a right-hand side to the solution, the status, the number
    of steps, and the statistics that are arrays; and a list that holds the others as
    soon as it is traced."""
    others = []

    @jax.jit  # for its cache: it is traced once, for its shapes and to run
    def solve(rhs: Array) -> tuple[Array, Array, Array, dict[str, Any]]:
        w, result, stats = solver.compute(state, W.solution(rhs), options)
        num_steps = jnp.asarray(stats.get("num_steps", 0), jnp.int32)
        stats = {k: None if k == "num_steps" else v for k, v in stats.items()}
        arrays, rest = eqx.partition(stats, eqx.is_array)
        others.append(rest)
        return W.ravel(w), code(result).astype(jnp.int32), num_steps, arrays

    return solve, others


def _judged(aim: _Aim, sizes: _Sizes, s: _Loop) -> _Numbers:
    """How good x is, and whether to go on. The zoom is left to the caller."""
    last, num_steps, result = s.numbers, s.counts.num_steps, s.counts.result
    first, solved = result == Exit.running, result == Exit.converged
    x_norm, r_norm, g_norm, damped = sizes.x, sizes.r, sizes.g, sizes.damped
    rounding = C * aim.eps

    # relative to what rounding makes of it
    A_norm = jnp.maximum(last.A_norm, sizes.A) if aim.tall else last.A_norm
    Ax_norm = A_norm * x_norm
    backward = over(r_norm, Ax_norm + aim.b + (0 if aim.tall else damped))
    consistent = jnp.minimum(over(r_norm, aim.allowed), backward / rounding)
    attained = backward <= rounding
    if aim.tall:  # A + E with ‖E‖ ≤ ‖Aᴴr‖ / ‖r‖ has this residual
        attained |= g_norm <= rounding * (A_norm * r_norm + damped)
        unseen = 0.0 if aim.square else Ax_norm
        of_g = over(g_norm, A_norm * (unseen + r_norm) + damped)
        backward = jnp.minimum(backward, of_g)

    # relative to what is allowed
    excess, slope = over(r_norm, aim.allowed), last.slope
    if aim.tall and not aim.square:
        slope = where(first, over(g_norm, r_norm), slope)
        slope = jnp.maximum(slope, sizes.Ax)
        excess = jnp.minimum(excess, over(g_norm, slope * r_norm * aim.rtol))
    better = (excess < last.excess / 2) & (num_steps < aim.limit)
    if s.moved is not None:
        settled = (backward <= rounding) & (s.moved <= 0.01 * x_norm)
        attained |= settled & solved & ~better
    attained &= ~aim.fixed
    lost = (aim.eps / HOPELESS) * Ax_norm > aim.b
    vague = backward * (Ax_norm + aim.b) / HOPELESS > aim.b
    finite = jax.lax.is_finite(r_norm + g_norm)
    trusted = first | solved if aim.direct else True  # w is what was asked for
    exit = first_of(
        (~finite & first, Exit.nonfinite),
        (~finite & solved, Exit.breakdown),
        (~finite, result),
        (g_norm == 0, Exit.converged),
        (~first & aim.fixed, result),
        (trusted & (excess <= 1), Exit.converged),
        (trusted & attained & lost, Exit.singular),
        (trusted & attained & ~vague, Exit.converged),
        (first | (trusted & better), Exit.running),
        (solved & (num_steps >= aim.limit), Exit.tired),
        (solved, _UNSTABLE if aim.direct else Exit.stagnated),
        (True, result),
    )
    exit = exit.astype(A_norm.dtype)
    return _Numbers(A_norm, slope, excess, consistent, backward, 0.0, 0.0, exit)
