"""The options of an iterative solver: `preconditioner` and `y0`.

They are checked here, for all solvers, and turned into those of the transposed and of
the conjugated problem.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, conj
from lx_operators.internal import describe, same_shapes, structure_of

from .._scaling import largest
from .._solver import Options
from ._scalars import times, where
from ._spaces import Space
from ._tolerances import RightHandSide


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


def start_from(
    y0: Array | None, given: RightHandSide, X: Space
) -> tuple[Array, RightHandSide]:
    """The first x, in units of b; and b, which counts as not finite if y0 is not."""
    if y0 is None:
        return X.zeros(), given
    x = times(1 / given.unit, y0)
    x = where(jnp.isfinite(x), x, jnp.finfo(x.dtype).max)
    finite = given.finite & jnp.isfinite(largest(y0))
    return where(given.zero, 0, x), given._replace(finite=finite)


def held(Ax: Array) -> Array:
    """A x of a first guess, with elements whose squares are in range. Where that makes
    a difference, x is too large to be of use; if A is not finite, A 0 shows it."""
    most = float(jnp.finfo(Ax.dtype).max) ** 0.375
    return where(jnp.abs(Ax) <= most, Ax, most)


def useless(r: Array, b: Array, eps: float) -> Array:
    """Whether a first guess that leaves ‖r‖ of ‖b‖ is not to be used: rounding errors
    of x alone would be as large as b. The solve then starts from zero."""
    return r > b / eps


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
