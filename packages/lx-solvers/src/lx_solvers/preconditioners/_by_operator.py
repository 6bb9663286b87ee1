"""The three methods of a preconditioner whose state is M itself, as an operator."""

from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator, conj

from .._solver import Options


def apply(self, state: AbstractLinearOperator, vector: PyTree[Array]) -> PyTree[Array]:
    return state.mv(vector)


def transposed(
    self, state: AbstractLinearOperator, options: Options
) -> tuple[AbstractLinearOperator, Options]:
    return state.T, options


def conjugated(
    self, state: AbstractLinearOperator, options: Options
) -> tuple[AbstractLinearOperator, Options]:
    return conj(state), options
