"""Identity operators solve themselves."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from lx_operators import IdentityLinearOperator
from lx_operators.internal import Frozen, common_dtype, complex_to_real_dtype, freeze

from .._slogdet import slogdet_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver


class IdentityState(eqx.Module):
    input_structure: Frozen = eqx.field(static=True)
    output_structure: Frozen = eqx.field(static=True)


class Identity(AbstractLinearSolver[IdentityState]):
    """The pseudoinverse of an identity, which may pad or truncate, is its transpose."""

    def init(self, operator: Any, options: dict[str, Any]) -> IdentityState:
        return IdentityState(
            freeze(operator.in_structure()), freeze(operator.out_structure())
        )

    def compute(self, state: IdentityState, vector: Any, options: dict[str, Any]):
        back = IdentityLinearOperator(
            state.output_structure.thaw(), state.input_structure.thaw()
        )
        return back.mv(vector), RESULTS.successful, {}

    def transpose(self, state: IdentityState, options: dict[str, Any]):
        return IdentityState(state.output_structure, state.input_structure), options

    def conj(self, state: IdentityState, options: dict[str, Any]):
        return state, options

    def assume_full_rank(self) -> bool:
        return True


def solver_for(operator: Any, solver: AbstractLinearSolver) -> AbstractLinearSolver:
    """`solver`; for identities, which no solver need know, `Identity`."""
    return Identity() if isinstance(operator, IdentityLinearOperator) else solver


@slogdet_of.register
def _(state: IdentityState):
    dtype = common_dtype(state.input_structure.leaves, state.output_structure.leaves)
    return jnp.ones((), dtype), jnp.zeros((), complex_to_real_dtype(dtype))
