"""`linear_solve`: checks, dtypes, state, and failures."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, Int, PyTree
from lx_operators import (
    AbstractLinearOperator,
)
from lx_operators.internal import (
    describe,
    signed,
    summary,
)
from lx_solvers import AbstractLinearSolver, AutoLinearSolver, Solution
from lx_solvers.internal import Identity, code, solver_for

from . import _jvp as _jvp, _transpose as _transpose
from ._arguments import (
    NO_STATE,
    check_axis,
    check_one,
    conform_many,
    reject,
    with_axis,
)
from ._compiled import Compiled, is_quick
from ._failure import raise_now, raise_on_failure
from ._method import (
    Adjoint,
    Method,
    Problem,
    formed,
    has_setup,
    prepare,
    problem_of,
    set_up,
    without_moving_preconditioner,
)
from ._partition import (
    NUMBERS,
    Outputs,
    Static,
    is_traced,
    outputs,
    split,
    stop_gradient,
)
from ._primitive import OnFailure, solve
from ._promotion import fits, is_mixed, solve_mixed, solve_promoted, widened
from ._sharding import explicit_layout, with_automatic_axes


def linear_solve(
    operator: AbstractLinearOperator,
    vector: PyTree[ArrayLike],
    solver: AbstractLinearSolver = AutoLinearSolver(well_posed=True),
    *,
    options: dict[str, Any] | None = None,
    state: Any = NO_STATE,
    throw: bool = True,
    rhs_axis: int | None = None,
    adjoint_solver: AbstractLinearSolver | None = None,
    adjoint_options: dict[str, Any] | None = None,
) -> Solution:
    """The pseudoinverse solution A†b of a linear system.

    That is the solution of a square nonsingular system, the least-squares solution of
    an overdetermined one and the minimum-norm solution of an underdetermined one, as
    far as the solver supports it.

    The solution is differentiable with respect to `operator` and `vector`, in forward
    and reverse mode and to any order, by implicit differentiation with the same
    factors. `options` and `state` carry no derivative.

    Args:
        operator: A.
        vector: b, a pytree of arrays of the operator's output structure. Dtypes promote
            by JAX's rules: integers become floating, a real operator takes a complex
            vector (the real and imaginary parts are then solved in one batch).
        solver: how to solve; by default chosen from the operator's structure and tags.
        options: a dictionary of run-time options of the solver, such as
            `preconditioner` and `y0`.
        state: what `solver.init(operator, options)` returned, or the `state` of an
            earlier `Solution`, to reuse its factors. It must belong to this operator.
        throw: whether a failure raises an error at run time. If not, check
            `Solution.successful`; derivatives of a failed solve are NaN.
        rhs_axis: for many right-hand sides, A X = B: the axis of every leaf of `vector`
            that runs over the right-hand sides. They share one factorisation, and run
            at matrix-matrix speed. `value` has the same axis in its leaves; in `result`
            and `stats` it is axis 0. For a matrix B of shape `[m, k]`, `rhs_axis=1`
            gives X of shape `[n, k]`.
        adjoint_solver: how to solve with the transpose, in reverse mode and (except for
            square nonsingular systems) in forward mode; by default with `solver` and
            its transposed state.
        adjoint_options: options of `adjoint_solver`, such as a preconditioner for Aᵀ;
            by default none. Without `adjoint_solver`, they are options of `solver`,
            which is then initialised with the transpose.

    Returns:
        A `Solution`: `value`, of the operator's input structure; `result`; `stats`;
        `state`.

    Raises:
        ValueError: `operator` is not an operator, `vector` does not fit it, or the
            solver cannot solve with it.
        EquinoxRuntimeError: the solve failed, and `throw` is true (inside `jax.jit`,
            JAX wraps this error in one of its own).

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[2.0, 1.0], [1.0, 3.0]]))
    solution = lx.linear_solve(operator, jnp.array([1.0, 2.0]))
    solution.value  # [0.2, 0.6]
    ```
    """
    kinds = type(operator), type(solver)  # Equinox makes `isinstance` slow
    if not (issubclass(kinds[0], _Operator) and issubclass(kinds[1], _Solver)):
        reject(operator, solver)
    operator = formed(operator, solver)
    if adjoint_solver is not None or adjoint_options is not None:
        adjoint_solver = set_up(adjoint_solver or solver, operator.T)
    if state is NO_STATE:
        solver = set_up(solver, operator)
    options = {} if options is None else options
    problem = _Problem(
        operator, vector, options, state, adjoint_options, solver, adjoint_solver
    )
    arrays, static = split(problem)
    if static.numbers and _has_numbers(static):
        arrays, static = split(_without_numbers(problem))
    # Where values can be looked at, a failure is raised here, without a callback.
    late = throw and not is_traced(*arrays)
    on_failure: OnFailure = "raise" if throw and not late else "report"
    call = _Call(static, on_failure, rhs_axis)
    out = _solve(call, *arrays, quickly=is_quick(vector))
    solution, failed = out.join(arrays)
    if not late:
        return solution
    if isinstance(failed, jax.core.Tracer):  # constants, within a trace
        return _raising(solution, operator, solver_for(operator, solver))
    if np.asarray(failed):  # `bool` of an array of JAX's takes 13 µs more
        raise_now(solution, operator, solver_for(operator, solver))
    return solution


_Operator, _Solver = AbstractLinearOperator, AbstractLinearSolver


class _Problem(NamedTuple):
    """The arguments of `linear_solve`."""

    operator: AbstractLinearOperator
    vector: PyTree[ArrayLike]
    options: dict[str, Any]
    state: Any
    adjoint_options: dict[str, Any] | None
    solver: AbstractLinearSolver
    adjoint_solver: AbstractLinearSolver | None


def _has_numbers(static: Static) -> bool:
    """Whether a `_Problem` has Python numbers other than those of its solvers."""
    *others, _, _ = static.treedef.children()
    count = sum([part.num_leaves for part in others])
    return any([isinstance(x, NUMBERS) for x in static.leaves[:count]])


def _without_numbers(problem: _Problem) -> _Problem:
    """The same with arrays in place of the Python numbers for which no separate program
    is to be compiled: those of the vector, and the 2.5 of `2.5 * A`."""
    vector = jtu.tree_map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, NUMBERS) else leaf,
        problem.vector,
    )
    return signed(problem._replace(vector=vector))


class _Call(NamedTuple):
    static: Static  # of a `_Problem`
    on_failure: OnFailure
    rhs_axis: int | None


@Compiled
def _solve(call: _Call, *arrays: Array) -> Outputs:
    """Everything in one compiled call: eager calls are cheap, and equal problems are
    checked, traced and compiled once. The solution, and 0 if no solve failed."""
    layout = explicit_layout(arrays)

    def solve_arrays(static: Static, *arrays: Array) -> Outputs:
        held = [stop_gradient(x) for x in arrays]
        out = _solve_arrays(call, static, arrays, held)
        return outputs(out, held if layout is None else ())  # else not our arguments

    if layout is None:
        return solve_arrays(call.static, *arrays)
    return with_automatic_axes(solve_arrays, call.static, arrays, layout)


def _solve_arrays(
    call: _Call, static: Static, arrays: Sequence[Array], held: Sequence[Array]
) -> tuple[Solution, Int[Array, ""]]:
    """As `_solve`.

    Args:
        call: all but the arrays, for which `static` stands.
        static, arrays: of a `_Problem`.
        held: the arrays without tangents.
    """
    problem: _Problem = static.join(arrays)
    still: _Problem = static.join(held)
    operator, axis = problem.operator, call.rhs_axis
    check_one(operator)
    wanted = operator.out_structure()
    if axis is not None:
        check_axis(operator, axis)
        wanted = with_axis(wanted, problem.vector, axis)
    vector = conform_many(problem.vector, wanted, axis)
    own, solve_one = operator.in_structure(), solve
    if not fits(operator, vector):
        solve_one = solve_promoted
        if is_mixed(own, vector, operator.out_structure()):
            solve_one = functools.partial(solve_mixed, own=own)
        operator = widened(operator, vector, problem.state)
        still = still._replace(operator=stop_gradient(operator))
    solver = without_moving_preconditioner(problem.solver)
    prepared = _prepared(problem._replace(operator=operator, solver=solver), still)
    one = functools.partial(solve_one, prepared, on_failure=call.on_failure)
    if axis is None:
        value, result, stats = one(vector)
    else:
        size = next((x.shape[axis] for x in jtu.tree_leaves(vector)), 0)
        many = jax.vmap(one, in_axes=axis, out_axes=(axis, 0, 0), axis_size=size)
        value, result, stats = many(vector)
    failed = code(result)  # 0 is success
    if axis is not None:
        failed = jnp.max(failed, initial=0)
    state = prepared.forward.state
    if axis is None and solve_one is solve:  # statistics of one solve
        state = _updated(prepared.forward, stats)
    return Solution(value, result, stats, state), failed


def _updated(method: Method, stats: dict[str, Any]) -> Any:
    """The state after a solve, of a solver that learns from one: it has a method
    `updated(state, stats) -> state`."""
    updated = getattr(method.solver, "updated", None)
    return (
        method.state if updated is None else stop_gradient(updated(method.state, stats))
    )


def _prepared(problem: _Problem, still: _Problem) -> Problem:
    """The problem, with a state made of what carries no tangents."""
    operator, solver = problem.operator, problem.solver
    _, _, options, state, adjoint_options, still_solver, adjoint_solver = still
    chosen = solver_for(operator, solver)
    if isinstance(chosen, Identity):  # a state of another solver is not needed
        return problem_of(operator, prepare(operator, chosen, options))
    if state is NO_STATE:
        state = still_solver.init(still.operator, options)
    else:
        _check_state(operator, solver, options, state)
    method = Method(solver, state, options)
    if adjoint_solver is None and adjoint_options is None:
        return problem_of(operator, method)
    adjoint = Adjoint(adjoint_solver or still_solver, adjoint_options or {})
    return problem_of(operator, method, adjoint)


def _check_state(operator: Any, solver: Any, options: Any, state: Any) -> None:
    """As far as types tell, `state` must be of this operator and solver."""
    try:
        wanted = jax.eval_shape(lambda: split(solver.init(operator, options))[0])
    except ValueError:
        if has_setup(solver):  # which is not repeated
            return
        raise
    given, _ = split(state)
    given, wanted = ([(x.shape, x.dtype) for x in xs] for xs in (given, wanted))
    if given != wanted:
        raise ValueError(
            f"`state` is not of this operator and solver: `{solver!r}` would make "
            f"arrays of {_listed(wanted)} for {summary(operator)}, but `state` has "
            f"{_listed(given)}. Build it with `state = solver.init(operator, options)`."
        )


def _listed(types: list[tuple[Any, Any]]) -> str:
    return ", ".join(describe(jax.ShapeDtypeStruct(*each)) for each in types) or "none"


def _raising(solution: Solution, operator: Any, solver: Any) -> Solution:
    """The same, whose computation raises at run time if the solve failed."""
    value, result = solution.value, solution.result
    value = raise_on_failure(value, result, operator, solver, "forward")
    return dataclasses.replace(solution, value=value)
