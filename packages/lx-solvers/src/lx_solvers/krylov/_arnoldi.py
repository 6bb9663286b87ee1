"""What GMRES and FGMRES share: Arnoldi's process, restarted, and its least-squares
problem.

    A Vₖ = Vₖ₊₁ Hₖ,   xₖ = x₀ + Vₖ yₖ,   yₖ = argmin ‖β e₁ - Hₖ y‖

(Saad and Schultz 1986, doi:10.1137/0907058). With a preconditioner M on the right, A M
takes the place of A, and M V that of V in x; if M changes from step to step, M V is
kept (Saad 1993, doi:10.1137/0914028).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree

from .._checks import check_state
from .._control_flow import cond, while_loop
from .._scaling import (
    largest,
    norm2,
    plain_norm2,
    real_dot,
    reciprocal_scale,
)
from .._sizes import is_known
from .._solver import Options
from ._bases import combine, coordinates, with_row, with_rows
from ._driver import KrylovState, Outcome, report
from ._guess import held, start_from, useless
from ._history import Monitor
from ._options import first_guess, stopping_rule
from ._phases import Exit, Phases, advance, begin, step_limit
from ._scalars import barrier, packed, times, unpacked, where
from ._spaces import Product, as_matvec, spaces
from ._tolerances import expected, peaks, right_hand_side


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
    """The 2-norm of the recurred residual."""
    aim: Any
    """The 2-norm of a residual that is expected to pass."""
    j: Any
    """How many steps of the cycle are made."""
    stalls: Any
    """Cycles in a row without progress."""
    row: Any
    """The row of V that the pass wrote: 0 at the start of a cycle."""
    scale: Any
    """The factor that normalised that row."""
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
    norm_A: Array
    """A lower bound of ‖A‖."""
    phases: Phases
    history: Array | None


def arnoldi(
    solver: Any,
    name: str,
    state: KrylovState,
    M: Any,
    vector: PyTree[Array],
    options: Options,
    *,
    flexible: bool,
    norm_A: ArrayLike = 0,
) -> Outcome:
    """`compute` of GMRES, or of FGMRES, which keeps M V, as M may change.

    Args:
        solver: its fields are the parameters.
        name: what messages call it.
        state, vector, options: as for `AbstractLinearSolver.compute`.
        M: from a vector and the number of steps to the preconditioned vector, or None.
        flexible: whether to keep M V.
        norm_A: a lower bound of ‖A‖, if one is known already.
    """
    check_state(state, KrylovState, name)
    operator = state.operator
    X, Y = spaces(operator)
    given = right_hand_side(vector, Y, solver)
    b, goal, unit = given.b, given.goal, given.unit
    limit = step_limit(solver.max_steps, X)
    monitor = Monitor(solver.history, solver.progress, limit, name)
    A: Product = as_matvec(operator)
    y0 = first_guess(options, X, name)
    rule = stopping_rule(options, name)
    m = min(solver.restart, X.size) if is_known(X.size) else solver.restart
    m = max(m, 1)
    index = np.arange(m + 1, dtype=np.int32)

    def correction(s: _Loop) -> tuple[Array, Array]:
        """V y (or Z y), and D y, as a whole and of what the last step changed."""
        old = _Numbers(*unpacked(s.numbers))
        j, i = old.j.astype(jnp.int32), jnp.arange(m + 1, dtype=jnp.int32)[:, None]
        Q, R, inverse_D = s.T[:-1:2], s.T[1::2].T, s.T[1::2, m]
        whole = jnp.arange(2, dtype=jnp.int32)[None] == 0
        g = old.β.astype(X.dtype) * Q[:, :1]
        g = where((i < j) & (whole | (i == j - 1)), g, 0)
        y = jax.lax.linalg.triangular_solve(R, g, left_side=True)
        return combine(y[:, 0] * inverse_D, s.V if s.Z is None else s.Z), y

    def direction(s: _Loop) -> tuple[Array, Array]:
        """The next basis vector; and a D y of no meaning, but not 0."""
        j = _Numbers(*unpacked(s.numbers)).j.astype(jnp.int32)
        return s.V[j], jnp.ones((m + 1, 2), X.dtype)

    def step(s: _Loop) -> _Loop:
        check, claimed = s.phases.check, s.phases.claimed
        if M is not None:  # a step from the residual, without M
            check = check & ~s.phases.probe
        old = _Numbers(*unpacked(s.numbers))
        k = old.j.astype(jnp.int32)
        was_stuck = (old.row == m) & (k < m)
        z, y = cond(check, correction, direction, s)
        if M is not None:
            Mz = M(z, s.phases.num_steps)
            keep = s.phases.probe | check if flexible else s.phases.probe
            z = where(keep, z, Mz)

        # the one product: with the direction, or with the new x for its residual
        u = where(check, s.x + z, z)
        w = A(u)
        if y0 is not None:
            w = where(s.phases.first, held(w), w)
        r = b - w

        # Arnoldi's step, in units of the product's size
        sized = where(check, u, w)
        shrink = reciprocal_scale(largest(sized))
        w = times(shrink, w)
        seen = index <= k
        h = where(seen, coordinates(s.V, w), 0)
        w = w - combine(h, s.V)
        rest = where(seen, coordinates(s.V, w), 0)
        w, h = w - combine(rest, s.V), h + rest
        t = where(check, r, w)
        square = barrier(real_dot(t, t))
        size = jnp.sqrt(square)
        length = jnp.sqrt(jnp.sum(jnp.abs(h) ** 2) + square)

        # Givens' rotation of row k and the next, which is a unit vector's as yet
        Qh = barrier(jnp.sum(s.T[:-1:2] * h[None], 1))
        ρ = jnp.sqrt(jnp.abs(Qh[k]) ** 2 + square)
        recurred = size * (old.left / old.aim) / ρ
        no_matter = s.phases.last | (old.left <= 1e-3 * old.aim)
        moved = where(no_matter, 0, _moved(y, s.T[1::2, m]))
        cosine = Qh[k] / ρ.astype(X.dtype)
        numbers = cosine, size / ρ, ρ, length, size, shrink, recurred, moved
        rotation = packed(*(x.astype(X.dtype) for x in numbers))
        p, *real = unpacked(rotation)
        q, ρ, length, size, shrink, recurred, _ = (x.real for x in real)
        stuck = ~check & ~(ρ > 4 * X.eps * length)  # H is singular: w brought nothing
        made = ~check & ~stuck
        j = k + made.astype(jnp.int32)
        left = old.left * where(made, q, 1)

        def test(phases: Phases):
            floor, (*_, moved) = phases.floor(goal, X), unpacked(rotation)
            if goal.norm is None:
                return (goal.residual_ratio(r, b, given.peaks, floor, Y),)
            residual = Y, r, goal.scale(b, given.peaks, floor, Y)
            update = (
                X,
                moved.real.astype(X.dtype) * z,
                goal.scale(u, peaks(X, sized), floor, X),
            )
            return (goal.ratio(residual, update),)

        # V's rows have length one
        stretch = length * reciprocal_scale(shrink)
        if M is not None:
            stretch = stretch / norm2(z)
        stretch = where(check | ~(stretch < jnp.inf), 0, stretch)
        norm_A = jnp.maximum(s.norm_A, stretch)

        again = False
        if y0 is not None:
            again = s.phases.first & useless(size, norm_b, X.eps)
        (ratio,) = s.phases.ratios(goal, check, test)
        ratio = where(check, ratio, where(stuck, jnp.inf, recurred))
        stalls = where((size > 0.999 * old.β) & (k > 0), old.stalls + 1, 0)
        stopped = False
        if rule is not None:
            said = rule(size * unit, X.solution(times(unit, u)), s.phases.num_steps)
            stopped = check & jnp.asarray(said, bool)
        phases = advance(
            s.phases,
            goal,
            ratio,
            settled=True,
            broken=check & was_stuck & (size > old.β / 2),
            finite=jnp.isfinite(size),
            limit=limit,
            due=stuck | (j == m),
            nothing=size == 0,
            probe=M is not None,
            stagnant=stalls >= solver.stagnation_iters,
            again=again,
            stopped=stopped,
            failure=Exit.singular,
        )

        # a claim that did not pass: go on with the cycle, unless its residual is off
        resume = claimed & (k < m) & ~was_stuck & (size <= 2 * left) & phases.running
        restart = check & ~resume
        scratch = (check & ~restart) | stuck
        small = ~(size > 4 * X.eps * where(check, 0, length))
        numbers = _Numbers(
            β=where(restart, size, old.β),
            left=where(again, 0, where(restart, size, left)),
            aim=where(check & claimed, size * 0.7 / ratio, old.aim),
            j=where(restart, 0, j),
            stalls=where(restart, stalls, old.stalls),
            row=where(scratch, m, where(check, 0, j)),
            scale=where(small, 0, 1 / size),
            at=where(scratch, 2 * m, 2 * where(check, 0, k)),
        )
        numbers = packed(*(jnp.asarray(x, X.real_dtype) for x in numbers))
        new = _Numbers(*unpacked(numbers))
        V = with_row(s.V, t * new.scale.astype(X.dtype), new.row)
        Z = None if s.Z is None else with_row(s.Z, z, where(check, m, k))

        q, ρ, shrink = (x.astype(X.dtype) for x in (q, ρ, shrink))
        made = new.j > old.j
        next, Qk = index == k + 1, where(seen, s.T[2 * k], 0)
        Rk = where(index == m, shrink, where(index == k, ρ, Qh))
        T = jnp.stack([where(next, q, p.conj() * Qk), Rk, where(next, p, -q * Qk)])
        # ones to start from: Q's first column counts, and R has to be regular
        T = with_rows(s.T, where(made, T, 1), new.at.astype(jnp.int32))

        history = monitor.record(
            s.history,
            phases,
            lambda: where(check, size, where(s.phases.probe, old.β, left)) * unit,
        )
        x = where(again, 0, where(new.row == 0, u, s.x))
        return _Loop(x, V, Z, T, numbers, norm_A, phases, history)

    start = b if y0 is None else jnp.zeros_like(b)
    norm_b = plain_norm2(b)
    β = plain_norm2(start)
    x, given = start_from(y0, given, X)
    phases = begin(given, limit, check=y0 is not None)
    scale = where(β > 0, 1 / β, 0)
    aim = expected(goal, b, given.peaks, goal.floor(X), Y)
    numbers = _Numbers(β, left=β, aim=aim, j=0, stalls=0, row=0, scale=scale, at=0)
    numbers = packed(*(jnp.asarray(x, X.real_dtype) for x in numbers))
    scale = _Numbers(*unpacked(numbers)).scale.astype(X.dtype)
    rest = [(0, m, 0)] + [(0, 0, 0)] * b.ndim
    V = jax.lax.pad((scale * start)[None], jnp.zeros((), X.dtype), rest)
    first = _Loop(
        x=x,
        V=V,
        Z=V if flexible else None,
        T=jnp.ones((2 * m + 3, m + 1), X.dtype),
        numbers=numbers,
        norm_A=X.zero() + norm_A,
        phases=phases,
        history=monitor.start(phases, lambda: plain_norm2(b) * unit, X),
    )
    inputs = solver, state, vector, options
    end = while_loop(lambda s: s.phases.running, step, first, inputs)
    last = _Numbers(*unpacked(end.numbers))
    norms = end.norm_A, norm_b, last.β
    used = options.get("preconditioner")
    return report(end, limit, monitor, given, X, vector, *norms, M=used)


def _moved(y: Array, inverse_D: Array) -> Array:
    """The norm of the last step's change of D y, relative to that of D y."""
    unit = reciprocal_scale(inverse_D[0].real).astype(y.dtype)
    y = y * (unit * inverse_D)[:, None]
    whole, last = (jnp.sum(jnp.abs(y[:, i]) ** 2) for i in (0, 1))
    return jnp.sqrt(last / jnp.maximum(whole, jnp.finfo(y.dtype).tiny))
