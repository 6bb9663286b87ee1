"""Stabilised biconjugate gradients, with residual polynomials of degree ℓ."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._scaling import dot, largest, norm2, quotient, real_dot, reciprocal_scale
from ._bases import combine, gram, row, rows_times, shadows, with_row
from ._recurrence import Step
from ._scalars import barrier, times, where


class _State(NamedTuple):
    """The letters of Sleijpen and Fokkema, with σ A M in place of A."""

    r_hat: Array
    R: Array  # [ℓ + 1, ...]: rᵢ = (σ A M)ⁱ r
    U: Array  # [ℓ + 1, ...]: uᵢ = (σ A M)ⁱ u
    MR: Array | None  # M R, with a preconditioner; else None
    MU: Array | None
    ρ: Any
    α: Any
    ω: Any
    σ: Any
    """A power of two near 1 / ‖A M‖."""
    j: Any
    second: Any
    """The next step is a second half."""
    begun: Any
    """There is a direction u; else β = 0."""
    fresh: Any
    """The last pass was a start."""


class StabilisedByDegree:
    """The recurrence, by half steps: ℓ times one with A u and one with A r, whose last
    is followed by the least residual of degree ℓ. It starts afresh in each check."""

    sees_checks = True

    def __init__(self, ell: int, preconditioned: bool):
        self.ell, self.preconditioned = ell, preconditioned

    def start(self, X, b):
        self.tiny = 4 * X.eps
        # not b alone: ⟨b, A b⟩ = 0 for a skew-symmetric A
        size = norm2(b)
        r_hat = times(0.5, shadows(1, X)[0]) + times(where(size > 0, 1 / size, 0), b)
        none = jnp.zeros((self.ell + 1, *X.shape), X.dtype)
        M = none if self.preconditioned else None
        one, zero, no = jnp.ones((), X.dtype), X.zero(), jnp.zeros((), bool)
        numbers = one, one, one, zero + 1, zero, no, no, ~no
        return _State(r_hat, none, none, M, M, *numbers)

    def step(self, s, r, now):
        check, j = now.check, s.j.astype(jnp.int32)
        i = np.arange(self.ell + 1, dtype=np.int32)
        first, last = ~s.second, s.second & (j == self.ell - 1)
        seen = first & (i <= j)
        R = with_row(s.R, r, 0)

        # of a first half: the direction, in all its powers
        rⱼ = row(R, j)
        ρ = barrier(dot(s.r_hat, rⱼ))
        β = quotient(ρ, where(j == 0, -s.ω, 1) * s.ρ) * s.α
        a, β = jnp.asarray(seen, β.dtype), where(s.begun, β, 0)
        kept = where(seen, -β, 1)
        U = rows_times(a, R) + rows_times(kept, s.U)
        y = now.M(where(first, row(U, j), rⱼ))
        w = now.A(y)

        # the product, of either
        shrink = reciprocal_scale(largest(w))
        ŵ = times(shrink, w)
        size = jnp.sqrt(barrier(real_dot(ŵ, ŵ)))
        σ = reciprocal_scale(size / shrink / where(now.ν > 0, now.ν, 1))
        σ = where(s.begun | check, s.σ, σ)
        w = times(σ, w)
        U = with_row(U, where(first, w, row(U, j + 1)), j + 1)
        R = with_row(R, where(first, row(R, j + 1), w), j + 1)
        of_w = barrier(dot(s.r_hat, ŵ))
        lost = ~(jnp.abs(of_w) > self.tiny * size)
        lost = first & (lost | ~(jnp.abs(ρ) > self.tiny * norm2(rⱼ)))
        α = quotient(times(shrink, ρ), times(σ, where(of_w == 0, 1, of_w)))

        # of the last second half: the least residual r - Σ γᵢ rᵢ
        γ = _least(gram(R))
        ω = γ[-1]
        lost = (lost | (last & ~(jnp.abs(ω) > 0))) & ~check

        # x += σ α M u, r -= α u₁; or x += σ Σ γᵢ M rᵢ₋₁, r -= Σ γᵢ rᵢ
        MR, MU = R, U
        if self.preconditioned:
            MU = rows_times(a, s.MR) + rows_times(kept, s.MU)
            MU = with_row(MU, where(first, y, row(MU, j)), j)
            MR = with_row(s.MR, where(first, row(s.MR, j), y), j)
        α = where(lost | check, 0, where(first, α, s.α))
        γ = where(last & ~(lost | check), γ, 0)
        of_u = where(first, α, 0)
        zero = jnp.zeros(1, γ.dtype)
        γ_below, γ_above = (jnp.concatenate(z) for z in ((γ, zero), (zero, γ)))
        step = times(of_u, MU[0]) + combine(γ_below, MR)
        image = times(of_u, U[1]) + combine(γ_above, R)

        def lessened(R: Array, U: Array) -> Array:
            return R - rows_times(where(seen, α, 0), jnp.roll(U, -1, 0))

        state = _State(
            s.r_hat,
            lessened(R, U),
            with_row(U, U[0] - combine(γ_above, U), 0),
            lessened(MR, MU) if self.preconditioned else None,
            MU if self.preconditioned else None,
            ρ=where(first & (ρ != 0), ρ, s.ρ),
            α=α,
            ω=where(last & ~(lost | check), ω, s.ω),
            σ=σ,
            j=where(check | last, 0, where(first, s.j, s.j + 1)),
            second=first & ~check,
            begun=~check,
            fresh=check,
        )
        return Step(
            (~(check | lost)).astype(now.ν.dtype),
            times(σ, step),
            image,
            state,
            broken=lost & s.fresh,
            finite=jnp.isfinite(size) & jnp.isfinite(now.ν),
            due=lost & (now.ν > 0),
            idle=s.second & ~last,
        )


def _least(G: Array) -> Array:
    """γ of the least ‖r₀ - Σ γᵢ rᵢ‖, from the inner products ⟨rᵢ, rⱼ⟩.

    By normal equations (Sleijpen, van der Vorst and Fokkema 1994,
    doi:10.1007/BF02141261), of unit diagonal; where rᵢ are dependent to rounding, a
    solution of them.
    """
    size = jnp.sqrt(jnp.diagonal(G).real)
    inverse = where(size > 0, 1 / size, 0).astype(G.dtype)
    G = inverse[:, None] * G * inverse[None]
    eps = float(jnp.finfo(G.dtype).eps)
    A = where(np.eye(len(G) - 1, dtype=bool), 1 + 64 * eps, G[1:, 1:])
    L = jax.lax.linalg.cholesky(A)
    solve = jax.lax.linalg.triangular_solve
    y = solve(L, G[1:, :1], left_side=True, lower=True)
    y = solve(L, y, left_side=True, lower=True, transpose_a=True, conjugate_a=True)
    γ = y[:, 0] * inverse[1:] * size[0].astype(G.dtype)
    return where(jnp.isfinite(jnp.abs(γ)), γ, 0)
