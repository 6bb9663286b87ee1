"""How a solve is to be done: solver, state and options, forward and adjoint."""

from typing import Any

import equinox as eqx
import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike
from lx_operators import AbstractLinearOperator, conj, is_nonsingular
from lx_operators.internal import signed
from lx_solvers import AbstractLinearSolver, AutoLinearSolver
from lx_solvers.internal import chosen, is_zero

from ._compiled import Compiled, is_eager, is_quick
from ._partition import Outputs, Static, is_traced, outputs, split, stop_gradient
from ._sharding import on_automatic_axes


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
    """A x = b without its b: an operator, and how to solve with it.

    `backward` says how solves with the transpose are done: None, by the same solver
    with its transposed state.

    `damp` is d, where x minimises ‖Ax − b‖² + d²‖x‖²: the value of the solver's field
    of that name. The solution is differentiable with respect to it; the solver's own
    copy carries no tangent.
    """

    operator: AbstractLinearOperator
    forward: Method
    backward: Method | Adjoint | None = None
    damp: ArrayLike = 0.0


def problem_of(
    operator: AbstractLinearOperator,
    method: Method,
    backward: Method | Adjoint | None = None,
) -> Problem:
    """A problem whose damping is that of the method's solver."""
    damp = getattr(method.solver, "damp", 0.0)
    if isinstance(damp, jax.Array):
        solver = with_damping(method.solver, damp)
        method = Method(solver, method.state, method.options)
    return Problem(operator, method, backward, damp)


def with_damping(solver: AbstractLinearSolver, damp: ArrayLike) -> AbstractLinearSolver:
    """The same solver with this value of its field `damp`, without its tangent.

    Raises:
        ValueError: the solver has no such field, and `damp` is not known to be zero.
    """
    if hasattr(solver, "damp"):
        return eqx.tree_at(lambda s: s.damp, solver, stop_gradient(damp))
    if is_zero(damp):
        return solver
    raise ValueError(
        f"`solver` has damping, but `adjoint_solver` has none: {solver!r}. Use an "
        "`adjoint_solver` with a field `damp`, such as `LSMR` or `QR`."
    )


def has_setup(solver: AbstractLinearSolver) -> bool:
    """Whether a solver may have work of its own to do on the host."""
    own = type(solver).setup is not AbstractLinearSolver.setup
    return own or getattr(solver, "preconditioner", None) is not None


def without_moving_preconditioner(solver: AbstractLinearSolver) -> AbstractLinearSolver:
    """The solver, in which no array of a preconditioner carries a tangent."""

    if not is_traced(*jtu.tree_leaves(solver)):  # nothing moves
        return solver

    def stop(path: Any, leaf: Any) -> Any:
        names = {getattr(key, "name", None) for key in path}
        return stop_gradient(leaf) if "preconditioner" in names else leaf

    return jtu.tree_map_with_path(stop, solver)


def set_up(
    solver: AbstractLinearSolver, operator: AbstractLinearOperator
) -> AbstractLinearSolver:
    """The solver after its work on the host, outside of our `jit`."""
    if not has_setup(solver):
        return solver
    if is_traced(*jtu.tree_leaves(operator)):  # by `grad` alone: has values
        operator = stop_gradient(operator)
    return solver.setup(operator)


def formed(
    operator: AbstractLinearOperator, solver: AbstractLinearSolver
) -> AbstractLinearOperator:
    """The operator; one sparse matrix, where it is a product of several and `solver`
    factorises it. Inside our `jit` their indices are traced, and so it cannot be
    formed."""
    if type(operator).__name__ not in _OF_PARTS:
        return operator
    automatic = isinstance(solver, AutoLinearSolver)
    if not (automatic or hasattr(solver, "sparsity")):
        return operator
    leaves = jtu.tree_leaves(operator)
    if not any(getattr(x, "dtype", None) in (np.int32, np.int64) for x in leaves):
        return operator  # no indices
    from lx_operators.internal import multiplied_out  # and all kinds of operators

    if automatic:
        try:
            solver = solver.select_solver(operator)
        except ValueError:  # raised again where it is solved
            return operator
    found = multiplied_out(operator) if hasattr(solver, "sparsity") else None
    return operator if found is None else found


# Operators that may have indices within, each named so that its class is not imported.
_OF_PARTS = frozenset(
    f"{kind}LinearOperator"
    for kind in "Add BlockSparse Composed Div Gram Mirrored Mul Neg Tagged".split()
)


def prepare(
    operator: AbstractLinearOperator,
    solver: AbstractLinearSolver,
    options: dict[str, Any],
) -> Method:
    """A method with a state of its own, which carries no gradient."""
    options = stop_gradient(options)
    return Method(solver, state_of(operator, solver, options), options)


def state_of(
    operator: AbstractLinearOperator,
    solver: AbstractLinearSolver,
    options: dict[str, Any],
) -> Any:
    """What `solver.init` makes, without gradients; in an eager call by one program."""
    if not is_eager():
        arrays, static = split(stop_gradient((solver, operator, options)))
        return _init(static, *arrays)
    arrays, static = split((solver, signed(operator), options))
    quickly = is_quick(operator.in_structure())
    return _state(static, *arrays, quickly=quickly).join(arrays)


@Compiled
def _state(static: Static, *arrays: Array) -> Outputs:
    return outputs(_init(static, *arrays), arrays)


@on_automatic_axes
def _init(static: Static, *arrays: Array) -> Any:
    solver, operator, options = static.join(arrays)
    return solver.init(operator, options)


def transposed(problem: Problem) -> Problem:
    """The same for Aᵀ: the two methods change places."""
    operator, damp = problem.operator.T, problem.damp
    forward = problem.forward
    match problem.backward:
        case None:
            state, options = forward.solver.transpose(forward.state, forward.options)
            forward = Method(forward.solver, state, options)
            return Problem(operator, forward, None, damp)
        case Adjoint(solver=solver, options=options):
            method = prepare(operator, with_damping(solver, damp), options)
            return Problem(operator, method, forward, damp)
        case Method() as backward:
            return Problem(operator, backward, forward, damp)


def conjugated(problem: Problem) -> Problem:
    """The same for Ā."""
    backward = problem.backward
    if isinstance(backward, Adjoint):
        solver = with_damping(backward.solver, problem.damp)
        backward = prepare(problem.operator.T, solver, backward.options)
    return Problem(
        conj(problem.operator),
        _conjugated(problem.forward),
        None if backward is None else _conjugated(backward),
        problem.damp,
    )


def _conjugated(method: Method) -> Method:
    state, options = method.solver.conj(method.state, method.options)
    return Method(method.solver, state, options)


def without_first_guess(problem: Problem) -> Problem:
    """For tangents, which are linear in their vector: an initial guess is for b."""
    forward = problem.forward
    options = {
        key: x for key, x in forward.options.items() if key not in ("y0", "stop")
    }
    forward = Method(forward.solver, forward.state, options)
    return Problem(problem.operator, forward, problem.backward, problem.damp)


def has_full_rank(problem: Problem) -> bool:
    """Whether A is known to have full rank, by its solver or by its tags."""
    method = problem.forward
    solver = chosen(method.solver, method.state)
    return solver.assume_full_rank() or is_nonsingular(problem.operator)
