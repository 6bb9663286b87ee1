"""The normal equations."""

import dataclasses
import functools
import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Real
from lx_operators import AbstractLinearOperator, conj, linearise

from .._auto import chosen
from .._checks import check_state, is_zero
from .._control_flow import while_loop
from .._projection import leaves_no_residual
from .._results import code, judged, named
from .._scaling import hypot, largest, norm2, plain_norm2, reciprocal_scale
from .._sizes import sqrt_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from ..direct._factors import check_damp
from ..krylov._guess import bounded, held, useless
from ..krylov._options import conjugated, transposed
from ..krylov._phases import Exit, first_of, step_limit
from ..krylov._scalars import over, times, together, where
from ..krylov._spaces import as_matvec, spaces
from ..krylov._stability import HOPELESS, C, backward_error, leaves_much
from ..krylov._tolerances import resolved
from ..krylov.cg import CG
from ..preconditioners._preconditioner import AbstractPreconditioner
from ._equations import equations, guess_of, inner_options, normalised, times_both

_UNSTABLE: Any = int(code(RESULTS.unstable))


class NormalState(eqx.Module):
    """What `Normal.init` returns."""

    operator: AbstractLinearOperator
    """σA, where σ is a power of two near 1 / ‖A‖."""
    σ: Real[Array, ""]
    d: Real[Array, ""] | None
    """σ · damp; None without damping."""
    A_norm: Real[Array, ""]
    """A lower bound of ‖σA‖."""
    inner: Any
    tall: bool = eqx.field(static=True)
    """Solve AᴴA x = Aᴴb; else A Aᴴ w = b, and x = Aᴴ w."""


