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
from .._iteration import (
    Course,
    Exit,
    Norm,
    advance,
    begin,
    check_tolerances,
    conjugated,
    expected,
    first_guess,
    peaks,
    preconditioner,
    scaled,
    solution,
    step_limit,
    transposed,
)
from .._loops import cond, while_loop
from .._monitor import Monitor
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from .._vectors import (
    Product,
    largest,
    once,
    packed,
    plain_norm2,
    product,
    real_dot,
    reciprocal_scale,
    spaces,
    unpacked,
    where,
)

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
    """The scalars that one pass leaves to the next; m steps in a cycle."""

    β: Any
    """The residual's 2-norm at the start of the cycle."""
    left: Any
    """The recurred residual's 2-norm."""
    aim: Any
    """The 2-norm of a residual that is expected to pass."""
    j: Any
    """The steps made in this cycle."""
    stuck: Any
    """H is singular: the last product brought nothing new."""
    stalls: Any
    """Cycles in a row without progress."""
    row: Any
    """Of V, the row that this pass wrote: 0 if it began a cycle."""
    scale: Any
    """And what normalised it."""


class _Loop(NamedTuple):
    """b, x and r in units of `unit`. The last row of V and of Z is scratch.

    With H the Hessenberg matrix of the cycle and D a diagonal of powers of two, Q is
    the product of the rotations that make it triangular, Q H = R D. So the
    least-squares problem min ‖β e₁ - H y‖ is solved by R D y = β Q e₁, and its residual
    is the next element of that right-hand side. Of all these only what belongs to the
    steps of this cycle is read: a restart leaves them as they are.
    """

    x: Array
    V: Array  # [m + 1, ...]: an orthonormal basis
    Z: Array | None  # [m + 1, ...]: M V, if M changes
    T: Array  # [2 (m + 1), m + 1]: Q, Rᵀ, and the diagonal of D as the last row
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

    def correction(s: _Loop) -> tuple[Array, Array]:
        """V y (or Z y), and y / D for the whole and for what the last step changed."""
        old = _Numbers(*unpacked(s.numbers))
        j = old.j.astype(jnp.int32)
        Q, R = s.T[:-1:2], s.T[1::2].T
        i, last = index[:, None], np.array([[False, True]])
        kept = (i < j) & ((i == j - 1) | ~last)
        g = where(kept, old.β.astype(X.dtype) * Q[:, :1], 0)
        y = jax.lax.linalg.triangular_solve(R, g, left_side=True)
        return _combine(y[:, 0] * s.T[1::2, -1], s.V if s.Z is None else s.Z), y

    def direction(s: _Loop) -> tuple[Array, Array]:
        """The next basis vector."""
        j = _Numbers(*unpacked(s.numbers)).j.astype(jnp.int32)
        return s.V[j], jnp.asarray(np.eye(m + 1, 2, dtype=X.dtype))

    def step(s: _Loop) -> _Loop:
        check, claimed = s.course.check, s.course.claimed
        old = _Numbers(*unpacked(s.numbers))
        k = old.j.astype(jnp.int32)
        z, y = cond(check, correction, direction, s)
        if M is not None:
            Mz = M(z, s.course.num_steps)
            z = where(check, z, Mz) if flexible else Mz

        # the one product: with the direction, or with the new x for its residual
        u = where(check, s.x + z, z)
        w = A(u)
        r = b - w

        # Arnoldi's step, in units of the product's size
        reference = where(check, u, w)
        shrink = reciprocal_scale(largest(reference))
        w = shrink.astype(X.dtype) * w
        seen = index <= k
        c1 = _coordinates(s.V, w)
        w = w - _combine(where(seen, c1, 0), s.V)
        c2 = _coordinates(s.V, w)
        w = w - _combine(where(seen, c2, 0), s.V)
        t = where(check, r, w)

        # Givens' rotation of rows j and j + 1: of the latter Q has the unit vector yet
        h = where(seen, c1 + c2, 0)
        Qh = once(jnp.sum(s.T[:-1:2] * h[None], 1))
        square = once(real_dot(t, t))
        size = jnp.sqrt(square)
        length = jnp.sqrt(jnp.sum(jnp.abs(h) ** 2) + square)
        p = Qh[k]
        ρ = jnp.sqrt(jnp.abs(p) ** 2 + square)
        y = y * s.T[1::2, -1:] * reciprocal_scale(s.T[1, -1].real).astype(X.dtype)
        whole, last = (jnp.sum(jnp.abs(y[:, k]) ** 2) for k in (0, 1))
        moved = jnp.sqrt(last / jnp.maximum(whole, jnp.finfo(X.dtype).tiny))
        moved = where(old.left <= 1e-3 * old.aim, 0, moved)
        estimate = size * (old.left / old.aim) / ρ
        rotation = p / ρ, size / ρ, ρ, length, size, moved, estimate
        p, *rest = unpacked(packed(*(x.astype(X.dtype) for x in rotation)))
        q, ρ, length, size, moved, estimate = (x.real for x in rest)
        stuck = ~check & ~(ρ > 4 * X.eps * length)
        made = ~check & ~stuck
        j = k + made.astype(jnp.int32)
        left = old.left * where(made, q, 1)

        # the test
        floor = s.course.floor(goal, X)
        residual = Y, r, goal.scale(b, given.peaks, floor, Y)
        update = X, moved * z, goal.scale(u, peaks(X, reference), floor, X)
        ratio = where(
            check, goal.ratio(residual, update), where(stuck, jnp.inf, estimate)
        )
        stalls = where((size > 0.999 * old.β) & (old.j > 0), old.stalls + 1, 0)
        num_steps = s.course.num_steps + 1
        course = advance(
            s.course,
            goal,
            ratio,
            settled=True,
            broken=check & (old.stuck > 0) & (size > old.β / 2),
            finite=jnp.isfinite(size),
            limit=limit,
            due=stuck | (j == m) | (num_steps >= limit),
            stagnant=stalls >= solver.stagnation_iters,
            failure=Exit.singular,
        )

        # a claim that did not pass: go on with the cycle, unless its residual is off
        resume = claimed & (old.j < m) & (old.stuck == 0) & (size <= 2 * left)
        restart = check & ~(resume & course.running)
        scratch = (check & ~restart) | stuck
        numbers = _Numbers(
            β=where(restart, size, old.β),
            left=where(restart, size, left),
            aim=where(check & claimed, size * 0.7 / ratio, old.aim),
            j=where(restart, 0, j),
            stuck=stuck,
            stalls=where(restart, stalls, old.stalls),
            row=where(scratch, m, where(check, 0, j)),
            scale=where(size > 4 * X.eps * where(check, 0, length), 1 / size, 0),
        )
        numbers = packed(*(jnp.asarray(x, X.real_dtype) for x in numbers))
        new = _Numbers(*unpacked(numbers))

        q, ρ, shrink = (x.astype(X.dtype) for x in (q, ρ, shrink))
        e = where(index == k + 1, jnp.ones((), X.dtype), 0)
        Qk = where(seen, s.T[2 * k], 0)
        Rk = where(index == m, shrink, where(index == k, ρ, Qh))
        rows = jnp.stack([p.conj() * Qk + q * e, Rk, p * e - q * Qk])
        at = where(made, 2 * k, where(new.row == 0, 0, jnp.int32(2 * m)))
        T = jax.lax.dynamic_update_slice_in_dim(s.T, where(made, rows, 1), at, 0)
        Z = s.Z
        if Z is not None:
            at = where(check, m, k)
            Z = jax.lax.dynamic_update_index_in_dim(Z, z, at, 0)
        t = t * new.scale.astype(X.dtype)
        history = observer.record(
            s.history, course, lambda: where(check, size, left) * unit
        )
        return _Loop(
            x=where(new.row == 0, u, s.x),
            V=jax.lax.dynamic_update_index_in_dim(s.V, t, new.row.astype(jnp.int32), 0),
            Z=Z,
            T=T,
            numbers=numbers,
            course=course,
            history=history,
        )

    start = b if y0 is None else jnp.zeros_like(b)
    β = plain_norm2(start)
    course = begin(given, limit, check=y0 is not None)
    floor = goal.scale(b, given.peaks, course.floor(goal, X), Y)
    numbers = _Numbers(
        β=β,
        left=β,
        aim=expected(goal, floor, Y),
        j=0,
        stuck=0,
        stalls=0,
        row=0,
        scale=where(β > 0, 1 / β, 0),
    )
    numbers = packed(*(jnp.asarray(x, X.real_dtype) for x in numbers))
    scale = _Numbers(*unpacked(numbers)).scale.astype(X.dtype)
    padding = [(0, m, 0)] + [(0, 0, 0)] * b.ndim
    V = jax.lax.pad((start * scale)[None], jnp.zeros((), X.dtype), padding)
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
