"""Incomplete LU factors."""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import negative_semidefinite_tag, positive_semidefinite_tag

from . import _multicolour as multicolour
from ._preconditioner import AbstractPreconditioner, definite_tags
from ._sparse import sparse
from .ssor import _INSTEAD, State, substitution, turned


class IncompleteLU(AbstractPreconditioner[State]):
    """Incomplete LU factors of level zero, with the pattern of A, in a multicolour
    order, for sparse operators.

    Meijerink and van der Vorst 1977, doi:10.1090/S0025-5718-1977-0438681-4; Saad 2003,
    section 10.3, doi:10.1137/1.9780898718003. In this order there is less fill to
    drop between the unknowns of a colour and more elsewhere: it takes somewhat more
    iterations than the natural order, and each of them goes by a few sparse products.
    The order is found from the pattern, on the host, and may be kept by `setup`.

    Args:
        modified: how much of what is dropped is added to the diagonal, from 0 to 1
            (Gustafsson 1978, doi:10.1007/BF01931691).
        shift: the factors are those of A + shift · D, with the diagonal D.

    A pivot of zero ends the solve in `preconditioner_failed`.

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
    order: multicolour.Order | None = eqx.field(default=None, kw_only=True, repr=False)
    """The order of the unknowns, once it is found."""

    def setup(self, operator):
        if self.order is not None:
            return self
        A = sparse(operator, "IncompleteLU", _INSTEAD)
        order = multicolour.ordered(A, "IncompleteLU", eliminating=True)
        return dataclasses.replace(self, order=order)

    def init(self, operator, options):
        A = sparse(operator, "IncompleteLU", _INSTEAD)
        order = multicolour.for_operator(
            self.order, A, "IncompleteLU", eliminating=True
        )
        w = shifted(order, order.entries(A.values), self.shift)
        w = multicolour.eliminated(order, w, weight(self.modified, w))
        return State(order, multicolour.divided(order, w))

    def apply(self, state, vector):
        return substitution(state, vector)

    def transpose(self, state, options):
        return turned(state, multicolour.transposed), options

    def conj(self, state, options):
        return turned(state, multicolour.conjugated), options

    def tags(self, operator):
        # definite or not: that depends on the pivots
        definite = {positive_semidefinite_tag, negative_semidefinite_tag}
        return definite_tags(operator) - definite


def shifted(order: multicolour.Order, w: Array, shift: ArrayLike) -> Array:
    """The entries of A + shift · D."""
    factor = jnp.asarray(1 + jnp.asarray(shift, w.real.dtype)).astype(w.dtype)
    return w.at[order.diagonal].multiply(factor, unique_indices=True)


def weight(modified: ArrayLike, w: Array) -> Array | None:
    known = isinstance(modified, int | float)
    return None if known and modified == 0 else jnp.asarray(modified).astype(w.dtype)
