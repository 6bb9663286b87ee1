"""The loop of `Normal`: the inner solver is applied to the residual of the normal
equations, until x is good enough for the problem itself."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
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
    sizes: Any
    """`_Given`, together."""


class _Given(NamedTuple):
    b: Array
    """‖b‖."""
    allowed: Array
    """atol √m + rtol ‖b‖."""
    inner_b: Array
    """The 2-norm of the inner solver's right-hand sides: that of b itself, to keep the
    meaning of `atol`; about one if that is zero."""


class _Sizes(NamedTuple):
    """The 2-norms of what x leaves, and of x."""

    x: Any
    r: Array
    """The residual of the problem."""
    g: Array
    """The residual of the normal equations."""
    A: Any
    """‖Aᴴ r‖ / ‖r‖, a lower bound of ‖A‖, if A is tall."""
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
    """Whether x solves the system: the residual alone is as allowed, or rounding."""
    backward: Any
    """The backward error."""
    zoom: Any
    """The factor of the inner solver's right-hand side."""
    unzoom: Any
    """That of its solution."""
    exit: Any = Exit.running
    """How the loop ended; `running` while it goes on."""

    def ended(self, exit: Array) -> Any:
        """All of them, together."""
        return together(self._replace(exit=exit.astype(self.excess.dtype)))


class _Loop(NamedTuple):
    """x after some inner solves, and the residual that it leaves."""

    x: Array
    w: Any
    """x = Aᴴ w, where that is needed."""
    g: Array
    """The residual of the normal equations, which the next inner solve is given."""
    numbers: Any
    """`_Numbers`, together."""
    num_steps: Array
    """Those of the inner solver, in total."""
    stats: Any


