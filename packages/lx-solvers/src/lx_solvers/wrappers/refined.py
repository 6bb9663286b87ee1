"""Refined: iterative refinement of a direct solve.

A further solve with the same factors, for the residual, corrects the solution. With the
residual in twice the working precision, what is delivered is accurate to working
precision as long as cond(A) times the precision of the factors is below one.

- Square systems: r = b - Ax, A d = r, x ← x + d (Wilkinson 1963; Higham, "Accuracy and
  Stability of Numerical Algorithms", 2nd ed., 2002, section 12.1,
  doi:10.1137/1.9780898718027). Factors in lower precision: Carson and Higham 2018,
  doi:10.1137/17M1140819.
- Tall and wide ones: refining x alone would not do, as the residual is not small. The
  augmented system  [I F; Fᴴ 0][r; y] = [p; q]  is refined (Björck 1967,
  doi:10.1007/BF01939321): p = b, q = 0 give the least-squares solution y of Fy = b and
  its residual r; p = 0, q = b the solution r of minimum norm of Fᴴr = b.

What is factorised and refined is F = R⁻¹A C⁻¹, with diagonal R and C of powers of two,
hence exact, that make the largest elements of rows and columns near one: no product of
an element of F and one of the solution underflows that matters. Hermitian operators
have R = C, and tall ones R = I, as a row's scale is its weight.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact, Int, PyTree, Real
from lx_operators import (
    MatrixLinearOperator,
    hermitian_tag,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
    symmetric_tag,
    unit_diagonal_tag,
)
from lx_operators.internal import (
    PackedStructures,
    known,
    pack_structures,
    promote_types,
)

from .._checks import check_state
from .._control_flow import while_loop
from .._scaling import binade, eps, largest, negligible, power_of_two
from .._slogdet import slogdet_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from ..direct import _views as views
from ..direct._equilibration import dense, evenly
from ..direct._factors import HIGHEST, dense_matrix, judge
from ..direct._refinement import row_error, significant
from ._doubled import residual


class _RefinedState(eqx.Module):
    F: Inexact[Array, "m k"]  # A, or Aᴴ if that is tall, scaled
    rows: Int[Array, " m"]  # the binary exponents of what the rows were divided by,
    columns: Int[Array, " k"]  # and the columns
    inner: Any  # the inner solver's state for F
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True)


class Refined(AbstractLinearSolver[_RefinedState]):
    """Iterative refinement, around any solver that keeps factors.

    Takes what the inner solver takes. It keeps the matrix besides the factors. Success
    means that the corrections shrank to nothing, and with them the residual, in every
    row of a square system. So `Refined` can solve systems that `LU` calls unstable. The
    status is `unstable` if corrections do not shrink, and `max_steps_reached` if more
    of them would help.

    Args:
        inner: the solver to refine; a direct one, of a matrix of full rank.
        steps: the largest number of corrections. The refinement ends earlier if they no
            longer shrink.
        precision: the dtype to factorise in, such as `jnp.float32` for a float64
            operator; by default the operator's own. The solution is delivered in the
            operator's dtype.

    `stats["num_steps"]` is the number of corrections that were made.

    ```python
    matrix = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    operator = lx.MatrixLinearOperator(matrix)
    solver = lx.Refined(lx.LU(), precision=jnp.float32)
    solution = lx.linear_solve(operator, jnp.array([5.0, 6.0]), solver)
    ```
    """

    inner: AbstractLinearSolver
    steps: int = eqx.field(static=True, default=20)
    precision: Any = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.steps < 0:
            raise ValueError(f"`steps` must be at least 0, but got {self.steps}.")
        if self.precision is not None and not jnp.issubdtype(
            self.precision, jnp.floating
        ):
            raise ValueError(
                "`precision` must be a real floating dtype such as `jnp.float32`, but "
                f"got {self.precision!r}."
            )

    def init(self, operator, options):
        A = dense_matrix(operator)
        m, n = A.shape
        F = A.T.conj() if m < n else A
        finite = jnp.isfinite(largest(F))
        tags = known(operator) - {unit_diagonal_tag} if m == n else frozenset()
        rows, columns = _exponents(F, tags)
        F = _times_power(F, -(rows[:, None] + columns[None]))
        inner = self.inner.init(MatrixLinearOperator(self._narrow(F), tags), options)
        view = views.View(adjoint=m < n, conjugate=False)
        packed = pack_structures(operator)
        return _RefinedState(F, rows, columns, inner, judge(finite), packed, view)

    def compute(self, state, vector, options):
        check_state(state, _RefinedState, "Refined")
        told = []

        def solve_with(b, adjoint):
            x, *rest = self._refine(state, b, adjoint, options)
            told.extend(rest)
            return x

        x, result = views.solve(state, vector, state.F.dtype, solve_with)
        converged, failure, count = told
        fine = result == RESULTS.successful
        result = RESULTS.where(fine & ~converged, failure, result)
        return x, result, {"num_steps": count, "max_steps": self.steps}

    def transpose(self, state, options):
        check_state(state, _RefinedState, "Refined")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _RefinedState, "Refined")
        return views.conj(state), {}

    def assume_full_rank(self):
        return self.inner.assume_full_rank()

    def _refine(self, state: _RefinedState, b: Array, adjoint: bool, options: dict):
        """x = F†b or (Fᴴ)†b; whether it converged, what to call it otherwise, and the
        number of corrections."""
        F, before, after = state.F, state.rows, state.columns
        if adjoint:  # Aᴴ = C Fᴴ R
            before, after = after, before
        (m, k), FH, u = F.shape, F.T.conj(), eps(F.dtype)
        forward, backward = self._solves(state, options)
        inputs = state, b, options
        # R⁻¹b, with a largest element near one, which the inner precision can hold
        size = _exponent(largest(b))
        b = _times_power(b, -size - before)
        more = _exponent(largest(b))
        b = _times_power(b, -more)
        after = size + more - after

        if m == k:
            A, solve = (FH, backward) if adjoint else (F, forward)

            def correct(x):
                (y,) = x
                r = residual(b, A, y)
                d, result = solve(r)
                sized = jnp.abs(y), significant(_times_power(y, after))
                size, met = jnp.matmul(
                    jnp.abs(A), jnp.stack(sized, axis=1), precision=HIGHEST
                ).T
                error = row_error(r, b, size, met, y)
                return (d,), result, error <= u**0.5

            (x,), *rest = self._iterate((jnp.zeros_like(b),), correct, 0, inputs)
            return _times_power(x, after), *rest

        p, q = jnp.zeros(m, b.dtype), jnp.zeros(k, b.dtype)
        start = p, q
        p, q = (p, b) if adjoint else (b, q)
        both = jnp.concatenate((F, jnp.eye(m, dtype=F.dtype)), axis=1)
        size_F, size_FH = _norm(F), _norm(FH)

        def correct_both(r_and_y):
            r, y = r_and_y
            f = residual(p, both, jnp.concatenate((y, r)))  # p - r - F y
            g = residual(q, FH, r)
            w, _ = backward(g)
            h = f - w
            dy, result = forward(h)
            dr = w + (h - jnp.matmul(F, dy, precision=HIGHEST))
            of_r, of_y = largest(r), largest(y)
            small = self._small(f, p, of_r + size_F * of_y)
            # of an r that is itself a rounding error, Fᴴr is no better known than r
            of_r = of_r + u**0.5 * (size_F * of_y + largest(p))
            return (dr, dy), result, small & self._small(g, q, size_FH * of_r)

        wanted = 0 if adjoint else 1
        (r, y), *rest = self._iterate(start, correct_both, wanted, inputs)
        return _times_power(r if adjoint else y, after), *rest

    def _iterate(
        self,
        start: tuple[Array, ...],
        correct: Callable,
        wanted: int,
        inputs: PyTree,
    ):
        """Add corrections until those of the wanted part are rounding errors in each
        element, or have been no smaller than before for a while (they need not shrink
        from the first step on). The last is not added: what is said of the residual
        holds for the x that is returned."""
        u, patience = eps(start[0].dtype), 3

        def norm(parts):
            return largest(parts[wanted])

        def relative(d, x):
            size, d = jnp.abs(x[wanted]) + u * norm(x), jnp.abs(d[wanted])
            return largest(jnp.where(d == 0, d, d / size))

        def step(carry):
            _, x, inner, _, _, best, stale, count = carry
            d, result, small = correct(x)
            corrected = tuple(a + b for a, b in zip(x, d))
            ratio = relative(d, corrected)
            stale = jnp.where(ratio < best, 0, stale + 1)
            best = jnp.where(ratio < best, ratio, best)
            more = (best > u) | ~small
            more = more & (stale < patience) & (count <= self.steps)
            x = tuple(jnp.where(more, a, b) for a, b in zip(corrected, x))
            inner = RESULTS.where(inner == RESULTS.successful, result, inner)
            return more, x, inner, small, norm(d), best, stale, count + 1

        infinity = jnp.full((), jnp.inf, norm(start).dtype)
        zero = jnp.zeros((), jnp.int32)
        yes, no = jnp.ones((), bool), jnp.zeros((), bool)
        carry = yes, start, RESULTS.successful, no, infinity, infinity, zero, zero
        out = while_loop(lambda carry: carry[0], step, carry, inputs)
        _, x, inner, small, last, _, stale, count = out
        converged: Bool[Array, ""] = small & (last <= u**0.5 / 2 * norm(x))
        # with such factors nothing contracts: of a null vector no residual tells
        converged &= inner != RESULTS.singular
        fine = inner == RESULTS.successful
        spent = (count > self.steps + 1) & (stale < patience)
        failure = RESULTS.where(spent, RESULTS.max_steps_reached, RESULTS.unstable)
        failure = RESULTS.where(fine, failure, inner)
        # the first is x itself, and the last was not added
        return x, converged, failure, jnp.clip(count - 2, 0, self.steps)

    @staticmethod
    def _small(r: Array, b: Array, size: Array) -> Bool[Array, ""]:
        """Whether the residual r of x, before its last correction, is below √eps
        relative to b and the given size of Ax. Corrections alone do not tell: factors
        in which an element grew to 2⁵⁹ make any correction tiny."""
        return negligible(largest(r), (size + largest(b)) / 2, eps(r.dtype))

    def _solves(self, state: _RefinedState, options: dict):
        """x = F†b and x = (Fᴴ)†b by the inner solver, in the working precision."""
        flipped, other = self.inner.transpose(state.inner, options)
        flipped, other = self.inner.conj(flipped, other)

        def solver(inner, options):
            def solve(b):
                x, result, _ = self.inner.compute(inner, self._narrow(b), options)
                return x.astype(b.dtype), result

            return solve

        return solver(state.inner, options), solver(flipped, other)

    def _narrow(self, x: Array) -> Array:
        if self.precision is None:
            return x
        complex_too = jnp.iscomplexobj(x)
        dtype = promote_types(self.precision, jnp.complex64) if complex_too else None
        return x.astype(dtype or self.precision)


def _exponents(
    A: Inexact[Array, "m n"], tags: frozenset[Any]
) -> tuple[Int[Array, " m"], Int[Array, " n"]]:
    """Exponents of the powers of two to divide rows and columns by, so that the largest
    element of each is near one. Tags stay true, except for a unit diagonal."""
    m, n = A.shape
    symmetric = tags & {symmetric_tag, hermitian_tag}
    if m == n and not symmetric:
        scales = evenly(A, dense(A)).scales
        return _exponent(scales.rows), _exponent(scales.columns)
    sizes = jax.lax.max(jnp.abs(A.real), jnp.abs(A.imag))
    exponents = jnp.where(sizes == 0, _LEAST, _exponent(sizes))
    columns = jnp.max(exponents, axis=0, initial=_LEAST)
    if symmetric:
        # |aᵢⱼ| ≤ √(aᵢᵢ aⱼⱼ) where A is semidefinite
        definite = tags & {positive_semidefinite_tag, negative_semidefinite_tag}
        columns = jnp.diagonal(exponents) if definite else columns
    columns = jnp.where(columns == _LEAST, 0, columns)
    if m != n:
        return jnp.zeros(m, jnp.int32), columns
    half = -(-columns // 2)
    return half, half


_LEAST = -(1 << 20)  # in place of the exponent of zero


def _exponent(x: Real[Array, "..."]) -> Int[Array, "..."]:
    """k for 2ᵏ ≤ x < 2ᵏ⁺¹; 0 for what is 0 or not finite."""
    power = power_of_two(x)
    return binade(power) - np.int32(jnp.finfo(x.dtype).maxexp - 1)


def _times_power(x: Inexact[Array, "..."], k: Int[Array, "..."]) -> Array:
    """2ᵏ x, in two steps: 2ᵏ itself need not be in range."""
    half = k // 2
    for part in (half, k - half):
        x = x * _power(part, jnp.finfo(x.dtype).dtype).astype(x.dtype)
    return x


def _power(k: Int[Array, "..."], dtype: np.dtype) -> Real[Array, "..."]:
    """2ᵏ, or the nearest normal number."""
    info = jnp.finfo(dtype)
    bias = np.int32(info.maxexp - 1)
    stored = jnp.clip(k + bias, 1, 2 * bias).astype(f"int{info.bits}")
    return jax.lax.bitcast_convert_type(stored << info.nmant, dtype)


def _norm(A: Inexact[Array, "m n"]) -> Real[Array, ""]:
    """The norm that goes with the largest element of a vector."""
    return jnp.max(jnp.sum(jnp.abs(A), axis=1), initial=0)


@slogdet_of.register
def _(state: _RefinedState):
    sign, logabs = slogdet_of(state.inner)
    exponent = jnp.sum(state.rows) + jnp.sum(state.columns)
    if state.view.adjoint != state.view.conjugate:
        sign = jnp.conj(sign)
    return sign, logabs + exponent.astype(logabs.dtype) * math.log(2.0)
