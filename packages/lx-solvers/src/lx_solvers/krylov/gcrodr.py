"""GCRO-DR: GMRES that keeps a subspace, from cycle to cycle and system to system."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree
from lx_operators.internal import max_norm

from .._checks import check_state
from .._control_flow import while_loop
from .._scaling import plain_norm2
from .._sequence import after
from .._solver import AbstractLinearSolver, Options
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._arnoldi import check_cycle
from ._bases import combine, coordinates, triangular, with_row
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
from ._spaces import as_matvec, spaces
from ._tolerances import Norm, check_aims, right_hand_side, takes_rtol_and_atol
from ._unchecked import begun, first_aim, next_aim
from .gmres import GMRES


class _Cycle(NamedTuple):
    F: Array
    """[k + p + 1, ...]: C, and Arnoldi's basis, which is orthogonal to it."""
    Z: Array | None
    """[p, ...]: M times that basis; None without a preconditioner."""
    G: Array
    """[k + p + 1, k + p]: A [U, Z] = [C, V] G."""
    g: Array
    """[p + 1]: what Arnoldi's part of G annihilates from the left, so that ‖r‖ is β /
    ‖g‖ (Ayachour 2003, doi:10.1016/S0377-0427(03)00534-X)."""
    j: Array
    left: Array
    norm_A: Array


class _Loop(NamedTuple):
    x: Array
    r: Array
    left: Array
    aim: Array
    U: Array
    C: Array
    steps: Array
    stalled: Array
    norm_A: Array
    """A lower bound of ‖A‖ from the steps so far, without a preconditioner."""


def _recycled(
    solver: "GCRODR", state: RecycledState, vector: PyTree[Array], options: Options
) -> tuple[PyTree[Array], Array, Array, Array, Array]:
    """A solution whose residual passes, or is as near to that as the steps go; the
    subspace then, the number of steps, and a lower bound of ‖A‖. Nothing here checks
    the solution."""
    X, Y = spaces(state.krylov.operator)
    A = as_matvec(state.krylov.operator)
    M = effective(options, state.krylov).get("preconditioner")
    precondition = (lambda r: r) if M is None else as_matvec(M, X)
    given = right_hand_side(vector, Y, solver)
    b, first = given.b, first_aim(given, X, Y)
    limit = step_limit(solver.max_steps, X)
    k = len(state.U)
    p = max(1, solver.restart - k)
    rows = np.arange(k + p + 1, dtype=np.int32)

    def project(x: Array, r: Array, U: Array, C: Array) -> tuple[Array, Array]:
        c = coordinates(C, r)
        return x + combine(c, U), r - combine(c, C)

    def cycle(s: _Loop) -> _Loop:
        V = times(1 / s.left, s.r)
        none = jnp.zeros((p + 1, *X.shape), X.dtype)
        F = jnp.concatenate([s.C, with_row(none, V, 0)])
        had = jnp.any(s.C != 0, axis=tuple(range(1, s.C.ndim)))

        def step(c: _Cycle) -> _Cycle:
            z = precondition(c.F[k + c.j])
            w = A(z)
            size, h = plain_norm2(w), jnp.zeros(k + p + 1, X.dtype)
            for _ in range(2):
                more = where(rows <= k + c.j, coordinates(c.F, w), 0)
                w, h = w - combine(more, c.F), h + more
            β = barrier(plain_norm2(w))
            β = where(β > 4 * X.eps * size, β, 0)
            v = times(where(β > 0, 1 / where(β > 0, β, 1), 0), w)
            h = h.at[k + c.j + 1].set(β.astype(X.dtype))
            lost = jnp.sum(c.g[:-1].conj() * h[k:-1]).conj()  # as h ends with zeros
            g = c.g.at[c.j + 1].set(-lost / where(β > 0, β, 1).astype(X.dtype))
            left = s.left / plain_norm2(g)
            return _Cycle(
                with_row(c.F, v, k + c.j + 1),
                None if c.Z is None else with_row(c.Z, z, c.j),
                jax.lax.dynamic_update_index_in_dim(c.G, h, k + c.j, 1),
                g,
                c.j + 1,
                where(β > 0, left, 0 * size),  # NaN if that is not finite
                jnp.maximum(c.norm_A, where(plain & (size < jnp.inf), size, 0)),
            )

        def going(c: _Cycle) -> Array:
            return (c.left > s.aim) & (c.j < p) & (s.steps + c.j < limit)

        G = jnp.zeros((k + p + 1, k + p), X.dtype)
        start = _Cycle(
            F,
            None if M is None else none[1:],
            G.at[:k, :k].set(jnp.diag(had.astype(X.dtype))),
            jnp.zeros(p + 1, X.dtype).at[0].set(1),
            jnp.int32(0),
            s.left,
            s.norm_A,
        )
        c = while_loop(going, step, start, inputs)

        basis = c.F[k:-1] if c.Z is None else c.Z
        made = where(rows[:p] < c.j, jnp.ones(p, X.dtype), 0)
        basis = made.reshape(p, *[1] * b.ndim) * basis
        S = jnp.concatenate([s.U, basis])
        Q, R = triangular(c.G)
        e = times(s.left, Q[k].conj()[:, None])  # of ‖r‖ e, the k-th unit vector
        y = jax.lax.linalg.triangular_solve(R, e, left_side=True)
        good = jnp.all(jnp.isfinite(jnp.abs(y)))
        x = s.x + where(good, combine(y[:, 0], S), 0)
        U, C = kept(S, c.F, (Q, after(R, y)), jnp.any(c.G != 0, axis=0), k)
        usable = jnp.isfinite(jnp.sum(jnp.abs(C)) + jnp.sum(jnp.abs(U)))
        U, C = where(usable, U, s.U), where(usable, C, s.C)
        x, r = project(x, b - A(x), U, C)
        left = plain_norm2(r)
        better = (left < 0.999 * s.left) & good
        aim = next_aim(given, r, left, s.aim, X, Y)
        steps, stalled = s.steps + c.j, where(better, 0, s.stalled + 1)
        return _Loop(x, r, left, aim, U, C, steps, stalled, c.norm_A)

    def running(s: _Loop) -> Array:
        going = (s.left > s.aim) & (s.steps < limit) & (s.stalled < 2)
        return going & jnp.isfinite(s.left) & (first > 0)

    inputs = solver, state, vector, options
    zero, plain = jnp.int32(0), M is None
    x, r = begun(given, b, first_guess(options, X, "GCRODR"), A, X)
    x, r = project(x, r, state.U, state.C)
    subspace = state.U, state.C
    start = _Loop(x, r, plain_norm2(r), first, *subspace, zero, zero, X.zero())
    end = while_loop(running, cycle, start, inputs)
    x = where(jnp.isfinite(end.left), times(given.unit, end.x), 0)
    return X.solution(x), end.U, end.C, end.steps, end.norm_A


