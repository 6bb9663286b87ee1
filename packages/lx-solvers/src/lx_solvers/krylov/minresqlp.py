"""Minimal residuals of least norm, for Hermitian operators of any rank."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import is_hermitian, linearise
from lx_operators.internal import max_norm

from .._checks import check_options, check_square
from .._control_flow import cond
from .._scaling import dot, hypot, largest, plain_norm2, real_dot, reciprocal_scale
from .._solver import AbstractLinearSolver
from . import _driver as driver
from ._options import not_hermitian
from ._recurrence import Step
from ._scalars import barrier, packed, stacked, times, together, unpacked, where
from ._stability import HOPELESS, C, scaled_norm2
from ._tolerances import Norm, check_aims, takes_rtol_and_atol


class _Lanczos(NamedTuple):
    β: Any
    A_norm: Any
    least: Any
    """The least element of the diagonal of L without its last ones: near the least
    nonzero magnitude of an eigenvalue. ∞ at first."""
    fresh: Any
    """The residual was computed anew, and is to be multiplied by A."""
    begun: Any
    """‖A r‖ / ‖A‖ at the last start."""
    slope: Any
    """The same where the residual is the least there is; ∞ else."""


class _Left(NamedTuple):
    """The last reflection from the left, and what it left of R's next column."""

    c: Any
    s: Any
    δ: Any


class _Right(NamedTuple):
    """The reflection that is to come, and L: its last diagonal elements γ, and what
    stands one (ϑ) and two places (η) to the left of these."""

    c: Any
    s: Any
    γ_old: Any
    γ: Any
    ϑ_old: Any
    ϑ: Any
    η_old: Any
    η: Any


class _Coordinates(NamedTuple):
    """In the bases Q and W: the last τ of the right-hand side, and the last μ of the
    solution that are final."""

    τ_old: Any
    τ: Any
    μ_old: Any
    μ: Any
    ψ: Any
    """γ τ of the last step, with R's γ."""


class _State(NamedTuple):
    """The letters of Choi, Paige and Saunders."""

    v_old: Array
    """After a check, the residual that was recurred."""
    v: Array
    p: Array
    """The last column of Vₖ₊₁ Qₖ, of which the next step makes the next q."""
    w_old: Array
    w: Array
    x: Array
    """What is final of the solution."""
    lanczos: Any
    left: Any
    right: Any
    coordinates: Any
    """`_Lanczos`, `_Left`, `_Right`, `_Coordinates`, each together."""


