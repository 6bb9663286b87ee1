"""The normal equations."""

import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array
from lx_operators import AbstractLinearOperator, conj, linearise
from lx_operators.internal import describe, same_shapes

from .._checks import check_state
from .._loops import while_loop
from .._results import code, judged, named
from .._scaling import largest, norm2, reciprocal_scale
from .._solver import AbstractLinearSolver, Options
from ..krylov._driver import conjugated, first_guess, step_limit, transposed
from ..krylov._phases import Exit, first_of
from ..krylov._scalars import packed, scalar_at, unpacked, where
from ..krylov._spaces import Product, Space, product, spaces
from ..krylov._tolerances import resolved
from ..krylov.cg import CG


class NormalState(eqx.Module):
    """What `Normal.init` returns."""

    operator: AbstractLinearOperator
    inner: Any
    tall: bool = eqx.field(static=True)
    """Solve AᴴA x = Aᴴb; else A Aᴴ w = b, and x = Aᴴ w."""


class Normal(AbstractLinearSolver[NormalState]):
    """Any shape of full rank, by the normal equations and a solver for definite ones.

    With at least as many rows as columns x solves AᴴA x = Aᴴb, which is the
    least-squares solution; with more columns x = Aᴴw and A Aᴴ w = b, which is the
    solution of least norm. The condition number is the square of A's: `LSMR` and `QR`
    are more accurate.

    Success is judged anew on the problem itself, as the normal equations' residual may
    be small when that of A x = b is not: in the 2-norm, ‖b - A x‖ ≤ atol √m + rtol ‖b‖;
    or, of an operator with more rows than columns, ‖Aᴴ(b - A x)‖ ≤ rtol ‖b - A x‖ ‖Aᴴb‖
    / ‖b‖, in which the last ratio stands for ‖A‖. As long as it does not pass and gets
    better, the inner solver is applied to what is left (Björck 1996, section 6.6.5,
    doi:10.1137/1.9781611971484). The tolerances are the inner solver's; the square root
    of the rounding unit and 0 if it has none.

    Each application of the inner solver costs one product with A and one with Aᴴ beyond
    its own. Three vectors of the size of b and two of the size of x are kept beyond its
    own.

    Args:
        inner_solver: a solver for positive definite operators, such as `CG`, `Cholesky`
            or `AutoLinearSolver(well_posed=True)`.

    Options: those of the inner solver, with `preconditioner` an operator M that
    approximates A⁻¹ (from A's output structure to its input structure), passed on as
    M Mᴴ if tall, and Mᴴ M if wide; and `y0`, a first guess of x. For a wide operator it
    is used only with a preconditioner, as Mᴴ y0.

    Raises:
        ValueError: a preconditioner or first guess of other structures; what the inner
            solver raises.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    solver = lx.Normal(lx.CG(rtol=1e-6, atol=1e-6))
    solution = lx.linear_solve(operator, jnp.ones(3), solver)
    ```
    """

    inner_solver: AbstractLinearSolver

    def init(self, operator, options):
        operator = linearise(operator)
        tall = operator.out_size() >= operator.in_size()
        normal = operator.H @ operator if tall else operator @ operator.H
        inner = self.inner_solver.init(normal, _inner_options(operator, tall, options))
        return NormalState(operator, inner, tall)

    def compute(self, state, vector, options):
        check_state(state, NormalState, "Normal")
        operator, tall, solver = state.operator, state.tall, self.inner_solver
        X, Y = spaces(operator)
        W = X if tall else Y  # where the normal equations live
        # the very products of the normal equations, rounding included
        A, AH = product(operator), product(operator.H)
        x = _first_guess(options, AH, X, Y, tall)
        guessed = options.get("y0") is not None
        options = _inner_options(operator, tall, options)
        limit = step_limit(getattr(solver, "max_steps", None), W)

        b = Y.ravel(vector)
        peak = largest(b)
        shrink = reciprocal_scale(where(peak == 0, 1, peak))
        rtol = getattr(solver, "rtol", X.eps**0.5)
        rtol, atol = resolved(rtol, getattr(solver, "atol", 0.0), X.real_dtype)
        rtol, atol = (jnp.asarray(tol, X.real_dtype) for tol in (rtol, atol))
        fixed = (rtol == 0) & (atol == 0)

        def tolerance(b_norm: Array, shrink: Array) -> Array:
            return rtol * b_norm + atol * shrink * Y.size**0.5

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
            last = _Numbers(*unpacked(s.numbers))
            num_steps, result, _ = unpacked(s.counts)
            first, solved = result == Exit.running, result == Exit.converged

            # what x leaves of the problem
            Ax = A(s.x)
            r = last.shrink * b - Ax
            g = AH(r) if tall else r
            left, focus = norm2(r), reciprocal_scale(largest(g))
            allowed = last.allowed
            if not guessed:  # what is left of b at first is b
                allowed = where(first, tolerance(left, last.shrink), allowed)
            excess = where(left == 0, 0, left / allowed)
            A_norm = last.A_norm
            if X.size < Y.size:
                slope = norm2(g)
                A_norm = where(first, slope / left, A_norm)
                if guessed:
                    stretch = norm2(Ax) / norm2(s.x)
                    A_norm = jnp.maximum(A_norm, where(stretch > 0, stretch, 0))
                reducible = slope / (A_norm * left * rtol)
                excess = jnp.minimum(excess, where(slope == 0, 0, reducible))
            finite = jax.lax.is_finite(left)
            passed = (excess <= 1) & ~fixed
            spent = num_steps >= limit
            better = (excess < last.excess / 2) & ~fixed & ~spent
            more = ~passed & (first | (solved & better)) & finite
            # the inner solver's right-hand sides are all of the size of the first, to
            # keep the meaning of `atol`
            unit = where(atol == 0, 1, reciprocal_scale(last.shrink))
            size = where(first, unit * reciprocal_scale(focus), last.size)
            zoom = jnp.maximum(size * focus, jnp.finfo(X.real_dtype).tiny)
            numbers = packed(
                *_Numbers(
                    shrink=last.shrink,
                    allowed=allowed,
                    excess=where(finite, excess, jnp.nan),
                    A_norm=A_norm,
                    size=size,
                    zoom=where(more, zoom, 0),
                )
            )
            now = _Numbers(*unpacked(numbers))
            more = now.zoom > 0
            w, inner_result, steps, stats = inner(where(more, now.zoom * g, 0))
            x = s.x + reciprocal_scale(now.zoom) * (w if tall else AH(w))

            # as above, but read from the array: XLA would compute it all once more
            finite, passed = ~jnp.isnan(now.excess), (now.excess <= 1) & ~fixed
            exit = first_of(
                (~finite & first, Exit.nonfinite),
                (~finite, Exit.breakdown),
                (passed, Exit.converged),
                (solved & ~fixed & spent, Exit.tired),
                (solved & ~fixed, Exit.stagnated),
            )
            ended = where(exit == Exit.running, result, exit)
            return _Loop(
                x=where(more, x, s.x),
                numbers=numbers,
                counts=packed(
                    num_steps + where(more, steps, 0),
                    where(more, inner_result, ended),
                    more.astype(jnp.int32),
                ),
                stats=_keep(more, stats, s.stats),
            )

        shapes = jax.eval_shape(inner, W.zeros())[-1]
        zero = allowed = X.zero()
        if guessed:
            x, allowed = shrink * x, tolerance(norm2(shrink * b), shrink)
        numbers = _Numbers(shrink, allowed, zero, zero, zero, zero)
        start = _Loop(
            x=x,
            numbers=packed(*numbers),
            counts=jnp.asarray(np.array([0, Exit.running, 1], np.int32)),
            stats=jtu.tree_map(lambda z: jnp.zeros(z.shape, z.dtype), shapes),
        )
        inputs = self, state, vector, options
        end = while_loop(lambda s: scalar_at(s.counts, 2) != 0, step, start, inputs)
        stats = eqx.combine(end.stats, no_arrays[0])
        num_steps, result, _ = unpacked(end.counts)
        if "num_steps" in stats:
            stats["num_steps"] = num_steps
        x = end.x * reciprocal_scale(_Numbers(*unpacked(end.numbers)).shrink)
        value = X.solution(where(result == Exit.nonfinite, jnp.nan, x))
        return value, judged(named(result), vector, value), stats

    def transpose(self, state, options):
        # (AᵀᴴAᵀ, or AᵀAᵀᴴ) is the conjugate of (A Aᴴ, or AᴴA)
        inner, _ = self.inner_solver.conj(state.inner, {})
        state = NormalState(state.operator.T, inner, not state.tall)
        return state, transposed(options)

    def conj(self, state, options):
        inner, _ = self.inner_solver.conj(state.inner, {})
        state = NormalState(conj(state.operator), inner, state.tall)
        return state, conjugated(options)

    def assume_full_rank(self):
        return True


