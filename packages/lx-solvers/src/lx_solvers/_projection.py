"""What a state tells of null spaces and residuals, without a solve."""

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


@functools.singledispatch
def leaves_no_residual(state: Any) -> bool:
    """Whether A x = b where a solve has succeeded, although the rank is not known.

    Derivatives then leave out the terms with the residual b − A x.

    Args:
        state: what the solver's `init` returned.
    """
    return False
