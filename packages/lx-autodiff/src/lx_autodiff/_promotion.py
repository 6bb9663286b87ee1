"""Vectors of other dtypes than the operator's, and mixtures of real and complex."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator
from lx_operators.internal import (
    Structure,
    common_dtype,
    complex_to_real_dtype,
    is_real,
    promoted,
    structure_of,
)
from lx_solvers import RESULTS
from lx_solvers.internal import largest, succeeded

from ._arguments import NO_STATE
from ._failure import raise_on_failure
from ._method import Problem
from ._primitive import OnFailure, solve


def widened(
    operator: AbstractLinearOperator, vector: PyTree[Array], state: Any
) -> AbstractLinearOperator:
    """The operator between dtypes as wide as the vector's, real if it was real; itself,
    if its own mixture of single and double precision is the vector's."""
    if fits(operator, vector):
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


def fits(operator: AbstractLinearOperator, vector: PyTree[Array]) -> bool:
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


def solve_promoted(
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


def is_mixed(own: Structure, vector: PyTree[Array], out: Structure) -> bool:
    """Whether a solution has real and complex leaves: the operator's input structure
    has, and no leaf of the vector is complex where that of the output is real."""
    kinds = {leaf.dtype.kind == "c" for leaf in jtu.tree_leaves(own)}
    pairs = zip(jtu.tree_leaves(vector), jtu.tree_leaves(out))
    fine = all(s.dtype.kind == "c" or x.dtype.kind != "c" for x, s in pairs)
    return len(kinds) == 2 and fine


def solve_mixed(
    problem: Problem,
    vector: PyTree[Array],
    *,
    on_failure: OnFailure,
    own: Structure,
) -> tuple[PyTree[Array], RESULTS, dict[str, Any]]:
    """The solution in a structure `own` of real and complex leaves.

    The operator is complex-linear, and so is what is solved. Where the solution has an
    imaginary part in a real leaf, beyond what rounding or the solver's tolerance leaves
    of it, there is no solution of that structure: the result is `not_real`.
    """
    x, result, stats = solve_promoted(problem, vector, on_failure=on_failure)
    leaves, treedef = jtu.tree_flatten(x)
    real = [s.dtype.kind != "c" for s in jtu.tree_leaves(own)]
    size = functools.reduce(jnp.maximum, map(_size, leaves))
    dropped = [_size(jnp.imag(x)) for x, yes in zip(leaves, real) if yes]
    rtol = getattr(problem.forward.solver, "rtol", None)
    tolerance = jnp.finfo(size.dtype).eps ** 0.5
    if rtol is not None:
        tolerance = jnp.maximum(tolerance, jnp.asarray(rtol, size.dtype))
    lost = functools.reduce(jnp.maximum, dropped) > tolerance * size
    result = RESULTS.where(lost & succeeded(result), RESULTS.not_real, result)
    value = [jnp.real(x) if yes else x for x, yes in zip(leaves, real)]
    value = jtu.tree_unflatten(treedef, value)
    if on_failure == "raise":
        solver = problem.forward.solver
        value = raise_on_failure(value, result, problem.operator, solver, "forward")
    return value, result, stats


def _size(x: Array) -> Array:
    """The largest modulus, 0 of nothing."""
    x = jax.lax.stop_gradient(x)
    return largest(x) if x.size else jnp.zeros((), jnp.finfo(x.dtype).dtype)
