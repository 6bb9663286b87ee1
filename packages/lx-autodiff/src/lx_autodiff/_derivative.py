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
(`annihilated`), and else is b − Ax; (I − Q) z rides on the solve that is needed anyway.

What is known of the rank makes terms vanish:

    columns independent:  Q = I: no z                     (tall and of full rank)
    rows independent:     r = 0: no term with r           (wide and of full rank)
    both:                 dx = A†(db − dA x)              (square and nonsingular)

So the tangent costs one solve for square operators, two for others of full rank, three
where the rank is not known. If A has no tangent it costs one. A derivative of dx is the
derivative of this code: x, r and z are solutions themselves.

With damping d the solution is x = Gb, G = M⁻¹Aᴴ, M = AᴴA + d²I, of which nothing is a
projector. From M x = Aᴴb

    dx = G(db − dA x) + M⁻¹w                              with  w = dAᴴ r,

and as M⁻¹AᴴA = AᴴAM⁻¹ = I − d²M⁻¹, we have M⁻¹w = G(Gᴴw) + d²M⁻²w, and
d²M⁻²w = (I − GA) z with z = (w − AᴴGᴴw) / d²:

    dx = G(db − dA x + Gᴴw − A z) + z

at any rank, by two solves. (z itself is M⁻¹w, but where d is small it is a difference
of nearly equal vectors; I − GA = d²M⁻¹ makes the error harmless.)

All this is of the exact x: the derivative of a solve that failed is NaN.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jax.interpreters import ad
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, TangentLinearOperator
from lx_solvers import RESULTS
from lx_solvers.internal import after, annihilated, code

from ._method import (
    Method,
    Problem,
    conjugated,
    damping,
    has_full_rank,
    transposed,
    without_first_guess,
)
from ._partition import split
from ._primitive import (
    DERIVATIVE_FAILURE,
    Batch,
    Spec,
    linear_solve_p,
    solve,
)


def solution_tangent(
    problem: Problem,
    vector: PyTree[Array],
    solution: PyTree[Array],
    operator_tangent: AbstractLinearOperator,
    vector_tangent: PyTree[Array] | None,
    spec: Spec,
) -> PyTree[Array]:
    """dx, by the formula above.

    Args:
        problem: A, and how it is solved.
        vector: b.
        solution: x.
        operator_tangent: dA, with None for leaves that do not move.
        vector_tangent: db; None for zero.
        spec: of the solve that is differentiated.
    """
    problem = _once(without_first_guess(problem), solution)
    operator = problem.operator
    if not jtu.tree_leaves(operator_tangent):
        return _solved(spec, problem, vector_tangent)
    operator_tangent = TangentLinearOperator(operator, operator_tangent)
    m, n = operator.out_size(), operator.in_size()
    damp = damping(problem)
    damped = not (isinstance(damp, float | int) and damp == 0)
    full_rank = has_full_rank(problem) and not damped
    rows_independent, columns_independent = full_rank and m <= n, full_rank and m >= n
    solved = functools.partial(_solved, spec)
    rhs = _neg(operator_tangent.mv(solution))
    if vector_tangent is not None:
        rhs = _add(rhs, vector_tangent)
    if rows_independent and columns_independent:
        return solved(problem, rhs)

    adjoint = without_first_guess(conjugated(transposed(problem)))
    tangent_adjoint = operator_tangent.H
    if damped:
        residual = _sub(vector, operator.mv(solution))
        w = tangent_adjoint.mv(residual)
        back = solved(adjoint, w)
        z = _over_square(_sub(w, adjoint.operator.mv(back)), damp)
        if not isinstance(damp, float | int):  # it may be zero
            undamped = tangent_adjoint.mv(solved(adjoint, solution))
            z = jtu.tree_map(lambda x, y: jnp.where(damp == 0, y, x), z, undamped)
        dx = solved(problem, _add(rhs, _sub(back, operator.mv(z))))
        return _add(dx, z)
    residual = back = None  # known before any tangent is
    if not rows_independent:
        residual = _residual(problem, adjoint, vector, solution)
        problem, adjoint = _once(problem, residual), _once(adjoint, residual)
    if not columns_independent:
        back = solved(adjoint, solution)
        problem, adjoint = _once(problem, back), _once(adjoint, back)
    if not rows_independent:
        rhs = _add(rhs, solved(adjoint, tangent_adjoint.mv(residual)))
    if columns_independent:
        return solved(problem, rhs)
    z = tangent_adjoint.mv(back)
    dx = solved(problem, _sub(rhs, operator.mv(z)))
    return _add(dx, z)


def _solved(spec: Spec, problem: Problem, vector: PyTree[Array]) -> PyTree[Array]:
    """A solve that the derivative of another needs."""
    on_failure = DERIVATIVE_FAILURE[spec.on_failure]
    return solve(problem, vector, on_failure, "tangent", like=spec)[0]


