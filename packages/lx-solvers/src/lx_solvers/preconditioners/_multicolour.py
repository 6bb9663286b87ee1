"""Triangular factors in a multicolour order (`_colour_order.py`).

Everything here keeps M⁻¹ = L D U with unit triangles L and U, whose transpose is of the
same form.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from .._control_flow import while_loop
from ._colour_order import Order, padded

_UNROLLED = 16  # so many terms of a sum are written out


class Part(NamedTuple):
    """Rows with values."""

    columns: Array
    values: Array
    rows: Array | None
    number: int

    def times(self, x: Array) -> Array:
        """The product of these rows with x."""
        if self.rows is not None:
            terms = self.values * x[self.columns]
            return jax.ops.segment_sum(
                terms, self.rows, self.number, indices_are_sorted=True
            )
        if len(self.values) > _UNROLLED:
            return jnp.sum(self.values * x[self.columns], axis=0)
        total = jnp.zeros(self.number, x.dtype)
        for v, c in zip(self.values, self.columns):
            total = total + v * x.at[c].get(mode="promise_in_bounds")
        return total


class Factors(eqx.Module):
    """M⁻¹ = L D U, and the inverse of D."""

    L: Array
    """Values of all entries, of which those below the diagonal are L's."""
    U: Array
    inverse: Array
    laid: tuple[list[Array], list[Array]] | None = None
    """L and U as substitution reads them, by colours."""
    turned: bool = eqx.field(static=True, default=False)
    """Whether L and U are the transposes of what they were."""


def eliminated(order: Order, w: Array, modified: Any) -> Array:
    """L below the diagonal, D U from it on: the incomplete factors of level zero of a
    matrix with entries w (Saad 2003, alg. 10.4), colour by colour.

    Args:
        order: made with `eliminating=True`.
        w: the entries in the new order.
        modified: how much of what is dropped goes to the diagonal, 0 to 1; None for
            nothing.
    """
    for step in order.elimination or ():
        w = w.at[step.left].set(
            w[step.left] / w[step.pivots], unique_indices=True, indices_are_sorted=True
        )
        terms = w[step.first] * w[step.second]
        updated = w.at[step.target].add(-terms, indices_are_sorted=True)
        if modified is not None:
            first, second, target = step.dropped
            updated = updated.at[target].add(-modified * w[first] * w[second])
        w = updated
    return w


_FIRST, _TRIES = 1e-3, 20


def shifted(order: Order, w: Array, shift: ArrayLike) -> Array:
    """The entries of A + shift · D, with the diagonal D."""
    factor = jnp.asarray(1 + jnp.asarray(shift, w.real.dtype)).astype(w.dtype)
    return w.at[order.diagonal].multiply(factor, unique_indices=True)


def factorised(
    order: Order,
    w: Array,
    shift: ArrayLike,
    modified: ArrayLike,
    sound: Callable[[Array, Array], Array],
) -> tuple[Array, Array, Array]:
    """What `eliminated` makes of A + α D; α; and whether its pivots are sound. α is the
    first of shift, 0.001, 0.002, 0.004, … for which they are.

    Args:
        order, w, modified: as of `eliminated`.
        shift: the first α to try.
        sound: whether a pivot is, of it and of the diagonal's entry.
    """
    real = w.real.dtype
    known = isinstance(modified, int | float)
    weight = None if known and modified == 0 else jnp.asarray(modified).astype(w.dtype)

    def attempt(carry: Any) -> Any:
        α, _, _, tries = carry
        α = jnp.where(
            tries == 0,
            jnp.asarray(shift, real),
            jnp.maximum(2 * α, jnp.asarray(_FIRST, real)),
        )
        factors = eliminated(order, shifted(order, w, α), weight)
        pivots = sound(factors[order.diagonal], w[order.diagonal])
        return α, factors, jnp.all(pivots), tries + 1

    def going(carry: Any) -> Array:
        _, _, fine, tries = carry
        return ~fine & (tries < _TRIES)

    start = jnp.zeros((), real), w, jnp.array(False), jnp.int32(0)
    inputs = order, w, shift, modified
    α, factors, fine, _ = while_loop(going, attempt, start, inputs)
    return factors, α, fine


def divided(order: Order, w: Array) -> Factors:
    """The factors, of what `eliminated` returns."""
    d = w[order.diagonal]
    return laid_out(order, Factors(w, w / d[order.row], 1 / d))


def laid_out(order: Order, factors: Factors) -> Factors:
    """The same, once and for all substitutions."""
    laid = tuple(
        [padded(values)[rows.entries] for rows in triangle]
        for triangle, values in zip(
            _triangles(order, factors), (factors.L, factors.U), strict=True
        )
    )
    return dataclasses.replace(factors, laid=laid)


def _triangles(order: Order, factors: Factors) -> Any:
    if factors.turned:
        return order.lower_transposed, order.upper_transposed
    return order.lower, order.upper


def solve(order: Order, factors: Factors, r: Array) -> Array:
    """U⁻¹ D⁻¹ L⁻¹ r, by substitution."""
    x = forward(order, factors, r[order.order])
    x = factors.inverse.astype(x.dtype) * x
    return backward(order, factors, x)[order.place]


def forward(order: Order, factors: Factors, x: Array) -> Array:
    """L⁻¹ x, in the new order."""
    return _substituted(order, _parts(order, factors, 0), x)


def backward(order: Order, factors: Factors, x: Array) -> Array:
    """U⁻¹ x, in the new order."""
    return _substituted(order, list(reversed(_parts(order, factors, 1))), x)


def _substituted(order: Order, parts: list[tuple[int, Part]], x: Array) -> Array:
    for i, part in parts:
        rows = slice(order.starts[i], order.starts[i + 1])
        if part.columns.size:
            x = x.at[rows].add(-part.times(x))
    return x


def _parts(order: Order, factors: Factors, which: int) -> list[tuple[int, Part]]:
    assert factors.laid is not None
    pairs = zip(_triangles(order, factors)[which], factors.laid[which], strict=True)
    parts = [Part(r.columns, values, r.rows, r.count) for r, values in pairs]
    return list(enumerate(parts))


def transposed(order: Order, factors: Factors) -> Factors:
    """(L D U)ᵀ = Uᵀ D Lᵀ."""
    U, L = factors.L, factors.U
    turned = Factors(L, U, factors.inverse, turned=not factors.turned)
    return laid_out(order, turned)


def conjugated(order: Order, factors: Factors) -> Factors:
    """L̄ D̄ Ū."""
    return jax.tree.map(jnp.conj, factors)
