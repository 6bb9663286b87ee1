"""Shifted families (A + σᵢ I) xᵢ = b: all of them from one Krylov space, which is the
same for each shift, with one product a step.

What is computed here is checked by nobody: `shifted_solve` takes it as an initial
guess.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, is_positive_semidefinite

from .._control_flow import while_loop
from .._scaling import plain_norm2, real_dot
from ._bases import combine, coordinates, rows_times, rows_where, with_row
from ._phases import step_limit
from ._scalars import barrier, times, where
from ._spaces import Space, as_matvec, spaces
from ._tolerances import expected, peaks, right_hand_side
from .cg import CG
from .gmres import GMRES


def shifted_family(
    solver: Any,
    operator: AbstractLinearOperator,
    shifted: AbstractLinearOperator,
    vector: PyTree[Array],
    shifts: Array,
    *,
    definite: bool,
) -> tuple[PyTree[Array], Array]:
    """Solutions of (A + σᵢ I) xᵢ = b whose recurred residuals are within `solver`'s
    tolerance, or as near to it as its steps go.

    Args:
        solver: tolerances and `max_steps`; and `restart`, unless `definite`.
        operator: A.
        shifted: A + σ₀ I, whose structure is that of the solutions.
        vector: b, of `shifted`'s structure.
        shifts: σ, [k].
        definite: whether A is Hermitian, and A + σᵢ I definite.

    Returns:
        The solutions, with an axis of k elements in front; and the number of steps.
    """
    X, Y = spaces(shifted)
    given = right_hand_side(vector, Y, solver)
    floor = given.goal.floor(X)
    aim = expected(given.goal, given.b, peaks(Y, given.b), floor, Y) / 20
    problem = _Problem(as_matvec(operator, X), X, given.b, shifts.astype(X.dtype), aim)
    limit = step_limit(solver.max_steps, X)
    inputs = operator, vector, shifts
    if definite:
        x, steps = _lanczos(problem, limit, inputs)
    else:
        x, steps = _arnoldi(problem, limit, min(solver.restart, X.size), inputs)
    # a shift that makes A singular may leave infinities, from which nothing can start
    sizes = jnp.sum(jnp.abs(x), axis=tuple(range(1, x.ndim)))
    x = rows_where(jnp.isfinite(sizes), x)
    return jax.vmap(X.solution)(times(given.unit, x)), steps


def check_family(operator: Any, shifts: Array, solver: Any) -> bool:
    """Whether a family is definite, as `CG` asks; of another solver, it need not be.

    Raises:
        ValueError: as `shifted_solve`.
    """
    if shifts.ndim != 1 or shifts.size == 0:
        raise ValueError(
            "`shifts` of `shifted_solve` must be an array of one axis and at least one "
            f"element, but has shape {shifts.shape}."
        )
    if not isinstance(solver, CG | GMRES):
        raise ValueError(
            "`solver` of `shifted_solve` must be `CG` (for definite systems) or "
            f"`GMRES`, but got {solver!r}."
        )
    if solver.preconditioner is not None:
        raise ValueError(
            "`solver` of `shifted_solve` must have no preconditioner, which would make "
            f"other Krylov spaces for other shifts, but got {solver!r}."
        )
    if isinstance(solver, CG):
        if not is_positive_semidefinite(operator):
            raise ValueError(
                "`shifted_solve` with `CG` needs an operator that is tagged "
                f"`positive_semidefinite_tag`, but got {operator!r}; use `GMRES`."
            )
        if jnp.iscomplexobj(shifts):
            raise ValueError(
                "`shifted_solve` with `CG` needs real shifts, but got an array of "
                f"{shifts.dtype}; use `GMRES`."
            )
    return isinstance(solver, CG)


class _Problem(NamedTuple):
    A: Any
    X: Space
    b: Array
    σ: Array
    aim: Array


class _Lanczos(NamedTuple):
    """The letters of Saad, *Iterative Methods for Sparse Linear Systems*, 2nd ed.,
    algorithm 6.17 (D-Lanczos); p, x, ζ and η for each shift."""

    v_old: Array
    v: Array
    p: Array
    x: Array
    β: Array
    ζ: Array
    η: Array
    left: Array  # [k]: ‖r‖
    steps: Array


def _lanczos(problem: _Problem, limit: Any, inputs: Any) -> tuple[Array, Array]:
    """Conjugate gradients for all shifts: T + σ I = L D Lᴴ, each in its own recurrence
    (as by Frommer and Maass 1999, doi:10.1137/S1064827596313310)."""
    A, X, b, σ, aim = problem

    def step(s: _Lanczos) -> _Lanczos:
        w = A(s.v)
        α = barrier(real_dot(s.v, w))
        w = w - times(α, s.v) - times(s.β, s.v_old)
        β = barrier(plain_norm2(w))
        λ = where(s.η == 0, 0, s.β.astype(σ.dtype) / where(s.η == 0, 1, s.η))
        ζ = where(s.η == 0, s.ζ, -λ * s.ζ)
        η = α.astype(σ.dtype) + σ - λ * s.β.astype(σ.dtype)
        inverse = where(s.left > aim, 1 / where(η == 0, 1, η), 0)
        p = rows_times(inverse, s.v[None] - times(s.β, s.p))
        left = where(s.left > aim, β * jnp.abs(ζ * inverse), s.left)
        x = s.x + rows_times(ζ, p)
        v = times(where(β > 0, 1 / where(β > 0, β, 1), 0), w)
        return _Lanczos(s.v, v, p, x, β, ζ, η, left, s.steps + 1)

    size = plain_norm2(b)
    none, k = jnp.zeros((σ.size, *X.shape), X.dtype), σ.size
    v = times(where(size > 0, 1 / where(size > 0, size, 1), 0), b)
    ζ = jnp.full(k, 1, X.dtype) * size.astype(X.dtype)
    start = _Lanczos(
        jnp.zeros_like(v),
        v,
        none,
        none,
        X.zero(),
        ζ,
        jnp.zeros_like(σ),
        jnp.full(k, 1, X.real_dtype) * size,
        jnp.int32(0),
    )
    end = while_loop(
        lambda s: (s.steps < limit) & jnp.any(s.left > aim), step, start, inputs
    )
    return end.x, end.steps


class _Arnoldi(NamedTuple):
    V: Array  # [m + 1, ...]
    H: Array  # [m + 1, m + 1]
    j: Array
    x: Array  # [k, ...]
    β: Array  # [k]: rᵢ = βᵢ v, with v the first of the cycle's basis
    y: Array  # [k, m]
    left: Array  # [k]: ‖r‖
    steps: Array


def _arnoldi(problem: _Problem, limit: Any, m: int, inputs: Any) -> tuple[Array, Array]:
    """Restarted full orthogonalisation for all shifts (Simoncini 2003,
    doi:10.1023/A:1022377506225): all residuals are multiples of the next basis vector,
    which is what a cycle can start from again."""
    A, X, b, σ, aim = problem
    m = max(m, 1)
    index = np.arange(m, dtype=np.int32)
    rows = np.arange(m + 1, dtype=np.int32)

    def step(s: _Arnoldi) -> _Arnoldi:
        # the solutions of the last cycle, if it is at its end
        over = s.j == m
        x = s.x + where(over, combine(s.y.T, s.V[:-1]), 0)
        β = where(over, -s.H[m, m - 1] * s.y[:, m - 1], s.β)
        j = where(over, jnp.int32(0), s.j)
        V = with_row(s.V, where(over, s.V[m], s.V[0]), 0)

        w = A(V[j])
        seen = rows <= j
        h = where(seen, coordinates(V, w), 0)
        w = w - combine(h, V)
        again = where(seen, coordinates(V, w), 0)
        w = w - combine(again, V)
        size = barrier(plain_norm2(w))
        v = times(where(size > 0, 1 / where(size > 0, size, 1), 0), w)
        V = with_row(V, v, j + 1)
        column = h + again + where(rows == j + 1, size.astype(h.dtype), 0)
        H = where(rows[None] == j, column[:, None], s.H)

        # (H + σ I) y = β e₁, of what is known of H
        known = (index[:, None] <= j) & (index[None] <= j)
        square = where(known, H[:-1, :-1], 0)
        unit = jnp.eye(m, dtype=H.dtype)
        shifted = square[None] + σ[:, None, None] * where(known, unit, 0)[None]
        shifted = shifted + where(known, 0, unit)[None]
        e = rows_times(β, jnp.broadcast_to(unit[:1], (σ.size, m)))
        y = jnp.linalg.solve(shifted, e[..., None])[..., 0]
        last = jnp.sum(where((index == j)[None], y, 0), 1)
        left = jnp.abs(size.astype(last.dtype) * last)
        usable = jnp.isfinite(left)
        y = where(usable[:, None], y, 0)
        left = where(usable, left, jnp.inf)
        left = where(jnp.isfinite(jnp.abs(σ)), left, 0)  # no step helps such a shift
        return _Arnoldi(V, H, j + 1, x, β, y, left, s.steps + 1)

    size, k = plain_norm2(b), σ.size
    v = times(where(size > 0, 1 / where(size > 0, size, 1), 0), b)
    zeros = jnp.zeros((m + 1, *X.shape), X.dtype)
    start = _Arnoldi(
        with_row(zeros, v, 0),
        jnp.zeros((m + 1, m + 1), X.dtype),
        jnp.int32(0),
        jnp.zeros((k, *X.shape), X.dtype),
        jnp.full(k, 1, X.dtype) * size.astype(X.dtype),
        jnp.zeros((k, m), X.dtype),
        jnp.full(k, 1, X.real_dtype) * size,
        jnp.int32(0),
    )
    end = while_loop(
        lambda s: (s.steps < limit) & jnp.any(s.left > aim), step, start, inputs
    )
    return end.x + combine(end.y.T, end.V[:-1]), end.steps
