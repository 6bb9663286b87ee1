"""Generalised minimal residuals, restarted."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree
from lx_operators import AbstractLinearOperator, conj, linearise
from lx_operators.internal import max_norm

from .._checks import check_options, check_square, check_state
from .._course import Course, Exit, advance, begin
from .._goal import Norm, check_tolerances, expected, peaks, scaled
from .._iteration import (
    conjugated,
    first_guess,
    preconditioner,
    solution,
    step_limit,
    transposed,
)
from .._loops import cond, while_loop
from .._monitor import Monitor
from .._scaling import largest, plain_norm2, real_dot, reciprocal_scale
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from .._vectors import Product, once, packed, product, spaces, unpacked, where

_HIGHEST = jax.lax.Precision.HIGHEST


class GMRESState(eqx.Module):
    """What `GMRES.init` returns."""

    operator: AbstractLinearOperator


class GMRES(AbstractLinearSolver[GMRESState]):
    """Restarted GMRES, for square nonsingular operators.

    Saad and Schultz 1986, doi:10.1137/0907058, with the preconditioner on the right
    (Saad 2003, alg. 9.5, doi:10.1137/1.9780898718003), so that the residual is that of
    the system itself. What is not textbook: the basis is orthogonalised by two passes
    of classical Gram-Schmidt (Giraud, Langou and Rozložník 2005,
    doi:10.1016/j.camwa.2005.08.009), and where the recurred residual passes, the true
    one is computed; if it does not pass, the cycle goes on as if nothing had been
    asked.

    A step is one product with the operator and one with the preconditioner, if any; a
    check, or the end of a cycle, is one more of each, and no step. `restart + 4`
    vectors are kept: the basis, b, x and the product. The last update, which is to be
    within its tolerance, is estimated from the solution's coordinates in the basis.

    A singular operator ends in `singular` where the Krylov space shows it. It need not:
    a consistent singular system may have a solution in the Krylov space of b. That one
    is returned as success, its residual passes; but it need not be of least norm. For
    singular operators use `LSMR` or a rank-revealing solver.

    Args:
        rtol, atol: relative and absolute tolerance, of the residual beside b and of the
            last update beside the solution, elementwise.
        norm: from a pytree to a real scalar.
        max_steps: limit of steps; ten times the size by default. With
            `rtol = atol = 0` exactly this many steps are made.
        restart: steps in a cycle.
        stagnation_iters: how many cycles in a row may lessen the residual by less than
            a thousandth.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`; `True` for room for all steps, or how many.
        progress: show a progress bar.

    Options: `preconditioner`, an operator that approximates the inverse; `y0`, a first
    guess.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not square.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [-1.0, 3.0]]))
    solution = lx.linear_solve(operator, jnp.ones(2), lx.GMRES(rtol=1e-6, atol=1e-6))
    ```
    """

    rtol: ArrayLike
    atol: ArrayLike
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    restart: int = eqx.field(static=True, default=20)
    stagnation_iters: int = eqx.field(static=True, default=20)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_tolerances(self.rtol, self.atol, self.max_steps, "GMRES")
        check_cycle(self.restart, self.stagnation_iters, "GMRES")

    def init(self, operator, options):
        check_square(operator, "GMRES")
        check_options(options, ("preconditioner", "y0"), "GMRES")
        preconditioner(options, operator, "GMRES")
        return GMRESState(linearise(operator))

    def compute(self, state, vector, options):
        check_state(state, GMRESState, "GMRES")
        M = preconditioner(options, state.operator, "GMRES")
        space, _ = spaces(state.operator)
        right = None if M is None else lambda v, step: product(M, space)(v)
        return arnoldi(
            self, "GMRES", state.operator, right, vector, options, flexible=False
        )

    def transpose(self, state, options):
        return GMRESState(state.operator.T), transposed(options)

    def conj(self, state, options):
        return GMRESState(conj(state.operator)), conjugated(options)

    def assume_full_rank(self):
        return True


def check_cycle(restart: int, stagnation_iters: int, solver: str) -> None:
    for name, value in (("restart", restart), ("stagnation_iters", stagnation_iters)):
        if value < 1:
            raise ValueError(
                f"`{name}` of `{solver}` must be at least 1, but got {value}."
            )


class _Numbers(NamedTuple):
    """The scalars that a pass leaves to the next; at most eight, of more XLA makes no
    single kernel."""

    β: Any
    """The residual's 2-norm at the start of the cycle."""
    left: Any
    """That of the recurred residual."""
    aim: Any
    """That of a residual that is expected to pass."""
    j: Any
    """How many steps of the cycle are made."""
    stalls: Any
    """Cycles in a row without progress."""
    row: Any
    """The row of V that the pass wrote: 0 at the start of a cycle."""
    scale: Any
    """What normalised that row."""
    at: Any
    """The first of the three rows of T that it wrote."""


