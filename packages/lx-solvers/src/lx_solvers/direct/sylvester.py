"""Sylvester: Kronecker sums of any operators, by their Schur forms.

A X + X Bᵀ = C is (A ⊕ B) vec X = vec C. With A = QTQᴴ and B = USUᴴ in complex Schur
form, X̃ = QᴴXŪ solves (T ⊕ S) vec X̃ = vec C̃, which is triangular: its columns follow
from the last to the first,

    (T + sⱼⱼI) x̃ⱼ = c̃ⱼ - Σ_{l>j} sⱼₗ x̃ₗ

(Bartels and Stewart 1972, doi:10.1145/361573.361582; the complex form is that of Golub
and Van Loan, "Matrix Computations", 4th ed., 2013, section 7.6.3). More than two
operators are solved by recursion: x̃ⱼ is then a solution with T₁ ⊕ … shifted by sⱼⱼ.
Non-standard: singularity is judged as in `LU`, by one step of inverse iteration.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real
from lx_operators import KroneckerSumLinearOperator
from lx_operators.internal import (
    PackedStructures,
    bare,
    common_dtype,
    pack_structures,
    promote_types,
)

from .._checks import check_options, check_state
from .._control_flow import scan
from .._scaling import eps, largest, power_of_two
from .._sequence import in_sequence
from .._sizes import variates
from .._slogdet import part, slogdet_of, slogdet_of_factors, trace_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import (
    HIGHEST,
    along,
    dense_matrix,
    judge,
    solve_triangular,
    working_dtype,
)


class _SylvesterState(eqx.Module):
    Q: tuple[Inexact[Array, "n n"], ...]
    T: tuple[Inexact[Array, "n n"], ...]  # of the operator divided by `scale`
    scale: Real[Array, ""]
    reciprocal_condition: Real[Array, ""]
    verdict: RESULTS
    packed: PackedStructures
    real: bool = eqx.field(static=True)
    view: views.View = eqx.field(static=True, default=views.View())


class Sylvester(AbstractLinearSolver[_SylvesterState]):
    """Schur forms and back substitution, for Kronecker sums of any operators: solves
    Sylvester's equation A X + X Bᵀ = C.

    For n₁ n₂ unknowns, the factors cost about 25 (n₁³ + n₂³) operations and each vector
    n₁ n₂ (n₁ + n₂), all in complex arithmetic. JAX has the Schur form on CPUs only. If
    all factors are Hermitian, `KroneckerEigh` is faster.

    Raises:
        ValueError: the operator is not a Kronecker sum.

    ```python
    a = lx.MatrixLinearOperator(jnp.array([[2.0, 1.0], [0.0, 3.0]]))
    b = lx.MatrixLinearOperator(jnp.array([[1.0, 0.0], [5.0, 1.0]]))
    operator = lx.KroneckerSumLinearOperator(a, b)
    solution = lx.linear_solve(operator, jnp.ones((2, 2)), lx.Sylvester())
    ```
    """

    def init(self, operator, options):
        check_options(options, (), "Sylvester")
        total = bare(operator)
        if not isinstance(total, KroneckerSumLinearOperator):
            raise ValueError(
                "`Sylvester` solves with a `KroneckerSumLinearOperator` only, but the "
                f"operator is {operator!r}; use `AutoLinearSolver`."
            )
        packed = pack_structures(operator)
        dtype = working_dtype(common_dtype(packed.in_structure.thaw()))
        wide = promote_types(dtype, jnp.complex64)
        matrices = [dense_matrix(part).astype(wide) for part in total.operators]
        # LAPACK does not survive what is not finite
        sizes = jnp.stack([largest(A) for A in matrices])
        finite, scale = jnp.isfinite(sizes), power_of_two(jnp.max(sizes))
        matrices = [
            jnp.where(ok, A / scale.astype(wide), 0) for A, ok in zip(matrices, finite)
        ]
        pairs = in_sequence(_schur, matrices)
        T, Q = (tuple(each) for each in zip(*pairs))
        rcond = _reciprocal_condition(T)
        singular = ~(rcond > 4 * eps(wide))
        verdict = judge(jnp.all(finite), singular=singular)
        real = not jnp.issubdtype(dtype, jnp.complexfloating)
        return _SylvesterState(Q, T, scale, rcond, verdict, packed, real)

    def compute(self, state, vector, options):
        check_state(state, _SylvesterState, "Sylvester")
        dtype = state.T[0].dtype
        narrow = jnp.finfo(dtype).dtype if state.real else dtype

        def solve_with(b, adjoint):
            x = b.astype(dtype).reshape([T.shape[0] for T in state.T])
            for axis, Q in enumerate(state.Q):
                x = along(Q.T.conj(), x, axis)
            x = _substitute(state.T, jnp.zeros((), dtype), x, adjoint)
            for axis, Q in enumerate(state.Q):
                x = along(Q, x, axis)
            x = x / state.scale.astype(dtype)
            return (x.real if state.real else x).ravel()

        stats = {"reciprocal_condition": state.reciprocal_condition}
        return *views.solve(state, vector, narrow, solve_with), stats

    def transpose(self, state, options):
        check_state(state, _SylvesterState, "Sylvester")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _SylvesterState, "Sylvester")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _schur(A: Inexact[Array, "n n"]) -> tuple[Array, Array]:
    """T and Q of A = QTQᴴ."""
    if not A.size:
        return A, A
    T, Q = jax.lax.linalg.schur(A)
    return jnp.triu(T), Q


def _substitute(
    Ts: tuple[Array, ...], shift: Array, c: Inexact[Array, "..."], adjoint: bool
) -> Inexact[Array, "..."]:
    """(T₁ ⊕ … ⊕ Tₖ + shift)⁻¹ c, or that of the adjoint."""
    if not c.size:
        return c
    *rest, S = Ts
    if not rest:
        shifted = S + shift * jnp.eye(S.shape[0], dtype=S.dtype)
        return solve_triangular(shifted, c, lower=False, adjoint=adjoint)

    def column(x: Array, j: Array) -> tuple[Array, None]:
        known = S.T.conj()[j] if adjoint else S[j]
        known = known.at[j].set(0)
        cj = c[..., j] - jnp.matmul(x, known, precision=HIGHEST)
        xj = _substitute(tuple(rest), shift + S[j, j], cj, adjoint)
        return x.at[..., j].set(xj), None

    inputs = (Ts, shift, c)
    x, _ = scan(
        column,
        jnp.zeros_like(c),
        jnp.arange(S.shape[0]),
        inputs=inputs,
        reverse=not adjoint,
    )
    return x


def _reciprocal_condition(Ts: tuple[Array, ...]) -> Real[Array, ""]:
    """One step of inverse iteration, as in `_factors.reciprocal_condition`."""
    shape = [T.shape[0] for T in Ts]
    if 0 in shape:
        return jnp.ones((), jnp.finfo(Ts[0].dtype).dtype)
    dtype = Ts[0].dtype
    zero = jnp.zeros((), dtype)
    z = jnp.asarray(variates(tuple(shape), dtype))
    y = _substitute(Ts, zero, z, adjoint=True)
    x = _substitute(Ts, zero, y, adjoint=False)
    x, y = jnp.linalg.norm(x.ravel()), jnp.linalg.norm(y.ravel())
    size = sum(jnp.linalg.norm(T) for T in Ts)
    ratio = y / (size * x)
    return jnp.where(ratio > 0, ratio, jnp.zeros_like(ratio))


@slogdet_of.register
def _(state: _SylvesterState):
    values = _eigenvalues(state.T).ravel()
    scale = jnp.broadcast_to(state.scale, values.shape)
    sign, log = slogdet_of_factors(
        values, turned=state.view.turned, scales=(scale,), verdict=state.verdict
    )
    return (jnp.sign(sign.real) if state.real else sign), log


def _eigenvalues(Ts: tuple[Array, ...]) -> Array:
    k = len(Ts)
    out = jnp.zeros((1,) * k, Ts[0].dtype)
    for i, T in enumerate(Ts):
        out = out + jnp.diagonal(T).reshape((1,) * i + (-1,) + (1,) * (k - 1 - i))
    return out


@trace_of.register
def _(state: _SylvesterState, solver, tangent):
    """tr((A ⊕ B)⁻¹(dA ⊗ I)) = tr(Σⱼ (A + sⱼⱼI)⁻¹ dA): the blocks of the inverse of the
    block triangular T ⊕ S on its diagonal are those of the blocks."""
    if state.view != views.View():
        return None

    def of_part(T: Array, i: int) -> Array:
        Q = state.Q[i]
        others = state.T[:i] + state.T[i + 1 :]
        shifts = _eigenvalues(others).ravel() if others else jnp.zeros(1, T.dtype)
        eye = jnp.eye(T.shape[0], dtype=T.dtype)

        def add(total: Array, shift: Array) -> tuple[Array, None]:
            inverse = jax.lax.linalg.triangular_solve(
                T + shift * eye, eye, left_side=True, lower=False
            )
            return total + inverse, None

        total, _ = scan(add, jnp.zeros_like(T), shifts, inputs=T)
        G = Q @ (total / state.scale.astype(T.dtype)) @ Q.T.conj()
        G = G.real if state.real else G
        one = part(lambda op: bare(op).operators[i], tangent)
        return jnp.sum(G.T * one.as_matrix().astype(G.dtype))

    return jnp.sum(jnp.stack(in_sequence(of_part, state.T, range(len(state.T)))))
