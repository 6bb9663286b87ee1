"""Incomplete Cholesky factors."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import is_negative_semidefinite, is_positive_semidefinite

from .._control_flow import while_loop
from .._results import choose
from .._solution import RESULTS
from . import _multicolour as multicolour
from ._flat import on_flat
from ._preconditioner import FAILED, AbstractPreconditioner, definite_tags
from ._sparse import sparse
from .incomplete_lu import shifted, weight
from .ssor import _INSTEAD

_FIRST, _TRIES = 1e-3, 20


class _State(eqx.Module):
    order: multicolour.Order
    factors: multicolour.Factors
    shift: Array
    """What was needed."""
    definite: Array


class IncompleteCholesky(AbstractPreconditioner[_State]):
    """Incomplete Cholesky factors of level zero, A ≈ L D Lᴴ with the pattern of A, in a
    multicolour order, for sparse definite operators.

    Meijerink and van der Vorst 1977, doi:10.1090/S0025-5718-1977-0438681-4. They exist
    for M-matrices; for others a pivot may fail to be positive: then A + α D is
    factorised, with the diagonal D and α = 0.001, 0.002, 0.004, … (Manteuffel 1980,
    doi:10.1090/S0025-5718-1980-0559197-0). The order is found from the pattern, on the
    host, and may be kept by `setup`.

    Args:
        modified: how much of what is dropped is added to the diagonal, from 0 to 1
            (Gustafsson 1978, doi:10.1007/BF01931691).
        shift: the first α to try.

    An operator with a diagonal that is not positive ends the solve in
    `preconditioner_failed`.

    Raises:
        ValueError: the operator is not sparse, or not known to be semidefinite.

    ```python
    operator = lx.SparseLinearOperator.from_dense(
        jnp.array([[4.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 4.0]]),
        lx.positive_semidefinite_tag,
    )
    solver = lx.CG(preconditioner=lx.IncompleteCholesky())
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
        A = sparse(operator, "IncompleteCholesky", _INSTEAD)
        order = multicolour.ordered(A, "IncompleteCholesky", eliminating=True)
        return dataclasses.replace(self, order=order)

    def init(self, operator, options):
        positive = is_positive_semidefinite(operator)
        if not positive and not is_negative_semidefinite(operator):
            raise ValueError(
                "`IncompleteCholesky` needs an operator that is tagged "
                "`positive_semidefinite_tag` or `negative_semidefinite_tag`, but got "
                f"{operator!r}. For others use `IncompleteLU`."
            )
        A = sparse(operator, "IncompleteCholesky", _INSTEAD)
        order = multicolour.for_operator(
            self.order, A, "IncompleteCholesky", eliminating=True
        )
        sign = 1 if positive else -1
        entries = sign * order.entries(A.values)
        modified = weight(self.modified, entries)
        real = entries.real.dtype

        def attempt(carry: Any) -> Any:
            α, _, _, tries = carry
            α = jnp.where(
                tries == 0,
                jnp.asarray(self.shift, real),
                jnp.maximum(2 * α, jnp.asarray(_FIRST, real)),
            )
            w = multicolour.eliminated(order, shifted(order, entries, α), modified)
            d = w[order.diagonal].real
            fine = jnp.all((d > 0) & (d < jnp.inf))
            return α, w, fine, tries + 1

        def going(carry: Any) -> Array:
            _, _, fine, tries = carry
            return ~fine & (tries < _TRIES)

        start = jnp.zeros((), real), entries, jnp.array(False), jnp.int32(0)
        α, w, fine, _ = while_loop(going, attempt, start, (order, entries, self))
        factors = multicolour.divided(order, sign * w)
        # L as it is, whatever the sign
        factors = dataclasses.replace(factors, L=w)
        return _State(order, factors, α, fine)

    def apply(self, state, vector):
        order, factors = state.order, state.factors
        return on_flat(lambda r: multicolour.solve(order, factors, r), vector)

    def transpose(self, state, options):
        factors = multicolour.transposed(state.factors)
        return dataclasses.replace(state, factors=factors), options

    def conj(self, state, options):
        factors = multicolour.conjugated(state.factors)
        return dataclasses.replace(state, factors=factors), options

    def tags(self, operator):
        return definite_tags(operator)

    def status(self, state):
        return choose(state.definite, RESULTS.successful, FAILED)
