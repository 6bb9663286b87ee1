"""Incomplete Cholesky factors."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators import (
    AbstractLinearOperator,
    is_negative_semidefinite,
    is_positive_semidefinite,
)
from lx_operators.internal import freeze

from .._results import code
from . import _colour_order as colour_order, _multicolour as multicolour
from ._flat import on_flat
from ._preconditioner import AbstractPreconditioner, Prepared, definite_tags
from ._product_plan import ProductPlan, plan_product
from ._sparse import is_concrete, sparse
from .incomplete_lu import FactorState, applied, conjugated, soundness, transposed
from .jacobi import column_norms
from .ssor import _INSTEAD


class IncompleteCholesky(AbstractPreconditioner[FactorState]):
    """Incomplete Cholesky factors of level zero, A ≈ L D Lᴴ with the pattern of A, in a
    multicolour order, for sparse definite operators.

    Meijerink and van der Vorst 1977, doi:10.1090/S0025-5718-1977-0438681-4. They exist
    for M-matrices. For other matrices a pivot may not be positive: then A + α D is
    factorised, with the diagonal D and α = 0.001, 0.002, 0.004, … (Manteuffel 1980,
    doi:10.1090/S0025-5718-1980-0559197-0). The order is found from the pattern, on the
    host, and may be kept by `setup`.

    Args:
        modified: the share of the dropped fill that is added to the diagonal, from 0 to
            1 (Gustafsson 1978, doi:10.1007/BF01931691). In a multicolour order it
            seldom helps (Duff and Meurant 1989, doi:10.1007/BF01932738).
        shift: the first α to try.

    For `LSMR` and `LSQR` the factors are those of AᴴA, with the columns of A scaled to
    length one; or those of A itself, if it is definite.

    The statistics of a solve contain α as `preconditioner_shift`. If the diagonal is
    not positive, the solve ends in `preconditioner_failed`.

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
    order: colour_order.Order | None = eqx.field(default=None, kw_only=True, repr=False)
    """The order of the unknowns, once it is found."""
    gram: ProductPlan | None = eqx.field(default=None, kw_only=True, repr=False)
    """How AᴴA is formed, for least squares."""

    def setup(self, operator):
        if self.order is not None:
            return self
        A = sparse(operator, "IncompleteCholesky", _INSTEAD)
        if _definite(operator) or not is_concrete(A.pattern):
            order = colour_order.ordered(A, "IncompleteCholesky", eliminating=True)
            return dataclasses.replace(self, order=order)
        gram = plan_product(A.pattern.T, A.pattern)
        order = colour_order.ordered(gram, "IncompleteCholesky", eliminating=True)
        return dataclasses.replace(self, order=order, gram=gram)

    def init(self, operator, options):
        if not _definite(operator):
            raise ValueError(
                "`IncompleteCholesky` needs an operator that is tagged "
                "`positive_semidefinite_tag` or `negative_semidefinite_tag`, but got "
                f"{operator!r}. For others use `IncompleteLU`."
            )
        A = sparse(operator, "IncompleteCholesky", _INSTEAD)
        order = colour_order.for_operator(
            self.order, A, "IncompleteCholesky", eliminating=True
        )
        sign = 1 if is_positive_semidefinite(operator) else -1
        w, α, fine = multicolour.factorised(
            order, sign * order.entries(A.values), self.shift, self.modified, _positive
        )
        factors = multicolour.divided(order, sign * w)
        # L as it is, whatever the sign
        factors = dataclasses.replace(factors, L=w)
        factors = multicolour.laid_out(order, factors)
        return FactorState(order, factors, α, fine)

    apply = applied
    transpose = transposed
    conj = conjugated
    status = soundness

    def tags(self, operator):
        return definite_tags(operator)

    def stats(self, state):
        return {"shift": state.shift}

    def right_factor(self, operator):
        """The factor for AᴴA if A is not definite; else M itself."""
        if _definite(operator):
            return self.as_operator(operator)
        ready: Any = self.setup(operator)
        A = sparse(operator, "IncompleteCholesky", _INSTEAD)
        order, norms = ready.order, column_norms(operator)
        scale = 1 / jnp.where(norms == 0, jnp.ones_like(norms), norms)
        values = A.values * scale[A.pattern.columns]
        values = ready.gram(values[A.pattern.transposed].conj(), values)
        w = order.entries(values)
        empty = (norms[order.order] == 0).astype(w.dtype)
        w = w.at[order.diagonal].add(empty, unique_indices=True)
        w, α, fine = multicolour.factorised(
            order, w, self.shift, self.modified, _positive
        )
        factors = multicolour.divided(order, w)
        half = jnp.sqrt(factors.inverse)
        recipe = _Half()
        state = _HalfState(FactorState(order, factors, α, fine), half, scale, False)
        verdict = code(recipe.status(state))
        structure = freeze(operator.in_structure())
        return Prepared(recipe, state, verdict, structure, frozenset())


class _HalfState(eqx.Module):
    factors: FactorState
    half: Array
    """D^(-½)."""
    scale: Array
    """One over the norms of A's columns."""
    turned: bool = eqx.field(static=True)


class _Half(AbstractPreconditioner[_HalfState]):
    """R⁻¹ = S L⁻ᴴ D^(-½), where S AᴴA S ≈ L D Lᴴ: a right factor."""

    def init(self, operator, options):
        raise NotImplementedError("made by `IncompleteCholesky.right_factor`")

    def apply(self, state, vector):
        order, factors = state.factors.order, state.factors.factors

        def fn(r: Array) -> Array:
            half, scale = state.half.astype(r.dtype), state.scale.astype(r.dtype)
            if state.turned:
                return half * multicolour.forward(
                    order, factors, (scale * r)[order.order]
                )
            return scale * multicolour.backward(order, factors, half * r)[order.place]

        return on_flat(fn, vector)

    def transpose(self, state, options):
        factors, _ = transposed(self, state.factors, options)
        return _HalfState(factors, state.half, state.scale, not state.turned), options

    def conj(self, state, options):
        factors, _ = conjugated(self, state.factors, options)
        return (
            _HalfState(factors, state.half.conj(), state.scale.conj(), state.turned),
            options,
        )

    def status(self, state):
        return soundness(self, state.factors)

    def stats(self, state):
        return {"shift": state.factors.shift}


def _definite(operator: AbstractLinearOperator) -> bool:
    return is_positive_semidefinite(operator) or is_negative_semidefinite(operator)


def _positive(pivot: Array, diagonal: Array) -> Array:
    return (pivot.real > 0) & (pivot.real < jnp.inf)