def _once(problem: Problem, known: PyTree[Array]) -> Problem:
    """`problem`, with which, in a batch, nothing is solved before `known` is there; see
    `after`. A dense solver does nothing before it has the verdict of its state."""
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
    return Problem(problem.operator, forward, problem.backward)


def _residual(
    problem: Problem, adjoint: Problem, vector: PyTree[Array], solution: PyTree[Array]
) -> PyTree[Array]:
    """r: its value from the factors, if they tell it; its derivative that of b − Ax."""
    arrays, static = split((problem.operator, adjoint.forward.state, vector, solution))

    def formula(arrays: Sequence[Array]) -> PyTree[Array]:
        operator, _, vector, solution = static.join(arrays)
        return _sub(vector, operator.mv(solution))

    @jax.custom_jvp
    def residual(arrays: Sequence[Array]) -> PyTree[Array]:
        _, state, vector, solution = static.join(arrays)
        first = jtu.tree_leaves(solution)[:1]
        vector = jtu.tree_map(lambda x: after(x, *first) if first else x, vector)
        told = annihilated(state, vector)
        return formula(arrays) if told is None else told

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


def _over_square(x: PyTree[Array], damp: Any) -> PyTree[Array]:
    """x / d², for d > 0."""

    def over(leaf: Array) -> Array:
        d = jnp.asarray(damp, jnp.finfo(leaf.dtype).dtype)
        d = jnp.where(d == 0, jnp.ones_like(d), d).astype(leaf.dtype)
        return leaf / d / d

    return jtu.tree_map(over, x)


def _add(x: PyTree[Array], y: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(jnp.add, x, y)


def _sub(x: PyTree[Array], y: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(jnp.subtract, x, y)


def _neg(x: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(jnp.negative, x)


def _jvp(
    primals: Sequence[Array], tangents: Sequence[Any], *, spec: Spec
) -> tuple[list[Array], list[Any]]:
    out = linear_solve_p.bind(*primals, spec=spec)
    given = [type(tangent) is not ad.Zero for tangent in tangents]
    size = spec.solution.num_leaves

    def rule(
        primals: Sequence[Array],
        solution: Sequence[Array],
        result: Array,
        moving: Sequence[Array],
    ) -> list[Array]:
        problem, vector = spec.static.join(primals)
        each = iter(moving)
        tangents = [next(each) if yes else None for yes in given]
        problem_tangent, vector_tangent = spec.static.join_tangents(tangents)
        _check_solver(problem_tangent)
        dx = solution_tangent(
            problem,
            vector,
            jtu.tree_unflatten(spec.solution, solution),
            problem_tangent.operator,
            _instantiated(vector_tangent, vector),
            spec,
        )
        if spec.on_failure != "raise":
            dx = _nan_if_failed(dx, result)
        return jtu.tree_leaves(dx)

    def axes(batch: Batch) -> Any:
        moving = [axis for axis, yes in zip(batch.axes, given) if yes]
        return list(batch.axes), [0] * size, 0, moving

    moving = [tangent for tangent, yes in zip(tangents, given) if yes]
    dx = spec.batched(rule, axes)(list(primals), out[:size], out[size], moving)
    # How a solve went has no derivative.
    rest = (ad.Zero(jax.typeof(x).to_tangent_aval()) for x in out[size:])
    return out, [*dx, *rest]


def _nan_if_failed(dx: PyTree[Array], result: Array) -> PyTree[Array]:
    """dx, or NaN: as a product, whose transpose is NaN as well."""
    successful = jax.lax.eq(result, code(RESULTS.successful))

    def times_one_or_nan(x: Array) -> Array:
        one, nan = (np.asarray(value, x.dtype) for value in (1.0, np.nan))
        return x * jax.lax.select(successful, one, nan)

    return jtu.tree_map(times_one_or_nan, dx)


def _instantiated(tangent: PyTree, primal: PyTree[Array]) -> PyTree[Array] | None:
    """A tangent with zeros where it is None; None where all of it is."""
    if not jtu.tree_leaves(tangent):
        return None
    return jtu.tree_map(
        lambda x, t: jnp.zeros_like(x) if t is None else t, primal, tangent
    )


def _check_solver(tangent: Problem) -> None:
    methods = [tangent.forward, tangent.backward]
    if any(jtu.tree_leaves(m.solver) for m in methods if m is not None):
        raise ValueError(
            "a solve cannot be differentiated with respect to `solver`: a tolerance or "
            "another array inside it depends on the differentiated variables. Apply "
            "`jax.lax.stop_gradient` to it."
        )


ad.primitive_jvps[linear_solve_p] = _jvp
