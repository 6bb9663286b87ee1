"""What N(0, A⁻¹) needs besides solves: a factor of A, and the variances."""

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Inexact


@functools.singledispatch
def root_of(state: Any, z: Inexact[Array, " n"]) -> Inexact[Array, " n"]:
    """W z, where WWᴴ = A. Solvers of definite operators register how.

    Args:
        state: what the solver's `init` returned, possibly transposed or conjugated.
        z: a vector of the dtype of A.

    Returns:
        A vector, NaN where A is not definite to working precision.

    Raises:
        ValueError: a state without such a factor in it, or of a negative operator.
    """
    raise ValueError(
        f"no square root can be read from a state of type `{type(state).__name__}`; "
        "use `Cholesky`, `SparseCholesky` or `Diagonal`, with an operator that is "
        "tagged `positive_semidefinite_tag`."
    )


@functools.singledispatch
def inverse_diagonal_of(state: Any) -> Inexact[Array, " n"] | None:
    """The diagonal of A⁻¹, from a state and without n solves.

    Args:
        state: what the solver's `init` returned, possibly transposed or conjugated.

    Returns:
        A vector, NaN where the factors cannot be used; None if the solver has no
        better way than solves.
    """
    return None


def check_positive(negative: bool) -> None:
    if negative:
        raise ValueError(
            "a negative definite operator has no square root W with WWᴴ = A; use its "
            "negative."
        )


def turned_root(
    multiply: Callable[[Array], Array], turned: bool, z: Inexact[Array, " n"]
) -> Inexact[Array, " n"]:
    """The root of F, or of its conjugate: if A is Fᵀ or the conjugate of F."""
    if not (turned and jnp.iscomplexobj(z)):
        return multiply(z)
    return multiply(z.conj()).conj()
