"""`linear_solve`: checks, dtypes, state, and what becomes of a failure."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, ArrayLike, PyTree
from lx_operators import (
    AbstractLinearOperator,
    DivLinearOperator,
    MatrixLinearOperator,
    MulLinearOperator,
    NegLinearOperator,
    TaggedLinearOperator,
)
from lx_operators.internal import (
    Structure,
    common_dtype,
    complex_to_real_dtype,
    conform,
    describe,
    is_real,
    promoted,
    signed,
    sparse_hint,
    structure_of,
    summary,
)
from lx_solvers import RESULTS, AbstractLinearSolver, AutoLinearSolver, Solution
from lx_solvers.internal import Identity, code, solver_for

from . import _derivative as _derivative, _transpose as _transpose
from ._failure import raise_now, raise_on_failure
from ._method import (
    Adjoint,
    Method,
    Problem,
    has_setup,
    prepare,
    problem_of,
    set_up,
    without_moving_preconditioner,
)
from ._partition import NUMBERS, Sealed, Static, is_traced, split, stop_gradient
from ._primitive import OnFailure, solve
from ._sharding import explicit_layout, with_automatic_axes


class _NoState:
    def __repr__(self) -> str:
        return "<none>"


NO_STATE = _NoState()


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
            vector (and then solves for real and imaginary part in one batch).
        solver: how to solve; by default chosen from the operator's structure and tags.
        options: what the solver takes at run time, such as `preconditioner` and `y0`.
        state: what `solver.init(operator, options)` returned, or the `state` of an
            earlier `Solution`, to use its factors again. It must belong to this
            operator.
        throw: whether a failure raises at run time. If not, look at `Solution.result`;
            derivatives of a failed solve are NaN.
        rhs_axis: for many right-hand sides, A X = B: the axis of every leaf of `vector`
            along which they lie, counted in the leaf with it. They share one
            factorisation, and run at matrix-matrix speed. `value` has them along the
            same axis of its leaves; `result` and `stats` have them along axis 0. For a
            matrix B of shape `[m, k]`, `rhs_axis=1` gives X of shape `[n, k]`.
        adjoint_solver: how to solve with the transpose, in reverse mode and (except for
            square nonsingular systems) in forward mode; by default with `solver` and
            its transposed state.
        adjoint_options: options of `adjoint_solver`, such as a preconditioner for Aᵀ;
            by default none. Without `adjoint_solver`: of `solver`, initialised anew
            with the transpose.

    Returns:
        A `Solution`: `value`, of the operator's input structure; `result`; `stats`;
        `state`.

    Raises:
        ValueError: `operator` is no operator, `vector` does not fit it, or the solver
            does not handle it.
        EquinoxRuntimeError: the solve failed, and `throw` is true (within a
            transformation of JAX's outside `equinox.filter_jit`, JAX wraps it).

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[2.0, 1.0], [1.0, 3.0]]))
    solution = lx.linear_solve(operator, jnp.array([1.0, 2.0]))
    solution.value  # [0.2, 0.6]
    ```
    """
    check_solve(operator, solver)
    if adjoint_solver is not None or adjoint_options is not None:
        adjoint_solver = set_up(adjoint_solver or solver, operator.T)
    if state is NO_STATE:
        solver = set_up(solver, operator)
    problem = _Problem(
        operator,
        _with_arrays(vector),
        solver,
        {} if options is None else options,
        state,
        adjoint_solver,
        adjoint_options,
    )
    arrays, static = split(problem)
    if _scaled_by_numbers(static):  # no program of their own for `2.5 * A`
        arrays, static = split(signed(problem))
    # Where values can be looked at, a failure is raised here, without a callback.
    late = throw and not is_traced(*arrays)
    on_failure: OnFailure = "raise" if throw and not late else "report"
    call = _Call(static, on_failure, rhs_axis)
    solution = _solve(call, *arrays)
    if type(solution.state) is _Parted:
        solution = dataclasses.replace(solution, state=solution.state.join())
    if not late:
        return solution
    number = code(solution.result)  # 0 is success
    if is_traced(number):  # constants, within a trace
        return _raising(solution, operator, solver_for(operator, solver))
    # `bool` of an array of JAX's takes 13 µs more
    if np.asarray(jnp.any(number) if number.ndim else number):
        raise_now(solution, operator, solver_for(operator, solver))
    return solution