class Normal(AbstractLinearSolver[NormalState]):
    """The normal equations and a solver for definite operators, for operators of any
    shape and full rank.

    With at least as many rows as columns x solves AᴴA x = Aᴴb, which is the
    least-squares solution; with more columns x = Aᴴw and A Aᴴ w = b, which is the
    solution of least norm. The condition number is the square of A's: `LSMR` and `QR`
    are more accurate. A is divided by a power of two near its norm first, so that AᴴA
    neither overflows nor underflows.

    Success is judged on the problem itself, because the normal equations' residual may
    be small when r = b - A x is not. One of three conditions must hold, in the 2-norm:

    - ‖r‖ ≤ atol √m + rtol ‖b‖;
    - with more rows than columns, ‖Aᴴr‖ ≤ rtol ‖r‖ ‖Aᴴb‖ / ‖b‖, in which the last ratio
      stands for ‖A‖;
    - rounding allows no smaller residual: ‖r‖ ≤ c eps (‖A‖‖x‖ + ‖b‖), or, with at least
      as many rows as columns, ‖Aᴴr‖ ≤ c eps ‖A‖‖r‖; or, with more rows than columns and
      once a correction neither halved r's excess nor moved x by more than one percent,
      ‖Aᴴr‖ ≤ c eps ‖A‖ (‖A‖‖x‖ + ‖r‖). Here c = 32, and ‖A‖ is a lower bound from
      products. Where eps ‖A‖‖x‖ > 0.01 ‖b‖, so that x is nothing but rounding errors,
      the result is `singular`.

    As long as none of these holds and r becomes smaller, the inner solver is applied to
    the remaining residual (Björck 1996, section 6.6.5, doi:10.1137/1.9781611971484).
    The tolerances are the inner solver's; the square root of the rounding unit and 0 if
    it has none.

    With an inner solver for semidefinite systems, such as `CG`, the operator may be
    rank-deficient. With at least as many rows as columns the solution is then that of
    least squares and, without an initial guess, of least norm; with more columns that
    is so where the system is consistent, and others fail (`LSMR` solves them). A square
    operator is seen to be rank-deficient where ‖Aᴴr‖ ≤ c eps ‖A‖‖r‖ but r is not small:
    `stats["rank_deficient"]` tells, and derivatives are NaN. With an iterative inner
    solver derivatives are those of A†b at constant rank. For a rank-deficient operator,
    in reverse mode and if b - A x is not zero, some of the normal equations that they
    need may have no solution; derivatives are then NaN (those of `LSMR` and `SVD` are
    not). Allowing rank-deficient operators costs one further solve, unless the operator
    is tagged `nonsingular_tag`. Direct inner solvers refuse singular normal equations.

    Each application of the inner solver costs one product with A and one with Aᴴ beyond
    its own, and so does `init` with A. Three vectors of the size of b and two of the
    size of x are kept beyond its own (with damping and more columns than rows, one more
    of the size of b).

    Args:
        inner_solver: a solver for positive definite operators, such as `CG`, `Cholesky`
            or `AutoLinearSolver(well_posed=True)`.
        damp: minimise ‖Ax - b‖² + damp²‖x‖² instead (ridge regression, Tikhonov
            regularisation; λ = damp²), by (AᴴA + damp² I) x = Aᴴb, or with more columns
            than rows by (A Aᴴ + damp² I) w = b. Above, A and b are then
            [A; damp I] and [b; 0], or [A, damp I] and b.

    Options: those of the inner solver, with `preconditioner` an operator M that
    approximates A⁻¹ (from A's output structure to its input structure), passed on as
    M Mᴴ if tall, and Mᴴ M if wide; and `y0`, an initial guess of x, which is ignored
    if it leaves a residual above ‖b‖ / eps. For a wide operator it is used only with a
    preconditioner, as Mᴴ y0.

    Statistics: those of the inner solver, for the normal equations of A divided by the
    power of two; `backward_error`, the least of ‖r‖ / (‖A‖‖x‖ + ‖b‖) and, with more
    rows than columns, ‖Aᴴr‖ / (‖A‖ (‖A‖‖x‖ + ‖r‖)); `rank_deficient`.

    Raises:
        ValueError: negative damping; a preconditioner or initial guess of another
            structure; or the inner solver raises it.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    solver = lx.Normal(lx.CG(rtol=1e-6, atol=1e-6))
    solution = lx.linear_solve(operator, jnp.ones(3), solver)
    ```
    """

    inner_solver: AbstractLinearSolver
    damp: ArrayLike = eqx.field(default=0.0, kw_only=True)

    def __check_init__(self):
        check_damp(self.damp)

    def setup(self, operator):
        inner = self.inner_solver
        recipe: Any = getattr(inner, "preconditioner", None)
        if type(inner).setup is AbstractLinearSolver.setup and (
            recipe is None or type(recipe).setup is AbstractPreconditioner.setup
        ):
            return self  # nothing to do, so no product is made
        A, _, d, _, tall = self._scaled(operator)
        ready = inner.setup(equations(A, d, tall))
        return self if ready is inner else dataclasses.replace(self, inner_solver=ready)

    def init(self, operator, options):
        A, σ, d, A_norm, tall = self._scaled(operator)
        options = inner_options(A, σ, tall, options)
        inner = self.inner_solver.init(equations(A, d, tall), options)
        return NormalState(A, σ, d, A_norm, inner, tall)

    def _scaled(self, operator: AbstractLinearOperator) -> tuple:
        operator = linearise(operator)
        tall = operator.out_size() >= operator.in_size()
        damp = None if is_zero(self.damp) else self.damp
        return *normalised(operator, damp), tall

    def compute(self, state, vector, options):
        check_state(state, NormalState, "Normal")
        d, tall, solver = state.d, state.tall, self.inner_solver
        X, Y = spaces(state.operator)
        W = X if tall else Y  # where the normal equations live
        square = X.size == Y.size and d is None
        # the very products of the normal equations, rounding included
        A, AH = as_matvec(state.operator), as_matvec(state.operator.H)
        y0 = guess_of(options, X, Y, tall)
        options = inner_options(state.operator, state.σ, tall, options)
        method = chosen(solver, state.inner)
        direct = not hasattr(method, "rtol")
        limit = step_limit(getattr(method, "max_steps", None), W)

        b = Y.ravel(vector)
        peak = largest(b)
        unit = reciprocal_scale(where(peak == 0, 1, peak))
        b = times(unit, b)
        b_norm = plain_norm2(b)
        eps, rounding = X.eps, C * X.eps
        rtol = getattr(method, "rtol", eps**0.5)
        rtol, atol = resolved(rtol, getattr(method, "atol", 0.0), X.real_dtype)
        rtol, atol = (jnp.asarray(tol, X.real_dtype) for tol in (rtol, atol))
        allowed = rtol * b_norm + atol * unit * sqrt_of(Y.size)
        fixed = (rtol == 0) & (atol == 0)
        # the inner solver's right-hand sides are of the size of b, to keep the meaning
        # of `atol`
        rhs_size = where(atol == 0, 1, reciprocal_scale(unit))

        # without damping, squares underflow only of what is below rounding errors
        norm = plain_norm2 if d is None else norm2

        no_arrays = []  # what else the statistics are, once they are traced

        @jax.jit  # for its cache: it is traced once, for its shapes and to run
        def inner(rhs: Array) -> tuple[Array, Array, Array, dict[str, Any]]:
            w, result, stats = solver.compute(state.inner, W.solution(rhs), options)
            num_steps = jnp.asarray(stats.get("num_steps", 0), jnp.int32)
            stats = {k: None if k == "num_steps" else v for k, v in stats.items()}
            arrays, rest = eqx.partition(stats, eqx.is_array)
            no_arrays.append(rest)
            return W.ravel(w), code(result).astype(jnp.int32), num_steps, arrays

        def step(s: _Loop) -> _Loop:
            last, num_steps, result = s.numbers, s.counts.num_steps, s.counts.result
            first, solved = result == Exit.running, result == Exit.converged

            # what x leaves of the problem, r, and of the normal equations, g
            x, w = s.x, s.w
            Ax = A(x)
            r = b - Ax
            if y0 is not None:
                r = where(first, b - held(Ax), r)
                again = first & useless(norm(r), b_norm, eps)
                x, Ax, r = where(again, 0, x), where(again, 0, Ax), where(again, b, r)
                w = None if w is None else where(again, 0, w)
            g = AH(r) if tall else r
            x_norm, r_norm, damped = norm(x), norm(r), 0.0
            A_norm = last.A_norm
            if tall:
                A_norm = jnp.maximum(A_norm, over(norm(g), r_norm))
            if d is not None:
                z: Any = x if tall else w
                g, damped = g - times(d * d, z), d * d * norm(z)
            g_norm = norm(g)
            if d is not None:
                r_norm = hypot(r_norm, d * x_norm) if tall else g_norm

            # relative to what rounding makes of it
            Ax_norm = A_norm * x_norm
            backward = backward_error(r_norm, Ax_norm, b_norm + (0 if tall else damped))
            consistent = jnp.minimum(over(r_norm, allowed), backward / rounding)
            attained = backward <= rounding
            if tall:  # A + E with ‖E‖ ≤ ‖Aᴴr‖ / ‖r‖ has this residual
                attained |= g_norm <= rounding * (A_norm * r_norm + damped)
                unseen = 0.0 if square else Ax_norm
                of_g = over(g_norm, A_norm * (unseen + r_norm) + damped)
                backward = jnp.minimum(backward, of_g)

            # relative to what is allowed
            excess, slope = over(r_norm, allowed), last.slope
            if tall and not square:
                slope = where(first, over(g_norm, r_norm), slope)
                if y0 is not None:
                    slope = jnp.maximum(slope, over(norm(Ax), x_norm))
                excess = jnp.minimum(excess, over(g_norm, slope * r_norm * rtol))
            better = (excess < last.excess / 2) & (num_steps < limit)
            settled = (backward <= rounding) & (s.moved <= 0.01 * x_norm)
            attained = (attained | (settled & solved & ~better)) & ~fixed
            lost = eps * Ax_norm > HOPELESS * b_norm
            vague = leaves_much(backward, Ax_norm, b_norm)
            finite = jax.lax.is_finite(r_norm + g_norm)
            trusted = first | solved if direct else True  # w is what was asked for
            exit = first_of(
                (~finite & first, Exit.nonfinite),
                (~finite, Exit.breakdown),
                (g_norm == 0, Exit.converged),
                (~first & fixed, result),
                (trusted & (excess <= 1), Exit.converged),
                (trusted & attained & lost, Exit.singular),
                (trusted & attained & ~vague, Exit.converged),
                (first | (trusted & better), Exit.running),
                (solved & (num_steps >= limit), Exit.tired),
                (solved, _UNSTABLE if direct else Exit.stagnated),
                (True, result),
            )

            # XLA would compute all this anew for each of its uses
            numbers = together(
                _Numbers(
                    A_norm=A_norm,
                    slope=slope,
                    excess=excess,
                    consistent=consistent,
                    backward=backward,
                    zoom=rhs_size * reciprocal_scale(largest(g)),
                    exit=exit.astype(X.real_dtype),
                )
            )
            zoom, exit = numbers.zoom, numbers.exit
            more = exit == Exit.running
            Δw, inner_result, steps, stats = inner(where(more, times(zoom, g), 0))
            Δw = times(reciprocal_scale(zoom), Δw)
            if "residuals" in stats:
                residuals = reciprocal_scale(zoom) * stats["residuals"]
                stats["residuals"] = times_both(residuals, 1 / state.σ, 1 / unit)
            Δx = Δw if tall else AH(Δw)
            return _Loop(
                x=where(more, x + Δx, x),
                w=None if w is None else where(more, w + Δw, w),
                moved=norm(Δx),
                numbers=numbers,
                counts=together(
                    _Counts(
                        num_steps=num_steps + where(more, steps, 0),
                        result=where(more, inner_result, exit.astype(jnp.int32)),
                        more=more,
                    )
                ),
                stats=jtu.tree_map(functools.partial(where, more), stats, s.stats),
            )

        x, w, finite = X.zeros(), None if tall or d is None else Y.zeros(), True
        if y0 is not None:  # of x, or of w
            finite = jax.lax.is_finite(largest(y0))
            y0 = bounded(times_both(y0, unit, 1 / state.σ))
            guess = None if tall else times(1 / state.σ, y0)
            x = y0 if guess is None else AH(guess)
            w = None if d is None else guess
        shapes = jax.eval_shape(inner, W.zeros())[-1]
        zero = X.zero()
        numbers = _Numbers(*[zero] * 7)._replace(A_norm=state.A_norm)
        start = _Loop(
            x=x,
            w=w,
            moved=zero,
            numbers=together(numbers),
            counts=together(_Counts(np.int32(0), np.int32(Exit.running), np.bool_(1))),
            stats=jtu.tree_map(lambda z: jnp.zeros(z.shape, z.dtype), shapes),
        )
        inputs = self, state, vector, options
        end = while_loop(lambda s: s.counts.more, step, start, inputs)
        stats = eqx.combine(end.stats, no_arrays[0])
        result = where(finite, end.counts.result, jnp.int32(Exit.nonfinite))
        if "num_steps" in stats:
            stats["num_steps"] = end.counts.num_steps
        stats["backward_error"] = end.numbers.backward
        if square:
            least_squares = (result == Exit.converged) & (end.numbers.consistent > 1)
            stats["rank_deficient"] = least_squares
        x = times_both(end.x, state.σ, 1 / unit)
        value = X.solution(where(result == Exit.nonfinite, jnp.nan, x))
        return value, judged(named(result), vector, value), stats

    def transpose(self, state, options):
        # (AᵀᴴAᵀ, or AᵀAᵀᴴ) is the conjugate of (A Aᴴ, or AᴴA)
        inner, _ = self.inner_solver.conj(state.inner, {})
        state = dataclasses.replace(
            state, operator=state.operator.T, inner=inner, tall=not state.tall
        )
        return state, transposed(options)

    def conj(self, state, options):
        inner, _ = self.inner_solver.conj(state.inner, {})
        state = dataclasses.replace(state, operator=conj(state.operator), inner=inner)
        return state, conjugated(options)

    def assume_full_rank(self):
        inner = self.inner_solver
        if not is_zero(self.damp):
            return True
        # an iterative solver also solves singular normal equations
        return inner.assume_full_rank() and not hasattr(inner, "rtol")


