"""Block GMRES, for many right-hand sides."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree
from lx_operators.internal import max_norm

from .._checks import check_state
from .._control_flow import while_loop
from .._scaling import norm2
from .._solver import AbstractLinearSolver
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._arnoldi import check_cycle
from ._bases import combine, inner, least_squares, orthonormal, rows_times
from ._options import effective
from ._phases import step_limit
from ._scalars import where
from ._spaces import as_matvec, spaces
from ._together import solve_together
from ._tolerances import (
    Norm,
    check_aims,
    right_hand_side,
    takes_rtol_and_atol,
)
from ._unchecked import first_aim, next_aim
from .gmres import GMRES


class _Cycle(NamedTuple):
    """Vectors are rows, in blocks of k: A V = V H, of all blocks but the last."""

    V: Array  # [m + 1, k, ...]
    H: Array  # [(m + 1) k, m k]
    Y: Array  # [m k, k]
    left: Array  # [k]: ‖rⱼ‖
    new: Array  # whether the last step found a direction; if none did, A V ⊂ V
    j: Array


class _Loop(NamedTuple):
    X: Array
    R: Array
    left: Array
    aim: Array  # [k]: of `left`
    steps: Array
    stalled: Array


def _block(
    solver: "BlockGMRES",
    state: driver.KrylovState,
    vectors: PyTree[Array],
    options: Any,
) -> tuple[PyTree[Array], Array]:
    """Solutions of A X = B whose residuals pass, or are as near to that as the steps
    go, and how many steps these are. Nothing here checks them."""
    X, Y = spaces(state.operator)
    A = jax.vmap(as_matvec(state.operator))
    M = effective(options, state).get("preconditioner")
    precondition = (lambda R: R) if M is None else jax.vmap(as_matvec(M, X))
    limit = step_limit(solver.max_steps, X)

    @jax.vmap
    def column(vector: PyTree[Array]) -> tuple[Array, ...]:
        given = right_hand_side(vector, Y, solver)
        return given.b, given.unit, first_aim(given, X, Y)

    @jax.vmap
    def again(vector: PyTree[Array], r: Array, left: Array, aim: Array) -> Array:
        return next_aim(right_hand_side(vector, Y, solver), r, left, aim, X, Y)

    B, unit, first = column(vectors)
    k, n = len(unit), B[0].size
    m = max(1, min(solver.restart, n))
    block = np.arange((m + 1) * k, dtype=np.int32) // k

    def cycle(s: _Loop) -> _Loop:
        aim = s.aim
        # what has converged, and what depends on others, starts no direction
        V0 = orthonormal(rows_times(s.left > aim, s.R), 100 * X.eps)
        begin = jnp.zeros(((m + 1) * k, k), X.dtype).at[:k].set(inner(V0, s.R))

        def step(c: _Cycle) -> _Cycle:
            W = A(precondition(c.V[c.j]))
            flat = c.V.reshape((m + 1) * k, *W.shape[1:])
            size, H = jax.vmap(norm2)(W), jnp.zeros(((m + 1) * k, k), X.dtype)
            Q = W
            for _ in range(2):
                h = where((block <= c.j)[:, None], inner(flat, Q), 0)
                Q, H = Q - combine(h, flat), H + h
            rest = Q
            some = jax.vmap(norm2)(rest) > 10 * X.eps * size
            Q = orthonormal(rows_times(some, rest), 100 * X.eps)
            h = where((block <= c.j)[:, None], inner(flat, Q), 0)
            Q = orthonormal(Q - combine(h, flat), 0.5)
            V = c.V.at[c.j + 1].set(Q)
            h = inner(Q, rest)
            new = jnp.any(h != 0)
            H = jax.lax.dynamic_update_slice_in_dim(H, h, (c.j + 1) * k, 0)
            H = jax.lax.dynamic_update_slice_in_dim(c.H, H, c.j * k, 1)
            Y, left = least_squares(H, begin)
            return _Cycle(V, H, Y, left, new, c.j + 1)

        def going(c: _Cycle) -> Array:
            go = jnp.any(c.left > aim) & (c.j < m) & (s.steps + c.j < limit)
            return go & c.new & jnp.all(jnp.isfinite(c.left))

        V = jnp.zeros((m + 1, *s.R.shape), X.dtype).at[0].set(V0)
        start = _Cycle(
            V,
            jnp.zeros(((m + 1) * k, m * k), X.dtype),
            jnp.zeros((m * k, k), X.dtype),
            s.left,
            jnp.asarray(True),
            jnp.int32(0),
        )
        end = while_loop(going, step, start, inputs)
        basis = end.V[:-1].reshape(m * k, *s.R.shape[1:])
        good = jnp.all(jnp.isfinite(end.left))
        update = precondition(where(good, combine(end.Y, basis), 0))
        solution = s.X + update
        R = B - A(solution)
        left = jax.vmap(norm2)(R)
        better = jnp.any((left < 0.9 * s.left) & (s.left > aim)) & good
        aim = again(vectors, R, left, aim)
        stalled = where(better, 0, s.stalled + 1)
        return _Loop(solution, R, left, aim, s.steps + end.j, stalled)

    def running(s: _Loop) -> Array:
        going = jnp.any(s.left > s.aim) & (s.steps < limit) & (s.stalled < 2)
        return going & jnp.all(jnp.isfinite(s.left)) & jnp.any(first > 0)

    inputs = solver, state, vectors, options
    zero = jnp.int32(0)
    start = _Loop(jnp.zeros_like(B), B, jax.vmap(norm2)(B), first, zero, zero)
    end = while_loop(running, cycle, start, inputs)
    finite = jnp.all(jnp.isfinite(end.left))
    guess = where(finite, rows_times(unit, end.X), 0)
    return jax.vmap(X.solution)(guess), end.steps


@takes_rtol_and_atol
class BlockGMRES(AbstractLinearSolver[driver.KrylovState]):
    """Block GMRES, for square operators and many right-hand sides, which share one
    Krylov space.

    Vital 1990 (*Étude de quelques méthodes de résolution de problèmes linéaires de
    grande taille sur multiprocesseur*, Rennes); Robbé and Sadkane 2006 (*Exact and
    inexact breakdowns in the block GMRES method*, Linear Algebra Appl. 419, 265-285)
    for directions that become linearly dependent on others: they are left out, and so
    are columns that have converged when a cycle begins. Each of k right-hand sides is
    solved from the sum of k Krylov spaces, so it takes fewer steps than alone; and the
    k products of a step are one product of matrices.

    The right-hand sides are those of `rhs_axis` in `linear_solve`, or of a `vmap` over
    vectors alone. Then `GMRES` takes each solution as initial guess. If the guess is
    good enough, that takes one product, which computes its true residual; otherwise it
    takes more steps. So results and tolerances are those of `GMRES`, column by column.
    A single right-hand side, and a `vmap` over operators, are solved by `GMRES`.

    A step is a product with each right-hand side, and one with the preconditioner, if
    any; the end of a cycle costs one more, but does not count as a step. The basis has
    `restart + 1` vectors for each right-hand side.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the step limit, of the block and of `GMRES` after it; ten times the
            size by default. With `rtol = atol = 0` exactly this many steps of `GMRES`
            are made.
        restart: steps in a cycle, of the block and of `GMRES`.
        stagnation_iters: as for `GMRES`.
        preconditioner: a recipe such as `Jacobi()`, or a direct solver, set up from the
            operator.
        criterion, history, progress: as for `GMRES`, to which they are passed.

    Options: `preconditioner`, an operator that approximates the inverse; `y0`, an
    initial guess, which is used for one right-hand side only.

    Statistics: `num_steps`, the steps of the block and of `GMRES` after it;
    `block_steps`, those of the block alone, which is 0 for a single right-hand side.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not square.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [-1.0, 3.0]]))
    solver = lx.BlockGMRES(rtol=1e-6, atol=1e-6)
    solution = lx.linear_solve(operator, jnp.eye(2), solver, rhs_axis=1)
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    restart: int = eqx.field(static=True, default=20)
    stagnation_iters: int = eqx.field(static=True, default=20)
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "BlockGMRES")
        check_cycle(self.restart, self.stagnation_iters, "BlockGMRES")

    def init(self, operator, options):
        return self._alone().init(operator, options)

    def compute(self, state, vector, options):
        check_state(state, driver.KrylovState, "BlockGMRES")
        alone = BlockGMRES._alone
        return solve_together(self, alone, _block, state, vector, options)

    def transpose(self, state, options):
        return driver.transposed_state(state, options)

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return True

    def _alone(self) -> GMRES:
        return GMRES(
            self.rtol,
            self.atol,
            self.norm,
            max_steps=self.max_steps,
            restart=self.restart,
            stagnation_iters=self.stagnation_iters,
            preconditioner=self.preconditioner,
            criterion=self.criterion,
            history=self.history,
            progress=self.progress,
        )
