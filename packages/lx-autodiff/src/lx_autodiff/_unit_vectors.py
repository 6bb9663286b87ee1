"""Computations with one solve for each unit vector, a few at a time, so that no n × n
array is formed or kept for a backward pass."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Int
from lx_operators import TangentLinearOperator
from lx_operators.internal import common_dtype, ravel, unravel

from . import _jvp as _jvp, _transpose as _transpose
from ._method import Problem
from ._primitive import solve

_AT_ONCE = 64


def elements(
    problem: Problem, column: Callable[[Inexact[Array, " n"]], Inexact[Array, " n"]]
) -> Inexact[Array, " n"]:
    """Element i of `column(eᵢ)`, for all i.

    Args:
        problem: of a square operator.
        column: may be differentiated; it is run again for a backward pass.
    """
    operator = problem.operator
    n = operator.in_size()
    dtype = common_dtype(operator.in_structure(), operator.out_structure())

    @jax.checkpoint
    def element(i: Int[Array, ""]) -> Array:
        return column(jnp.zeros(n, dtype).at[i].set(1))[i]

    if n <= _AT_ONCE:  # JAX 0.7 does not transpose a loop in a rule for derivatives
        return jax.vmap(element)(jnp.arange(n))
    return jax.lax.map(element, jnp.arange(n), batch_size=_AT_ONCE)


def solved(problem: Problem, b: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """A⁻¹ b, flat; NaN where the solve fails."""
    structure = problem.operator.out_structure()
    x, _, _ = solve(problem, unravel(b, structure), "nan", "tangent")
    return ravel(x, b.dtype)


def product(
    tangent: TangentLinearOperator, x: Inexact[Array, " n"]
) -> Inexact[Array, " n"]:
    """dA x, flat."""
    return ravel(tangent.mv(unravel(x, tangent.in_structure())), x.dtype)