class _Problem(NamedTuple):
    """The arguments of `linear_solve`."""

    operator: AbstractLinearOperator
    vector: PyTree[Array]
    solver: AbstractLinearSolver
    options: dict[str, Any]
    state: Any
    adjoint_solver: AbstractLinearSolver | None
    adjoint_options: dict[str, Any] | None


def _scaled_by_numbers(static: Static) -> bool:
    """Whether a `_Problem` has Python numbers beside those of its solvers."""
    if not static.numbers:
        return False
    start, parts = 0, static.treedef.children()
    for name, part in zip(_Problem._fields, parts):
        leaves = static.leaves[start : start + part.num_leaves]
        start += part.num_leaves
        if "solver" not in name and any(isinstance(x, NUMBERS) for x in leaves):
            return True
    return False


class _Call(NamedTuple):
    static: Static  # of a `_Problem`
    on_failure: OnFailure
    rhs_axis: int | None


@functools.partial(jax.jit, static_argnums=0)
def _solve(call: _Call, *arrays: Array) -> Solution:
    """Everything in one compiled call: eager calls are cheap, and equal problems are
    checked, traced and compiled once."""
    layout = explicit_layout(arrays)
    if layout is None:
        return _solve_arrays(call, call.static, *arrays)
    solve_arrays = functools.partial(_solve_arrays, call)
    return with_automatic_axes(solve_arrays, call.static, arrays, layout)


def _solve_arrays(call: _Call, static: Static, *arrays: Array) -> Solution:
    problem: _Problem = static.join(arrays)
    operator, axis = problem.operator, call.rhs_axis
    _check_one(operator)
    wanted = operator.out_structure()
    if axis is not None:
        _check_axis(operator, axis)
        wanted = _with_axis(wanted, problem.vector, axis)
    vector = _conform(problem.vector, wanted, axis)
    fits = _fits(operator, vector)
    if not fits:
        operator = widened(operator, vector, problem.state)
    options = stop_gradient(problem.options)
    solver = without_moving_preconditioner(problem.solver)
    constant = problem._replace(operator=operator, solver=solver, options=options)
    prepared = _prepared(constant)
    solve_one = solve if fits else _solve_promoted
    one = functools.partial(solve_one, prepared, on_failure=call.on_failure)
    if axis is None:
        value, result, stats = one(vector)
    else:
        size = next((x.shape[axis] for x in jtu.tree_leaves(vector)), 0)
        many = jax.vmap(one, in_axes=axis, out_axes=(axis, 0, 0), axis_size=size)
        value, result, stats = many(vector)
    return Solution(value, result, stats, _parted(prepared.forward.state))


def _conform(vector: PyTree, wanted: Structure, axis: int | None) -> PyTree[Array]:
    try:
        return conform(vector, wanted, "`vector`")
    except ValueError as error:
        axes = [] if axis is not None else _axes_of_many(vector, wanted)
        if not axes:
            raise
        how = " or ".join(f"`rhs_axis={axis}`" for axis in axes)
        raise ValueError(
            f"{error} For many right-hand sides at once, say along which axis they "
            f"lie: {how}."
        ) from None


def _axes_of_many(vector: PyTree, wanted: Structure) -> list[int]:
    """Along which axes of all leaves there may be many vectors of this structure."""
    given, treedef = jtu.tree_flatten(vector)
    leaves, wanted_treedef = jtu.tree_flatten(wanted)
    if treedef != wanted_treedef or not leaves:
        return []
    shapes = [(np.shape(x), leaf.shape) for x, leaf in zip(given, leaves)]
    return [
        axis
        for axis in reversed(range(1 + min(len(shape) for _, shape in shapes)))
        if all((*x[:axis], *x[axis + 1 :]) == shape for x, shape in shapes)
    ]


