"""Pytrees in two halves: arrays, and everything else in hashable form.

What JAX traces is a flat list of arrays; functions, tags, structures and Python numbers
ride along as one static value, equal for equal problems, so that equal problems are
traced and compiled once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np


class Static(NamedTuple):
    """Everything in a pytree except its arrays."""

    treedef: Any
    leaves: tuple[Any, ...]  # None where an array belongs
    places: tuple[int, ...]  # of the arrays among the leaves
    numbers: tuple[str, ...]  # as text: 1 == True == 1.0 and 0.0 == -0.0 elsewhere

    def join(self, arrays: Sequence[Any]) -> Any:
        """The pytree again, with these arrays."""
        if len(self.places) == len(self.leaves):
            return jtu.tree_unflatten(self.treedef, arrays)
        leaves = list(self.leaves)
        for place, array in zip(self.places, arrays, strict=True):
            leaves[place] = array
        return jtu.tree_unflatten(self.treedef, leaves)

    def __reduce__(self):
        # As a pytree: the copy of a tree of Equinox's modules alone is broken, since
        # what stands in it for a missing field is known by identity.
        tree = self.join([0] * len(self.places))
        return _static, (tree, self.leaves, self.places, self.numbers)

    def join_tangents(self, tangents: Sequence[Any]) -> Any:
        """A pytree of tangents, one for each array; None where there is no array."""
        bare = self._replace(leaves=(None,) * len(self.leaves))
        return bare.join(tangents)


def _static(tree: Any, *rest: Any) -> Static:
    return Static(jtu.tree_structure(tree), *rest)


def split(tree: Any) -> tuple[list[Any], Static]:
    """A pytree's arrays, in order, and the rest."""
    leaves, treedef = jtu.tree_flatten(tree)
    arrays, places, numbers = [], [], []
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, _ARRAYS):
            arrays.append(leaf if isinstance(leaf, jax.Array) else _array(leaf))
            places.append(place)
            leaves[place] = None
        elif isinstance(leaf, NUMBERS):
            numbers.append(repr(leaf))
        elif hasattr(leaf, "__array__") and hasattr(leaf, "dtype"):
            # what JAX has for constants in a trace is an array of neither kind
            arrays.append(leaf)
            places.append(place)
            leaves[place] = None
    return arrays, Static(treedef, tuple(leaves), tuple(places), tuple(numbers))


def _array(leaf: Any) -> jax.Array:
    try:
        return jnp.asarray(leaf)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"an array among the arguments does not hold numbers: {error}"
        ) from None


_ARRAYS = (jax.Array, np.ndarray, np.generic)
NUMBERS = (bool, int, float, complex)


@jtu.register_static
class Sealed:
    """A static value as a pytree without leaves, to be returned through `jit`."""

    def __init__(self, value: Any):
        self.value = value

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Sealed) and self.value == other.value


def stop_gradient(tree: Any) -> Any:
    """The same pytree, its floating arrays without tangents."""

    def stop(leaf: Any) -> Any:
        inexact = isinstance(leaf, _ARRAYS) and jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jax.lax.stop_gradient(leaf) if inexact else leaf

    return jtu.tree_map(stop, tree)


class Outputs(NamedTuple):
    """A pytree in the form in which a compiled function returns it: each array once,
    and none that is an argument, since that would be copied."""

    arrays: list[Any]
    rest: Sealed  # a `Static`, and where its arrays are; ~i is argument i

    def join(self, arguments: Sequence[Any]) -> Any:
        """The pytree again. Arguments in it carry no tangents."""
        static, sources = self.rest.value
        return static.join(
            [self.arrays[i] if i >= 0 else _still(arguments[~i]) for i in sources]
        )


def outputs(tree: Any, held: Sequence[Any]) -> Outputs:
    """A pytree as outputs.

    Args:
        tree: any.
        held: the arguments without tangents, as far as they are in `tree`.
    """
    arrays, static = split(tree)
    source = {id(x): ~i for i, x in enumerate(held)}
    once: list[Any] = []
    for x in arrays:
        if id(x) not in source:
            source[id(x)] = len(once)
            once.append(x)
    return Outputs(once, Sealed((static, tuple(source[id(x)] for x in arrays))))


def _still(argument: Any) -> Any:
    return stop_gradient(argument) if is_traced(argument) else argument


def is_traced(*arrays: Any) -> bool:
    """Whether any is a tracer, so that its values cannot be looked at."""
    for array in arrays:
        if isinstance(array, jax.core.Tracer):
            return True
    return False
