"""The arguments of `linear_solve`: checks, and errors that say what to do."""

from typing import Any, NoReturn

import jax
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree
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
    conform,
    describe,
    sparse_hint,
    structure_of,
    type_name,
)
from lx_solvers import AbstractLinearSolver


class _NoState:
    def __repr__(self) -> str:
        return "<none>"


NO_STATE = _NoState()


def check_solve(operator: Any, solver: Any) -> None:
    """Checks that these are an operator and a solver."""
    if not isinstance(operator, AbstractLinearOperator):
        reject(operator, solver)
    if not isinstance(solver, AbstractLinearSolver):
        reject(operator, solver)


def reject(operator: Any, solver: Any) -> NoReturn:
    """Raises a `ValueError` for the operator, if it is not one, or else for the
    solver."""
    if not isinstance(operator, AbstractLinearOperator):
        raise ValueError(
            "`operator` must be a linear operator, but got a value of type "
            f"`{type_name(operator)}`. {_operator_hint(operator)}"
        )
    hint = " Pass one such as `LU()` or `CG(rtol=1e-5, atol=0.0)`, or leave it out."
    if isinstance(solver, type) and issubclass(solver, AbstractLinearSolver):
        hint = f" Make an instance: `{solver.__name__}(...)`."
    raise ValueError(f"`solver` must be a linear solver, but got {solver!r}.{hint}")


def _operator_hint(what: Any) -> str:
    """How to make an operator from a value that is not one."""
    if hasattr(what, "todense"):  # of SciPy or of `jax.experimental.sparse`
        hint = sparse_hint(what)
        return f"{hint[0].upper()}{hint[1:]}."
    if hasattr(what, "matvec"):
        return (
            "Wrap it as `aslinearoperator(operator)`, whose products are computed on "
            "the host; or, better, wrap its product, written in JAX, as "
            "`FunctionLinearOperator(fn, structure)`, where `structure` is the "
            "`jax.ShapeDtypeStruct` of a vector."
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


def conform_many(vector: PyTree, wanted: Structure, axis: int | None) -> PyTree[Array]:
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
        if all(
            len(x) > axis and (*x[:axis], *x[axis + 1 :]) == shape
            for x, shape in shapes
        )
    ]


def check_one(operator: AbstractLinearOperator) -> None:
    """An operator that `vmap` made is a batch of them. (Inside others, such as stacked
    operators, a batch may be in its place.)"""
    node: Any = operator
    while isinstance(node, _WRAPPERS):
        node = node.operator
    if isinstance(node, MatrixLinearOperator) and node.matrix.ndim > 2:
        raise ValueError(
            f"`operator` is a batch of operators, with a matrix of shape "
            f"{node.matrix.shape}. Pass one at a time under a `vmap`, such as "
            "`equinox.filter_vmap(linear_solve)(operator, vector)`, with `in_axes` "
            "if the vector is not a batch."
        )


_WRAPPERS = (
    TaggedLinearOperator,
    MulLinearOperator,
    DivLinearOperator,
    NegLinearOperator,
)


def check_axis(operator: AbstractLinearOperator, axis: int) -> None:
    structures = operator.out_structure(), operator.in_structure()
    for leaf in jtu.tree_leaves(structures):
        ndim = len(leaf.shape) + 1
        if not -ndim <= axis < ndim:
            raise ValueError(
                f"`rhs_axis={axis}` is not an axis of every leaf: a leaf "
                f"{describe(leaf)} of the operator's structures has {ndim} axes with "
                "the right-hand sides in it. Use 0 or -1, which all leaves have."
            )


def with_axis(structure: Structure, vector: PyTree, axis: int) -> Structure:
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
