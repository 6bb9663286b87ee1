"""Several preconditioners, one after the other: each sees what the earlier ones left.

z ← z + Mᵢ (r - A z),    I - M A = (I - M_k A) … (I - M_1 A)
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
from jaxtyping import Array, PyTree
from lx_operators import (
    AbstractLinearOperator,
    conj,
    linearise,
)

from ._adapted import as_preconditioner
from ._flat import as_matvec, on_flat
from ._preconditioner import AbstractPreconditioner, tags_of


class Sweep(eqx.Module):
    """The operator and the parts, in their order."""

    A: AbstractLinearOperator
    parts: tuple[AbstractLinearOperator, ...]

    def mv(self, vector: PyTree[Array]) -> PyTree[Array]:
        A = as_matvec(self.A)

        def fn(r: Array) -> Array:
            first, *rest = map(as_matvec, self.parts)
            z = first(r)
            for M in rest:
                z = z + M(r - A(z))
            return z

        return on_flat(fn, vector)

    def transposed(self) -> "Sweep":
        return Sweep(self.A.T, tuple(M.T for M in reversed(self.parts)))

    def conjugated(self) -> "Sweep":
        return Sweep(conj(self.A), tuple(map(conj, self.parts)))


def sweep(operator: AbstractLinearOperator, parts: Sequence[Any]) -> Sweep:
    return Sweep(linearise(operator), tuple(parts))


def parts_of(given: Sequence[Any], name: str) -> tuple[AbstractPreconditioner, ...]:
    """The parts as preconditioners.

    Raises:
        ValueError: none, or one that is no preconditioner.
    """
    parts: Any = tuple(map(as_preconditioner, given))
    if not parts or None in parts:
        raise ValueError(
            f"`{name}` needs one or more preconditioners, but got {tuple(given)!r}."
        )
    return parts


def shared_tags(parts: Sequence[AbstractPreconditioner], operator: Any) -> frozenset:
    """The tags that all parts have."""
    return frozenset.intersection(*(tags_of(part, operator) for part in parts))
