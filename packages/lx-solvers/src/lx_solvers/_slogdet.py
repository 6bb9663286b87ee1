"""Sign and logarithm of the determinant, from the factors a solver already has."""

import functools
from typing import Any

from jaxtyping import Array, Inexact, Real


@functools.singledispatch
def slogdet_of(state: Any) -> tuple[Inexact[Array, ""], Real[Array, ""]]:
    """The determinant of the operator that a solver's state is of.

    Each direct solver registers how its own state answers.

    Args:
        state: what the solver's `init` returned, possibly transposed or conjugated.

    Returns:
        The sign (of modulus one; 0 if singular) and log |det A| (-inf if singular).

    Raises:
        ValueError: a state without a determinant in it, or of a non-square operator.
    """
    raise ValueError(
        f"no determinant can be read from a state of type `{type(state).__name__}`; "
        "use `LU`, `QR`, `Cholesky`, `Diagonal`, `Triangular`, `Tridiagonal` or `Eigh`."
    )
