"""How accurate a solution is: backward error, condition number, and their product.

Let x be the solution that a solver returned, and r = b - Ax. The error A†b - x is a sum
of terms M t, in which t is small and computed accurately, and M a known map:

- square:  A⁻¹r
- tall:    A†p + (AᴴA)⁻¹Aᴴs,   r = p + s;   p, as a change of b, and Aᴴs both are small
- wide:    A†r - (I - A†A)s,   x = Aᴴw + s;   w = A†ᴴx

If |t| ≤ ω u, where u is what t would be if each element of A and b changed by as much
as itself, then ω is the componentwise backward error (Oettli and Prager 1964,
doi:10.1007/BF01386090; of the augmented system where A is not square: Björck 1991,
doi:10.1007/BF01931285), and ‖Σ |M|u‖∞ / ‖x‖∞ the condition number that belongs to it
(Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., 2002, sections 7.2
and 20.1, doi:10.1137/1.9780898718027). The error is at most their product.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Inexact, PyTree, Real
from lx_operators import AbstractLinearOperator
from lx_operators.internal import (
    cast,
    check_matrix,
    common_dtype,
    conform,
    describe,
    promote_types,
    ravel,
    same_shapes,
    structure_of,
    unravel,
)
from lx_solvers import AbstractLinearSolver, AutoLinearSolver, Solution
from lx_solvers.internal import residual, short, solver_for

from ._arguments import NO_STATE, check_solve
from ._compiled import Compiled, is_quick
from ._estimates import Map, max_norm, two_norm
from ._method import Method, Problem, conjugated, transposed, without_first_guess
from ._partition import Static, split, stop_gradient
from ._primitive import solve
from ._promotion import widened
from ._sharding import on_automatic_axes

_matmul = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


class ErrorBounds(eqx.Module):
    """The accuracy of the solution x of a linear solve.

    `error_bounds` says in which norm; `forward_error` is the product of the other two.
    """

    backward_error: Real[Array, ""]
    """ω: x solves exactly a problem whose data differ by ω, relatively. A few units of
    rounding at best."""
    condition: Real[Array, ""]
    """By how much relative changes of the data are amplified in the solution."""
    forward_error: Real[Array, ""]
    """A bound of ‖x - A†b‖ / ‖x‖: -log₁₀ of it is the number of correct digits."""

    def __repr__(self) -> str:
        facts = [f"{field}={short(value)}" for field, value in vars(self).items()]
        return f"ErrorBounds({', '.join(facts)})"


def error_bounds(
    operator: AbstractLinearOperator,
    vector: PyTree[ArrayLike],
    solution: Solution,
    solver: AbstractLinearSolver = AutoLinearSolver(well_posed=True),
    *,
    options: dict[str, Any] | None = None,
    matrix: bool = True,
) -> ErrorBounds:
    """Bounds for the error of a solution, computed with the factors of the solve.

    With `matrix=True` errors are measured elementwise: ω is the smallest number such
    that x solves a problem in which each element of A and b is changed by at most ω
    times its modulus; the forward error is in the maximum norm. Scaling the rows of the
    system changes nothing, and scaling its columns changes little. The residual is
    computed in twice the working precision. |A†| is estimated from a few solves with A
    and Aᴴ at a time (Hager and Higham's estimator of the 1-norm, for several columns:
    Higham and Tisseur 2000, doi:10.1137/S0895479899356080); up to eight unknowns it is
    exact.

    With `matrix=False` only products are used, and everything is in the 2-norm: ω = ‖r‖
    / (‖A‖‖x‖ + ‖b‖) (Rigal and Gaches 1967, doi:10.1145/321406.321416), or ‖Aᴴr‖ /
    (‖A‖‖r‖) for a tall operator, if that gives the better bound (Stewart 1977,
    doi:10.1137/1019104). ‖A‖ and ‖A†‖ come from a few steps of the power method, the
    latter through solves with A and Aᴴ.

    The operator must have full rank, and x must approximate A†b, without damping.
    Condition and bound are infinite if the operator is rank-deficient, or if one of the
    further solves fails. They are estimates: norms of inverses are estimated from
    below, second-order errors are neglected, and they mean something only while
    condition · rounding unit is well below one. They carry no derivative.

    Args:
        operator, vector: A and b.
        solution: what `linear_solve` returned for them; its `state` is reused.
        solver, options: as in that solve.
        matrix: whether A may be formed as a matrix. Its elements are then read a few
            times, and a tall matrix is factorised once more.

    Returns:
        `ErrorBounds`, of three real scalars.

    Raises:
        ValueError: the solution is not one of such a system, as after a solve with
            `rhs_axis` (use `jax.vmap`); the operator has both real and complex leaves;
            or `matrix=True` would form more than 4 GiB.

    ```python
    i = jnp.arange(1, 9)
    hilbert = lx.MatrixLinearOperator(1 / (i[:, None] + i - 1))
    vector = jnp.ones(8)
    solution = lx.linear_solve(hilbert, vector, lx.QR(), throw=False)
    bounds = lx.error_bounds(hilbert, vector, solution, lx.QR())
    print(bounds.forward_error)
    ```
    """
    check_solve(operator, solver)
    if not isinstance(solution, Solution):
        raise ValueError(
            "`solution` must be what `linear_solve` returned, but got a value of type "
            f"`{type(solution).__name__}`."
        )
    vector = conform(vector, operator.out_structure(), "`vector`")
    wanted, got = operator.in_structure(), structure_of(solution.value)
    if not same_shapes(got, wanted):
        raise ValueError(
            f"`solution.value` has structure {describe(got)}, but the operator's input "
            f"{describe(wanted)}: it must be the solution for this `operator` and one "
            "`vector`. For a solve with `rhs_axis`, use `jax.vmap` over vectors and "
            "solutions."
        )
    leaves = jtu.tree_leaves((wanted, operator.out_structure()))
    if len({leaf.dtype.kind == "c" for leaf in leaves}) > 1:
        raise ValueError(
            "`error_bounds` needs an operator whose leaves are all real or all complex,"
            f" but got {operator!r}."
        )
    if matrix:
        check_matrix(
            operator,
            "`error_bounds` with `matrix=True`",
            "Pass `matrix=False`, which needs only products.",
            held=solution.state,
        )
    solver = solver_for(operator, solver)
    arrays, static = split((operator, vector, solution, solver, options or {}))
    return _error_bounds((static, matrix), *arrays, quickly=is_quick(vector))


@Compiled
def _error_bounds(call: tuple[Static, bool], *arrays: Array) -> ErrorBounds:
    static, matrix = call
    return on_automatic_axes(functools.partial(_bounds, matrix))(static, *arrays)


def _bounds(matrix: bool, static: Static, *arrays: Array) -> ErrorBounds:
    operator, vector, solution, solver, options = stop_gradient(static.join(arrays))
    operator = widened(operator, vector, NO_STATE)
    problem = Problem(operator, Method(solver, solution.state, options))
    dtype = common_dtype(operator.in_structure(), operator.out_structure())
    system = _System(
        _flat(operator.mv, operator, dtype),
        _flat(operator.H.mv, operator.H, dtype),
        _solve(problem, dtype),
        _solve(conjugated(transposed(problem)), dtype),
    )
    b, x = (_wide(ravel(z, common_dtype(z))) for z in (vector, solution.value))
    if matrix:
        backward, condition = _componentwise(system, _wide(operator.as_matrix()), b, x)
    else:
        backward, condition = _normwise(system, b, x)
    rank, full = solution.stats.get("rank"), min(b.size, x.size)
    known = jnp.isfinite(condition) & (True if rank is None else rank >= full)
    condition = jnp.where(known, condition, jnp.inf)
    backward = jnp.where(jnp.isfinite(backward), backward, jnp.inf)
    forward = jnp.where(known, backward * condition, jnp.inf)
    return ErrorBounds(backward, condition, forward)


class _System(NamedTuple):
    """Maps between flat arrays; a solve that fails gives NaN."""

    A: Map
    AH: Map
    solve: Map
    adjoint_solve: Map


def _solve(problem: Problem, dtype: Any) -> Map:
    problem = without_first_guess(problem)
    return _flat(lambda v: solve(problem, v, "nan")[0], problem.operator.T, dtype)


def _flat(fn: Callable, operator: AbstractLinearOperator, dtype: Any) -> Map:
    """A linear `fn` on the operator's input structure, between flat arrays."""
    structure = operator.in_structure()

    def flat(v: Array) -> Array:
        if jnp.iscomplexobj(v) and np.dtype(dtype).kind != "c":
            return jax.lax.complex(flat(v.real), flat(v.imag))
        parts = unravel(cast(v, dtype), structure)
        parts = jtu.tree_map(lambda x, s: cast(x, s.dtype), parts, structure)
        return cast(ravel(fn(parts), dtype), v.dtype)

    return flat


