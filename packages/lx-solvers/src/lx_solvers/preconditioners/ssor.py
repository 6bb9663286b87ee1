"""Symmetric successive over-relaxation."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import ArrayLike

from . import _colour_order as colour_order, _multicolour as multicolour
from ._flat import on_flat
from ._preconditioner import AbstractPreconditioner, definite_tags
from ._sparse import sparse

_INSTEAD = (
    "For an operator with a sparsity pattern pass `materialise(operator)` to the "
    "solve; for others use `Jacobi` or `BlockJacobi`."
)


class SSOR(AbstractPreconditioner[Any]):
    """A sweep of successive over-relaxation and one back, in a multicolour order, for
    sparse operators A = L + D + U:

        M = ω (2 - ω) (D + ω U)⁻¹ D (D + ω L)⁻¹

    Axelsson 1972, doi:10.1007/BF01932955. With ω = 1 it is the symmetric Gauss-Seidel
    method. It costs about one product with A to apply, and is definite if A is. The
    order is found from the pattern, on the host; `setup` does this once and keeps it.

    Args:
        omega: ω, between 0 and 2.

    If there is a zero on the diagonal, the solve ends in `preconditioner_failed`.

    ```python
    operator = lx.SparseLinearOperator.from_dense(
        jnp.array([[4.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 4.0]]),
        lx.positive_semidefinite_tag,
    )
    solver = lx.CG(preconditioner=lx.SSOR())
    solution = lx.linear_solve(operator, jnp.ones(3), solver)
    ```
    """

    omega: ArrayLike = 1.0
    order: colour_order.Order | None = eqx.field(default=None, kw_only=True, repr=False)
    """The order of the unknowns, once it is found."""

    def __check_init__(self):
        check_omega(self.omega, "SSOR")

    def setup(self, operator):
        if self.order is not None:
            return self
        order = colour_order.ordered(sparse(operator, "SSOR", _INSTEAD), "SSOR")
        return dataclasses.replace(self, order=order)

    def init(self, operator, options):
        return relaxation(self.order, operator, self.omega, "SSOR", both=True)

    def apply(self, state, vector):
        return substitution(state, vector)

    def transpose(self, state, options):
        return turned(state, multicolour.transposed), options

    def conj(self, state, options):
        return turned(state, multicolour.conjugated), options

    def tags(self, operator):
        return definite_tags(operator)


class State(eqx.Module):
    order: colour_order.Order
    factors: multicolour.Factors


def check_omega(omega: ArrayLike, name: str) -> None:
    if isinstance(omega, int | float) and not 0 < omega < 2:
        raise ValueError(
            f"`omega` of `{name}` must be between 0 and 2, but got {omega}."
        )


def relaxation(order: Any, operator: Any, ω: ArrayLike, name: str, both: bool) -> State:
    """(I + ω L D⁻¹) (D / s) (I + ω D⁻¹ U), with s = ω (2 - ω); or, of a single sweep,
    (I + ω L D⁻¹) (D / ω)."""
    A = sparse(operator, name, _INSTEAD)
    order = colour_order.for_operator(order, A, name)
    w = order.entries(A.values)
    d = w[order.diagonal]
    ω = jnp.asarray(ω, d.real.dtype)
    scale = (ω * (2 - ω) if both else ω).astype(d.dtype)
    ω = ω.astype(d.dtype)
    L, U = ω * w / d[order.column], ω * w / d[order.row]
    U = U if both else jnp.zeros_like(U)
    factors = multicolour.Factors(L, U, scale / d)
    return State(order, multicolour.laid_out(order, factors))


def substitution(state: State, vector: Any) -> Any:
    return on_flat(lambda r: multicolour.solve(state.order, state.factors, r), vector)


def turned(state: State, fn: Any) -> State:
    return State(state.order, fn(state.order, state.factors))
