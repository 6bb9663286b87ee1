"""The options of an iterative solver: `preconditioner` and `y0`.

They are checked here, for all solvers, and turned into those of the transposed and of
the conjugated problem.
"""

from collections.abc import Callable

import jax
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, conj
from lx_operators.internal import describe, same_shapes, structure_of

from .._solver import Options
from ._spaces import Space


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
            f"is {describe(wanted)}."
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
        got = f"a value of type `{type(M).__name__}`"
        if hasattr(M, "shape") and hasattr(M, "dtype"):
            array = describe(jax.ShapeDtypeStruct(M.shape, M.dtype))
            got = f"an array {array}; wrap it as `MatrixLinearOperator(array)`"
        raise ValueError(
            f"the option 'preconditioner' of `{solver}` must be a linear operator, but "
            f"got {got}."
        )
    wanted = operator.in_structure()
    for name, got in (("input", M.in_structure()), ("output", M.out_structure())):
        if not same_shapes(got, wanted):
            raise ValueError(
                f"the option 'preconditioner' of `{solver}` has {name} structure "
                f"{describe(got)}, but the operator's input structure "
                f"is {describe(wanted)}: a preconditioner approximates the inverse."
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
