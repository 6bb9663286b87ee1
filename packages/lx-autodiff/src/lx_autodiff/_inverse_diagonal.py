"""The diagonal of the inverse.

dA⁻¹ = -A⁻¹ dA A⁻¹, whose diagonal element i is -eᵢᵀA⁻¹ dA A⁻¹eᵢ: two solves for each
element, a few elements at a time, so that no n × n array is formed or kept for a
backward pass.
"""

import functools
from typing import Any

import jax
from jaxtyping import Array, Inexact
from lx_operators import AbstractLinearOperator
from lx_solvers import AbstractLinearSolver, AutoLinearSolver
from lx_solvers.internal import inverse_diagonal_of

from ._arguments import NO_STATE
from ._partition import Static, split
from ._sharding import on_automatic_axes
from ._slogdet import moved, nonzero, square_problem
from ._unit_vectors import elements, product, solved


def inverse_diagonal(
    operator: AbstractLinearOperator,
    solver: AbstractLinearSolver = AutoLinearSolver(well_posed=True),
    *,
    options: dict[str, Any] | None = None,
    state: Any = NO_STATE,
) -> Inexact[Array, " n"]:
    """The diagonal of A⁻¹, such as the variances of N(0, A⁻¹).

    Sparse direct solvers compute it from the factors of SuperLU, without solves
    (Takahashi, Fagan and Chen 1973); other solvers take n solves with their factors.
    Differentiable with respect to `operator`, in both modes and to any order, at two
    solves for each element.

    Args:
        operator: a square operator of matrix shape `[n, n]`.
        solver, options: as in `linear_solve`.
        state: the state of an earlier solve with this operator and solver, to reuse its
            factors.

    Returns:
        An array `[n]`, in leaf order; NaN if a solve fails, for example because the
        operator is singular to working precision.

    Raises:
        ValueError: the operator is not square.

    ```python
    pattern = lx.SparsityPattern([0, 0, 1, 1], [0, 1, 0, 1], (2, 2))
    values = jnp.array([2.0, 1.0, 1.0, 2.0])
    operator = lx.SparseLinearOperator(values, pattern, lx.positive_semidefinite_tag)
    lx.inverse_diagonal(operator, lx.SparseCholesky())  # [2/3, 2/3]
    ```
    """
    problem = square_problem(operator, solver, options, state, "an inverse")
    arrays, static = split(problem)
    return on_automatic_axes(_inverse_diagonal)(static, *arrays)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _inverse_diagonal(static: Static, *arrays: Array) -> Array:
    problem = static.join(arrays)
    known = inverse_diagonal_of(problem.forward.state)
    if known is not None:
        return known
    return elements(problem, lambda unit: solved(problem, unit))


@_inverse_diagonal.defjvp
def _inverse_diagonal_jvp(static: Static, arrays: Any, tangents: Any) -> Any:
    given, moving = nonzero(tangents)
    problem, tangent = moved(static, given, list(arrays), moving)

    def element(unit: Array) -> Array:
        return -solved(problem, product(tangent, solved(problem, unit)))

    return _inverse_diagonal(static, *arrays), elements(problem, element)
