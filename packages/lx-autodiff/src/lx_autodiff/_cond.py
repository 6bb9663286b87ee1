"""The condition number of an operator, by an estimate."""

from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Real
from lx_operators import AbstractLinearOperator
from lx_operators.internal import common_dtype, signed
from lx_solvers import AbstractLinearSolver, AutoLinearSolver
from lx_solvers.internal import solver_for

from ._arguments import check_solve
from ._compiled import Compiled, is_quick
from ._error_bounds import _flat, _solve
from ._estimates import Map, max_norm
from ._method import Method, Problem, conjugated, has_setup, state_of, transposed
from ._partition import Static, split, stop_gradient
from ._sharding import on_automatic_axes


def cond(
    operator: AbstractLinearOperator,
    solver: AbstractLinearSolver = AutoLinearSolver(well_posed=True),
    *,
    state: Any = None,
    options: dict[str, Any] | None = None,
) -> Real[Array, ""]:
    """Estimates the condition number κ₁(A) = ‖A‖₁ ‖A⁻¹‖₁ of a square operator.

    Both norms are found from a few products and a few solves with A and Aᴴ, never from
    the singular values. `jnp.linalg.cond` computes all of them from a matrix.
    The estimator is Hager and Higham's, for several columns at a time (Higham and
    Tisseur 2000, doi:10.1137/S0895479899356080). It is a lower bound, nearly always
    within a factor of three, and exact for up to eight unknowns. In the 2-norm the
    condition number is between κ₁/n and n κ₁.

    About log₁₀ κ of a solution's digits are lost: of 16 in float64, of 7 in float32. To
    bound the error of one solution use `error_bounds`, which also knows b.

    Args:
        operator: A, square.
        solver: solves the systems with A and Aᴴ.
        state: what `solver.init(operator, options)` returned, or `solution.state` of an
            earlier solve; its factors are reused.
        options: those of the solver.

    Returns:
        A real scalar; infinite if one of the solves fails, as for a singular operator.

    Raises:
        ValueError: the operator is not square; some of its leaves are real and others
            are complex.

    ```python
    i = jnp.arange(1, 6)
    hilbert = lx.MatrixLinearOperator(1 / (i[:, None] + i - 1))
    print(lx.cond(hilbert))  # 943656
    ```
    """
    check_solve(operator, solver)
    if operator.in_size() != operator.out_size():
        raise ValueError(
            "`cond` needs a square operator, but got one with "
            f"{operator.out_size()} rows and {operator.in_size()} columns. For others, "
            "`error_bounds` gives the condition number of a least-squares solution."
        )
    leaves = jtu.tree_leaves((operator.in_structure(), operator.out_structure()))
    if len({leaf.dtype.kind == "c" for leaf in leaves}) > 1:
        raise ValueError(
            "`cond` needs an operator whose leaves are all real or all complex, but "
            f"got {operator!r}."
        )
    solver = solver_for(operator, solver)
    if state is None and has_setup(solver):
        solver = solver.setup(operator)
    state = state_of(operator, solver, options or {}) if state is None else state
    arrays, static = split((signed(operator), solver, state, options or {}))
    return _cond(static, *arrays, quickly=is_quick(operator.in_structure()))


@Compiled
@on_automatic_axes
def _cond(static: Static, *arrays: Array) -> Array:
    operator, solver, state, options = stop_gradient(static.join(arrays))
    problem = Problem(operator, Method(solver, state, options))
    dtype = common_dtype(operator.in_structure(), operator.out_structure())
    product = _flat(operator.mv, operator, dtype)
    adjoint = _flat(operator.H.mv, operator.H, dtype)
    solve = _solve(problem, dtype)
    adjoint_solve = _solve(conjugated(transposed(problem)), dtype)
    n = operator.in_size()
    norm, inverse = (
        _one_norm(*pair, n, dtype)
        for pair in ((product, adjoint), (solve, adjoint_solve))
    )
    κ = jnp.where((norm == 0) | (inverse == 0), jnp.inf, norm) * inverse
    return jnp.where(jnp.isnan(κ), jnp.inf, κ)


def _one_norm(M: Map, MH: Map, n: int, dtype: Any) -> Array:
    """‖M‖₁ = ‖Mᴴ‖∞."""
    return max_norm(lambda v: MH(v[0]), lambda z: (M(z),), n, dtype)
