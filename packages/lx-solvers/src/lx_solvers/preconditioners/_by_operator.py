"""The three methods of a preconditioner whose state is M itself, as an operator."""

from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, conj

from .._solver import Options


def apply(self, state: AbstractLinearOperator, vector: PyTree[Array]) -> PyTree[Array]:
    """M r."""
    return state.mv(vector)


def transposed(
    self, state: AbstractLinearOperator, options: Options
) -> tuple[AbstractLinearOperator, Options]:
    """The state and the options for Mᵀ."""
    return state.T, options


def conjugated(
    self, state: AbstractLinearOperator, options: Options
) -> tuple[AbstractLinearOperator, Options]:
    """The state and the options for the conjugate of M."""
    return conj(state), options
