"""Induced dimension reduction."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike
from lx_operators.internal import max_norm

from .._scaling import dot, largest, quotient, real_dot, reciprocal_scale
from .._sizes import is_known
from .._solver import AbstractLinearSolver
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._bases import combine, coordinates, shadows, with_row
from ._recurrence import Step
from ._scalars import barrier, times, where
from ._tolerances import Norm, check_aims, takes_rtol_and_atol

_κ = 0.7  # the least cosine of the angle between r and A r that is believed in ω


class _State(NamedTuple):
    """The letters of van Gijzen and Sonneveld. The last row of U and G is scratch."""

    U: Array  # [s + 1, ...]
    G: Array  # [s + 1, ...]: A U
    M: Array  # [s + 1, s + 1]: ⟨pᵢ, gⱼ⟩, lower triangular
    ω: Any
    k: Any
    """The step in the cycle, from 0; the step s is along r."""
    full: Any
    """All of U and G is known."""
    fresh: Any
    """The last pass was a start."""


class _DimensionReduction:
    """The recurrence. It starts afresh in each check."""

    sees_checks = True

    def __init__(self, s: int):
        self.s = s

    def start(self, X, b):
        self.s = max(min(self.s, X.size), 1) if is_known(X.size) else self.s
        self.tiny = 4 * X.eps
        self.P = shadows(self.s, X)
        none = jnp.zeros((self.s + 1, *X.shape), X.dtype)
        M = jnp.eye(self.s + 1, dtype=X.dtype)
        no, yes = jnp.zeros((), bool), jnp.ones((), bool)
        return _State(none, none, M, jnp.ones((), X.dtype), X.zero(), no, yes)

    def step(self, s, r, now):
        check, ν = now.check, now.ν
        k, i = s.k.astype(jnp.int32), np.arange(self.s + 1, dtype=np.int32)
        along_r = k == self.s

        # into the space G: v ⟂ P, and the next u
        f = where(i >= k, self.products(r), 0)
        c = where(s.full, _solve(s.M, f), 0)
        v = r - combine(c, s.G)
        u = times(where(along_r, 1, s.ω), now.M(v)) + combine(c, s.U)
        g = now.A(u)

        # gₖ ⟂ pᵢ for i < k
        h = self.products(g)
        a = where((i < k) & ~along_r, _solve(s.M, h), 0)
        g, u = g - combine(a, s.G), u - combine(a, s.U)
        column = where(i >= k, h - jnp.matmul(s.M, a, precision="highest"), 0)

        # how far: to r ⟂ pₖ, or, along r, to the least residual, if that is far enough
        shrink = reciprocal_scale(largest(g))
        ĝ = times(shrink, g)
        square = barrier(real_dot(ĝ, ĝ))
        size = jnp.sqrt(square)
        q = barrier(dot(ĝ, r))
        cosine = jnp.abs(q) / where(size * ν > 0, size * ν, 1)
        phase = where(q == 0, 1, times(1 / jnp.abs(where(q == 0, 1, q)), q))
        ω = times(jnp.maximum(cosine, _κ) * (ν / size) * shrink, phase)
        divisor = times(shrink, jnp.sum(where(i == k, column, 0)))
        β = quotient(times(shrink, jnp.sum(where(i == k, f, 0))), divisor)
        lost = ~where(along_r, size > 0, jnp.abs(divisor) > self.tiny * size)
        lost = lost & ~check
        α = where(lost | check, 0, where(along_r, ω, β))

        at = where(check | lost, self.s, k)
        state = _State(
            with_row(s.U, u, at),
            with_row(s.G, g, at),
            where((i == at)[None] & (at < self.s), column[:, None], s.M),
            where(along_r & ~(check | lost), ω, s.ω),
            where(check | along_r, 0, s.k + 1),
            where(check, False, s.full | along_r),
            check,
        )
        return Step(
            α,
            u,
            g,
            state,
            broken=lost & s.fresh,
            finite=jnp.isfinite(square) & jnp.isfinite(ν),
            due=lost & (ν > 0),
        )

    def products(self, w):
        """⟨pᵢ, w⟩, and a 0."""
        return jnp.pad(coordinates(self.P, w), (0, 1))


def _solve(M: Array, f: Array) -> Array:
    """M⁻¹ f, of a lower triangular M."""
    solve = jax.lax.linalg.triangular_solve
    return solve(M, f[:, None], left_side=True, lower=True)[:, 0]


@takes_rtol_and_atol
class IDR(AbstractLinearSolver[driver.KrylovState]):
    """IDR(s), for square nonsingular operators with any spectrum, with short
    recurrences.

    van Gijzen and Sonneveld 2011, doi:10.1145/2049662.2049667, the variant with
    biorthogonality, with the preconditioner on the right, and with ω no shorter than
    for an angle of 45° between r and A r (Sleijpen and van der Vorst 1995,
    doi:10.1007/BF02141745). Beyond the textbook method, the iteration restarts from the
    true residual in each check, and if a pivot is lost in rounding; if another one is
    lost at once, it has broken down. Before success is claimed, the true residual is
    computed.

    In exact arithmetic it ends after n + n / s products, `BiCGStab` after 2 n. It also
    converges when eigenvalues are near the imaginary axis or around zero, where
    `BiCGStab` stalls. A larger s takes fewer products and more memory.

    A step is one product with the operator and one with the preconditioner, if any, and
    6 s vector operations; a check takes one more product of each kind, and does not
    count as a step. 3 s + 6 vectors are kept: P, U and G with one row of scratch each,
    b, x, r and the product.

    For a singular operator the solve ends in `breakdown` or `max_steps_reached`. As for
    `GMRES`, a consistent singular system may be solved, but the solution need not have
    the least norm.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the limit of steps, that is, of products; ten times the size by
            default. With `rtol = atol = 0` exactly this many steps are made.
        s: the number of vectors in each of P, U and G; at least 1.
        preconditioner: a recipe such as `Jacobi()`, or a direct solver, set up from the
            operator.
        criterion: "elementwise": each element of the residual is within its tolerance
            relative to b, and each of the last update relative to the solution;
            "two_norm": ‖b - A x‖₂ ≤ max(rtol ‖b‖₂, atol), which takes fewer steps.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`: `True`, or the number of entries to record.
        progress: show a progress bar.

    Options: `preconditioner`, an operator that approximates the inverse; `y0`, an
    initial guess.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; `s` below 1; an
            operator that is not square.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[0.0, 2.0], [-1.0, 0.5]]))
    solution = lx.linear_solve(operator, jnp.ones(2), lx.IDR(rtol=1e-6, atol=1e-6))
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    s: int = eqx.field(static=True, default=4)
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "IDR")
        if self.s < 1:
            raise ValueError(f"`s` of `IDR` must be at least 1, but got {self.s}.")

    def init(self, operator, options):
        return driver.prepare(operator, options, "IDR", self.preconditioner)

    def compute(self, state, vector, options):
        return self.iteration(state, vector, options).outcome()

    def iteration(self, state, vector, options):
        """As `compute`, pass by pass."""
        method = _DimensionReduction(self.s)
        return driver.iteration(method, self, "IDR", state, vector, options)

    def transpose(self, state, options):
        return driver.transposed_state(state, options)

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return True
