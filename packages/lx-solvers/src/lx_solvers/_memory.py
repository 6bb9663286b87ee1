"""Matrices that would be formed unasked: how large they are, and what needs none."""

import math
from typing import Any

import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import PyTree
from lx_operators import (
    AbstractLinearOperator,
    is_hermitian,
    is_negative_semidefinite,
    is_positive_semidefinite,
)
from lx_operators.internal import common_dtype

from ._sizes import is_known

MAX_BYTES = 4 * 2**30
"""What is formed unasked takes at most this much, unless the operator itself does."""

_MULTIPLE = 4  # of the elements that an operator holds may be formed, however many


def elements(tree: PyTree[Any]) -> int:
    """The number of scalars in a pytree of arrays (or of their shapes)."""
    leaves = (x for x in jtu.tree_leaves(tree) if hasattr(x, "shape"))
    return sum(math.prod(x.shape) for x in leaves)


def check_matrix(
    operator: AbstractLinearOperator,
    who: str,
    instead: str,
    max_bytes: int | None = MAX_BYTES,
    held: PyTree[Any] = None,
) -> None:
    """Raise before `who` forms the matrix of an operator that is not stored as one.

    Args:
        operator: A.
        who: the function, in backticks, and why it needs a matrix.
        instead: what to do instead, a sentence.
        max_bytes: the limit; None for no limit.
        held: arrays beside the operator's that are as large as its matrix, if any, such
            as factors: the matrix was asked for when they were made.

    Raises:
        ValueError: the matrix takes more than `max_bytes`, and several times what the
            operator and `held` hold.
    """
    if max_bytes is None:
        return
    m, n = operator.out_size(), operator.in_size()
    formed = m * n * _dtype(operator).itemsize
    if (
        is_known(m, n)
        and formed > max_bytes
        and m * n > _MULTIPLE * elements((operator, held))
    ):
        raise ValueError(
            f"{who} would form {_matrix(operator)} ({gib(formed)}), which the operator "
            f"does not store: {operator!r}. {instead}"
        )


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
    if m * n * _dtype(operator).itemsize <= max_bytes or m * n <= held:
        return
    state = jax.eval_shape(lambda: _arrays(solver.init(operator, {})))
    formed = sum(math.prod(x.shape) * x.dtype.itemsize for x in state)
    if formed <= max_bytes or elements(state) <= _MULTIPLE * held:
        return
    whole = elements(state) >= m * n
    what = _matrix(operator) if whole else "factors"
    formed = m * n * _dtype(operator).itemsize if whole else formed
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


def gib(size: int) -> str:
    """A number of bytes, for people."""
    figure = size / 2**30
    return f"{figure:.3g} GiB" if figure < 1000 else f"{figure:,.0f} GiB"


def _matrix(operator: AbstractLinearOperator) -> str:
    return f"the {operator.out_size()} by {operator.in_size()} matrix"


def _dtype(operator: AbstractLinearOperator) -> np.dtype:
    return np.dtype(common_dtype(operator.in_structure(), operator.out_structure()))


def _arrays(state: PyTree[Any]) -> list[Any]:
    return [x for x in jtu.tree_leaves(state) if hasattr(x, "shape")]
