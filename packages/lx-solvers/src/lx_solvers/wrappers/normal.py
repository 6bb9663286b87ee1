"""The normal equations."""

import dataclasses
import math
import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Real
from lx_operators import (
    AbstractLinearOperator,
    IdentityLinearOperator,
    TaggedLinearOperator,
    conj,
    linearise,
    positive_semidefinite_tag,
)
from lx_operators.internal import (
    complex_to_real_dtype,
    describe,
    same_shapes,
    strict_promotion,
)

from .._auto import chosen
from .._checks import check_state
from .._loops import while_loop
from .._projection import leaves_no_residual
from .._results import code, judged, named
from .._scaling import (
    hypot,
    largest,
    norm2,
    plain_norm2,
    power_of_two,
    reciprocal_scale,
)
from .._sizes import is_known, sqrt_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver, Options
from ..direct._factors import check_damp, is_zero
from ..krylov._driver import step_limit
from ..krylov._options import conjugated, first_guess, transposed
from ..krylov._phases import Exit, first_of
from ..krylov._scalars import barrier, packed, scalar_at, times, unpacked, where
from ..krylov._spaces import Space, product, spaces
from ..krylov._stability import HOPELESS, C, backward_error, leaves_much
from ..krylov._tolerances import resolved
from ..krylov.cg import CG

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
    """Any shape of full rank, by the normal equations and a solver for definite ones.

    With at least as many rows as columns x solves AᴴA x = Aᴴb, which is the
    least-squares solution; with more columns x = Aᴴw and A Aᴴ w = b, which is the
    solution of least norm. The condition number is the square of A's: `LSMR` and `QR`
    are more accurate. A is divided by a power of two near its norm first, so that AᴴA
    neither overflows nor underflows.

    Success is judged on the problem itself, as the normal equations' residual may be
    small when r = b - A x is not. It is one of three, in the 2-norm:

    - ‖r‖ ≤ atol √m + rtol ‖b‖;
    - with more rows than columns, ‖Aᴴr‖ ≤ rtol ‖r‖ ‖Aᴴb‖ / ‖b‖, in which the last ratio
      stands for ‖A‖;
    - rounding allows no smaller residual: ‖r‖ ≤ c eps (‖A‖‖x‖ + ‖b‖), or, with at least
      as many rows as columns, ‖Aᴴr‖ ≤ c eps ‖A‖‖r‖; or, with more rows than columns and
      once a correction neither halved r's excess nor moved x by more than one percent,
      ‖Aᴴr‖ ≤ c eps ‖A‖ (‖A‖‖x‖ + ‖r‖). Here c = 32, and ‖A‖ is a lower bound from
      products. Where eps ‖A‖‖x‖ > 0.01 ‖b‖, so that x is nothing but rounding errors,
      the result is `singular`.

    As long as none holds and r gets better, the inner solver is applied to what is left
    (Björck 1996, section 6.6.5, doi:10.1137/1.9781611971484). The tolerances are the
    inner solver's; the square root of the rounding unit and 0 if it has none.

    With an inner solver for semidefinite systems, such as `CG`, the rank may be
    deficient. With at least as many rows as columns the solution is then that of least
    squares and, without a first guess, of least norm; with more columns that is so
    where the system is consistent, and others fail (`LSMR` solves them). A square
    operator is seen to be rank-deficient where ‖Aᴴr‖ ≤ c eps ‖A‖‖r‖ but r is not small:
    `stats["rank_deficient"]` tells, and derivatives are NaN. With an iterative inner
    solver derivatives are those of A†b at constant rank. Some of the normal equations
    that they need may have no solution if the rank is deficient, in reverse mode and
    where b - A x is not zero; derivatives are then NaN (those of `LSMR` and `SVD` are
    not). That the rank need not be full costs one further solve, unless the operator is
    tagged `nonsingular_tag`. Direct inner solvers refuse singular normal equations.

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
    M Mᴴ if tall, and Mᴴ M if wide; and `y0`, a first guess of x. For a wide operator it
    is used only with a preconditioner, as Mᴴ y0.

    Statistics: those of the inner solver, for the normal equations of A divided by the
    power of two; `backward_error`, the least of ‖r‖ / (‖A‖‖x‖ + ‖b‖) and, with more
    rows than columns, ‖Aᴴr‖ / (‖A‖ (‖A‖‖x‖ + ‖r‖)); `rank_deficient`.

    Raises:
        ValueError: negative damping; a preconditioner or first guess of other
            structures; what the inner solver raises.

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

    def init(self, operator, options):
        operator = linearise(operator)
        tall = operator.out_size() >= operator.in_size()
        A, σ, d, A_norm = _scaled(operator, None if is_zero(self.damp) else self.damp)
        normal = A.H @ A if tall else A @ A.H
        if d is not None:
            damping = IdentityLinearOperator(normal.in_structure())
            damping = _times_scalar(d * d, damping)
            normal = TaggedLinearOperator(normal + damping, positive_semidefinite_tag)
        inner = self.inner_solver.init(normal, _inner_options(A, σ, tall, options))
        return NormalState(A, σ, d, A_norm, inner, tall)

    def compute(self, state, vector, options):
        check_state(state, NormalState, "Normal")
        d, tall, solver = state.d, state.tall, self.inner_solver
        X, Y = spaces(state.operator)
        W = X if tall else Y  # where the normal equations live
        square = X.size == Y.size and d is None
        # the very products of the normal equations, rounding included
        A, AH = product(state.operator), product(state.operator.H)
        y0 = _first_guess(options, X, Y, tall)
        options = _inner_options(state.operator, state.σ, tall, options)
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
            last = _Numbers(*unpacked(s.numbers))
            num_steps, result, _ = unpacked(s.counts)
            first, solved = result == Exit.running, result == Exit.converged

            # what x leaves of the problem, r, and of the normal equations, g
            Ax = A(s.x)
            r = b - Ax
            g = AH(r) if tall else r
            x_norm, r_norm, damped = norm(s.x), norm(r), 0.0
            A_norm = last.A_norm
            if tall:
                A_norm = jnp.maximum(A_norm, _ratio(norm(g), r_norm))
            if d is not None:
                z = s.x if tall else s.w
                g, damped = g - times(d * d, z), d * d * norm(z)
            g_norm = norm(g)
            if d is not None:
                r_norm = hypot(r_norm, d * x_norm) if tall else g_norm

            # relative to what rounding makes of it
            Ax_norm = A_norm * x_norm
            backward = backward_error(r_norm, Ax_norm, b_norm + (0 if tall else damped))
            consistent = jnp.minimum(_ratio(r_norm, allowed), backward / rounding)
            attained = backward <= rounding
            if tall:  # A + E with ‖E‖ ≤ ‖Aᴴr‖ / ‖r‖ has this residual
                attained |= g_norm <= rounding * (A_norm * r_norm + damped)
                unseen = 0.0 if square else Ax_norm
                of_g = _ratio(g_norm, A_norm * (unseen + r_norm) + damped)
                backward = jnp.minimum(backward, of_g)

            # relative to what is allowed
            excess, slope = _ratio(r_norm, allowed), last.slope
            if tall and not square:
                slope = where(first, _ratio(g_norm, r_norm), slope)
                if y0 is not None:
                    slope = jnp.maximum(slope, _ratio(norm(Ax), x_norm))
                excess = jnp.minimum(excess, _ratio(g_norm, slope * r_norm * rtol))
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
            numbers = packed(
                *_Numbers(
                    A_norm=A_norm,
                    slope=slope,
                    excess=excess,
                    consistent=consistent,
                    backward=backward,
                    zoom=rhs_size * reciprocal_scale(largest(g)),
                    exit=exit.astype(X.real_dtype),
                )
            )
            zoom, exit = unpacked(numbers)[-2:]
            more = exit == Exit.running
            w, inner_result, steps, stats = inner(where(more, times(zoom, g), 0))
            w = times(reciprocal_scale(zoom), w)
            if "residuals" in stats:
                residuals = reciprocal_scale(zoom) * stats["residuals"]
                stats["residuals"] = _times(residuals, 1 / state.σ, 1 / unit)
            Δx = w if tall else AH(w)
            return _Loop(
                x=where(more, s.x + Δx, s.x),
                w=None if s.w is None else where(more, s.w + w, s.w),
                moved=norm(Δx),
                numbers=numbers,
                counts=packed(
                    num_steps + where(more, steps, 0),
                    where(more, inner_result, exit.astype(jnp.int32)),
                    more.astype(jnp.int32),
                ),
                stats=_keep(more, stats, s.stats),
            )

        x, w = X.zeros(), None if tall or d is None else Y.zeros()
        if y0 is not None:  # of x, or of w
            y0 = _times(y0, unit, 1 / state.σ)
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
            numbers=packed(*numbers),
            counts=jnp.asarray(np.array([0, Exit.running, 1], np.int32)),
            stats=jtu.tree_map(lambda z: jnp.zeros(z.shape, z.dtype), shapes),
        )
        inputs = self, state, vector, options
        end = while_loop(lambda s: scalar_at(s.counts, 2) != 0, step, start, inputs)
        stats = eqx.combine(end.stats, no_arrays[0])
        num_steps, result, _ = unpacked(end.counts)
        numbers = _Numbers(*unpacked(end.numbers))
        if "num_steps" in stats:
            stats["num_steps"] = num_steps
        stats["backward_error"] = numbers.backward
        if square:
            least_squares = (result == Exit.converged) & (numbers.consistent > 1)
            stats["rank_deficient"] = least_squares
        x = _times(end.x, state.σ, 1 / unit)
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


class _Loop(NamedTuple):
    x: Array
    w: Any
    """x = Aᴴ w, where that is needed."""
    moved: Array
    """The norm of the last change of x."""
    numbers: Array
    counts: Array
    """Steps, the last result (`running` before the first), and whether to go on."""
    stats: Any


def _keep(condition: Array, new: Any, old: Any) -> Any:
    return jtu.tree_map(lambda n, o: where(condition, n, o), new, old)


def _ratio(x: Array, y: Array) -> Array:
    """x / y; 0 / 0 is 0."""
    return where(x == 0, 0, x / y)


def _times(x: Array, p: Array, q: Array) -> Array:
    """x p q, for powers of two p and q whose product need not be in range."""
    pq = p * q
    normal = (pq >= jnp.finfo(pq.dtype).tiny) & jax.lax.is_finite(pq)
    return times(where(normal, 1, q), times(where(normal, pq, p), x))


def _scaled(
    A: AbstractLinearOperator, damp: ArrayLike | None
) -> tuple[AbstractLinearOperator, Array, Array | None, Array]:
    """σA with a power of two σ near 1 / ‖[A; damp I]‖, hence exact; σ; σ damp; and a
    lower bound of ‖σA‖.

    ‖A‖ is seen from one product.
    """
    X, _ = spaces(A)
    v, v_norm = _probe(X)
    Av = jax.lax.stop_gradient(norm2(product(A)(v)))
    d = None if damp is None else jnp.asarray(damp, X.real_dtype)
    size = Av if d is None else jnp.maximum(Av, v_norm * d)
    known = (size > 0) & jax.lax.is_finite(size)
    v_norm = jnp.asarray(v_norm, X.real_dtype)
    σ = reciprocal_scale(size) * power_of_two(v_norm)
    σ = where(known, σ, 1)
    for info in map(jnp.finfo, _dtypes(A)):
        σ = jnp.clip(σ, 2.0 ** (info.minexp + 1), 2.0 ** (info.maxexp - 3))
    if _has_factors(A):
        A = _times_scalar(σ, A)
    else:
        σ = jnp.ones_like(σ)
    if d is not None:  # XLA would make (σd)² of σ² and d², which need not be in range
        d = barrier(σ * d)
    return A, σ, d, σ * Av / v_norm


def _probe(X: Space) -> tuple[Array, Any]:
    """A vector v that no operator is likely to annihilate, and so small that nothing
    overflows, as Σ |vᵢ| ≤ 1: hashes of the indices, so that no array is a constant of
    the program. And ‖v‖, at most."""
    n = math.prod(X.shape)
    hashes = jax.lax.iota(jnp.uint32, n) * np.uint32(2654435769)
    hashes = (hashes ^ (hashes >> np.uint32(15))) * np.uint32(2246822519)
    hashes = (hashes ^ (hashes >> np.uint32(13))) >> np.uint32(8)
    signed = hashes.astype(X.real_dtype) * 2.0**-23 - 1.0
    if is_known(n):
        size: Any = 2.0 ** -max(n - 1, 1).bit_length()
    else:
        size = reciprocal_scale(2.0 * jnp.asarray(n, X.real_dtype))
    v = (signed * size).astype(X.dtype).reshape(X.shape)
    return v, sqrt_of(max(n, 1) if is_known(n) else n) * size


def _dtypes(A: AbstractLinearOperator) -> set[Any]:
    leaves = jtu.tree_leaves((A.in_structure(), A.out_structure()))
    return {leaf.dtype for leaf in leaves} or {np.dtype(np.float32)}


def _has_factors(A: AbstractLinearOperator) -> bool:
    """Whether an array can be a factor of A that changes no dtype."""
    return len(_dtypes(A)) == 1 or not strict_promotion()


def _times_scalar(s: Array, A: AbstractLinearOperator) -> AbstractLinearOperator:
    """s A, in the dtypes of A."""
    dtype = min(_dtypes(A), key=lambda dtype: jnp.finfo(dtype).bits)
    if len(_dtypes(A)) > 1:
        dtype = complex_to_real_dtype(dtype)
    return A * s.astype(dtype)


def _first_guess(options: Options, X: Space, Y: Space, tall: bool) -> Array | None:
    """x; of a wide operator w in x = Aᴴ w, or none."""
    y0 = first_guess(options, X, "Normal")
    M: Any = options.get("preconditioner")
    if tall or y0 is None:
        return y0
    return None if M is None else Y.ravel(M.H.mv(X.solution(y0)))


def _inner_options(
    operator: AbstractLinearOperator, σ: Array, tall: bool, options: Options
) -> Options:
    """The options for the normal equations of σA, which start at zero."""
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
    if _has_factors(M):
        M = _times_scalar(reciprocal_scale(σ), M)
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