class _MinimalLength:
    """The recurrence. Each start from a true residual r is a pass that multiplies r."""

    sees_checks = True

    def __init__(self, guessed: bool):
        self.guessed = guessed

    def start(self, X, b):
        self.eps, self.rounding = X.eps, 8 * X.eps
        none, zero, o = X.zeros(), X.zero(), jnp.zeros((), X.dtype)
        yes, inf = jnp.ones((), bool), zero + jnp.inf
        self.left = _Left(zero - 1, zero, zero)
        self.right = _Right(zero - 1, *(zero,) * 7)
        self.coordinates = _Coordinates(o, o, o, o, ψ=o + jnp.inf)
        lanczos = _Lanczos(zero, zero, inf, yes, inf, inf)
        scalars = lanczos, self.left, self.right, self.coordinates
        return _State(*(none,) * 6, *map(together, scalars))

    def step(self, s, r, now):
        check, last = now.check, s.lanczos
        fresh = last.fresh & ~check
        begin = check | fresh

        # in a start: the residual that was recurred, if the true one differs from it by
        # rounding errors only, of which A r would be full
        Ax = scaled_norm2(last.A_norm, now.x)
        rounding = C * self.eps * (now.norm_b + Ax)
        vectors = r, s.v_old, now.x
        apart, *along = unpacked(cond(fresh, _compared, _not_compared, vectors))
        noise = fresh & (apart <= rounding) & (apart <= 0.1 * now.ν)
        r = where(noise, s.v_old, r)

        # Lanczos' step; or the start from A r
        v = where(fresh, r, s.v)
        Av = now.A(v)
        α = where(begin, 0, barrier(real_dot(v, Av)))
        w = Av - (times(α, s.v) + times(where(begin, 0, last.β), s.v_old))
        shrink = reciprocal_scale(largest(w))
        w = w / reciprocal_scale(shrink).astype(w.dtype)
        square = barrier(real_dot(w, w))
        size = jnp.sqrt(square)
        β = size / shrink
        stretch = where(fresh, β / where(now.ν > 0, now.ν, 1), hypot(last.β, α, β))
        A_norm = where(check, last.A_norm, jnp.maximum(last.A_norm, stretch))
        some = where(fresh, size > 0, β > self.rounding * A_norm) & ~check
        β, inverse = unpacked(packed(where(some, β, 0), where(some, 1 / size, 0)))
        v_next = times(inverse, w)

        # from the left: A Vₖ = Qₖ Rₖ, and R is upper triangular, of three diagonals
        left, old, done = s.left, s.right, s.coordinates
        δ, γ = left.c * left.δ + left.s * α, left.s * left.δ - left.c * α
        c, sn, γ = _reflection(γ, β)
        q = times(c, s.p) + times(sn, v_next)
        p = times(sn, s.p) - times(c, v_next)
        τ = barrier(dot(q, r))
        ψ = times(γ, τ)
        rest = jnp.abs(ψ + times(δ, done.τ))

        # from the right: Rₖ Pₖ = Lₖ is lower triangular, of three diagonals; Wₖ = Vₖ Pₖ
        δ, ϑ_old = old.s * old.ϑ - old.c * δ, old.c * old.ϑ + old.s * δ
        η, γ = old.s * γ, -old.c * γ
        c1, s1, γ_old = _reflection(old.γ, δ)
        ϑ, γ = s1 * γ, -c1 * γ
        w_older = times(old.c, s.w_old) + times(old.s, v)
        w = times(old.s, s.w_old) - times(old.c, v)
        w_old, w = times(c1, s.w) + times(s1, w), times(s1, s.w) - times(c1, w)

        # L μ = τ: what of μ is final, and what is not yet
        μ_older = _over(
            done.τ_old - times(old.η_old, done.μ_old) - times(old.ϑ_old, done.μ),
            old.γ_old,
        )
        μ_old = _over(
            done.τ - times(old.η, done.μ) - times(ϑ_old, μ_older),
            γ_old,
        )
        μ = _over(τ - times(η, μ_older) - times(ϑ, μ_old), γ)
        x = s.x + times(μ_older, w_older)
        step = x + times(μ_old, w_old) + times(μ, w) - now.x
        least = jnp.minimum(last.least, where(old.γ_old > 0, old.γ_old, jnp.inf))
        c2, s2, γ_last = _reflection(γ_old, left.s * β)

        # ‖A r‖ before the last step, or in a start as it is
        ψ_r = where(fresh, β, hypot(jnp.abs(done.ψ), rest))
        slope = ψ_r / where(A_norm > 0, A_norm, 1)
        # r is a null vector of a matrix within rounding errors of A; there is little in
        # it of the eigenvectors that have been seen, and little of it in x
        flat = slope <= C * self.eps * now.ν
        κ = jnp.maximum(A_norm / least, Ax / where(now.norm_b > 0, now.norm_b, 1))
        few = slope * jnp.maximum(κ, 1) <= HOPELESS * now.ν
        # below rounding errors of A x, those in the scalars may increase A r again, and
        # a start makes it smaller
        begun = where(fresh, slope, last.begun)
        low = slope <= jnp.minimum(self.rounding * (now.ν + Ax), 0.01 * begun)
        stay = begin | (flat | low) & few
        along = last.A_norm * where(noise, along[1], along[0])
        least_norm = self.guessed | (along <= (HOPELESS * Ax + rounding) * now.ν)
        solved = fresh & flat & few & least_norm & (now.ν > rounding)

        def anew(first: Any, next: Any) -> Any:
            pairs = zip(first, next, strict=True)
            return together(type(first)(*(where(begin, *pair) for pair in pairs)))

        return Step(
            (~stay).astype(τ.real.dtype),
            step,
            None,
            _State(
                where(check, r, s.v),
                v_next,
                where(begin, v_next, p),
                where(begin, 0, w_old),
                where(begin, 0, w),
                where(begin, now.x, x),
                together(
                    _Lanczos(
                        β=where(fresh, 0, β),
                        A_norm=A_norm,
                        least=least,
                        fresh=check,
                        begun=begun,
                        slope=where(solved, slope, jnp.inf),
                    )
                ),
                anew(self.left, _Left(c, sn, -left.c * β)),
                anew(
                    self.right,
                    _Right(c2, s2, γ_last, γ, ϑ_old, ϑ, old.η, η),
                ),
                anew(self.coordinates, _Coordinates(done.τ, τ, done.μ, μ_older, ψ)),
            ),
            r=where(stay, r, r - times(τ, q)),
            finite=jnp.isfinite(square) & jnp.isfinite(α),
            due=~begin & (stay | ~some),
            idle=fresh,
            solved=solved,
            stretch=A_norm,
        )


def _compared(vectors: tuple[Array, Array, Array]) -> Array:
    """‖r - v‖, |⟨r, x⟩| and |⟨v, x⟩|."""
    r, v, x = vectors
    return stacked([plain_norm2(r - v), jnp.abs(dot(r, x)), jnp.abs(dot(v, x))])


def _not_compared(vectors: tuple[Array, Array, Array]) -> Array:
    return jnp.full(3, jnp.inf, vectors[0].real.dtype)


def _reflection(a: Array, b: Array) -> tuple[Array, ...]:
    """c, s and ρ of the reflection [c s; s -c] that takes (a, b) to (ρ, 0); c = -1 for
    (0, 0)."""
    ρ = hypot(a, b)
    safe = where(ρ == 0, 1, ρ)
    return unpacked(packed(where(ρ == 0, -1, a / safe), b / safe, ρ))