class _Numbers(NamedTuple):
    """The scalars of a pass."""

    shrink: Any
    """1 / unit, in which x and r are."""
    allowed: Any
    """Of ‖r‖."""
    excess: Any
    """What is left, beside what is allowed; NaN if it is not finite."""
    A_norm: Any
    size: Any
    """Of the inner solver's right-hand sides."""
    zoom: Any
    """What they are scaled by; 0 if it is not applied."""


class _Loop(NamedTuple):
    x: Array
    numbers: Array
    counts: Array
    """Steps, the last result (`running` before the first), and whether to go on."""
    stats: Any


def _keep(condition: Array, new: Any, old: Any) -> Any:
    return jtu.tree_map(lambda n, o: where(condition, n, o), new, old)


def _first_guess(
    options: Options, AH: Product, X: Space, Y: Space, tall: bool
) -> Array:
    """x; of a wide operator one in the range of Aᴴ, or none."""
    y0 = first_guess(options, X, "Normal")
    M: Any = options.get("preconditioner")
    if tall:
        return X.zeros() if y0 is None else y0
    if y0 is None or M is None:
        return X.zeros()
    return AH(Y.ravel(M.H.mv(X.solution(y0))))


def _inner_options(
    operator: AbstractLinearOperator, tall: bool, options: Options
) -> Options:
    """The options for the normal equations, which start at zero."""
    options = {name: value for name, value in options.items() if name != "y0"}
    M = options.get("preconditioner")
    if M is None:
        return options
    if not isinstance(M, AbstractLinearOperator):
        raise ValueError(
            "the option 'preconditioner' of `Normal` must be a linear operator, but "
            f"got a value of type `{type(M).__name__}`."
        )
    wanted = (operator.out_structure(), operator.in_structure())
    got = (M.in_structure(), M.out_structure())
    if not all(map(same_shapes, got, wanted)):
        raise ValueError(
            "the option 'preconditioner' of `Normal` approximates the inverse of the "
            f"operator: it must map {describe(wanted[0])} to {describe(wanted[1])}, "
            f"but maps {describe(got[0])} to {describe(got[1])}."
        )
    options["preconditioner"] = M @ M.H if tall else M.H @ M
    return options


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
