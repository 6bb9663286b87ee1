"""Incomplete LU factors."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, PyTree
from lx_operators import negative_semidefinite_tag, positive_semidefinite_tag

from .._results import choose
from .._solution import RESULTS
from .._solver import Options
from . import _colour_order as colour_order, _multicolour as multicolour
from ._flat import on_flat
from ._preconditioner import FAILED, AbstractPreconditioner, definite_tags
from ._sparse import sparse
from .ssor import _INSTEAD


class FactorState(eqx.Module):
    """The state of incomplete factorisations."""

    order: colour_order.Order
    factors: multicolour.Factors
    shift: Array
    """The shift α that was needed."""
    sound: Array


def applied(self: Any, state: FactorState, vector: PyTree[Array]) -> PyTree[Array]:
    """U⁻¹ D⁻¹ L⁻¹ r."""
    return on_flat(lambda r: multicolour.solve(state.order, state.factors, r), vector)


def transposed(
    self: Any, state: FactorState, options: Options
) -> tuple[FactorState, Options]:
    """The state and the options for Mᵀ."""
    factors = multicolour.transposed(state.order, state.factors)
    return dataclasses.replace(state, factors=factors), options


def conjugated(
    self: Any, state: FactorState, options: Options
) -> tuple[FactorState, Options]:
    """The state and the options for the conjugate of M."""
    factors = multicolour.conjugated(state.order, state.factors)
    return dataclasses.replace(state, factors=factors), options


def soundness(self: Any, state: FactorState) -> RESULTS:
    """A failure if no shift helped."""
    return choose(state.sound, RESULTS.successful, FAILED)


class IncompleteLU(AbstractPreconditioner[FactorState]):
    """Incomplete LU factors of level zero, with the pattern of A, in a multicolour
    order, for sparse operators.

    Meijerink and van der Vorst 1977, doi:10.1090/S0025-5718-1977-0438681-4; Saad 2003,
    section 10.3, doi:10.1137/1.9780898718003. The multicolour order takes somewhat more
    iterations than the natural order, but each one takes only a few sparse products.
    The order is found from the pattern, on the host; `setup` does this once and keeps
    it.

    Args:
        modified: the share of the dropped fill that is added to the diagonal, from 0 to
            1 (Gustafsson 1978, doi:10.1007/BF01931691).
        shift: the first α to try: if a pivot is zero, A + α D is factorised, with the
            diagonal D and α = 0.001, 0.002, 0.004, …

    The statistics of a solve contain α as `preconditioner_shift`. If no shift helps, as
    for zeros on the diagonal, the result is `preconditioner_failed`.

    ```python
    operator = lx.SparseLinearOperator.from_dense(
        jnp.array([[4.0, -1.0, 0.0], [-2.0, 4.0, -1.0], [0.0, -2.0, 4.0]])
    )
    solver = lx.GMRES(preconditioner=lx.IncompleteLU())
    solution = lx.linear_solve(operator, jnp.ones(3), solver)
    ```
    """

    modified: ArrayLike = 0.0
    shift: ArrayLike = eqx.field(default=0.0, kw_only=True)
    order: colour_order.Order | None = eqx.field(default=None, kw_only=True, repr=False)
    """The order of the unknowns, once it is found."""

    def setup(self, operator):
        if self.order is not None:
            return self
        A = sparse(operator, "IncompleteLU", _INSTEAD)
        order = colour_order.ordered(A, "IncompleteLU", eliminating=True)
        return dataclasses.replace(self, order=order)

    def init(self, operator, options):
        A = sparse(operator, "IncompleteLU", _INSTEAD)
        order = colour_order.for_operator(
            self.order, A, "IncompleteLU", eliminating=True
        )
        w, α, fine = multicolour.factorised(
            order, order.entries(A.values), self.shift, self.modified, _sound
        )
        return FactorState(order, multicolour.divided(order, w), α, fine)

    apply = applied
    transpose = transposed
    conj = conjugated
    status = soundness

    def stats(self, state):
        return {"shift": state.shift}

    def tags(self, operator):
        # definite or not: that depends on the pivots
        definite = {positive_semidefinite_tag, negative_semidefinite_tag}
        return definite_tags(operator) - definite


def _sound(pivot: Array, diagonal: Array) -> Array:
    """Not zero, rounding errors taken into account."""
    least = 1000 * jnp.finfo(diagonal.dtype).eps * jnp.abs(diagonal)
    return (jnp.abs(pivot) > least) & jnp.isfinite(pivot)
