"""Matrices that would be formed unasked: how large they are, and what needs none."""

import math
from typing import Any

import jax
import jax.tree_util as jtu
from jaxtyping import PyTree
from lx_operators import (
    AbstractLinearOperator,
    is_hermitian,
    is_negative_semidefinite,
    is_positive_semidefinite,
)
from lx_operators.internal import (
    FORMED_PER_HELD,
    describe_matrix,
    elements,
    gib,
    matrix_bytes,
)

from ._sizes import is_known


def check_formed(
    operator: AbstractLinearOperator,
    solver: Any,
    max_bytes: int | None,
    well_posed: bool | None,
) -> None:
    """Raise before `AutoLinearSolver` forms, with the solver it has chosen, more than
    `max_bytes` of an operator that holds much less.

    What is formed is seen in the state, whose shapes are asked for only where a matrix
    of the operator's shape would be too large.

    Raises:
        ValueError: the text names what would be formed, its size, and the solvers that
            need no matrix.
    """
    if max_bytes is None:
        return
    m, n = operator.out_size(), operator.in_size()
    if not is_known(m, n):
        return
    held = elements(operator)
    if matrix_bytes(operator) <= max_bytes or m * n <= held:
        return
    state = jax.eval_shape(lambda: _arrays(solver.init(operator, {})))
    formed = sum(math.prod(x.shape) * x.dtype.itemsize for x in state)
    if formed <= max_bytes or elements(state) <= FORMED_PER_HELD * held:
        return
    whole = elements(state) >= m * n
    what = describe_matrix(operator) if whole else "factors"
    formed = matrix_bytes(operator) if whole else formed
    raise ValueError(
        f"`AutoLinearSolver(well_posed={well_posed})` chose `{solver!r}`, which would "
        f"form {what} of {gib(formed)}, more than `max_bytes` ({gib(max_bytes)}), for "
        f"an operator that is not stored as a matrix: {operator!r}. "
        f"{matrix_free(operator, well_posed)} To form it all the same, name the solver "
        f"(`{type(solver).__name__}`), or pass a larger `max_bytes` to "
        "`AutoLinearSolver`."
    )


def matrix_free(
    operator: AbstractLinearOperator, well_posed: bool | None = True
) -> str:
    """Which solvers need no matrix: the one that fits first, and when others would."""
    square = operator.in_structure() == operator.out_structure()
    if not square or well_posed is False:
        kind = "of any rank" if square else "that is not square"
        return (
            f"Use `LSMR(rtol, atol)`, which needs only products with the operator and "
            f"its transpose, and fits an operator {kind}."
        )
    if is_positive_semidefinite(operator) or is_negative_semidefinite(operator):
        return (
            "Use `CG(rtol, atol)`, which needs only products with the operator, and "
            "fits a definite one, as this one is known to be."
        )
    if is_hermitian(operator):
        return (
            "Use `MINRES(rtol, atol)`, which needs only products with the operator, "
            "and fits a Hermitian one, as this one is known to be; or `CG(rtol, atol)` "
            "if it is positive definite (tag it `positive_semidefinite_tag`)."
        )
    return (
        "Use `GMRES(rtol, atol)` or `BiCGStab(rtol, atol)`, which need only products "
        "with the operator, and fit any square one; or, if it is positive definite "
        "(tag it `positive_semidefinite_tag`), `CG(rtol, atol)`; if it is Hermitian "
        "(`symmetric_tag`, `hermitian_tag`), `MINRES(rtol, atol)`."
    )


def _arrays(state: PyTree[Any]) -> list[Any]:
    return [x for x in jtu.tree_leaves(state) if hasattr(x, "shape")]