def _over(x: Array, y: Array) -> Array:
    """x / y of a complex and a real number, or 0 if y = 0."""
    return times(where(y == 0, 0, 1 / where(y == 0, 1, y)), x)


@takes_rtol_and_atol
class MINRESQLP(AbstractLinearSolver[driver.KrylovState]):
    """MINRES-QLP, for Hermitian operators of any rank: the least-squares solution, of
    least norm where there are several.

    Choi, Paige and Saunders 2011, doi:10.1137/100787921, algorithm of section 5. Beyond
    the textbook method, Lanczos' process starts from A b instead of b, which has no
    component in the null space of A (Hanke 1995, *Conjugate Gradient Type Methods for
    Ill-Posed Problems*, chapter 6, MR-II). Started from b, its vectors would lose their
    orthogonality to the null space, and ‖A r‖ / (‖A‖ ‖r‖) would stay above the square
    root of the rounding unit. The residual is carried along as a vector, r -= q ⟨q, r⟩.

    A solve succeeds if the residual is within its tolerance. If b is not in the range
    of A, it succeeds if ‖A r‖ ≤ 32 eps ‖A‖ ‖r‖, whatever the tolerance: x is then
    backward stable. The part of r in the range, which is at most ‖A r‖ divided by the
    smallest nonzero singular value, as estimated, must be below 1 % of r, and so must
    the part of x along r be of x. For large x, rounding errors of A x would make ‖A r‖
    larger: so r is the recurred residual as long as b - A x differs from it by rounding
    errors only; and if these are all there is of r, b counts as in the range.
    `stats["least_squares"]` says that b is not. A singular value of less than some
    hundred rounding units, relative to ‖A‖, may count as zero. Before success is
    claimed, b - A x, and A r, are computed anew.

    A step is one product with the operator. A start, and a restart after a check, take
    one step; the check itself takes one more product, and does not count as a step. Ten
    vectors are kept: b, x, r, two of the basis, one of the next, two directions, the
    solution two steps ago, and the product.

    Args:
        rtol, atol: relative and absolute tolerance; by default `rtol` is 1e-5 in single
            and 1e-8 in double precision, and `atol` 0.
        norm: from a pytree to a real scalar; for the elementwise criterion.
        max_steps: the step limit; ten times the size by default. With
            `rtol = atol = 0` exactly this many steps are made.
        criterion: "elementwise": each element of the residual is within its tolerance
            relative to b, and each of the last update relative to the solution;
            "two_norm": ‖b - A x‖₂ ≤ max(rtol ‖b‖₂, atol), which takes fewer steps.
        history: record the 2-norm of the residual before and after each step in
            `stats["residuals"]`: `True`, or the number of entries to record.
        progress: show a progress bar.

    Options: `y0`, an initial guess; the solution is then the one nearest to it. There
    is no preconditioner, because it would change which solution has the least norm. For
    a consistent system with a preconditioner use `MINRES`.

    Statistics: `least_squares`, `norm_A`, a lower bound of the 2-norm of A, and
    `cond_A`, an estimate of the ratio of its largest to its smallest nonzero singular
    value.

    Raises:
        ValueError: negative tolerances; both zero without `max_steps`; an operator that
            is not known to be Hermitian.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[1.0, -1.0], [-1.0, 1.0]]), lx.symmetric_tag
    )
    solver = lx.MINRESQLP(rtol=1e-6, atol=1e-6)
    solution = lx.linear_solve(operator, jnp.array([2.0, 1.0]), solver)
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=max_norm)
    max_steps: int | None = None
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "MINRESQLP")

    def init(self, operator, options):
        check_square(operator, "MINRESQLP")
        check_options(options, ("y0", "stop"), "MINRESQLP")
        if not is_hermitian(operator):
            raise not_hermitian(operator, "MINRESQLP", "For others use `LSMR`.")
        return driver.KrylovState(linearise(operator))

    def compute(self, state, vector, options):
        return self.iteration(state, vector, options).outcome()

    def iteration(self, state, vector, options):
        """As `compute`, pass by pass."""
        return driver.iteration(
            _MinimalLength(options.get("y0") is not None),
            self,
            "MINRESQLP",
            state,
            vector,
            options,
            slope=lambda last: last.lanczos.slope,
            stats=_statistics,
        )

    def transpose(self, state, options):
        return driver.transposed_state(state, options)

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return False


def _statistics(last: _State, unit: Array) -> dict[str, Any]:
    A_norm, least = last.lanczos.A_norm, last.lanczos.least
    for γ in (last.right.γ_old, last.right.γ):
        least = jnp.minimum(least, where(γ == 0, jnp.inf, jnp.abs(γ)))
    return {
        "least_squares": last.lanczos.slope < jnp.inf,
        "norm_A": A_norm,
        "cond_A": where(least < jnp.inf, A_norm / least, 1),
    }