class _Loop(NamedTuple):
    """b, x and r in units of `unit`; m steps in a cycle. The last row of V and of Z,
    and the last three of T, are scratch.

    With H the Hessenberg matrix of the cycle and D a diagonal of powers of two, Q is
    the product of the rotations that make it triangular, Q H = R D. So the
    least-squares problem min ‖β e₁ - H y‖ is solved by R D y = β Q e₁, and its residual
    is the next element of that right-hand side. Of all this, what earlier cycles left
    behind the first j steps is not read, or is finite and meets zeros.
    """

    x: Array
    V: Array  # [m + 1, ...]: an orthonormal basis
    Z: Array | None  # [m + 1, ...]: M V, if M changes
    T: Array
    """[2 m + 3, m + 1]: in turn a row of Q and one of Rᵀ, which ends with 1 / D."""
    numbers: Array
    course: Course
    history: Array | None


def arnoldi(
    solver: Any,
    name: str,
    operator: AbstractLinearOperator,
    M: Any,
    vector: PyTree[Array],
    options: dict[str, Any],
    *,
    flexible: bool,
) -> tuple[PyTree[Array], RESULTS, dict[str, Any]]:
    """GMRES, or FGMRES, which keeps M V as M may change."""
    X, Y = spaces(operator)
    given = scaled(vector, Y, solver.rtol, solver.atol, solver.norm)
    b, goal, unit = given.b, given.goal, given.unit
    limit = step_limit(solver.max_steps, X)
    observer = Monitor(solver.history, solver.progress, limit, name)
    A: Product = product(operator)
    y0 = first_guess(options, X, name)
    m = max(min(solver.restart, X.size), 1)
    index = np.arange(m + 1, dtype=np.int32)
    rows = np.arange(2 * m + 3, dtype=np.int32)[:, None]

    def correction(s: _Loop) -> tuple[Array, Array]:
        """V y (or Z y), and D y, as a whole and of what the last step changed."""
        old = _Numbers(*unpacked(s.numbers))
        j, i = old.j.astype(jnp.int32), index[:, None]
        Q, R, inverse_D = s.T[:-1:2], s.T[1::2].T, s.T[1::2, m]
        whole = np.array([[True, False]])
        g = old.β.astype(X.dtype) * Q[:, :1]
        g = where((i < j) & (whole | (i == j - 1)), g, 0)
        y = jax.lax.linalg.triangular_solve(R, g, left_side=True)
        return _combine(y[:, 0] * inverse_D, s.V if s.Z is None else s.Z), y

    def direction(s: _Loop) -> tuple[Array, Array]:
        """The next basis vector; and a D y of no meaning, but not 0."""
        j = _Numbers(*unpacked(s.numbers)).j.astype(jnp.int32)
        return s.V[j], jnp.asarray(np.eye(m + 1, 2, dtype=X.dtype))

    def step(s: _Loop) -> _Loop:
        check, claimed = s.course.check, s.course.claimed
        old = _Numbers(*unpacked(s.numbers))
        k = old.j.astype(jnp.int32)
        was_stuck = (old.row == m) & (k < m)
        z, y = cond(check, correction, direction, s)
        if M is not None:
            Mz = M(z, s.course.num_steps)
            z = where(check, z, Mz) if flexible else Mz

        # the one product: with the direction, or with the new x for its residual
        u = where(check, s.x + z, z)
        w = A(u)
        r = b - w

        # Arnoldi's step, in units of the product's size
        sized = where(check, u, w)
        shrink = reciprocal_scale(largest(sized))
        w = shrink.astype(X.dtype) * w
        seen = index <= k
        c1 = _coordinates(s.V, w)
        w = w - _combine(where(seen, c1, 0), s.V)
        c2 = _coordinates(s.V, w)
        w = w - _combine(where(seen, c2, 0), s.V)
        h = where(seen, c1 + c2, 0)
        t = where(check, r, w)
        square = once(real_dot(t, t))
        size = jnp.sqrt(square)
        length = jnp.sqrt(jnp.sum(jnp.abs(h) ** 2) + square)

        # Givens' rotation of row k and the next, which is a unit vector's as yet
        Qh = once(jnp.sum(s.T[:-1:2] * h[None], 1))
        ρ = jnp.sqrt(jnp.abs(Qh[k]) ** 2 + square)
        recurred = size * (old.left / old.aim) / ρ
        moved = where(old.left <= 1e-3 * old.aim, 0, _moved(y, s.T[1::2, m]))
        numbers = Qh[k] / ρ, size / ρ, ρ, length, size, shrink, recurred, moved
        rotation = packed(*(x.astype(X.dtype) for x in numbers))
        p, *real = unpacked(rotation)
        q, ρ, length, size, shrink, recurred, _ = (x.real for x in real)
        stuck = ~check & ~(ρ > 4 * X.eps * length)  # H is singular: w brought nothing
        made = ~check & ~stuck
        j = k + made.astype(jnp.int32)
        left = old.left * where(made, q, 1)

        def test(course: Course):
            floor, (*_, moved) = course.floor(goal, X), unpacked(rotation)
            residual = Y, r, goal.scale(b, given.peaks, floor, Y)
            update = X, moved.real * z, goal.scale(u, peaks(X, sized), floor, X)
            return (goal.ratio(residual, update),)

        (ratio,) = s.course.ratios(goal, check, test)
        ratio = where(check, ratio, where(stuck, jnp.inf, recurred))
        stalls = where((size > 0.999 * old.β) & (k > 0), old.stalls + 1, 0)
        num_steps = s.course.num_steps + 1
        course = advance(
            s.course,
            goal,
            ratio,
            settled=True,
            broken=check & was_stuck & (size > old.β / 2),
            finite=jnp.isfinite(size),
            limit=limit,
            due=stuck | (j == m) | (num_steps >= limit),
            stagnant=stalls >= solver.stagnation_iters,
            failure=Exit.singular,
        )

        # a claim that did not pass: go on with the cycle, unless its residual is off
        resume = claimed & (k < m) & ~was_stuck & (size <= 2 * left) & course.running
        restart = check & ~resume
        scratch = (check & ~restart) | stuck
        small = ~(size > 4 * X.eps * where(check, 0, length))
        numbers = _Numbers(
            β=where(restart, size, old.β),
            left=where(restart, size, left),
            aim=where(check & claimed, size * 0.7 / ratio, old.aim),
            j=where(restart, 0, j),
            stalls=where(restart, stalls, old.stalls),
            row=where(scratch, m, where(check, 0, j)),
            scale=where(small, 0, 1 / size),
            at=where(scratch, 2 * m, 2 * where(check, 0, k)),
        )
        numbers = packed(*(jnp.asarray(x, X.real_dtype) for x in numbers))
        new = _Numbers(*unpacked(numbers))
        V = _with_row(s.V, t * new.scale.astype(X.dtype), new.row)
        Z = None if s.Z is None else _with_row(s.Z, z, where(check, m, k))

        q, ρ, shrink = (x.astype(X.dtype) for x in (q, ρ, shrink))
        made = new.j > old.j
        i = rows - new.at.astype(jnp.int32)
        e = (index == k + 1).astype(X.dtype)[None]
        Qk = where(seen, s.T[2 * k], 0)[None]
        Rk = where(index == m, shrink, where(index == k, ρ, Qh))[None]
        T = where(i == 0, p.conj(), -q) * Qk + where(i == 0, q, p) * e
        # ones to start from: Q's first column counts, and R has to be regular
        T = where(made, where(i == 1, Rk, T), 1)
        T = where((i >= 0) & (i <= 2), T, s.T)

        history = observer.record(
            s.history, course, lambda: where(check, size, left) * unit
        )
        x = where(new.row == 0, u, s.x)
        return _Loop(x, V, Z, T, numbers, course, history)

    start = b if y0 is None else jnp.zeros_like(b)
    β = plain_norm2(start)
    course = begin(given, limit, check=y0 is not None)
    scale = where(β > 0, 1 / β, 0)
    aim = expected(goal, goal.scale(b, given.peaks, course.floor(goal, X), Y), Y)
    numbers = _Numbers(β, left=β, aim=aim, j=0, stalls=0, row=0, scale=scale, at=0)
    numbers = packed(*(jnp.asarray(x, X.real_dtype) for x in numbers))
    scale = _Numbers(*unpacked(numbers)).scale.astype(X.dtype)
    rest = [(0, m, 0)] + [(0, 0, 0)] * b.ndim
    V = jax.lax.pad((start * scale)[None], jnp.zeros((), X.dtype), rest)
    first = _Loop(
        x=X.zeros() if y0 is None else where(given.zero, 0, y0 / unit),
        V=V,
        Z=V if flexible else None,
        T=jnp.ones((2 * m + 3, m + 1), X.dtype),
        numbers=numbers,
        course=course,
        history=observer.start(course, lambda: plain_norm2(b) * unit, X),
    )
    inputs = solver, operator, vector, options
    end = while_loop(lambda s: s.course.running, step, first, inputs)
    stats = observer.stats(end, limit)
    x, result = solution(end.x, given, end.course, X, vector)
    return x, result, stats


def _coordinates(V: Array, w: Array) -> Array:
    """Vᴴ w, for the rows of V."""
    axes = tuple(range(w.ndim))
    rows = tuple(axis + 1 for axis in axes)
    return jax.lax.dot_general(
        V, w.conj(), ((rows, axes), ((), ())), precision=_HIGHEST
    ).conj()


def _combine(y: Array, V: Array) -> Array:
    """Σ yᵢ Vᵢ."""
    return jax.lax.dot_general(y, V, (((0,), (0,)), ((), ())), precision=_HIGHEST)


def _with_row(V: Array, v: Array, i: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(V, v, i.astype(jnp.int32), 0)


def _moved(y: Array, inverse_D: Array) -> Array:
    """The norm of what the last step changed beside that of the whole, of D y."""
    unit = reciprocal_scale(inverse_D[0].real).astype(y.dtype)
    y = y * inverse_D[:, None] * unit
    whole, last = (jnp.sum(jnp.abs(y[:, i]) ** 2) for i in (0, 1))
    return jnp.sqrt(last / jnp.maximum(whole, jnp.finfo(y.dtype).tiny))