@leaves_no_residual.register
def _(state: NormalState) -> bool:
    """If square, others are `rank_deficient`; if wide, others fail."""
    A = state.operator
    return not state.tall or A.out_size() == A.in_size()


class _Numbers(NamedTuple):
    """The scalars of a pass, of σA and of b in its unit."""

    A_norm: Any
    """The largest lower bound of ‖A‖ that was seen."""
    slope: Any
    """‖Aᴴb‖ / ‖b‖."""
    excess: Any
    """What x leaves, divided by what is allowed."""
    consistent: Any
    """The same of the residual alone; or divided by its rounding errors, if less."""
    backward: Any
    """The backward error."""
    zoom: Any
    """The factor of the inner solver's right-hand side."""
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
    moved: Array
    """The norm of the last change of x."""
    numbers: Any
    """`_Numbers`, together."""
    counts: Any
    """`_Counts`, together."""
    stats: Any


def NormalCG(*args: Any, **kwargs: Any) -> Normal:
    """The former name of `Normal(CG(...))`.

    Args:
        args, kwargs: those of `CG`.

    Returns:
        `Normal(CG(*args, **kwargs))`.
    """
    warnings.warn(
        "`NormalCG(...)` is deprecated; use `Normal(CG(...))`.",
        DeprecationWarning,
        stacklevel=2,
    )
    return Normal(CG(*args, **kwargs))
