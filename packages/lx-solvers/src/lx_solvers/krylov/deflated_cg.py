"""Deflated conjugate gradients, whose subspace is kept from one system to the next."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree
from lx_operators.internal import max_norm

from .._checks import check_state
from .._control_flow import while_loop
from .._scaling import plain_norm2, real_dot
from .._sequence import qr
from .._solver import AbstractLinearSolver, Options
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._bases import combine, coordinates, inner, triangular, with_row
from ._options import effective, first_guess
from ._phases import step_limit
from ._recycled import (
    RecycledState,
    conjugated_subspace,
    kept,
    recycled_state,
    transposed_subspace,
    without,
)
from ._scalars import barrier, times, where
from ._spaces import as_matvec, signed, spaces
from ._tolerances import Norm, check_aims, right_hand_side, takes_rtol_and_atol
from ._unchecked import begun, first_aim, next_aim
from .cg import CG, sign_of


class _Steps(NamedTuple):
    """The letters of Barrett et al."""

    x: Array
    r: Array
    p: Array
    ρ: Array
    left: Array
    P: Array  # [ℓ, ...]: the first directions
    AP: Array
    steps: Array
    broken: Array
    norm_A: Array


class _Loop(NamedTuple):
    x: Array
    r: Array
    left: Array
    aim: Array
    P: Array
    AP: Array
    steps: Array
    stalled: Array
    norm_A: Array
    """A lower bound of ‖A‖ from the steps so far."""


def _deflated(
    solver: "DeflatedCG", state: RecycledState, vector: PyTree[Array], options: Options
) -> tuple[PyTree[Array], Array, Array, Array, Array]:
    """A solution whose residual passes, or is as near to that as the steps go; the
    subspace then, the number of steps, and a lower bound of ‖A‖. Nothing here checks
    the solution."""
    krylov = state.krylov
    X, Y = spaces(krylov.operator)
    A = signed(as_matvec(krylov.operator), krylov.sign)
    M = effective(options, krylov).get("preconditioner")
    precondition = (lambda r: r) if M is None else signed(as_matvec(M, X), sign_of(M))
    given = right_hand_side(vector, Y, solver)
    first = first_aim(given, X, Y)
    b = given.b if krylov.sign == 1 else -given.b
    limit = step_limit(solver.max_steps, X)
    k = len(state.U)
    ℓ = solver.directions
    U, C = state.U, krylov.sign * state.C

    # (Uᴴ A U)⁻¹ of those that are there
    E = inner(U, C)
    absent = jnp.diagonal(E).real == 0
    E = where(absent[None] & jnp.eye(k, dtype=bool), 1, E)
    inverse = jnp.linalg.inv(E)
    usable = jnp.all(jnp.isfinite(jnp.abs(inverse)))
    inverse = where(usable & ~absent[None] & ~absent[:, None], inverse, 0)

    def deflated(c: Array) -> Array:
        return jnp.sum(inverse * c[None], 1)

    def project(x: Array, r: Array) -> tuple[Array, Array]:
        """To Uᴴ r = 0."""
        c = deflated(coordinates(U, r))
        return x + combine(c, U), r - combine(c, C)

    def cycle(s: _Loop) -> _Loop:
        def step(c: _Steps) -> _Steps:
            z = precondition(c.r)
            ρ = barrier(real_dot(c.r, z))
            z = z - combine(deflated(coordinates(C, z)), U)
            p = z + times(where(c.ρ > 0, ρ / where(c.ρ > 0, c.ρ, 1), 0), c.p)
            Ap = A(p)
            α = ρ / barrier(real_dot(p, Ap))
            broken = ~((ρ > 0) & (α > 0) & (α < jnp.inf))
            α = where(broken, 0, α)
            r = c.r - times(α, Ap)
            unit = 1 / plain_norm2(p)
            count = s.steps + c.steps
            here = (count < ℓ) & ~broken
            at = jnp.minimum(count, ℓ - 1)
            P = where(here, with_row(c.P, times(unit, p), at), c.P)
            AP = where(here, with_row(c.AP, times(unit, Ap), at), c.AP)
            x = c.x + times(α, p)
            stretch = unit * plain_norm2(Ap)
            norm_A = jnp.maximum(c.norm_A, where(stretch < jnp.inf, stretch, 0))
            end = c.steps + 1, broken, norm_A
            return _Steps(x, r, p, ρ, plain_norm2(r), P, AP, *end)

        def going(c: _Steps) -> Array:
            return (c.left > s.aim) & (s.steps + c.steps < limit) & ~c.broken

        zero, no = jnp.int32(0), jnp.zeros((), bool)
        start = _Steps(
            s.x,
            s.r,
            jnp.zeros_like(b),
            X.zero(),
            s.left,
            s.P,
            s.AP,
            zero,
            no,
            s.norm_A,
        )
        c = while_loop(going, step, start, inputs)
        x, r = project(c.x, b - A(c.x))
        left = plain_norm2(r)
        better = (left < 0.9 * s.left) & ~c.broken
        aim = next_aim(given, r, left, s.aim, X, Y)
        stalled = where(better, 0, s.stalled + 1)
        steps = s.steps + c.steps
        return _Loop(x, r, left, aim, c.P, c.AP, steps, stalled, c.norm_A)

    def running(s: _Loop) -> Array:
        going = (s.left > s.aim) & (s.steps < limit) & (s.stalled < 1)
        return going & jnp.isfinite(s.left) & (first > 0)

    inputs = solver, state, vector, options
    x, r = begun(given, b, first_guess(options, X, "DeflatedCG"), A, X)
    x, r = project(x, r)
    none, zero = jnp.zeros((ℓ, *X.shape), X.dtype), jnp.int32(0)
    start = _Loop(x, r, plain_norm2(r), first, none, none, zero, zero, X.zero())
    end = while_loop(running, cycle, start, inputs)
    x = where(jnp.isfinite(end.left), times(given.unit, end.x), 0)

    S, AS = jnp.concatenate([U, end.P]), jnp.concatenate([C, end.AP])
    columns = AS.reshape(k + ℓ, -1).T
    Q, R = qr(jnp.pad(columns, ((0, k + ℓ), (0, 0))))  # tall, at any size
    F = Q[: X.size].T.reshape(S.shape)
    R = where(jnp.any(columns != 0, 0)[None], R, 0)
    there = jnp.any(R != 0, axis=0)
    new_U, new_C = kept(S, F, triangular(R), there, k)
    some = jnp.isfinite(jnp.sum(jnp.abs(new_U)) + jnp.sum(jnp.abs(new_C)))
    new_U, new_C = where(some, new_U, U), where(some, new_C, C)
    return X.solution(x), new_U, krylov.sign * new_C, end.steps, end.norm_A


@takes_rtol_and_atol
class DeflatedCG(AbstractLinearSolver[RecycledState]):
    """Deflated conjugate gradients, for Hermitian definite operators that come in
    sequences: a subspace is kept from one system to the next.

    Saad, Yeung, Erhel and Guyomarc'h 2000, doi:10.1137/S1064829598339761. The system is
    first solved on a subspace, and directions are kept conjugate to it, so the
    eigenvalues of A on the subspace do not affect convergence. At the end, a new
    subspace of `recycle` dimensions, on which A is smallest, is chosen from the old one
    and the first `directions` directions of the solve.

    The `state` of a solution contains that subspace. Pass it as `state` to solves with
    the same operator, and as `options={"recycle": state}` to a solve with the next
    operator, as with `GCRODR`. It carries no derivative. Under `rhs_axis` the state
    does not change.

    Then `CG` takes the solution as initial guess. If it is good enough, that takes one
    product, which computes its true residual; otherwise it takes more steps. So results
    and tolerances are those of `CG`.

    A step is one product with the operator and one with the preconditioner, if any; the
    end costs one more product, and `init` with a subspace `recycle` products, which do
    not count as steps. `2 recycle + 2 directions + 5` vectors are kept.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the step limit; ten times the size by default. With
            `rtol = atol = 0` exactly this many steps of `CG` are made.
        recycle: the dimension of the subspace.
        directions: how many directions a solve keeps, from which the subspace is drawn.
        preconditioner: a recipe such as `Jacobi()`, or a direct solver, set up from the
            operator. It must be known to be semidefinite.
        criterion, history, progress: as for `CG`, to which they are passed.

    Options: `preconditioner`, as for `CG`; `y0`, an initial guess; `recycle`, the state
    of an earlier solution.

    Statistics: `num_steps`, of which `recycled_steps` were made before `CG`.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not known to be semidefinite; a subspace of another size.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1.0], [1.0, 3.0]]), lx.positive_semidefinite_tag
    )
    solver = lx.DeflatedCG(rtol=1e-6, atol=1e-6, recycle=1, directions=2)
    first = lx.linear_solve(operator, jnp.ones(2), solver)
    options = {"recycle": first.state}
    second = lx.linear_solve(1.1 * operator, jnp.ones(2), solver, options=options)
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    recycle: int = eqx.field(static=True, default=8)
    directions: int = eqx.field(static=True, default=20)
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "DeflatedCG")
        if self.recycle < 1 or self.directions < 1:
            raise ValueError(
                "`recycle` and `directions` of `DeflatedCG` must be at least 1, but "
                f"got {self.recycle} and {self.directions}."
            )

    def init(self, operator, options):
        krylov = self._alone(self.max_steps).init(operator, without(options))
        return recycled_state(krylov, options, self.recycle, "DeflatedCG")

    def compute(self, state, vector, options):
        check_state(state, RecycledState, "DeflatedCG")
        options = without(options)
        x, U, C, steps, norm_A = _deflated(self, state, vector, options)
        limit = step_limit(self.max_steps, spaces(state.krylov.operator)[0])
        alone, options = self._alone(limit - steps), {**options, "y0": x}
        work = alone.iteration(state.krylov, vector, options, norm_A)
        x, result, stats = work.outcome()
        count = stats["num_steps"] + steps
        more = dict(num_steps=count, max_steps=limit, recycled_steps=steps)
        return x, result, {**stats, **more, "subspace": (U, C)}

    def updated(self, state, stats):
        """The state, with the subspace from a solve."""
        U, C = stats["subspace"]
        return RecycledState(state.krylov, U, C)

    def transpose(self, state, options):
        krylov, options = driver.transposed_state(state.krylov, options)
        return transposed_subspace(state, krylov), without(options)

    def conj(self, state, options):
        krylov, options = driver.conjugated_state(state.krylov, options)
        return conjugated_subspace(state, krylov), without(options)

    def assume_full_rank(self):
        return True

    def _alone(self, max_steps: Any) -> CG:
        return CG(
            self.rtol,
            self.atol,
            self.norm,
            max_steps=max_steps,
            preconditioner=self.preconditioner,
            criterion=self.criterion,
            history=self.history,
            progress=self.progress,
        )
