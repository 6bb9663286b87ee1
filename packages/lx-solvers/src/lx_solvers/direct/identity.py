"""Identity operators solve themselves."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array
from lx_operators import IdentityLinearOperator
from lx_operators.internal import Frozen, common_dtype, complex_to_real_dtype, freeze

from .._checks import is_zero
from .._slogdet import slogdet_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver


class IdentityState(eqx.Module):
    input_structure: Frozen = eqx.field(static=True)
    output_structure: Frozen = eqx.field(static=True)


class Identity(AbstractLinearSolver[IdentityState]):
    """The pseudoinverse of an identity, which may pad or truncate, is its transpose.

    With damping AᴴA or AAᴴ is an identity as well, so that x = Aᴴb / (1 + damp²).
    """

    damp: Any = 0.0

    def init(self, operator: Any, options: dict[str, Any]) -> IdentityState:
        return IdentityState(
            freeze(operator.in_structure()), freeze(operator.out_structure())
        )

    def compute(self, state: IdentityState, vector: Any, options: dict[str, Any]):
        back = IdentityLinearOperator(
            state.output_structure.thaw(), state.input_structure.thaw()
        )
        x = back.mv(vector)
        if not is_zero(self.damp):
            x = jtu.tree_map(lambda leaf: _damped(leaf, self.damp), x)
        return x, RESULTS.successful, {}

    def transpose(self, state: IdentityState, options: dict[str, Any]):
        return IdentityState(state.output_structure, state.input_structure), options

    def conj(self, state: IdentityState, options: dict[str, Any]):
        return state, options

    def assume_full_rank(self) -> bool:
        return True


def _damped(x: Array, damp: Any) -> Array:
    """x / (1 + d²)."""
    size = jnp.finfo(x.dtype).dtype
    return x / (1 + jnp.square(jnp.asarray(damp).astype(size))).astype(x.dtype)


def solver_for(operator: Any, solver: AbstractLinearSolver) -> AbstractLinearSolver:
    """`solver`; for identities, which no solver need know, `Identity`."""
    if not isinstance(operator, IdentityLinearOperator):
        return solver
    return Identity(getattr(solver, "damp", 0.0))


@slogdet_of.register
def _(state: IdentityState):
    dtype = common_dtype(state.input_structure.leaves, state.output_structure.leaves)
    return jnp.ones((), dtype), jnp.zeros((), complex_to_real_dtype(dtype))
