"""Operators as sparse matrices."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact
from lx_operators import (
    AbstractLinearOperator,
    DivLinearOperator,
    MulLinearOperator,
    NegLinearOperator,
    ShardedSparseLinearOperator,
    SparseDiagonalsLinearOperator,
    SparseLinearOperator,
    SparsityPattern,
    compress,
    materialise,
)
from lx_operators.internal import as_sparse, bare, common_dtype, promote_types

from ..direct._factors import working_dtype


def is_sparse(operator: AbstractLinearOperator) -> bool:
    """Whether the operator is a sparse matrix of a pattern that is known, or says which
    pattern it has."""
    node: Any = bare(operator)
    while isinstance(node, _SCALED):
        node = bare(node.operator)
    if isinstance(node, SparseDiagonalsLinearOperator):
        return True
    pattern: Any = getattr(node, "pattern", None)
    if isinstance(pattern, SparsityPattern):
        return pattern.exact
    return getattr(node, "sparsity", None) is not None


_SCALED = NegLinearOperator, MulLinearOperator, DivLinearOperator


def _as_sparse(
    operator: AbstractLinearOperator, sparsity: Any
) -> SparseLinearOperator | None:
    node: Any = bare(operator)
    if isinstance(node, _SCALED):
        inner = _as_sparse(node.operator, sparsity)
        if inner is None:
            return None
        values = inner.values
        if isinstance(node, NegLinearOperator):
            values = -values
        else:
            scalar = getattr(node.scalar, "value", node.scalar)  # with a known sign
            scalar = jnp.asarray(scalar).astype(values.dtype)
            multiplied = isinstance(node, MulLinearOperator)
            values = values * scalar if multiplied else values / scalar
        return SparseLinearOperator(values, inner.pattern)
    if isinstance(node, SparseDiagonalsLinearOperator):
        return as_sparse(node)
    if isinstance(getattr(node, "pattern", None), SparsityPattern):
        node = materialise(node)  # from where its values lie for products
    if isinstance(node, SparseLinearOperator):
        return node
    if sparsity is None and getattr(node, "sparsity", None) is None:
        return None
    return compress(node, sparsity)


def sparse_matrix(
    operator: AbstractLinearOperator, sparsity: Any, solver: str
) -> SparseLinearOperator:
    """The operator as a flat sparse matrix without tags and without tangent.

    Args:
        operator: A.
        sparsity: where it may be nonzero, if it is known by its products only.
        solver: for the text of errors.

    Raises:
        ValueError: it is not sparse, or its pattern was not known when it was built.
    """
    found = _as_sparse(operator, sparsity)
    if found is None and isinstance(bare(operator), ShardedSparseLinearOperator):
        raise ValueError(
            f"`{solver}` solves on one device, but the operator is {operator!r}. Use "
            "an iterative solver with `AdditiveSchwarz`, which factorises each "
            "device's own rows."
        )
    if found is None:
        raise ValueError(
            f"`{solver}` solves with sparse matrices only, but the operator is "
            f"{operator!r}. Build a `SparseLinearOperator`, for example by "
            "`SparseLinearOperator.from_scipy(matrix)` or, outside of `jit`, "
            "`materialise(operator)`. For a function or a Jacobian, say which of its "
            f"elements may be nonzero: `{solver}(sparsity=pattern)`."
        )
    if not found.pattern.exact:
        raise ValueError(
            f"`{solver}` needs a pattern that is known beforehand, but this one was "
            "built from traced indices; build the `SparsityPattern` outside of `jit`, "
            "and only the values inside."
        )
    values = jax.lax.stop_gradient(found.values)
    # the vectors of a float32 matrix may be of float64
    structures = operator.in_structure(), operator.out_structure()
    dtype = promote_types(found.values.dtype, common_dtype(structures))
    values = values.astype(working_dtype(dtype))
    return SparseLinearOperator(values, found.pattern.without_assembly())


def values_of(operator: AbstractLinearOperator, solver: Any) -> Inexact[Array, " size"]:
    """The values of `sparse_matrix`, differentiable."""
    found = _as_sparse(operator, solver.sparsity)
    assert found is not None
    return found.values
