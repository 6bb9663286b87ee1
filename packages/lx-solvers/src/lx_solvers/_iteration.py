"""What every iterative solver shares beside its goal (`_goal.py`) and its course
(`_course.py`): the step limit, options, the solution.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, conj
from lx_operators.internal import describe, same_shapes, structure_of

from ._course import Course, Exit, outcome
from ._goal import Scaled
from ._results import judged
from ._solution import RESULTS
from ._solver import Options
from ._vectors import Space, where


def step_limit(max_steps: int | None, space: Space) -> int:
    """Ten times the size, unless given; never more than can be counted."""
    limit = 10 * space.size if max_steps is None else max_steps
    return min(limit, 2**31 - 2) if isinstance(limit, int) else limit


def first_guess(options: Options, space: Space, solver: str) -> PyTree[Array] | None:
    """`options["y0"]`, checked, as an array; None if there is none."""
    y0 = options.get("y0")
    if y0 is None:
        return None
    wanted = space.structure.thaw()
    if not same_shapes(structure_of(y0), wanted):
        raise ValueError(
            f"the option 'y0' of `{solver}` has structure "
            f"{describe(structure_of(y0))}, but the operator's input structure "
            f"{describe(wanted)} is wanted."
        )
    return space.ravel(y0)


def preconditioner(
    options: Options, operator: AbstractLinearOperator, solver: str
) -> AbstractLinearOperator | None:
    """`options["preconditioner"]`, checked; None if there is none."""
    M = options.get("preconditioner")
    if M is None:
        return None
    if not isinstance(M, AbstractLinearOperator):
        hint = (
            "; wrap it as `MatrixLinearOperator(array)`" if hasattr(M, "shape") else ""
        )
        raise ValueError(
            f"the option 'preconditioner' of `{solver}` must be a linear operator, but "
            f"got a value of type `{type(M).__name__}`{hint}."
        )
    wanted = operator.in_structure()
    for name, got in (("input", M.in_structure()), ("output", M.out_structure())):
        if not same_shapes(got, wanted):
            raise ValueError(
                f"the option 'preconditioner' of `{solver}` has {name} structure "
                f"{describe(got)}, but the operator's input structure "
                f"{describe(wanted)} is wanted: it approximates the inverse."
            )
    return M


def transposed(options: Options) -> Options:
    """The options for Aᵀ: the transposed preconditioner, and no first guess."""
    return _mapped(lambda M: M.T, options)


def conjugated(options: Options) -> Options:
    """The options for Ā: the conjugated preconditioner, and no first guess."""
    return _mapped(conj, options)


def _mapped(fn: Callable, options: Options) -> Options:
    options = {name: value for name, value in options.items() if name != "y0"}
    if isinstance(options.get("preconditioner"), AbstractLinearOperator):
        options["preconditioner"] = fn(options["preconditioner"])
    return options


def solution(
    x: Array, b: Scaled, course: Course, space: Space, vector: PyTree[Array]
) -> tuple[PyTree[Array], RESULTS]:
    """x, in its own units (NaN where the input was not finite), and how the solve
    ended: with no success where that overflows.

    Args:
        b: `vector`, scaled, whose solution is x.
    """
    x = x * b.unit
    value = space.solution(where(course.exit == Exit.nonfinite, jnp.nan, x))
    return value, judged(outcome(course, b.goal), vector, value)