def _wide(x: Array) -> Array:
    return cast(x, promote_types(x.dtype, jnp.float32))


class _Error(NamedTuple):
    """A†b - x as a sum of terms M t, |t| ≤ ωu."""

    t: tuple[Array, ...]
    u: tuple[Array, ...]
    M: Callable[[tuple[Array, ...]], Array]
    MH: Callable[[Array], tuple[Array, ...]]


def _componentwise(
    system: _System, A: Inexact[Array, "m n"], b: Array, x: Array
) -> tuple[Array, Array]:
    """ω and the condition number, elementwise."""
    m, n = A.shape
    error_of = _square if m == n else _tall if m > n else _broad
    error = error_of(system, A, b, x)
    excess = [_max(_ratio(jnp.abs(t), u)) for t, u in zip(error.t, error.u)]

    def times_u(v: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(cast(u, z.dtype) * z for u, z in zip(error.u, v))

    amplified = max_norm(
        lambda v: error.M(times_u(v)), lambda z: times_u(error.MH(z)), n, A.dtype
    )
    backward = functools.reduce(jnp.maximum, excess)
    return backward, _ratio(amplified, _max(jnp.abs(x)))


def _residual(A: Array, b: Array, x: Array) -> Array:
    dtype = common_dtype((A, b, x))
    return residual(*(cast(z, dtype) for z in (b, A, x)))


def _size(A: Array, b: ArrayLike, x: Array) -> Array:
    """u = |A||x| + |b|. Where next to nothing of A meets x, the norm of A's row is
    added (Arioli, Demmel and Duff 1989, section 3, doi:10.1137/0610013)."""
    A, x = jnp.abs(A), jnp.abs(x)
    u, most = _matmul(A, x) + jnp.abs(b), jnp.sum(A, axis=1) * _max(x)
    return jnp.where(u <= 1000 * x.size * eps_of(u) * most, u + most, u)


def _square(system: _System, A: Array, b: Array, x: Array) -> _Error:
    r = _residual(A, b, x)
    return _Error(
        (r,),
        (_size(A, b, x),),
        lambda v: system.solve(v[0]),
        lambda z: (system.adjoint_solve(z),),
    )


def _tall(system: _System, A: Array, b: Array, x: Array) -> _Error:
    r, AH = _residual(A, b, x), A.T.conj()
    s = _near_normal(cast(A, r.dtype), x, r)
    p = jnp.abs(r - s) + eps_of(r) * jnp.abs(r)  # r was rounded once

    def MH(z: Array) -> tuple[Array, ...]:
        y = system.adjoint_solve(z)
        return y, system.solve(y)

    return _Error(
        (p, _residual(AH, jnp.zeros_like(x), s)),
        (_size(A, b, x), _size(AH, 0, s)),
        lambda v: system.solve(v[0] + system.adjoint_solve(v[1])),
        MH,
    )


def _broad(system: _System, A: Array, b: Array, x: Array) -> _Error:
    w, AH = system.adjoint_solve(x), A.T.conj()

    def MH(z: Array) -> tuple[Array, ...]:
        y = system.adjoint_solve(z)
        return y, z - _matmul(AH, y)

    return _Error(
        (_residual(A, b, x), _residual(AH, x, w)),
        (_size(A, b, x), _size(AH, 0, w)),
        lambda v: v[1] + system.solve(v[0] - _matmul(A, v[1])),
        MH,
    )


def _near_normal(A: Array, x: Array, r: Array) -> Array:
    """s = r - Ay, with y such that Aᴴs / ‖r‖ and Ay / ‖x‖ both are small: in columns of
    length one, the least ‖Ay - r‖² + θ²‖y‖², θ = ‖r‖/‖x‖ (Karlson and Waldén 1997,
    doi:10.1007/BF02510356). How accurate it is does not matter."""
    d = jnp.linalg.norm(A, axis=0)
    d = jnp.where(d == 0, 1, d)
    F, eye = A / cast(d, A.dtype)[None], jnp.eye(len(d), dtype=A.dtype)
    θ = _ratio(jnp.linalg.norm(r), jnp.linalg.norm(d * jnp.abs(x)))
    θ = cast(jnp.minimum(θ, 1 / eps_of(r)), A.dtype)
    R = jnp.linalg.qr(jnp.concatenate((θ * eye, F)), mode="r")
    y = _matmul(F.T.conj(), r)[:, None]
    for adjoint in (True, False):
        y = jax.lax.linalg.triangular_solve(
            R, y, left_side=True, transpose_a=adjoint, conjugate_a=adjoint
        )
    s = r - _matmul(F, y[:, 0])
    return jnp.where(jnp.all(jnp.isfinite(s)), s, r)


def _normwise(system: _System, b: Array, x: Array) -> tuple[Array, Array]:
    """ω and the condition number in the 2-norm, by products."""
    A, AH, solve, adjoint_solve = system
    norm = jnp.linalg.norm
    m, n = b.size, x.size
    A_norm = two_norm(A, AH, n, x.dtype, 8)
    inverse_norm = two_norm(adjoint_solve, solve, n, x.dtype, 4)
    x_norm = norm(x)
    r = b - A(x)
    rounding = eps_of(r) / 2 * n**0.5  # in r, on the average
    size = A_norm * x_norm + norm(b)
    backward = _ratio(norm(r), size) + rounding
    condition = inverse_norm * _ratio(size, x_norm)
    if m > n:
        other = _ratio(norm(AH(r)), A_norm * norm(r)) + rounding
        larger = inverse_norm**2 * A_norm * _ratio(norm(r), x_norm)
        better = other * larger < backward * condition
        backward = jnp.where(better, other, backward)
        condition = jnp.where(better, larger, condition)
    if m < n:
        s = x - solve(A(x))
        backward = jnp.maximum(backward, _ratio(norm(s), x_norm))
        condition = condition + 1
    return backward, condition


def eps_of(x: Array) -> float:
    return float(jnp.finfo(x.dtype).eps)


def _max(x: Array, axis: int | None = None) -> Array:
    return jnp.max(x, axis=axis, initial=0)


def _ratio(a: Array, b: Array) -> Array:
    """a / b for nonnegative numbers; 0 / 0 is 0."""
    return jnp.where(a == 0, 0, a / jnp.where(a == 0, 1, b))
