"""Facts about null spaces and residuals that a state gives without a solve."""

import functools
from typing import Any

from jaxtyping import Array, PyTree


@functools.singledispatch
def annihilated(state: Any, vector: PyTree[Array]) -> PyTree[Array] | None:
    """(I − A†A) v, the projection of a vector onto the null space of A.

    A solver whose factors give it without a solve registers a function for its state.
    Derivatives use that function, or else v − A†(A v). For the adjoint's state it is
    (I − A A†) v.

    Args:
        state: what the solver's `init` returned, possibly transposed or conjugated.
        vector: v, of the operator's input structure.

    Returns:
        A vector of the same structure; None if the state does not give it.
    """
    return None


@functools.singledispatch
def leaves_no_residual(state: Any) -> bool:
    """Whether A x = b after every successful solve, although the rank is unknown.

    Derivatives then leave out the terms with the residual b − A x.

    Args:
        state: what the solver's `init` returned.
    """
    return False