def _check_one(operator: AbstractLinearOperator) -> None:
    """An operator that `vmap` made is a batch of them. (Inside others, such as stacked
    operators, a batch may be in its place.)"""
    node: Any = operator
    while isinstance(node, _WRAPPERS):
        node = node.operator
    if isinstance(node, MatrixLinearOperator) and node.matrix.ndim > 2:
        raise ValueError(
            f"`operator` is a batch of operators, with a matrix of shape "
            f"{node.matrix.shape}. Solve with one at a time under a `vmap`: "
            "`equinox.filter_vmap(linear_solve)(operator, vector)`, with `in_axes` "
            "if the vector is no batch."
        )


_WRAPPERS = (
    TaggedLinearOperator,
    MulLinearOperator,
    DivLinearOperator,
    NegLinearOperator,
)


def _prepared(problem: _Problem) -> Problem:
    operator, _, solver, options, state, adjoint_solver, adjoint_options = problem
    chosen = solver_for(operator, solver)
    if isinstance(chosen, Identity):  # a state of another solver is not needed
        return problem_of(operator, prepare(operator, chosen, options))
    if state is NO_STATE:
        method = prepare(operator, solver, options)
    else:
        _check_state(operator, solver, options, state)
        method = Method(solver, stop_gradient(state), options)
    if adjoint_solver is None and adjoint_options is None:
        return problem_of(operator, method)
    adjoint = Adjoint(adjoint_solver or solver, adjoint_options or {})
    return problem_of(operator, method, stop_gradient(adjoint))


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


class _Parted(NamedTuple):
    """A state that is not of arrays alone, as it goes through `jit`."""

    arrays: list[Array]
    static: Sealed

    def join(self) -> Any:
        return self.static.value.join(self.arrays)


def _raising(solution: Solution, operator: Any, solver: Any) -> Solution:
    """The same, whose computation raises at run time if the solve failed."""
    value, result = solution.value, solution.result
    value = raise_on_failure(value, result, operator, solver, "forward")
    return dataclasses.replace(solution, value=value)


def _parted(state: Any) -> Any:
    arrays, static = split(state)
    return state if all(static.dynamic) else _Parted(arrays, Sealed(static))


def _with_arrays(vector: PyTree[ArrayLike]) -> PyTree[ArrayLike]:
    """Python numbers as arrays, so that none is compiled for."""
    if isinstance(vector, jax.Array):
        return vector
    return jtu.tree_map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, NUMBERS) else leaf, vector
    )


def _check_axis(operator: AbstractLinearOperator, axis: int) -> None:
    structures = operator.out_structure(), operator.in_structure()
    for leaf in jtu.tree_leaves(structures):
        ndim = len(leaf.shape) + 1
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"`rhs_axis={axis}` is no axis of every leaf: a leaf {describe(leaf)} "
                f"of the operator's structures has {ndim} axes with the right-hand "
                "sides in it. Use 0 or -1, which all leaves have."
            )


