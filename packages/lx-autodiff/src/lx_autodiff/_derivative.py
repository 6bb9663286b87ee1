"""The derivative of the pseudoinverse solution.

Let x = A†b, r = b − Ax, at constant rank. With P = A A† the projector onto the range of
A and Q = A†A the one onto the range of Aᴴ (Golub and Pereyra 1973,
doi:10.1137/0710036),

    dA† = −A† dA A† + A†A†ᴴ dAᴴ (I − P) + (I − Q) dAᴴ A†ᴴA†,

and (I − P) b = r, A†b = x, so that

    dx = A†(db − dA x) + A†A†ᴴ dAᴴ r + (I − Q) dAᴴ A†ᴴ x
       = A†(db − dA x + A†ᴴ(dAᴴ r) − A z) + z      with  z = dAᴴ(A†ᴴ x).

The first form holds for real and complex A, tall and wide, of full rank or not; the
second shares the factors of A between all its solves, and applies A† once. What is
known of the rank makes terms vanish:

    columns independent:  Q = I: no z                     (tall and of full rank)
    rows independent:     r = 0: no term with r           (wide and of full rank)
    both:                 dx = A†(db − dA x)              (square and nonsingular)

So the tangent costs one solve for square operators, two for others of full rank, three
where the rank is not known. If A has no tangent it costs one. r costs a product. A
derivative of dx is the derivative of this code: x, r and z are solutions themselves.

All this is of the exact x: the derivative of a solve that failed is NaN.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.interpreters import ad
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, TangentLinearOperator
from lx_solvers import RESULTS

from ._method import (
    Problem,
    conjugated,
    has_full_rank,
    transposed,
    without_first_guess,
)
from ._primitive import (
    DERIVATIVE_FAILURE,
    Batch,
    OnFailure,
    Spec,
    linear_solve_p,
    nan,
    solve,
)


def solution_tangent(
    problem: Problem,
    vector: PyTree[Array],
    solution: PyTree[Array],
    operator_tangent: AbstractLinearOperator,
    vector_tangent: PyTree[Array] | None,
    on_failure: OnFailure,
) -> PyTree[Array]:
    """dx, by the formula above.

    Args:
        problem: A, and how it is solved.
        vector: b.
        solution: x.
        operator_tangent: dA, with None for leaves that do not move.
        vector_tangent: db; None for zero.
        on_failure: as in `solve`, of the solves needed here.
    """
    problem = without_first_guess(problem)
    operator = problem.operator
    if not jtu.tree_leaves(operator_tangent):
        dx, _, _ = solve(problem, vector_tangent, on_failure, "tangent")
        return dx
    operator_tangent = TangentLinearOperator(operator, operator_tangent)
    m, n = operator.out_size(), operator.in_size()
    full_rank = has_full_rank(problem)
    rows_independent, columns_independent = full_rank and m <= n, full_rank and m >= n

    rhs = _neg(operator_tangent.mv(solution))
    if vector_tangent is not None:
        rhs = _add(rhs, vector_tangent)
    if rows_independent and columns_independent:
        dx, _, _ = solve(problem, rhs, on_failure, "tangent")
        return dx

    adjoint = without_first_guess(conjugated(transposed(problem)))
    tangent_adjoint = operator_tangent.H
    if not rows_independent:
        residual = _add(vector, _neg(operator.mv(solution)))
        projected = tangent_adjoint.mv(residual)
        back, _, _ = solve(adjoint, projected, on_failure, "tangent")
        rhs = _add(rhs, back)
    if columns_independent:
        dx, _, _ = solve(problem, rhs, on_failure, "tangent")
        return dx
    dual, _, _ = solve(adjoint, solution, on_failure, "tangent")
    z = tangent_adjoint.mv(dual)
    rhs = _add(rhs, _neg(operator.mv(z)))
    dx, _, _ = solve(problem, rhs, on_failure, "tangent")
    return _add(dx, z)


def _add(x: PyTree[Array], y: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(jnp.add, x, y)


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
            DERIVATIVE_FAILURE[spec.on_failure],
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
    successful = result == jtu.tree_leaves(RESULTS.successful)[0]
    return jtu.tree_map(
        lambda x: x * jnp.where(successful, jnp.ones((), x.dtype), nan(x.dtype)), dx
    )


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
