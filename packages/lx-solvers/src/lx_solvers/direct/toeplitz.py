"""Toeplitz: Levinson's recursion, and the inverse from two of its columns.

Let f and g be the first and the last column of T⁻¹. Those of the leading k×k matrices
follow from each other (Levinson 1947; Golub and Van Loan, "Matrix Computations", 4th
ed., 2013, section 4.7), in O(n²):

    f ← ([f; 0] - εf [0; g]) / (1 - εf εg),   εf = Σ tₖ₋ᵢ fᵢ,
    g ← ([0; g] - εg [f; 0]) / (1 - εf εg),   εg = Σ t₋₁₋ᵢ gᵢ,

and T⁻¹ is that of Gohberg and Semencul (1972; Heinig and Rost 1984,
doi:10.1007/978-3-0348-6762-4): with L(c) lower triangular Toeplitz of first column c,

    f₁ T⁻¹ = L(f) L(Jg)ᵀ - L(Zg) L(ZJf)ᵀ,   J reversing, Z shifting down,

so that each vector costs O(n log n). Both are stable for definite matrices (Cybenko
1980, doi:10.1137/0901021; Gutknecht and Hochbruck 1995, doi:10.1007/s002110050116) and
need not be for others, which have to have nonsingular leading submatrices. So the
solution is refined once with the residual, and its residual is checked.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real
from lx_operators import AbstractLinearOperator, ToeplitzLinearOperator
from lx_operators.internal import PackedStructures, bare, common_dtype, pack_structures

from .._checks import check_options, check_square, check_state
from .._control_flow import scan
from .._scaling import eps, largest, negligible, power_of_two
from .._slogdet import judged_slogdet, slogdet_of, tangent_of, trace_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import judge, working_dtype


class _ToeplitzState(eqx.Module):
    """t, f and g are those of T divided by `scale`."""

    t: Inexact[Array, " 2n-1"]  # t₁₋ₙ … tₙ₋₁
    f: Inexact[Array, " n"]
    g: Inexact[Array, " n"]
    scale: Real[Array, ""]
    sign: Inexact[Array, ""]  # of the determinant
    log: Real[Array, ""]
    reciprocal_condition: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class Toeplitz(AbstractLinearSolver[_ToeplitzState]):
    """Levinson's recursion, for square Toeplitz operators. It takes O(n²) operations
    once and O(n log n) for each vector, and O(n) memory.

    It is meant for definite operators. It solves others if their leading submatrices
    are well conditioned, and reports `unstable` otherwise; use `LU`, or `GMRES` with
    `circulant_preconditioner`, for these. It reports `singular` if a column of the
    inverse is too large for working precision. `stats["reciprocal_condition"]` is
    estimated from such columns.

    Raises:
        ValueError: the operator is not a `ToeplitzLinearOperator`, or not square.

    ```python
    operator = lx.ToeplitzLinearOperator(
        jnp.array([2.0, 1.0, 0.5]), tags=lx.positive_semidefinite_tag
    )
    solution = lx.linear_solve(operator, jnp.ones(3), lx.Toeplitz())
    ```
    """

    def init(self, operator, options):
        check_options(options, (), "Toeplitz")
        check_square(operator, "Toeplitz")
        toeplitz = bare(operator)
        if not isinstance(toeplitz, ToeplitzLinearOperator):
            raise ValueError(
                "`Toeplitz` solves with a `ToeplitzLinearOperator` only, but the "
                f"operator is {operator!r}; use `AutoLinearSolver`."
            )
        packed = pack_structures(operator)
        dtype = working_dtype(common_dtype(packed.in_structure.thaw()))
        t = _diagonals(jax.lax.stop_gradient(toeplitz)).astype(dtype)
        most = largest(t)
        scale = power_of_two(most)
        t = t / scale.astype(dtype)
        f, g, sign, log = _levinson(t)
        log = log + len(f) * jnp.log(scale)
        # a column of the inverse; infinite or NaN where a pivot is zero
        column = jnp.maximum(largest(f), largest(g))
        rcond = 1 / (jnp.sum(jnp.abs(t)) * column)
        e = jnp.zeros_like(f).at[0].set(1)
        singular = rcond <= 4 * eps(dtype)
        verdict = judge(
            jnp.isfinite(most),
            singular=singular,
            unstable=_is_flawed(t, f, e) & ~singular,
        )
        return _ToeplitzState(t, f, g, scale, sign, log, rcond, verdict, packed)

    def compute(self, state, vector, options):
        check_state(state, _ToeplitzState, "Toeplitz")
        flaws = []

        def solve_with(b, adjoint):
            b = b[::-1].conj() if adjoint else b  # Tᴴ = J T̄ J
            x = _inverse(state, b)
            x = x + _inverse(state, b - _product(state.t, x))
            flaws.append(_is_flawed(state.t, x, b))
            x = x / state.scale.astype(x.dtype)
            return x[::-1].conj() if adjoint else x

        x, result = views.solve(state, vector, state.t.dtype, solve_with)
        flawed = flaws[0] & (result == RESULTS.successful)
        result = RESULTS.where(flawed, RESULTS.unstable, result)
        return x, result, {"reciprocal_condition": state.reciprocal_condition}

    def transpose(self, state, options):
        check_state(state, _ToeplitzState, "Toeplitz")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _ToeplitzState, "Toeplitz")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _diagonals(operator: ToeplitzLinearOperator) -> Inexact[Array, " 2n-1"]:
    """t₁₋ₙ … tₙ₋₁"""
    column, row = operator.column, operator.row
    row = column.conj() if row is None else row
    return jnp.concatenate((row[:0:-1], column))


class _Levinson(NamedTuple):
    f: Inexact[Array, " n"]
    g: Inexact[Array, " n"]
    sign: Inexact[Array, ""]
    log: Real[Array, ""]


def _levinson(t: Inexact[Array, " 2n-1"]) -> _Levinson:
    n = (t.size + 1) // 2
    zeros = jnp.zeros(n, t.dtype)
    below = jnp.concatenate((t[n - 1 :][::-1], zeros))  # tₙ₋₁ … t₀ 0 … 0
    above = jnp.concatenate((t[: n - 1][::-1], zeros[:1]))  # t₋₁ … t₁₋ₙ 0

    def step(s: _Levinson, k: Array) -> tuple[_Levinson, None]:
        ef = jnp.sum(jax.lax.dynamic_slice_in_dim(below, n - 1 - k, n) * s.f)
        eg = jnp.sum(above * s.g)
        f, g = s.f, jnp.roll(s.g, 1)
        scale = 1 - ef * eg
        f, g = (f - ef * g) / scale, (g - eg * f) / scale
        return _Levinson(f, g, *_grown(s.sign, s.log, f[0])), None

    first = zeros.at[0].set(1 / t[n - 1])
    one, zero = jnp.ones((), t.dtype), jnp.zeros((), jnp.finfo(t.dtype).dtype)
    start = _Levinson(first, first, *_grown(one, zero, first[0]))
    end, _ = scan(step, start, jnp.arange(1, n), inputs=t)
    return end


def _grown(sign: Array, log: Array, f: Array) -> tuple[Array, Array]:
    """f₁ is the ratio of the determinants of one submatrix and the next."""
    size = jnp.abs(f)
    return sign * (f.conj() / size.astype(f.dtype)), log - jnp.log(size)


def _is_flawed(t: Array, x: Array, b: Array) -> Array:
    """‖b - Tx‖ > √eps (‖T‖‖x‖ + ‖b‖), with ‖T‖ bounded by its largest row."""
    size = largest(t) * jnp.sum(jnp.abs(x)) + largest(b)
    return ~negligible(largest(b - _product(t, x)), size, eps(x.dtype))


def _convolved(a: Array, b: Array) -> Array:
    size = a.size + b.size - 1
    length = 1 << (size - 1).bit_length()
    if jnp.iscomplexobj(a) or jnp.iscomplexobj(b):
        return jnp.fft.ifft(jnp.fft.fft(a, length) * jnp.fft.fft(b, length))[:size]
    spectrum = jnp.fft.rfft(a, length) * jnp.fft.rfft(b, length)
    return jnp.fft.irfft(spectrum, length)[:size]


def _product(t: Array, x: Array) -> Array:
    n = x.size
    return _convolved(t, x)[n - 1 : 2 * n - 1]


def _inverse(state: _ToeplitzState, b: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    n = b.size

    def lower(column: Array, x: Array) -> Array:
        return _convolved(column, x)[:n]

    def product(c: Array, r: Array) -> Array:
        """L(c) L(r)ᵀ b"""
        return lower(c, lower(r, b[::-1])[::-1])

    f, g = state.f, state.g
    x = product(f, g[::-1]) - product(_shifted(g), _shifted(f[::-1]))
    return x / f[0]


def _shifted(x: Array) -> Array:
    return jnp.roll(x, 1).at[0].set(0)


@slogdet_of.register
def _(state: _ToeplitzState):
    sign = state.sign.conj() if state.view.turned else state.sign
    return judged_slogdet(state.verdict, sign, state.log)


@trace_of.register
def _(state: _ToeplitzState, solver, tangent):
    """Σ dt_d S₋_d, with S_d the sum of T⁻¹ along a diagonal. That of L(a) L(b)ᵀ is
    S_d = Σ_p (n - max(p, p + d)) a_{p+d} b_p."""
    if state.view != views.View():
        return None
    n, f, g = state.f.size, state.f, state.g
    left = n - jnp.arange(n).astype(f.dtype)

    def sums(a: Array, b: Array) -> Array:
        """S₁₋ₙ … Sₙ₋₁"""
        below, above = _convolved(left * a, b[::-1]), _convolved(a, (left * b)[::-1])
        return jnp.concatenate((above[: n - 1], below[n - 1 :]))

    S = sums(f, g[::-1]) - sums(_shifted(g), _shifted(f[::-1]))
    S = S / (f[0] * state.scale.astype(f.dtype))

    def diagonals(operator: AbstractLinearOperator) -> Array:
        return _diagonals(bare(operator)).astype(f.dtype)

    return jnp.sum(S[::-1] * tangent_of(diagonals, tangent))
