"""Operators and vectors as preconditioners compute with them: flat."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator
from lx_operators.internal import common_dtype, ravel, unravel

HIGHEST = jax.lax.Precision.HIGHEST


def dtype_of(operator: AbstractLinearOperator):
    """The dtype of the operator's matrix."""
    return common_dtype(operator.in_structure(), operator.out_structure())


def as_matvec(operator: AbstractLinearOperator) -> Callable[[Array], Array]:
    """A x of flat vectors, in one dtype."""
    structure, dtype = operator.in_structure(), dtype_of(operator)
    return lambda x: ravel(operator.mv(unravel(x, structure)), dtype)


def columns(operator: AbstractLinearOperator, X: Array) -> Array:
    """A X of a matrix of flat columns."""
    return jax.vmap(as_matvec(operator), in_axes=1, out_axes=1)(X)


def on_flat(fn: Callable[[Array], Array], vector: PyTree[Array]) -> PyTree[Array]:
    """A map of flat vectors, applied to a pytree."""
    return unravel(fn(ravel(vector)), jax.eval_shape(lambda: vector))


def matmul(A: Array, B: Array) -> Array:
    """A B at the highest precision."""
    return jnp.matmul(A, B, precision=HIGHEST)
