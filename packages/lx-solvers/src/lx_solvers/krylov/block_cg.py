"""Block conjugate gradients, for many right-hand sides."""

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
from ._bases import combine, inner, orthonormal, rows_times
from ._options import effective
from ._phases import step_limit
from ._scalars import where
from ._spaces import as_matvec, signed, spaces
from ._together import solve_together
from ._tolerances import (
    Norm,
    check_aims,
    expected,
    peaks,
    right_hand_side,
    takes_rtol_and_atol,
)
from .cg import CG, sign_of


class _Loop(NamedTuple):
    """The letters of O'Leary, but vectors are rows: [k, ...]."""

    X: Array
    R: Array
    P: Array
    left: Array  # [k]: ‖rⱼ‖
    steps: Array
    running: Array


def _block(
    solver: "BlockCG", state: driver.KrylovState, vectors: PyTree[Array], options: Any
) -> tuple[PyTree[Array], Array]:
    """Solutions of A X = B whose recurred residuals pass, or are as near to that as the
    steps go, and how many steps these are. Nothing here checks them."""
    X, Y = spaces(state.operator)
    A = jax.vmap(signed(as_matvec(state.operator), state.sign))
    M = effective(options, state).get("preconditioner")
    precondition = (
        (lambda R: R) if M is None else jax.vmap(signed(as_matvec(M, X), sign_of(M)))
    )
    limit = step_limit(solver.max_steps, X)

    @jax.vmap
    def column(vector: PyTree[Array]) -> tuple[Array, ...]:
        given = right_hand_side(vector, Y, solver)
        floor = given.goal.floor(X)
        aim = expected(given.goal, given.b, peaks(Y, given.b), floor, Y)
        return given.b, given.unit, aim / 4

    B, unit, aim = column(vectors)
    B = B if state.sign == 1 else -B

    def step(s: _Loop) -> _Loop:
        Q = A(s.P)
        PQ = inner(s.P, Q)
        absent = jnp.diagonal(PQ).real == 0
        eye = np.eye(len(unit), dtype=bool)
        L = jax.lax.linalg.cholesky(where(eye & absent[None], 1, PQ))
        α = _solve(L, inner(s.P, s.R))
        good = jnp.all(jnp.isfinite(jnp.abs(α)))
        α = where(good, α, 0)
        R = s.R - combine(α, Q)
        left = jax.vmap(norm2)(R)
        Z = rows_times(left > aim, precondition(R))
        β = where(good, _solve(L, inner(Q, Z)), 0)
        # what is independent by little more than rounding is not conjugate any more
        P = orthonormal(Z - combine(β, s.P), X.eps**0.6)
        running = good & jnp.any(left > aim) & (s.steps + 1 < limit)
        return _Loop(s.X + combine(α, s.P), R, P, left, s.steps + 1, running)

    left = jax.vmap(norm2)(B)
    P = orthonormal(precondition(B), X.eps**0.6)
    start = _Loop(
        jnp.zeros_like(B), B, P, left, jnp.int32(0), jnp.any(left > aim) & (limit > 0)
    )
    inputs = solver, state, vectors, options
    end = while_loop(lambda s: s.running, step, start, inputs)
    finite = jnp.all(jnp.isfinite(end.left))
    guess = where(finite, rows_times(unit, end.X), 0)
    return jax.vmap(X.solution)(guess), end.steps


def _solve(L: Array, B: Array) -> Array:
    """(L Lᴴ)⁻¹ B."""
    solve = jax.lax.linalg.triangular_solve
    Y = solve(L, B, left_side=True, lower=True)
    return solve(L, Y, left_side=True, lower=True, transpose_a=True, conjugate_a=True)


@takes_rtol_and_atol
class BlockCG(AbstractLinearSolver[driver.KrylovState]):
    """Block conjugate gradients, for Hermitian definite operators and many right-hand
    sides, which share one Krylov space.

    O'Leary 1980, doi:10.1016/0024-3795(80)90247-5, in the variant of Ji and Li 2017,
    doi:10.1007/s10543-016-0631-z, that does not break down: directions that become
    linearly dependent on others are left out, and so are columns that have converged.
    Each of k right-hand sides is solved from the sum of k Krylov spaces, so it takes
    fewer steps than alone; and the k products of a step are one product of matrices.

    The right-hand sides are those of `rhs_axis` in `linear_solve`, or of a `vmap` over
    vectors alone. Then `CG` takes each solution as initial guess. If the guess is good
    enough, that takes one product, which computes its true residual; otherwise it takes
    more steps. So results and tolerances are those of `CG`, column by column. A single
    right-hand side, and a `vmap` over operators, are solved by `CG`.

    A step is a product with each right-hand side, and one with the preconditioner, if
    any. For each right-hand side five vectors are kept, as by `CG`.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the step limit, of the block and of `CG` after it; ten times the size
            by default. With `rtol = atol = 0` exactly this many steps of `CG` are made.
        preconditioner: a recipe such as `Jacobi()`, or a direct solver, set up from the
            operator.
        criterion: "elementwise": each element of the residual is within its tolerance
            relative to b, and each of the last update relative to the solution;
            "two_norm": ‖b - A x‖₂ ≤ max(rtol ‖b‖₂, atol), which takes fewer steps.
        history: record the 2-norm of the residual before and after each step of `CG` in
            `stats["residuals"]`: `True`, or the number of entries to record.
        progress: show a progress bar of `CG`.

    Options: `preconditioner`, an operator that approximates the inverse: positive
    semidefinite or, if A is negative, negative, and tagged so; `y0`, an initial guess,
    which is used for a single right-hand side only.

    Statistics: `num_steps`, the steps of the block and of `CG` after it; `block_steps`,
    those of the block alone, which is 0 for a single right-hand side.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not known to be semidefinite.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1.0], [1.0, 3.0]]), lx.positive_semidefinite_tag
    )
    solver = lx.BlockCG(rtol=1e-6, atol=1e-6)
    solution = lx.linear_solve(operator, jnp.eye(2), solver, rhs_axis=1)
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "BlockCG")

    def init(self, operator, options):
        return self._alone().init(operator, options)

    def compute(self, state, vector, options):
        check_state(state, driver.KrylovState, "BlockCG")
        return solve_together(self, BlockCG._alone, _block, state, vector, options)

    def transpose(self, state, options):
        return driver.transposed_state(state, options)

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return True

    def _alone(self) -> CG:
        return CG(
            self.rtol,
            self.atol,
            self.norm,
            max_steps=self.max_steps,
            preconditioner=self.preconditioner,
            criterion=self.criterion,
            history=self.history,
            progress=self.progress,
        )