@takes_rtol_and_atol
class GCRODR(AbstractLinearSolver[RecycledState]):
    """GCRO-DR, for square operators that come in sequences: GMRES that keeps a subspace
    from cycle to cycle, and from one system to the next.

    Parks, de Sturler, Mackey, Johnson and Maiti 2006, doi:10.1137/040607277. The
    subspace, of `recycle` dimensions, is one on which A is small: approximate singular
    vectors for the smallest singular values (Al Daas, Grigori, Hénon and Ricoux 2021,
    doi:10.1145/3439746) instead of the paper's harmonic Ritz vectors, so that real
    problems stay real. The system is first solved on the subspace, and the rest
    converges as if these singular values did not exist.

    The `state` of a solution contains the subspace from the end of the solve:

    - pass it as `state` to further solves with the same operator, which costs no
      product;
    - pass it as `options={"recycle": state}` to a solve with the next operator, which
      costs `recycle` products, computed together.

    The subspace carries no derivative. In reverse mode, solves with the transpose use
    the subspace itself if the operator is symmetric, and its conjugate if it is
    Hermitian. Otherwise they start without one, unless you pass
    `adjoint_options={"recycle": state}` with the state of a solution for `operator.T`.
    Under `rhs_axis` the state does not change.

    Then `GMRES` takes the solution as initial guess. If it is good enough, that takes
    one product, which computes its true residual; otherwise it takes more steps. So
    results and tolerances are those of `GMRES`.

    A step is one product with the operator and one with the preconditioner, if any; the
    end of a cycle, of `restart - recycle` steps, costs one more product, and `init`
    with a subspace `recycle` products, which do not count as steps. `restart + 2
    recycle + 5` vectors are kept; and `restart - recycle` more with a preconditioner.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the step limit; ten times the size by default. With
            `rtol = atol = 0` exactly this many steps of `GMRES` are made.
        restart: the number of vectors of the subspace and a cycle's basis together.
        recycle: the dimension of the subspace, less than `restart`.
        stagnation_iters: as for `GMRES`.
        preconditioner: a recipe such as `Jacobi()`, or a direct solver, set up from the
            operator.
        criterion, history, progress: as for `GMRES`, to which they are passed.

    Options: `preconditioner`, an operator that approximates the inverse; `y0`, an
    initial guess; `recycle`, the state of an earlier solution.

    Statistics: `num_steps`, of which `recycled_steps` were made before `GMRES`.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not square; a subspace of another size.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [-1.0, 3.0]]))
    solver = lx.GCRODR(rtol=1e-6, atol=1e-6, restart=2, recycle=1)
    first = lx.linear_solve(operator, jnp.ones(2), solver)
    options = {"recycle": first.state}
    second = lx.linear_solve(1.1 * operator, jnp.ones(2), solver, options=options)
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    restart: int = eqx.field(static=True, default=20)
    recycle: int = eqx.field(static=True, default=5)
    stagnation_iters: int = eqx.field(static=True, default=20)
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "GCRODR")
        check_cycle(self.restart, self.stagnation_iters, "GCRODR")
        if not 1 <= self.recycle < self.restart:
            raise ValueError(
                "`recycle` of `GCRODR` must be at least 1 and less than `restart`, "
                f"but got {self.recycle}, and restart={self.restart}."
            )

    def init(self, operator, options):
        own = without(options)
        krylov = driver.prepare(operator, own, "GCRODR", self.preconditioner)
        return recycled_state(krylov, options, self.recycle, "GCRODR")

    def compute(self, state, vector, options):
        check_state(state, RecycledState, "GCRODR")
        x, U, C, steps, norm_A = _recycled(self, state, vector, options)
        limit = step_limit(self.max_steps, spaces(state.krylov.operator)[0])
        left: Any = limit - steps
        alone = GMRES(
            self.rtol,
            self.atol,
            self.norm,
            max_steps=left,
            restart=self.restart,
            stagnation_iters=self.stagnation_iters,
            criterion=self.criterion,
            history=self.history,
            progress=self.progress,
        )
        own = without(options)
        own = {**own, "y0": x}
        x, result, stats = alone.outcome(state.krylov, vector, own, norm_A)
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