def corrected(
    solver: AbstractLinearSolver,
    state: Any,
    vector: PyTree[Array],
    options: Options,
) -> Outcome:
    """`compute` of `Normal`.

    Each pass of the loop applies the inner solver to g, computes what the new x leaves,
    and judges that: a solve that is right at once takes one pass.

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

    b = Y.vector(vector)
    peak = largest(b)
    peak = where(peak == 0, 1, peak)
    # together, as XLA would compute them anew for each of their uses
    unit = reciprocal_scale(peak)
    unit, whole = unpacked(packed(unit, reciprocal_scale(unit)))
    b = times(unit, b)
    aim = _aim(method, state, b, unit, X, Y)
    solve, other_stats = _traced_once(solver, state.inner, options, W)
    # without damping, squares underflow only of what is below rounding errors
    norm = plain_norm2 if d is None else norm2

    def left(r: Array, x: Any = None, w: Any = None) -> tuple[Array, _Sizes]:
        """The residual of the normal equations, and sizes.

        Args:
            r: the residual of the problem.
            x, w: where that is the residual; none stands for zero.
        """
        g = AH(r) if tall else r
        sizes = _Sizes(0.0 if x is None else norm(x), norm(r), norm(g), 0.0)
        if tall:
            sizes = sizes._replace(A=over(sizes.g, sizes.r))
        if d is None or x is None:
            return g, sizes
        z: Any = x if tall else w
        g = g - times(d * d, z)
        r_norm = hypot(sizes.r, d * sizes.x) if tall else norm(g)
        return g, sizes._replace(r=r_norm, g=norm(g), damped=d * d * norm(z))

    def step(s: _Loop) -> _Loop:
        last = s.numbers
        Δw, result, steps, stats = solve(times(last.zoom, s.g))
        Δw = times(last.unzoom, Δw)
        if "residuals" in stats:
            history = last.unzoom * stats["residuals"]
            stats["residuals"] = times_both(history, 1 / state.σ, whole)
        Δx = Δw if tall else AH(Δw)
        x, w = s.x + Δx, None if s.w is None else s.w + Δw
        g, sizes = left(b - A(x), x, w)
        # otherwise a small backward error is enough
        moved = norm(Δx) if aim.tall and not aim.square else None
        num_steps = s.num_steps + steps
        numbers = _weighed(aim, sizes, last.A_norm, last.slope)
        exit = _judged(aim, sizes, numbers, last.excess, moved, num_steps, result)
        return _Loop(x, w, g, numbers.ended(exit), num_steps, stats)

    x, w = X.zeros(), None if tall or d is None else Y.zeros()
    slope: Any = 0.0
    finite: Any = True
    if y0 is None:
        g, sizes = left(b)
    else:  # a guess of x, or of w
        finite = jax.lax.is_finite(largest(y0))
        y0 = bounded(times_both(y0, unit, 1 / state.σ))
        guess = None if tall else times(1 / state.σ, y0)
        x = y0 if guess is None else AH(guess)
        w = None if d is None else guess
        Ax = A(x)
        r = b - held(Ax)
        again = useless(norm(r), aim.sizes.b, X.eps)
        x, Ax, r = where(again, 0, x), where(again, 0, Ax), where(again, b, r)
        w = None if w is None else where(again, 0, w)
        slope = over(norm(Ax), norm(x))
        g, sizes = left(r, x, w)
    if tall and not aim.square:
        slope = jnp.maximum(sizes.A, slope)
    numbers = _weighed(aim, sizes, state.A_norm, slope)
    exit = _begun(aim, sizes, numbers)
    shapes = jax.eval_shape(solve, W.zeros())[-1]
    start = _Loop(
        x=x,
        w=w,
        g=g,
        numbers=numbers.ended(exit),
        num_steps=jnp.int32(0),
        stats=jtu.tree_map(lambda z: jnp.zeros(z.shape, z.dtype), shapes),
    )

    def running(s: _Loop) -> Array:
        return s.numbers.exit == Exit.running

    end = while_loop(running, step, start, inputs)
    stats = eqx.combine(end.stats, other_stats[0])
    result = where(finite, end.numbers.exit, Exit.nonfinite).astype(jnp.int32)
    if "num_steps" in stats:
        stats["num_steps"] = end.num_steps
    stats["backward_error"] = end.numbers.backward
    if aim.square:
        least_squares = (result == Exit.converged) & ~end.numbers.consistent
        stats["rank_deficient"] = least_squares
    x = times_both(end.x, state.σ, whole)
    value = X.solution(where(result == Exit.nonfinite, jnp.nan, x))
    return value, judged(named(result), vector, value), stats


def _aim(method: Any, state: Any, b: Array, unit: Array, X: Space, Y: Space) -> _Aim:
    """What x is to reach, by the tolerances of the inner solver."""
    rtol = getattr(method, "rtol", X.eps**0.5)
    rtol, atol = resolved(rtol, getattr(method, "atol", 0.0), X.real_dtype)
    rtol, atol = (jnp.asarray(tol, X.real_dtype) for tol in (rtol, atol))
    size = plain_norm2(b)
    return _Aim(
        tall=state.tall,
        square=X.size == Y.size and state.d is None,
        direct=not hasattr(method, "rtol"),
        eps=X.eps,
        limit=step_limit(getattr(method, "max_steps", None), X if state.tall else Y),
        rtol=rtol,
        fixed=(rtol == 0) & (atol == 0),
        sizes=together(
            _Given(
                b=size,
                allowed=rtol * size + atol * unit * sqrt_of(Y.size),
                inner_b=where(atol == 0, 1, where(size == 0, 1, size) / unit),
            )
        ),
    )


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


def _weighed(aim: _Aim, sizes: _Sizes, A_norm: Array, slope: Any) -> _Numbers:
    """The numbers of x; the exit is left to the caller."""
    x_norm, r_norm, g_norm, damped = sizes.x, sizes.r, sizes.g, sizes.damped

    # relative to what rounding makes of it
    A_norm = jnp.maximum(A_norm, sizes.A) if aim.tall else A_norm
    Ax_norm = A_norm * x_norm
    backward = over(r_norm, Ax_norm + aim.sizes.b + (0 if aim.tall else damped))
    consistent = (r_norm <= aim.sizes.allowed) | (backward <= C * aim.eps)
    if aim.tall:
        unseen = 0.0 if aim.square else Ax_norm
        of_g = over(g_norm, A_norm * (unseen + r_norm) + damped)
        backward = jnp.minimum(backward, of_g)

    # relative to what is allowed
    excess = over(r_norm, aim.sizes.allowed)
    if aim.tall and not aim.square:
        excess = jnp.minimum(excess, over(g_norm, slope * r_norm * aim.rtol))

    zoom = reciprocal_scale(over(g_norm, aim.sizes.inner_b))
    unzoom = reciprocal_scale(zoom)
    return _Numbers(A_norm, slope, excess, consistent, backward, zoom, unzoom)


def _attained(
    aim: _Aim, sizes: _Sizes, numbers: _Numbers, settled: Any = False
) -> tuple:
    """Whether rounding allows no smaller residual, as an exit: `singular` if x is
    nothing but rounding errors.

    Args:
        settled: whether a small backward error in the sense of least squares is enough.
    """
    rounding, r_norm, A_norm = C * aim.eps, sizes.r, numbers.A_norm
    Ax_norm = A_norm * sizes.x
    attained = r_norm <= rounding * (
        Ax_norm + aim.sizes.b + (0 if aim.tall else sizes.damped)
    )
    if aim.tall:  # A + E with ‖E‖ ≤ ‖Aᴴr‖ / ‖r‖ has this residual
        attained |= sizes.g <= rounding * (A_norm * r_norm + sizes.damped)
    attained = (attained | settled) & ~aim.fixed
    lost = (aim.eps / HOPELESS) * Ax_norm > aim.sizes.b
    vague = numbers.backward * (Ax_norm + aim.sizes.b) / HOPELESS > aim.sizes.b
    return (attained & lost, Exit.singular), (attained & ~vague, Exit.converged)


def _begun(aim: _Aim, sizes: _Sizes, numbers: _Numbers) -> Array:
    """The exit, if the first x needs no correction or something is not finite."""
    finite = jax.lax.is_finite(sizes.r + sizes.g)
    if not aim.tall:  # no product was made that shows all of A, but for its norm
        finite &= jax.lax.is_finite(numbers.A_norm)
    return first_of(
        (~finite, Exit.nonfinite),
        (sizes.g == 0, Exit.converged),
        (numbers.excess <= 1, Exit.converged),
        *_attained(aim, sizes, numbers),
    )


def _judged(
    aim: _Aim,
    sizes: _Sizes,
    numbers: _Numbers,
    last_excess: Array,
    moved: Any,
    num_steps: Array,
    result: Array,
) -> Array:
    """The exit after a pass, or that the loop goes on.

    Args:
        sizes, numbers: of the new x.
        last_excess: that of the pass before.
        moved: the norm of the last change of x, if a small backward error is not enough
            as long as x moves.
        num_steps, result: the inner solver's steps so far, and its last status.
    """
    solved = result == Exit.converged
    better = (numbers.excess < last_excess / 2) & (num_steps < aim.limit)
    settled: Any = False
    if moved is not None:
        settled = (numbers.backward <= C * aim.eps) & (moved <= 0.01 * sizes.x)
        settled &= solved & ~better
    trusted = solved if aim.direct else True  # w is what was asked for
    finite = jax.lax.is_finite(sizes.r + sizes.g)
    attained = _attained(aim, sizes, numbers, settled)
    return first_of(
        (~finite & solved, Exit.breakdown),
        (~finite, result),
        (sizes.g == 0, Exit.converged),
        (aim.fixed, result),
        (trusted & (numbers.excess <= 1), Exit.converged),
        *((trusted & condition, exit) for condition, exit in attained),
        (trusted & better, Exit.running),
        (solved & (num_steps >= aim.limit), Exit.tired),
        (solved, _UNSTABLE if aim.direct else Exit.stagnated),
        (True, result),
    )
