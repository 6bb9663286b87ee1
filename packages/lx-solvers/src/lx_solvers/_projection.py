"""Projections onto the null space, from the factors a solver already has."""

import functools
from typing import Any

from jaxtyping import Array, PyTree


@functools.singledispatch
def annihilated(state: Any, vector: PyTree[Array]) -> PyTree[Array] | None:
    """(I − A†A) v: what of a vector A annihilates.

    A solver whose factors tell it without a solve registers how. Derivatives then take
    it from there, else from v − A†(A v). Of the adjoint's state it is (I − A A†) v.

    Args:
        state: what the solver's `init` returned, possibly transposed or conjugated.
        vector: v, of the operator's input structure.

    Returns:
        The same structure; None if the state does not tell.
    """
    return None
