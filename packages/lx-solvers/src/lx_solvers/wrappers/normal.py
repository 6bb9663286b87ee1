"""The normal equations."""

import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array
from lx_operators import AbstractLinearOperator, conj, linearise
from lx_operators.internal import describe, same_shapes

from .._checks import check_state
from .._iteration import conjugated, first_guess, step_limit, transposed
from .._loops import while_loop
from .._results import judged
from .._solution import RESULTS
from .._solver import AbstractLinearSolver, Options
from .._vectors import (
    Product,
    Space,
    largest,
    norm2,
    once,
    power_of_two,
    product,
    spaces,
    where,
)
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
        A, AH = product(operator), product(operator.H)
        x = _first_guess(options, AH, X, Y, tall)
        guessed = options.get("y0") is not None
        options = _inner_options(operator, tall, options)

        b = Y.ravel(vector)
        unit = power_of_two(largest(b))
        b = b / unit
        rtol = getattr(solver, "rtol", X.eps**0.5)
        atol = getattr(solver, "atol", 0.0)
        rtol, atol = (jnp.asarray(tol).astype(X.real_dtype) for tol in (rtol, atol))
        fixed = (rtol == 0) & (atol == 0)
        allowed = rtol * norm2(b) + atol / unit * Y.size**0.5

        def inner(rhs: Array) -> tuple[Array, RESULTS, dict[str, Any]]:
            w, result, stats = solver.compute(state.inner, W.solution(rhs), options)
            return W.ravel(w), result, stats

        def step(s: _Loop) -> _Loop:
            # what x leaves of the problem
            Ax = A(s.x)
            r = b - Ax
            g = AH(r) if tall else r
            left, slope = once(norm2(r)), once(norm2(g))
            excess = where(left == 0, 0, left / allowed)
            A_norm = where(s.passes == 0, slope / left, s.A_norm)
            if X.size < Y.size:
                if guessed:
                    stretch = norm2(Ax) / norm2(s.x)
                    A_norm = jnp.maximum(A_norm, where(stretch > 0, stretch, 0))
                reducible = slope / (A_norm * left * rtol)
                excess = jnp.minimum(excess, where(slope == 0, 0, reducible))
            first, passed = s.passes == 0, (excess <= 1) & ~fixed
            solved = s.result == RESULTS.successful
            better = (excess < s.excess / 2) & ~fixed & (s.num_steps < limit)
            more = ~passed & (first | (solved & better)) & jnp.isfinite(left)

            # the inner solver; what is left is scaled up, to keep the meaning of `atol`
            size = power_of_two(largest(g))
            zoom = once(where(first, where(atol == 0, 1, unit), s.size / size))
            w, result, stats = inner(where(more, g * zoom, 0))
            x = s.x + (w if tall else AH(w)) / zoom

            ended = RESULTS.where(solved & ~fixed, RESULTS.stagnation, s.result)
            spent = solved & ~fixed & (s.num_steps >= limit)
            ended = RESULTS.where(spent, RESULTS.max_steps_reached, ended)
            ended = RESULTS.where(passed, RESULTS.successful, ended)
            lost = RESULTS.where(first, RESULTS.nonfinite_input, RESULTS.breakdown)
            ended = RESULTS.where(jnp.isfinite(left), ended, lost)
            num_steps = jnp.asarray(stats.get("num_steps", 0), jnp.int32)
            return _Loop(
                x=where(more, x, s.x),
                A_norm=A_norm,
                excess=excess,
                size=where(first, size * zoom, s.size),
                result=RESULTS.where(more, result, ended),
                num_steps=s.num_steps + where(more, num_steps, 0),
                stats=_keep(more, eqx.filter(stats, eqx.is_array), s.stats),
                passes=s.passes + 1,
                more=more,
            )

        limit = step_limit(getattr(solver, "max_steps", None), W)
        shapes = eqx.filter_eval_shape(inner, W.zeros())[2]
        arrays, rest = eqx.partition(
            shapes, lambda z: isinstance(z, jax.ShapeDtypeStruct)
        )
        zero = jnp.zeros((), X.real_dtype)
        start = _Loop(
            x=x / unit,
            A_norm=zero,
            excess=zero,
            size=zero,
            result=RESULTS.successful,
            num_steps=jnp.int32(0),
            stats=jtu.tree_map(lambda z: jnp.zeros(z.shape, z.dtype), arrays),
            passes=jnp.int32(0),
            more=jnp.array(True),
        )
        inputs = self, state, vector, options
        end = while_loop(lambda s: s.more, step, start, inputs)
        stats = eqx.combine(end.stats, rest)
        if "num_steps" in stats:
            stats["num_steps"] = end.num_steps
        x = where(end.result == RESULTS.nonfinite_input, jnp.nan, end.x * unit)
        value = X.solution(x)
        return value, judged(end.result, vector, value), stats

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


class _Loop(NamedTuple):
    """b, x and r in units of `unit`."""

    x: Array
    A_norm: Array
    excess: Array
    """What is left, beside what is allowed."""
    size: Array
    """Of the first right-hand side."""
    result: RESULTS
    num_steps: Array
    stats: Any
    passes: Array
    more: Array


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
