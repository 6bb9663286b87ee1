"""Generalised minimal residuals, restarted."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
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
    plain_norm2,
    power_of_two,
    product,
    spaces,
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


class _Loop(NamedTuple):
    """b, x and r in units of `unit`; m steps in a cycle, of which j are made. The last
    row of each array is scratch, but of Q.

    With H the Hessenberg matrix of the cycle and D a diagonal of powers of two, Q is
    the product of the rotations that make it triangular, Q H = R D. So the
    least-squares problem min ‖β e₁ - H y‖ is solved by R D y = β Q e₁, and its residual
    is the next element of that right-hand side.
    """

    x: Array
    V: Array  # [m + 1, ...]: an orthonormal basis
    Z: Array | None  # [m + 1, ...]: M V, if M changes
    Q: Array  # [m + 1, m + 1]
    R: Array  # [m + 1, m + 1]
    D: Array  # [m + 1]
    β: Array
    """The residual's 2-norm at the start of the cycle."""
    aim: Array
    """The 2-norm of a residual that is expected to pass."""
    j: Array
    stuck: Array
    """H is singular: the last product brought nothing new."""
    stalls: Array
    """Cycles in a row without progress."""
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
    row = jnp.arange(m + 1, dtype=jnp.int32)
    identity = jnp.eye(m + 1, dtype=X.dtype)

    def correction(s: _Loop) -> tuple[Array, Array]:
        """V y (or Z y), and which part of it the last step changed."""
        g = where(row < s.j, s.β.astype(X.dtype) * s.Q[:, 0], 0)
        last = where(row == s.j - 1, g, 0)
        y = jax.lax.linalg.triangular_solve(
            s.R, jnp.stack([g, last], 1), left_side=True
        )
        y = y / s.D[:, None]
        size = jnp.sqrt(jnp.sum(jnp.abs(y * s.D[0]) ** 2, 0))
        basis = s.V if s.Z is None else s.Z
        return _combine(y[:, 0], basis), size[1] / where(size[0] > 0, size[0], 1)

    def direction(s: _Loop) -> tuple[Array, Array]:
        """The next basis vector."""
        return s.V[s.j], jnp.zeros((), X.real_dtype)

    def step(s: _Loop) -> _Loop:
        check, claimed = s.course.check, s.course.claimed
        v, moved = cond(check, correction, direction, s)
        if M is None:
            z = v
        else:
            z = M(v, s.course.num_steps)
            z = where(check, v, z) if flexible else z

        # the one product: with the direction, or to compute the residual
        w = A(where(check, s.x + z, z))
        r = b - w

        # Arnoldi's step, in units d of the product's size
        d = power_of_two(largest(w))
        w = w / d
        seen = row <= s.j
        h1 = where(seen, _coordinates(s.V, w), 0)
        w = w - _combine(h1, s.V)
        h2 = where(seen, _coordinates(s.V, w), 0)
        w = w - _combine(h2, s.V)
        t = where(check, r, w)
        size = once(plain_norm2(t))

        # Givens' rotation of rows j and j + 1
        h = h1 + h2 + where(row == s.j + 1, size.astype(X.dtype), 0)
        length = jnp.sqrt(jnp.sum(jnp.abs(h) ** 2))
        h = jnp.matmul(s.Q, h, precision=_HIGHEST)
        p, q = h[s.j], h[s.j + 1]
        ρ = once(jnp.sqrt(jnp.abs(p) ** 2 + jnp.abs(q) ** 2))
        stuck = ~check & ~(ρ > 4 * X.eps * length)
        made = ~check & ~stuck
        Qj, Qk = s.Q[s.j] / ρ, s.Q[s.j + 1] / ρ
        Q = where(row[:, None] == s.j, p.conj() * Qj + q.conj() * Qk, s.Q)
        Q = where(row[:, None] == s.j + 1, p * Qk - q * Qj, Q)
        Q = where(made, Q, s.Q)
        h = where(row == s.j, ρ.astype(X.dtype), h)
        new = made & (row == s.j)
        R = where(new, h[:, None], s.R)
        D = where(new, d, s.D)
        j = s.j + made.astype(jnp.int32)
        left = s.β * jnp.abs(Q[j, 0])  # the recurred residual

        # the test
        floor = s.course.floor(goal, X)
        moved = where(left <= 1e-3 * aim, 0, moved)
        residual = Y, r, goal.scale(b, given.peaks, floor, Y)
        update = X, moved * z, goal.scale(s.x + z, peaks(X, s.x + z), floor, X)
        ratio = where(check, goal.ratio(residual, update), left / s.aim)
        stalls = where((size > 0.999 * s.β) & (s.j > 0), s.stalls + 1, 0)
        num_steps = s.course.num_steps + 1
        course = advance(
            s.course,
            goal,
            ratio,
            settled=True,
            broken=check & s.stuck & (size > s.β / 2),
            finite=jnp.isfinite(size),
            limit=limit,
            due=stuck | (j == m) | (num_steps >= limit),
            stagnant=stalls >= solver.stagnation_iters,
            failure=Exit.singular,
        )

        # a claim that did not pass: go on with the cycle, unless its residual is off
        resume = claimed & (s.j < m) & ~s.stuck & (size <= 2 * left) & course.running
        restart = check & ~resume
        scratch = jnp.int32(m)
        target = where((check & ~restart) | stuck, scratch, where(check, 0, j))
        t = t / where(size > 4 * X.eps * where(check, 0, length), size, jnp.inf)
        Z = s.Z
        if Z is not None:
            Z = jax.lax.dynamic_update_index_in_dim(Z, z, where(check, m, s.j), 0)
        history = observer.record(
            s.history, course, lambda: where(check, size, left) * unit
        )
        return _Loop(
            x=where(restart, s.x + z, s.x),
            V=jax.lax.dynamic_update_index_in_dim(s.V, t, target, 0),
            Z=Z,
            Q=where(restart, identity, Q),
            R=where(restart, identity, R),
            D=D,
            β=where(restart, size, s.β),
            aim=where(check & claimed, size * 0.7 / ratio, s.aim),
            j=where(restart, 0, j),
            stuck=stuck,
            stalls=where(restart, stalls, s.stalls),
            course=course,
            history=history,
        )

    start = b if y0 is None else jnp.zeros_like(b)
    β = plain_norm2(start)
    V = jnp.zeros((m + 1, *X.shape), X.dtype)
    course = begin(given, limit, check=y0 is not None)
    scale = goal.scale(b, given.peaks, course.floor(goal, X), Y)
    aim = expected(goal, scale, Y)
    first = _Loop(
        x=X.zeros() if y0 is None else where(given.zero, 0, y0 / unit),
        V=V.at[0].set(start / where(β > 0, β, 1)),
        Z=V if flexible else None,
        Q=identity,
        R=identity,
        D=jnp.ones(m + 1, X.real_dtype),
        β=β,
        aim=aim,
        j=jnp.int32(0),
        stuck=jnp.array(False),
        stalls=jnp.int32(0),
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
