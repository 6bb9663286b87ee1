"""The derivative of the pseudoinverse solution.

Let x = A†b, r = b − Ax, at constant rank. With P = A A† the projector onto the range of
A and Q = A†A the one onto the range of Aᴴ (Golub and Pereyra 1973,
doi:10.1137/0710036),

    dA† = −A† dA A† + A†A†ᴴ dAᴴ (I − P) + (I − Q) dAᴴ A†ᴴA†,

and (I − P) b = r, A†b = x, so that

    dx = A†(db − dA x) + A†A†ᴴ dAᴴ r + (I − Q) dAᴴ A†ᴴ x
       = A†(db − dA x + A†ᴴ(dAᴴ r) − A z) + z           with  z = dAᴴ(A†ᴴ x).

The first form holds for real and complex A, tall and wide, of full rank or not. In the
second all solves share the factors of A, A† is applied once, and no projection costs a
solve of its own: r is read from the factors, where they have an orthonormal basis
(`annihilated`), and else is b − Ax; (I − Q) z shares the solve that is needed anyway.

Knowing the rank makes terms vanish:

    columns independent:  Q = I: no z                     (tall and of full rank)
    rows independent:     r = 0: no term with r           (wide and of full rank)
    both:                 dx = A†(db − dA x)              (square and nonsingular)

So the tangent costs one solve for square operators, two for others of full rank, three
where the rank is not known. If A has no tangent it costs one. A derivative of dx is the
derivative of this code: x, r and z are solutions themselves.

With damping d the solution is x = Gb, G = M⁻¹Aᴴ, M = AᴴA + d²I, of which nothing is a
projector. From M x = Aᴴb, for A of any shape and rank,

    dx = G(db − dA x) + M⁻¹w                              with  w = dAᴴ r − 2d ḋ x,

where ḋ is the tangent of d: M moves by 2d ḋ I as well. As M⁻¹AᴴA = I − d²M⁻¹,

    M⁻¹w = G(Gᴴw) + d²M⁻²w = G(Gᴴw − A z) + z             with  z = (w − AᴴGᴴw) / d².

(z is M⁻¹w itself, but a difference of nearly equal vectors where d is small; the factor
I − GA = d²M⁻¹ leaves of its error the relative size (eps ‖A‖ / d)².)

If A has a null space, errors in it are divided by d²: there w must be accurate. Now
x = Aᴴu and r = d²u with u = (AAᴴ + d²I)⁻¹b, of which r/d² is an inaccurate value. In
the same way as above, with h = Gᴴx and y = Gr/d² (which is M⁻¹x, but inaccurate),

    u = h + r/d² − A y,        M⁻¹x = G(h − A y) + y.

If rows are independent, u is of moderate size; then M⁻¹dAᴴr = (I − GA) dAᴴu. So

    columns independent:  dx = G(db − dA x + Gᴴw − A z) + z,       w = dAᴴ r − 2d ḋ x
    rows independent:     dx = G(db − dA x − A z − 2d ḋ (h − A y)) + z − 2d ḋ y,
                                                                    z = dAᴴ u
    else:                 the sum of the two, with  w = d² dAᴴ u

with two, three and four solves, whichever arguments have tangents; those for h and y
involve no tangent. As d → 0, x tends to A†b, and 2d ḋ x to 0. At d = 0 the derivative
is that of A†b; the formulas hold, with z = dAᴴ h if columns may be dependent, else z =
0, and y = 0.

Scale. If A and b are of size s and x of size 1, dx/dA is of size 1/s. But the linear
map from dA to dx, and with it the transposed map from a cotangent to the gradient, has
intermediate results of size s² and s⁻²: dAᴴ r, and A†A†ᴴ of a cotangent. Hence r and x
enter divided by powers of two of their own size, ρ = |b| and ξ = |x|, which multiply
the result of the solve:

    A†ᴴ(dAᴴ r) = ρ A†ᴴ(dAᴴ(r/ρ)),      z = ξ dAᴴ(A†ᴴ(x/ξ))

These are exact, and known before any tangent, so the map stays linear.

All this holds for the exact x: the derivative of a solve that failed is NaN.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, PyTree, Real
from lx_operators import AbstractLinearOperator, TangentLinearOperator
from lx_solvers.internal import (
    C,
    after,
    annihilated,
    is_zero,
    leaves_no_residual,
    reciprocal_scale,
)

from ._arithmetic import add, largest_of, neg, sub, times, unit, unless
from ._method import (
    Method,
    Problem,
    conjugated,
    has_full_rank,
    transposed,
    without_first_guess,
)
from ._partition import split
from ._primitive import DERIVATIVE_FAILURE, Spec, solve


def solution_tangent(
    problem: Problem,
    vector: PyTree[Array],
    solution: PyTree[Array],
    operator_tangent: AbstractLinearOperator,
    vector_tangent: PyTree[Array] | None,
    damp_tangent: Real[Array, ""] | None,
    spec: Spec,
) -> PyTree[Array]:
    """dx, by the formula above.

    Args:
        problem: A, and how it is solved.
        vector: b.
        solution: x.
        operator_tangent: dA, with None for leaves that do not move.
        vector_tangent: db; None for zero.
        damp_tangent: ḋ; None for zero.
        spec: of the solve that is differentiated.
    """
    problem = _once(without_first_guess(problem), solution)
    operator, damp = problem.operator, problem.damp
    moves = bool(jtu.tree_leaves(operator_tangent))
    if not moves and damp_tangent is None:
        return _solved(spec, problem, vector_tangent)
    operator_tangent = TangentLinearOperator(operator, operator_tangent)
    solved = functools.partial(_solved, spec)
    rhs = vector_tangent
    if moves:
        moved = operator_tangent.mv(solution)
        rhs = neg(moved) if rhs is None else sub(rhs, moved)
    if not is_zero(damp):
        tangent_adjoint: Any = operator_tangent.H if moves else None
        return _damped_tangent(
            problem, vector, solution, tangent_adjoint, rhs, damp_tangent, solved
        )
    m, n = operator.out_size(), operator.in_size()
    full_rank = has_full_rank(problem)
    columns_independent = full_rank and m >= n
    no_residual = (full_rank and m <= n) or leaves_no_residual(problem.forward.state)
    if no_residual and columns_independent:
        return solved(problem, rhs)

    tangent_adjoint = operator_tangent.H
    adjoint = without_first_guess(conjugated(transposed(problem)))
    rho, xi = unit(vector, operator), unit(solution)
    residual = back = None  # known before any tangent
    if not no_residual:
        residual = _residual(problem, adjoint, vector, solution, columns_independent)
        problem, adjoint = _once(problem, residual), _once(adjoint, residual)
        residual = times(reciprocal_scale(rho), residual)
    if not columns_independent:
        back = solved(adjoint, times(reciprocal_scale(xi), solution))
        problem, adjoint = _once(problem, back), _once(adjoint, back)
    if not no_residual:
        far = solved(adjoint, tangent_adjoint.mv(residual))
        rhs = add(rhs, times(rho, far))
    if columns_independent:
        return solved(problem, rhs)
    z = times(xi, tangent_adjoint.mv(back))
    dx = solved(problem, sub(rhs, operator.mv(z)))
    return add(dx, z)


def _damped_tangent(
    problem: Problem,
    vector: PyTree[Array],
    solution: PyTree[Array],
    tangent_adjoint: Any,
    rhs: PyTree[Array] | None,
    damp_tangent: Real[Array, ""] | None,
    solved: Callable[[Problem, PyTree[Array]], PyTree[Array]],
) -> PyTree[Array]:
    """dx with damping.

    Args:
        problem, vector, solution, damp_tangent: as above.
        tangent_adjoint: dAᴴ; None for zero.
        rhs: db − dA x; None for zero.
        solved: solves one of the problems.
    """
    operator, damp = problem.operator, problem.damp
    m, n = operator.out_size(), operator.in_size()
    full_rank = has_full_rank(problem)
    rows_independent, columns_independent = full_rank and m < n, full_rank and m >= n
    adjoint = without_first_guess(conjugated(transposed(problem)))
    rho, xi = unit(vector, operator), unit(solution)
    d = jnp.asarray(damp).astype(xi.dtype)
    zero = None if isinstance(damp, float | int) else d == 0  # None: it is not
    delta = unit(d)  # as the derivative of 1/d is of size d⁻²
    inverse = 1 / unless(zero, d / delta, jnp.ones_like(d))  # δ/d

    residual = sub(vector, operator.mv(solution))
    w = back = z = undamped = after_all = None  # w is in units of ρ
    if columns_independent:
        if tangent_adjoint is not None:
            w = tangent_adjoint.mv(times(reciprocal_scale(rho), residual))
        if damp_tangent is not None:  # ‖d x‖ ≤ ‖b‖ / 2: nothing is out of range
            scaled = times(reciprocal_scale(rho), times(d, solution))
            w = add(w, times(-2 * damp_tangent, scaled))
    else:
        # u, h and x in units of ξ, y and r of ξ / d and ξ d
        r = times(inverse / xi, times(1 / delta, residual))
        y = solved(problem, r)
        problem, adjoint = _once(problem, y), _once(adjoint, y)
        h = solved(adjoint, times(reciprocal_scale(xi), solution))
        problem, adjoint = _once(problem, h), _once(adjoint, h)
        y = unless(zero, y)
        p = sub(times(d, h), operator.mv(y))  # d (h − A y)
        u_d = add(r, p)
        if damp_tangent is not None:
            turn = -2 * xi * damp_tangent.astype(xi.dtype)
            rhs, after_all = add(rhs, times(turn, p)), times(turn, y)
        if tangent_adjoint is not None:
            if rows_independent:
                u = unless(zero, times(inverse / delta, u_d), h)
                z = times(xi, tangent_adjoint.mv(u))
            else:
                r = times(reciprocal_scale(rho), residual)
                accurate = unless(zero, times(d * xi / rho, u_d), r)
                w = tangent_adjoint.mv(accurate)
                if zero is not None:
                    undamped = times(xi, tangent_adjoint.mv(h))
    if w is not None:
        back = solved(adjoint, w)
        z = sub(w, adjoint.operator.mv(back))
        z = times(inverse / delta, times(inverse * (rho / delta), z))
        z = unless(zero, z, undamped)
        rhs = add(rhs, times(rho, back))
    if z is not None:
        rhs, after_all = add(rhs, neg(operator.mv(z))), add(z, after_all)
    return add(solved(problem, rhs), after_all)


def _solved(spec: Spec, problem: Problem, vector: PyTree[Array]) -> PyTree[Array]:
    """A solve that the derivative of another needs."""
    on_failure = DERIVATIVE_FAILURE[spec.on_failure]
    return solve(problem, vector, on_failure, "tangent", like=spec)[0]


def _once(problem: Problem, known: PyTree[Array]) -> Problem:
    """`problem`, with which a batch solves nothing before `known` has been computed:
    see `after`. A dense solver does nothing before it has the verdict of its state."""
    leaves = jtu.tree_leaves(known)

    def tied(leaf: Any) -> Any:
        scalar = isinstance(leaf, jax.Array) and leaf.ndim == 0
        if not scalar or not jnp.issubdtype(leaf.dtype, jnp.integer):
            return leaf
        return after(leaf, leaves[0])

    if not leaves:
        return problem
    forward = problem.forward
    state = jtu.tree_map(tied, forward.state)
    forward = Method(forward.solver, state, forward.options)
    return Problem(problem.operator, forward, problem.backward, problem.damp)


def _residual(
    problem: Problem,
    adjoint: Problem,
    vector: PyTree[Array],
    solution: PyTree[Array],
    columns_independent: bool,
) -> PyTree[Array]:
    """r: its value comes from the factors, if they give it; its derivative is that of b
    − Ax.

    If columns may be dependent, b − Ax counts as 0 where it is of the size of its
    rounding errors: dAᴴ of these is not in the range of Aᴴ, and not every solver finds
    the least-squares solution of such a system.
    """
    arrays, static = split((problem.operator, adjoint.forward.state, vector, solution))

    def formula(arrays: Sequence[Array]) -> PyTree[Array]:
        operator, _, vector, solution = static.join(arrays)
        return sub(vector, operator.mv(solution))

    @jax.custom_jvp
    def residual(arrays: Sequence[Array]) -> PyTree[Array]:
        _, state, vector, solution = static.join(arrays)
        first = jtu.tree_leaves(solution)[:1]
        vector = jtu.tree_map(lambda x: after(x, *first) if first else x, vector)
        told = annihilated(state, vector)
        if told is not None:
            return told
        r = formula(arrays)
        return r if columns_independent else unless(_is_rounding(r, vector), r)

    @functools.partial(residual.defjvp, symbolic_zeros=True)
    def _(primals, tangents):
        (arrays,), (tangents,) = primals, tangents
        moving = [type(t) is not SymbolicZero for t in tangents]

        def of_moving(*moved: Array) -> PyTree[Array]:
            each = iter(moved)
            return formula([next(each) if m else x for x, m in zip(arrays, moving)])

        moved = [x for x, m in zip(arrays, moving) if m]
        dr = jax.jvp(of_moving, moved, [t for t, m in zip(tangents, moving) if m])[1]
        return residual(arrays), dr

    return residual(arrays)


def _is_rounding(r: PyTree[Array], vector: PyTree[Array]) -> Array:
    """Whether r = b − Ax is of the size of its rounding errors; then Ax is of that of
    b."""
    size = largest_of(vector)
    return largest_of(r) <= C * jnp.finfo(size.dtype).eps * size
