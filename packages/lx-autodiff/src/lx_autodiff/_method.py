"""How a solve is to be done: solver, state and options, forward and adjoint."""

from typing import Any

import equinox as eqx
from jaxtyping import ArrayLike
from lx_operators import AbstractLinearOperator, conj, is_nonsingular
from lx_solvers import AbstractLinearSolver
from lx_solvers.internal import chosen

from ._partition import stop_gradient


class Method(eqx.Module):
    """A solver, what it knows of the operator, and its options."""

    solver: AbstractLinearSolver
    state: Any
    options: dict[str, Any]


class Adjoint(eqx.Module):
    """How solves with Aᵀ and Aᴴ are to be done; initialised where one is needed."""

    solver: AbstractLinearSolver
    options: dict[str, Any]


class Problem(eqx.Module):
    """A x = b but for b: an operator, and how it is solved.

    `backward` says how solves with the transpose are done: None, by the same solver
    with its transposed state.
    """

    operator: AbstractLinearOperator
    forward: Method
    backward: Method | Adjoint | None = None


def prepare(
    operator: AbstractLinearOperator,
    solver: AbstractLinearSolver,
    options: dict[str, Any],
) -> Method:
    """A method with a state of its own, which carries no gradient."""
    operator, options = stop_gradient((operator, options))
    return Method(solver, solver.init(operator, options), options)


def transposed(problem: Problem) -> Problem:
    """The same for Aᵀ: the two methods change places."""
    operator = problem.operator.T
    forward = problem.forward
    match problem.backward:
        case None:
            state, options = forward.solver.transpose(forward.state, forward.options)
            return Problem(operator, Method(forward.solver, state, options))
        case Adjoint(solver=solver, options=options):
            return Problem(operator, prepare(operator, solver, options), forward)
        case Method() as backward:
            return Problem(operator, backward, forward)


def conjugated(problem: Problem) -> Problem:
    """The same for Ā."""
    backward = problem.backward
    if isinstance(backward, Adjoint):
        backward = prepare(problem.operator.T, backward.solver, backward.options)
    return Problem(
        conj(problem.operator),
        _conjugated(problem.forward),
        None if backward is None else _conjugated(backward),
    )


def _conjugated(method: Method) -> Method:
    state, options = method.solver.conj(method.state, method.options)
    return Method(method.solver, state, options)


def without_first_guess(problem: Problem) -> Problem:
    """For tangents, which are linear in their vector: a first guess is for b alone."""
    forward = problem.forward
    options = {key: x for key, x in forward.options.items() if key != "y0"}
    forward = Method(forward.solver, forward.state, options)
    return Problem(problem.operator, forward, problem.backward)


def damping(problem: Problem) -> ArrayLike:
    """d, where x minimises ‖Ax − b‖² + d²‖x‖²: the field `damp` of a solver."""
    return getattr(problem.forward.solver, "damp", 0.0)


def has_full_rank(problem: Problem) -> bool:
    """Whether A is known to have full rank, by its solver or by its tags."""
    method = problem.forward
    solver = chosen(method.solver, method.state)
    return solver.assume_full_rank() or is_nonsingular(problem.operator)
