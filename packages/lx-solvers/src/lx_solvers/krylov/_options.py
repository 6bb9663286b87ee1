"""The options of an iterative solver: `preconditioner`, `y0` and `stop`.

They are checked here, for all solvers, and turned into those of the transposed and of
the conjugated problem.
"""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, conj
from lx_operators.internal import (
    describe,
    is_real,
    same_shapes,
    structure_of,
    type_name,
)

from .._results import all_finite, both, choose, named
from .._solution import RESULTS
from .._solver import Options
from ..preconditioners._preconditioner import (
    FAILED,
    AbstractPreconditioner,
    Prepared,
    prepared,
    stopped,
)
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
    if is_real(wanted) and not is_real(structure_of(y0)):
        raise ValueError(
            f"the option 'y0' of `{solver}` is complex, but the operator's input "
            f"structure {describe(wanted)} is real: pass its real part."
        )
    return space.ravel(y0)


def stopping_rule(options: Options, solver: str) -> Callable | None:
    """`options["stop"]`, checked: from ‖r‖, x and the number of steps to whether the
    solve is to end; None if there is none."""
    rule = options.get("stop")
    if rule is not None and not callable(rule):
        raise ValueError(
            f"the option 'stop' of `{solver}` must be a function of the residual's "
            "2-norm, the solution and the number of steps, that returns a boolean, but "
            f"got a value of type `{type(rule).__name__}`."
        )
    return rule


def preconditioner(
    options: Options,
    operator: AbstractLinearOperator,
    solver: str,
    *,
    inverse: bool = False,
) -> AbstractLinearOperator | None:
    """`options["preconditioner"]`, checked; None if there is none.

    Args:
        options, operator, solver: as for `prepare`.
        inverse: whether it maps the operator's output structure to its input structure;
            else it maps the latter to itself.
    """
    M = options.get("preconditioner")
    if M is None:
        return None
    if not isinstance(M, AbstractLinearOperator):
        got = f"a value of type `{type_name(M)}`"
        if hasattr(M, "matvec"):
            got = f"{got}; wrap it as `aslinearoperator(operator)`"
        elif hasattr(M, "shape") and hasattr(M, "dtype"):
            array = describe(jax.ShapeDtypeStruct(M.shape, M.dtype))
            got = f"an array {array}; wrap it as `MatrixLinearOperator(array)`"
        raise ValueError(
            f"the option 'preconditioner' of `{solver}` must be a linear operator, but "
            f"got {got}."
        )
    side = "output" if inverse else "input"
    domain = operator.out_structure() if inverse else operator.in_structure()
    cases = (
        ("input", M.in_structure(), side, domain),
        ("output", M.out_structure(), "input", operator.in_structure()),
    )
    for name, got, other, wanted in cases:
        if not same_shapes(got, wanted):
            raise ValueError(
                f"the option 'preconditioner' of `{solver}` has {name} structure "
                f"{describe(got)}, but the operator's {other} structure "
                f"is {describe(wanted)}: a preconditioner approximates the inverse."
            )
        if is_real(wanted) and not is_real(got):
            raise ValueError(
                f"the option 'preconditioner' of `{solver}` is complex, but the "
                f"operator's {other} structure {describe(wanted)} is real: pass a real "
                "preconditioner, or make the operator complex."
            )
    return M


def set_up(
    recipe: AbstractPreconditioner | None,
    operator: AbstractLinearOperator,
    options: Options,
    solver: str,
    *,
    flexible: bool = False,
) -> Prepared | None:
    """What a solver was given as `preconditioner=`, set up from the operator; None if
    it was given none, or one in `options`, which wins.

    Args:
        flexible: whether the preconditioner may change from step to step.
    """
    if recipe is None or options.get("preconditioner") is not None:
        return None
    if not flexible and not recipe.is_constant():
        raise ValueError(
            f"the preconditioner of `{solver}` must be the same linear map in every "
            f"step, but {recipe!r} iterates; use it with `FGMRES`."
        )
    return prepared(recipe, operator, options)


def right_factor(
    recipe: AbstractPreconditioner, operator: AbstractLinearOperator, solver: str
) -> AbstractLinearOperator:
    """R⁻¹ with R⁻¹ R⁻ᴴ ≈ (AᴴA)⁻¹, of what a solver of least-squares problems was given
    as `preconditioner=`.

    Raises:
        ValueError: the recipe has no such form.
    """
    recipe, operator = stopped((recipe, operator))
    factor = recipe.right_factor(operator)
    if factor is None:
        raise ValueError(
            f"`{solver}` needs a preconditioner that is a right factor, an R⁻¹ with "
            f"R⁻¹ R⁻ᴴ ≈ (AᴴA)⁻¹, such as `Jacobi()`; {recipe!r} has no such form. "
            f"Use it with `Normal(CG(preconditioner=...))`."
        )
    return stopped(factor)


def not_known(M: Any, what: str, solver: str) -> ValueError:
    """The error that a preconditioner is not known to be what it has to be."""
    return ValueError(
        f"the preconditioner of `{solver}` must be known to be {what}, but got {M!r}. "
        "Tag an operator `positive_semidefinite_tag`; a recipe of your own says so by "
        "its method `tags`."
    )


def unknown(operator: Any, what: str, solver: str, tag: str, others: str) -> ValueError:
    """The error that an operator is not known to be what a solver needs."""
    return ValueError(
        f"`{solver}` needs an operator that is known to be {what}, but got "
        f"{operator!r}. If it is, say so: `TaggedLinearOperator(operator, {tag})`. "
        f"{others}"
    )


def not_hermitian(operator: Any, solver: str, others: str) -> ValueError:
    """The error that an operator is not known to be Hermitian."""
    real = is_real(operator.in_structure(), operator.out_structure())
    tag = "symmetric_tag" if real else "hermitian_tag"
    return unknown(operator, "Hermitian", solver, tag, others)


def effective(options: Options, state: Any) -> Options:
    """The options, with the preconditioner of the state if they have none."""
    if options.get("preconditioner") is not None or state.preconditioner is None:
        return options
    return {**options, "preconditioner": state.preconditioner}


def heeded(M: Any, vector: PyTree[Array], result: RESULTS) -> RESULTS:
    """How a solve ended, or how its preconditioner did, if that failed.

    Args:
        M: the preconditioner, or None.
        vector: b.
        result: of the solve.
    """
    if not isinstance(M, Prepared):
        return result
    if not M.recipe.is_constant():  # another solver, which may fail at any step
        lost = (result == RESULTS.nonfinite_input) & all_finite(vector)
        result = choose(lost, FAILED, result)
    return both(named(M.verdict), result)


def transposed(options: Options) -> Options:
    """The options for Aᵀ: the transposed preconditioner, and no initial guess or
    rule."""
    return _mapped(lambda M: M.T, options)


def conjugated(options: Options) -> Options:
    """The options for Ā: the conjugated preconditioner, and no initial guess or
    rule."""
    return _mapped(conj, options)


def _mapped(fn: Callable, options: Options) -> Options:
    own = ("y0", "stop")  # of this vector alone
    options = {name: value for name, value in options.items() if name not in own}
    if isinstance(options.get("preconditioner"), AbstractLinearOperator):
        options["preconditioner"] = fn(options["preconditioner"])
    return options
