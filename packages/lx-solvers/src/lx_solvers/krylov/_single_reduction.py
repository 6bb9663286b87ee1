"""Conjugate gradients whose inner products are all computed at once.

Chronopoulos and Gear 1989, doi:10.1016/0377-0427(89)90045-9, algorithm 2.2, with two
changes. The next product is made before the inner products, so that the residual's norm
is one of them. And of ⟨p, A p⟩ with p = z + β p_old,

    ⟨z, A z⟩ + 2 β ⟨z, A p_old⟩ + β² ⟨p_old, A p_old⟩,

the middle term is computed, not taken from ⟨p, A p_old⟩ = 0, which rounding makes
untrue: that is one more inner product, and took 138 steps in place of 465 for a
Laplacian with jumps of 1e6, for which `CG` takes 137.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from .._scaling import real_dot, reciprocal_scale
from ._recurrence import Step
from ._scalars import packed, times, unpacked, where


class _State(NamedTuple):
    """The next step, x + α p, and s = A p."""

    p: Array
    s: Array
    ρ: Any
    """⟨r, z⟩; ∞ where there is no next step yet."""
    α: Any
    length: Any
    """An upper bound of ‖p‖, without a preconditioner."""


class SingleReduction:
    """The recurrence. As in `CG`, z and p are in units of M r / ‖r‖."""

    sees_checks = True

    def start(self, X, b):
        zero = X.zero()
        return _State(X.zeros(), X.zeros(), ρ=zero + jnp.inf, α=zero, length=zero)

    def step(self, s, r, now):
        eps = jnp.finfo(now.ν.dtype).eps
        fresh = s.ρ == jnp.inf  # this pass moves nothing, but makes the first product
        broken = ~fresh & ~((s.α > 0) & (s.α < jnp.inf))
        taken = where(broken | fresh | now.check, 0, s.α)
        scale = where(now.ν == 0, 0, 1 / now.ν)
        w = r - times(taken, s.s)
        z = now.M(times(scale, w))
        q = now.A(z)
        r, v = now.anew(w), now.vector
        shrink = reciprocal_scale(where(now.norm_A > 0, now.norm_A, 1))
        small = times(shrink, q)  # its squares do not overflow, but in the first pass
        pairs = [(r, r), (r, z), (z, q), (small, small), (v, v), (z, s.s)]
        rr, ρ, zAz, qq, vv, zAp = unpacked(packed(*(real_dot(*each) for each in pairs)))
        ν = jnp.sqrt(rr)

        β = where(fresh, 0, ρ / s.ρ)
        pAp = zAz + 2 * β * zAp + where(fresh, 0, β * ρ / s.α)
        length = scale * ν + β * s.length
        # where the difference is lost in rounding, the next step is that of z alone
        lost = ~fresh & ~(pAp > 8 * eps * zAz)
        noise = (8 * eps) ** 2 * now.norm_A * length**2
        null = fresh & now.plain & (pAp <= noise)  # z is a null vector, up to rounding
        α = where(null, -1, ρ / pAp)
        # directions are conjugate only to residuals that are near the recurred ones
        off = now.claimed | (ν > 1.001 * now.ν) | (1.001 * ν < now.ν)
        anew = where(now.check, off, lost)
        p, β = now.onward(1, z, β, s.p)
        Ap = times(where(now.check, 0, jnp.ones_like(β)), q) + times(β, s.s)
        state = _State(
            p,
            Ap,
            ρ=where(anew, jnp.inf, now.kept(ρ, s.ρ)),
            α=where(anew, 0, now.kept(α, s.α)),
            length=where(anew, 0, now.kept(length, s.length)),
        )
        rayleigh = where(now.check, 0, zAz / vv)
        stretch = jnp.sqrt(qq / vv) * reciprocal_scale(shrink)
        stretch = where(stretch < jnp.inf, stretch, rayleigh)
        return Step(
            taken,
            s.p,
            None,
            state,
            r=r,
            broken=broken,
            finite=jnp.isfinite(ρ) & ((ρ == 0) | lost | (jnp.abs(α) > 0)),
            idle=fresh,
            ν=ν,
            stretch=where(stretch > 0, stretch, 0),
        )