def _with_axis(structure: Structure, vector: PyTree, axis: int) -> Structure:
    """The structure of a batch of vectors, along this axis of every leaf."""
    try:
        leaves = jtu.tree_leaves(structure_of(vector))
    except ValueError as error:
        raise ValueError(f"`vector` is not a pytree of arrays: {error}") from None
    sizes = {leaf.shape[axis] for leaf in leaves if -leaf.ndim <= axis < leaf.ndim}
    if not jtu.tree_leaves(structure):
        return structure
    if len(sizes) != 1:
        raise ValueError(
            f"with `rhs_axis={axis}` every leaf of `vector` must have the right-hand "
            f"sides along its axis {axis}, but `vector` has structure "
            f"{describe(structure_of(vector))} and the operator's output "
            f"{describe(structure)}."
        )
    (size,) = sizes

    def insert(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        shape = list(leaf.shape)
        shape.insert(axis % (len(shape) + 1), size)
        return jax.ShapeDtypeStruct(tuple(shape), leaf.dtype)

    return jtu.tree_map(insert, structure)


def widened(
    operator: AbstractLinearOperator, vector: PyTree[Array], state: Any
) -> AbstractLinearOperator:
    """The operator between dtypes as wide as the vector's, real if it was real; itself,
    if its own mixture of single and double precision is the vector's."""
    if _fits(operator, vector):
        return operator
    wanted = operator.out_structure()
    dtype = common_dtype(vector)
    if is_real(wanted):
        dtype = complex_to_real_dtype(dtype)
    wide = promoted(operator, dtype)
    if wide is not operator and state is not NO_STATE:
        raise ValueError(
            f"`vector` has a wider dtype ({dtype}) than the operator "
            f"({common_dtype(operator.out_structure())}) that `state` belongs to; cast "
            "one of them with `.astype`, or leave out `state`."
        )
    return wide


def _fits(operator: AbstractLinearOperator, vector: PyTree[Array]) -> bool:
    """Whether the vector has the dtypes of the operator, all real or all complex."""
    wanted = jtu.tree_leaves(operator.out_structure())
    is_complex = set()
    for x, leaf in zip(jtu.tree_leaves(vector), wanted):
        if x.dtype != leaf.dtype:
            return False
        is_complex.add(leaf.dtype.kind == "c")
    for leaf in jtu.tree_leaves(operator.in_structure()):
        is_complex.add(leaf.dtype.kind == "c")
    return len(is_complex) == 1


def _solve_promoted(
    problem: Problem, vector: PyTree[Array], *, on_failure: OnFailure
) -> tuple[PyTree[Array], RESULTS, dict[str, Any]]:
    """One right-hand side of other dtypes, which may be complex where the operator is
    real: A†(u + iv) = A†u + i A†v, in one batch.

    The statistics are the larger of the two; the result is the first that failed.
    """
    wanted = problem.operator.out_structure()
    if not is_real(wanted) or is_real(structure_of(vector)):
        vector = jtu.tree_map(lambda x, s: x.astype(s.dtype), vector, wanted)
        return solve(problem, vector, on_failure)
    stacked = jtu.tree_map(
        lambda x, s: jnp.stack([jnp.real(x), jnp.imag(x)]).astype(s.dtype),
        vector,
        wanted,
    )
    solve_part = functools.partial(solve, problem, on_failure=on_failure)
    value, result, stats = jax.vmap(solve_part)(stacked)
    value = jtu.tree_map(lambda x: jax.lax.complex(x[0], x[1]), value)
    first, second = (jtu.tree_map(lambda x, i=i: x[i], result) for i in range(2))
    result = RESULTS.where(first == RESULTS.successful, second, first)
    return value, result, jtu.tree_map(lambda x: jnp.max(x, axis=0), stats)


def check_solve(operator: Any, solver: Any) -> None:
    # of types: Equinox makes `isinstance` slow
    if not issubclass(type(operator), AbstractLinearOperator):
        raise ValueError(
            "`operator` must be a linear operator, but got a value of type "
            f"`{type(operator).__name__}`. {_operator_hint(operator)}"
        )
    if not issubclass(type(solver), AbstractLinearSolver):
        hint = ""
        if isinstance(solver, type) and issubclass(solver, AbstractLinearSolver):
            hint = f" Make an instance: `{solver.__name__}(...)`."
        raise ValueError(f"`solver` must be a linear solver, but got {solver!r}.{hint}")


def _operator_hint(what: Any) -> str:
    """How what is no operator becomes one."""
    if hasattr(what, "todense"):  # of SciPy or of `jax.experimental.sparse`
        hint = sparse_hint(what)
        return f"{hint[0].upper()}{hint[1:]}."
    if hasattr(what, "matvec"):
        return (
            "Wrap its product, written in JAX, as `FunctionLinearOperator(fn, "
            "structure)`, where `structure` is the `jax.ShapeDtypeStruct` of a vector."
        )
    if isinstance(what, jax.Array | np.ndarray | np.generic):
        return "Wrap the array as `MatrixLinearOperator(array)`."
    if isinstance(what, list | tuple):
        return "Wrap it as `MatrixLinearOperator(jnp.array(...))`."
    if callable(what):
        return (
            "Wrap the function as `FunctionLinearOperator(fn, structure)`, where "
            "`structure` is the `jax.ShapeDtypeStruct` of a vector."
        )
    return "Pass an `AbstractLinearOperator`, such as `MatrixLinearOperator(array)`."
