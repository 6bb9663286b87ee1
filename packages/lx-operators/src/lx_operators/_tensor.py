"""Operators that act on some axes of an array, for all other axes at once."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from ._checks import check_operator
from ._structures import structures_of


def columns(
    x: Inexact[Array, "..."], start: int, stop: int
) -> tuple[Inexact[Array, "..."], Callable[[Array], Array]]:
    """An array with the axes `start:stop` first and all others joined into one last
    axis; and a function that undoes this, even if the first axes have changed."""
    front = tuple(range(stop - start))
    moved = jnp.moveaxis(x, tuple(range(start, stop)), front)
    rest = moved.shape[stop - start :]

    def back(y: Array) -> Array:
        front = y.shape[:-1]
        y = y.reshape(*front, *rest)
        axes = range(len(front))
        return jnp.moveaxis(y, tuple(axes), tuple(start + i for i in axes))

    return moved.reshape(*moved.shape[: stop - start], math.prod(rest)), back


def along(fn: Callable[[Array], Array], x: Array, start: int, stop: int) -> Array:
    """`fn`, applied to the axes `start:stop` of an array."""
    moved, back = columns(x, start, stop)
    return back(jax.vmap(fn, in_axes=-1, out_axes=-1)(moved))


def check_factors(operators: Sequence[Any], kind: str) -> None:
    """There must be at least one factor, and each must map one array to one array."""
    if not operators:
        raise ValueError(f"`{kind}` needs at least one operator.")
    for i, operator in enumerate(operators):
        check_operator(operator, f"operators[{i}]")
        for name, structure in zip(("input", "output"), structures_of(operator)):
            if not isinstance(structure, jax.ShapeDtypeStruct):
                raise ValueError(
                    f"`operators[{i}]` of a `{kind}` must map an array to an array, "
                    f"but its {name} structure is the pytree {structure}: {operator!r}."
                    " Compose it with an `IdentityLinearOperator` that ravels it."
                )
