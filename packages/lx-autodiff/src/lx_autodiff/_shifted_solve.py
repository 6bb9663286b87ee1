"""`shifted_solve`: the systems (A + σᵢ I) xᵢ = b, all from one Krylov space."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree, Shaped
from lx_operators import (
    AbstractLinearOperator,
    IdentityLinearOperator,
    TaggedLinearOperator,
    positive_semidefinite_tag,
)
from lx_operators.internal import conform, promote_types, promoted
from lx_solvers import AbstractLinearSolver, Solution
from lx_solvers.internal import krylov

from ._linear_solve import linear_solve
from ._partition import Static, split, stop_gradient
from ._sharding import on_automatic_axes


def shifted_solve(
    operator: AbstractLinearOperator,
    vector: PyTree[ArrayLike],
    shifts: Shaped[ArrayLike, " k"],
    solver: AbstractLinearSolver,
    *,
    throw: bool = True,
) -> Solution:
    """The solutions of (A + σᵢ I) xᵢ = b for many shifts σᵢ, from one Krylov space.

    Powers of A + σᵢ I span the same space for every shift, so one product per step
    serves all of them: with `CG`, Lanczos' process and a recurrence for each shift
    (Frommer and Maass 1999, doi:10.1137/S1064827596313310); with `GMRES`, Arnoldi's
    process, restarted, and a Galerkin solution for each shift (Simoncini 2003,
    doi:10.1023/A:1022377506225). Such families come from rational approximations of
    matrix functions, from Tikhonov regularisation, and from frequency responses.

    Then `solver` solves each system itself, with this solution as initial guess. If the
    guess is good enough, that takes one product for each shift, which computes its true
    residual; otherwise it takes more steps. So success means the same as in
    `linear_solve`. Derivatives with respect to the operator, the vector and the shifts
    are those of `linear_solve`, in both modes and to any order, and take solves for
    each shift.

    Args:
        operator: A, square.
        vector: b.
        shifts: σ, a one-dimensional array, real or complex.
        solver: `GMRES`; or `CG`, if A is tagged positive semidefinite, the shifts are
            real, and all A + σᵢ I are definite. Its tolerances and limits apply to each
            system. It must have no preconditioner, because the Krylov spaces would then
            differ between shifts.
        throw: as in `linear_solve`.

    Returns:
        A `Solution`, whose `value`, `result` and `stats` have an axis of k elements in
        front; `stats["num_steps"]` counts the steps of each system alone, and
        `stats["shared_steps"]` counts the shared ones. `CG` keeps two vectors for each
        shift, `GMRES` one.

    Raises:
        ValueError: the solver is of another kind or has a preconditioner; or the shifts
            are not one-dimensional, or are complex for `CG`.

    ```python
    operator = lx.MatrixLinearOperator(
        jnp.array([[2.0, 1.0], [1.0, 3.0]]), lx.positive_semidefinite_tag
    )
    shifts = jnp.array([0.0, 1.0, 10.0])
    solver = lx.CG(rtol=1e-6, atol=0.0)
    solution = lx.shifted_solve(operator, jnp.array([1.0, 2.0]), shifts, solver)
    solution.value.shape  # (3, 2)
    ```
    """
    shifts = jnp.asarray(shifts)
    definite = krylov.check_family(operator, shifts, solver)
    dtypes = [jnp.result_type(x) for x in (shifts, *jax.tree.leaves(vector))]
    shifts = shifts.astype(_common(operator, dtypes))
    operator = promoted(operator, shifts.dtype)
    if jnp.iscomplexobj(shifts):  # then so are the solutions
        vector = jax.tree.map(_as_complex, vector)
    identity = IdentityLinearOperator(operator.in_structure())

    def shifted(A: AbstractLinearOperator, σ: Array) -> AbstractLinearOperator:
        sum_ = A + σ * identity
        return (
            TaggedLinearOperator(sum_, positive_semidefinite_tag) if definite else sum_
        )

    @on_automatic_axes
    def from_one_space(static: Static, *arrays: Array) -> tuple[PyTree[Array], Array]:
        A, b, σ = static.join(arrays)
        member = shifted(A, σ[0])
        b = conform(b, member.out_structure(), "`vector`")
        return krylov.shifted_family(solver, A, member, b, σ, definite=definite)

    arrays, static = split(stop_gradient((operator, vector, shifts)))
    first, steps = from_one_space(static, *arrays)

    @jax.vmap
    def each(σ: Array, y0: PyTree[Array]) -> Any:
        family = shifted(operator, σ)
        options = {"y0": y0}
        solution = linear_solve(family, vector, solver, options=options, throw=throw)
        return solution.value, solution.result, solution.stats

    value, result, stats = each(shifts, first)
    return Solution(value, result, {**stats, "shared_steps": steps}, None)


def _as_complex(x: ArrayLike) -> Array:
    x = jnp.asarray(x)
    inexact = jnp.issubdtype(x.dtype, jnp.inexact)
    return x.astype(promote_types(x.dtype, jnp.complex64)) if inexact else x


def _common(operator: AbstractLinearOperator, dtypes: list[Any]) -> Any:
    """The dtype of the shifts that makes each system's operator and solution of one."""
    leaves = jax.tree.leaves(operator.in_structure())
    dtypes = [*(leaf.dtype for leaf in leaves), *dtypes]
    return functools.reduce(promote_types, dtypes)
