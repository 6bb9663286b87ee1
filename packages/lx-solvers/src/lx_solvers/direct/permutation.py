"""Permutation: A⁻¹ is Aᵀ, another order."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int
from lx_operators import PermutationLinearOperator
from lx_operators.internal import (
    PackedStructures,
    bare,
    common_dtype,
    complex_to_real_dtype,
    pack_structures,
    ravel_vector,
    unravel_solution,
)

from .._checks import check_options, check_state
from .._results import judged
from .._slogdet import slogdet_of
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from ._factors import inverse_permutation


class _PermutationState(eqx.Module):
    order: Int[Array, " n"]  # of the solution
    inverse: Int[Array, " n"]
    packed: PackedStructures


class Permutation(AbstractLinearSolver[_PermutationState]):
    """Reorders the vector, for permutations.

    Raises:
        ValueError: the operator is not a `PermutationLinearOperator`.

    ```python
    operator = lx.PermutationLinearOperator(jnp.array([2, 0, 1]))
    x = lx.linear_solve(operator, jnp.array([30.0, 10.0, 20.0]), lx.Permutation()).value
    ```
    """

    def init(self, operator, options):
        check_options(options, (), "Permutation")
        permutation = bare(operator)
        if not isinstance(permutation, PermutationLinearOperator):
            raise ValueError(
                "`Permutation` solves with a `PermutationLinearOperator` only, but the "
                f"operator is {operator!r}; use `AutoLinearSolver`."
            )
        order = permutation.permutation
        inverse = inverse_permutation(order)
        return _PermutationState(inverse, order, pack_structures(operator))

    def compute(self, state, vector, options):
        check_state(state, _PermutationState, "Permutation")
        b = ravel_vector(vector, state.packed)
        x = b[state.order]
        result = judged(RESULTS.successful, b, x)
        return unravel_solution(x, state.packed), result, {}

    def transpose(self, state, options):
        check_state(state, _PermutationState, "Permutation")
        return _PermutationState(state.inverse, state.order, state.packed), {}

    def conj(self, state, options):
        check_state(state, _PermutationState, "Permutation")
        return state, {}

    def assume_full_rank(self):
        return True


@slogdet_of.register
def _(state: _PermutationState):
    """(-1)ⁿ⁻ᶜ, with c cycles. Every element finds the smallest of its cycle, over
    twice as many steps each time."""
    n = state.order.size
    smallest, p = jnp.arange(n), state.order
    for _ in range(n.bit_length()):
        smallest, p = jnp.minimum(smallest, smallest[p]), p[p]
    cycles = jnp.sum(smallest == jnp.arange(n))
    dtype = common_dtype(state.packed.in_structure.thaw())
    sign = jnp.where((n - cycles) % 2 == 1, -1, 1).astype(dtype)
    return sign, jnp.zeros((), complex_to_real_dtype(dtype))
