"""Woodbury: A + U C Vᴴ through a solver for A.

    (A + U C Vᴴ)⁻¹ = A⁻¹ - Z S⁻¹ C VᴴA⁻¹,   Z = A⁻¹U,   S = I + C VᴴZ,

which needs no inverse of C (Henderson and Searle 1981, doi:10.1137/1023004). Not
backward stable: where A is much nearer to singular than A + U C Vᴴ, or the other way
round, digits cancel (Yip 1986, doi:10.1137/0907034). So the solution is refined once
with the residual, and its residual is checked: `unstable` means

    ‖b - Mx‖ > √eps (‖Ax‖ + ‖U C Vᴴx‖ + ‖b‖),   M = A + U C Vᴴ.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact
from lx_operators import (
    AbstractLinearOperator,
    LowRankUpdateLinearOperator,
    MatrixLinearOperator,
)
from lx_operators.internal import (
    PackedStructures,
    bare,
    common_dtype,
    pack_structures,
    promoted,
    ravel,
    unravel,
)

from .._checks import check_options, check_square, check_state
from .._results import both, choose, first_failure
from .._scaling import eps, largest, negligible
from .._slogdet import (
    judged_slogdet,
    part,
    slogdet_of,
    tangent_of,
    trace_of,
    trace_of_part,
)
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import HIGHEST, working_dtype
from .kronecker import many
from .lu import LU


class _WoodburyState(eqx.Module):
    A: AbstractLinearOperator
    inner: Any  # of A
    UC: Inexact[Array, "n k"]
    V: Inexact[Array, "n k"]
    Z: Inexact[Array, "n k"]
    S: Any  # state of LU
    L: Inexact[Array, "n k"]  # A⁻ᴴV Cᴴ S⁻ᴴ
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class Woodbury(AbstractLinearSolver[_WoodburyState]):
    """The Woodbury formula, for low-rank updates A + U C Vᴴ of an operator A that is
    easy to solve with.

    For an update of rank k, the factors cost 2 k solves with A and each vector costs
    two, the second of which refines the first. A and A + U C Vᴴ must both be
    nonsingular.

    A failure of the inner solver is reported as it is. The result is `singular` if the
    k×k matrix I + C VᴴA⁻¹U is singular, and `unstable` if the refined solution still
    has a large residual.

    Args:
        inner_solver: any solver for A.

    Raises:
        ValueError: the operator is not a low-rank update, or not square.

    ```python
    a = lx.DiagonalLinearOperator(jnp.array([1.0, 2.0, 3.0]))
    operator = lx.LowRankUpdateLinearOperator(a, jnp.ones((3, 1)))
    solver = lx.Woodbury(lx.Diagonal(well_posed=True))
    solution = lx.linear_solve(operator, jnp.ones(3), solver)
    ```
    """

    inner_solver: AbstractLinearSolver

    def init(self, operator, options):
        check_options(options, (), "Woodbury")
        check_square(operator, "Woodbury")
        update = bare(operator)
        if not isinstance(update, LowRankUpdateLinearOperator):
            raise ValueError(
                "`Woodbury` solves with a `LowRankUpdateLinearOperator` only, but the "
                f"operator is {operator!r}; use `AutoLinearSolver`."
            )
        packed = pack_structures(operator)
        ins, outs = packed.in_structure.thaw(), packed.out_structure.thaw()
        dtype = common_dtype(ins, outs)
        A = promoted(jax.lax.stop_gradient(update.operator), dtype)
        inner = self.inner_solver.init(A, {})
        U = _matrix(update.U, dtype)
        V = U if update.V is None else _matrix(update.V, dtype)
        UC, VC = U, V
        if update.C is not None:
            C = _matrix(update.C, dtype)
            UC, VC = _matmul(U, C), _matmul(V, _adjoint(C))
        Z, ended = _solutions(self.inner_solver, inner, U, outs)
        K = _matmul(_adjoint(VC), Z)
        total = jnp.eye(U.shape[1], dtype=U.dtype) + K
        S = LU().init(MatrixLinearOperator(total), {})
        # where I and K cancel, only their rounding errors remain
        noise = 4 * eps(U.dtype) * (1 + largest(K))
        lost = (S.reciprocal_condition * largest(total) <= noise) & (largest(K) > 0)
        W, ended_too = _solutions(*self._adjoint(inner), VC, ins)
        LH, _ = many(LU(), S, _adjoint(W))
        verdict = choose(lost, RESULTS.singular, S.verdict)
        verdict = both(both(ended, ended_too), verdict)
        return _WoodburyState(A, inner, UC, V, Z, S, _adjoint(LH), verdict, packed)

    def _adjoint(self, inner: Any) -> tuple[AbstractLinearSolver, Any]:
        turned, options = self.inner_solver.transpose(inner, {})
        return self.inner_solver, self.inner_solver.conj(turned, options)[0]

    def compute(self, state, vector, options):
        check_state(state, _WoodburyState, "Woodbury")
        flaws = []

        def solve_with(b, adjoint):
            A, solver, inner = state.A, self.inner_solver, state.inner
            left, right, up, down = state.UC, state.V, state.Z, state.L
            if adjoint:
                A, (solver, inner) = A.H, self._adjoint(inner)
                left, right, up, down = right, left, down, up

            def approximate(b: Array) -> Array:
                y, _ = _solutions(solver, inner, b[:, None], A.out_structure())
                return y[:, 0] - _matmul(up, _matmul(_adjoint(down), b))

            def residual(x: Array) -> tuple[Array, Array]:
                Ax = ravel(A.mv(unravel(x, A.in_structure())), b.dtype)
                update = _matmul(left, _matmul(_adjoint(right), x))
                sizes = largest(jnp.stack((Ax, update, b)), axis=1)
                return b - Ax - update, jnp.sum(sizes)

            x = approximate(b)
            x = x + approximate(residual(x)[0])
            r, size = residual(x)
            flaws.append(~negligible(largest(r), size, eps(b.dtype)))
            return x

        x, result = views.solve(state, vector, state.Z.dtype, solve_with)
        unstable = flaws[0] & (result == RESULTS.successful)
        return x, RESULTS.where(unstable, RESULTS.unstable, result), {}

    def transpose(self, state, options):
        check_state(state, _WoodburyState, "Woodbury")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _WoodburyState, "Woodbury")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True


def _matrix(operator: AbstractLinearOperator, dtype: Any) -> Inexact[Array, "m k"]:
    matrix = jax.lax.stop_gradient(operator.as_matrix())
    return matrix.astype(working_dtype(dtype))


def _matmul(x: Array, y: Array) -> Array:
    return jnp.matmul(x, y, precision=HIGHEST)


def _adjoint(x: Array) -> Array:
    return x.T.conj()


def _solutions(
    solver: AbstractLinearSolver, inner: Any, B: Inexact[Array, "n k"], structure: Any
) -> tuple[Inexact[Array, "n k"], RESULTS]:
    """A⁻¹B, of flat columns."""

    def one(b: Array) -> tuple[Array, RESULTS]:
        x, result, _ = solver.compute(inner, unravel(b, structure), {})
        return ravel(x, b.dtype), result

    x, results = jax.vmap(one, in_axes=1, out_axes=(1, 0))(B)
    return x, first_failure(results)


@slogdet_of.register
def _(state: _WoodburyState):
    """det(A + U C Vᴴ) = det A det S"""
    (sign, log), (sign_S, log_S) = slogdet_of(state.inner), slogdet_of(state.S)
    sign = sign * sign_S.astype(sign.dtype)
    sign = sign.conj() if state.view.turned else sign
    return judged_slogdet(state.verdict, sign, log + log_S)


@trace_of.register
def _(state: _WoodburyState, solver, tangent):
    """tr(A⁻¹dA) + tr(S⁻¹d(C Vᴴ)Z) + tr(Lᴴ(dU - dA Z)), as Lᴴ = S⁻¹C VᴴA⁻¹."""
    if state.view != views.View():
        return None
    Z, dtype = state.Z, state.Z.dtype
    S_inverse, _ = many(LU(), state.S, jnp.eye(Z.shape[1], dtype=dtype))

    def moves(operator: AbstractLinearOperator) -> Array:
        update = bare(operator)
        U, C = update.U.as_matrix().astype(dtype), update.C
        V = U if update.V is None else update.V.as_matrix().astype(dtype)
        CVH = _adjoint(V)
        CVH = CVH if C is None else _matmul(C.as_matrix().astype(dtype), CVH)
        structure = state.A.in_structure()

        def times(z: Array) -> Array:
            return ravel(update.operator.mv(unravel(z, structure)), dtype)

        AZ = jax.vmap(times, in_axes=1, out_axes=1)(Z)
        core = jnp.sum(S_inverse.T * _matmul(CVH, Z))
        return core + jnp.sum(state.L.conj() * (U - AZ))

    one = part(lambda op: bare(op).operator, tangent)
    trace = trace_of_part(state.inner, solver.inner_solver, one)
    return trace + tangent_of(moves, tangent)
