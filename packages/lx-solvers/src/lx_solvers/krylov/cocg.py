"""Conjugate orthogonal conjugate gradients, for complex symmetric operators."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import is_symmetric
from lx_operators.internal import max_norm

from .._scaling import dot, quotient
from .._solver import AbstractLinearSolver
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._options import unknown
from ._recurrence import Step
from ._scalars import barrier, times, where
from ._tolerances import Norm, check_aims, takes_rtol_and_atol


class _State(NamedTuple):
    """The letters of van der Vorst and Melissen."""

    p: Array
    ρ: Any
    fresh: Any
    """There is no direction yet."""


class _ConjugateOrthogonal:
    """The recurrence. With r / ‖r‖ in place of r, z has the size of M."""

    sees_checks = False

    def start(self, X, b):
        return _State(X.zeros(), jnp.ones((), X.dtype), fresh=jnp.ones((), bool))

    def step(self, s, r, now):
        ν = now.ν
        z = now.M(times(where(ν == 0, 0, 1 / ν), r))
        ρ = barrier(_bilinear(r, z))
        β = where(s.fresh, 0, quotient(ρ, s.ρ))
        p = z + times(β, s.p)
        Ap = now.A(p)
        α = barrier(quotient(ρ, _bilinear(p, Ap)))
        usable = (jnp.abs(ρ) > 0) & (jnp.abs(α) > 0) & (jnp.abs(α) < jnp.inf)
        state = _State(p, where(ρ == 0, 1, ρ), fresh=jnp.zeros((), bool))
        return Step(α, p, Ap, state, broken=~usable, finite=jnp.isfinite(jnp.abs(ρ)))


def _bilinear(x: Array, y: Array) -> Array:
    """Σ xᵢ yᵢ: no number is conjugated."""
    return dot(x.conj(), y)


@takes_rtol_and_atol
class COCG(AbstractLinearSolver[driver.KrylovState]):
    """COCG, for complex symmetric operators: A = Aᵀ, and not Hermitian.

    van der Vorst and Melissen 1990, doi:10.1109/20.106415: conjugate gradients with the
    bilinear form Σ xᵢ yᵢ in place of the inner product. Such operators come from waves
    that are damped or absorbed: Helmholtz and Maxwell equations, impedance. It is
    mathematically the same as biconjugate gradients, at half the cost of a step. Beyond
    the textbook method, the true residual is computed before success is claimed; if it
    is too large, the iteration restarts.

    A step is one product with the operator and one with the preconditioner, if any; a
    check takes one more with the operator, and does not count as a step. Five vectors
    are kept: b, x, r, p and the product.

    It minimises nothing, and a residual with Σ rᵢ² = 0, such as (1, i), leads to
    `breakdown`; use `GMRES` in that case. For a singular operator the solve ends in
    `breakdown` or `max_steps_reached`, unless the system is consistent. For real
    operators it is `CG` without its safeguards.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the step limit; ten times the size by default.
            With `rtol = atol = 0` exactly this many steps are made.
        preconditioner: a recipe such as `Jacobi()`, or a direct solver, set up from the
            operator.
        criterion: "elementwise": each element of the residual is within its tolerance
            relative to b, and each of the last update relative to the solution;
            "two_norm": ‖b - A x‖₂ ≤ max(rtol ‖b‖₂, atol), which takes fewer steps.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`: `True`, or the number of entries to record.
        progress: show a progress bar.

    Options: `preconditioner`, a symmetric operator that approximates the inverse; `y0`,
    an initial guess.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator, or
            a preconditioner, that is not known to be symmetric.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0 + 1.0j, 1.0], [1.0, 3.0]]), lx.symmetric_tag
    )
    b = jnp.ones(2, complex)
    solution = lx.linear_solve(operator, b, lx.COCG(rtol=1e-6, atol=1e-6))
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
        check_aims(self, "COCG")

    def init(self, operator, options):
        state = driver.prepare(operator, options, "COCG", self.preconditioner)
        M = options.get("preconditioner")
        if M is not None and not is_symmetric(M):
            raise ValueError(
                "the option 'preconditioner' of `COCG` must be tagged "
                f"`symmetric_tag`, but got {M!r}."
            )
        if not is_symmetric(operator):
            raise unknown(
                operator,
                "symmetric",
                "COCG",
                "symmetric_tag",
                "For Hermitian operators use `CG` or `MINRES`, for others `GMRES` or "
                "`IDR`.",
            )
        return state

    def compute(self, state, vector, options):
        return self.iteration(state, vector, options).outcome()

    def iteration(self, state, vector, options):
        """As `compute`, pass by pass."""
        method = _ConjugateOrthogonal()
        return driver.iteration(method, self, "COCG", state, vector, options)

    def transpose(self, state, options):
        return driver.transposed_state(state, options)

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return True
