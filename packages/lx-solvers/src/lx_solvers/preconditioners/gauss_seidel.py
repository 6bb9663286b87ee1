"""Gauss-Seidel and successive over-relaxation."""

import dataclasses

import equinox as eqx
from jaxtyping import ArrayLike

from . import _colour_order as colour_order, _multicolour as multicolour
from ._preconditioner import AbstractPreconditioner
from ._sparse import sparse
from .ssor import _INSTEAD, State, check_omega, relaxation, substitution, turned


class GaussSeidel(AbstractPreconditioner[State]):
    """A sweep of the Gauss-Seidel method, or of successive over-relaxation, in a
    multicolour order, for sparse operators A = L + D + U: M = ω (D + ω L)⁻¹.

    Saad 2003, section 4.1, doi:10.1137/1.9780898718003. M is not symmetric: for `CG`
    use `SSOR`. The order is found from the pattern, on the host; `setup` does this once
    and keeps it.

    Args:
        omega: ω, between 0 and 2.

    If there is a zero on the diagonal, the solve ends in `preconditioner_failed`.

    ```python
    operator = lx.SparseLinearOperator.from_dense(
        jnp.array([[4.0, -1.0, 0.0], [-2.0, 4.0, -1.0], [0.0, -2.0, 4.0]])
    )
    solver = lx.GMRES(preconditioner=lx.GaussSeidel())
    solution = lx.linear_solve(operator, jnp.ones(3), solver)
    ```
    """

    omega: ArrayLike = 1.0
    order: colour_order.Order | None = eqx.field(default=None, kw_only=True, repr=False)
    """The order of the unknowns, once it is found."""

    def __check_init__(self):
        check_omega(self.omega, "GaussSeidel")

    def setup(self, operator):
        if self.order is not None:
            return self
        A = sparse(operator, "GaussSeidel", _INSTEAD)
        return dataclasses.replace(self, order=colour_order.ordered(A, "GaussSeidel"))

    def init(self, operator, options):
        return relaxation(self.order, operator, self.omega, "GaussSeidel", both=False)

    def apply(self, state, vector):
        return substitution(state, vector)

    def transpose(self, state, options):
        return turned(state, multicolour.transposed), options

    def conj(self, state, options):
        return turned(state, multicolour.conjugated), options
