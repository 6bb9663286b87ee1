"""Questions about how a solve went, in the fewest operations.

Every solve asks them, so they are written in JAX's primitives: what `jax.numpy` and
`RESULTS.where` do beside takes longer to trace than all else here.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Bool, Int, PyTree

from ._solution import RESULTS

NAMES: tuple[str, ...] = RESULTS._names  # pyright: ignore
"""The names of the items, in the order of the numbers that stand for them."""


def code(result: RESULTS) -> Int[Array, "..."]:
    """The number that stands for an item."""
    return jtu.tree_leaves(result)[0]


def named(number: Int[Array, "..."]) -> RESULTS:
    """The item that a number stands for."""
    (like,), kind = jtu.tree_flatten(RESULTS.successful)
    return jtu.tree_unflatten(kind, [number.astype(like.dtype)])


def succeeded(result: RESULTS) -> Bool[Array, "..."]:
    """`result == RESULTS.successful`."""
    return jax.lax.eq(code(result), code(RESULTS.successful))


def choose(condition: Bool[Array, ""], yes: RESULTS, no: RESULTS) -> RESULTS:
    """`RESULTS.where`."""
    return jtu.tree_map(lambda x, y: jax.lax.select(condition, x, y), yes, no)


def judged(result: RESULTS, vector: PyTree[Array], value: PyTree[Array]) -> RESULTS:
    """A solver's verdict, once its vector and its solution are known: no success
    without a finite solution of a finite vector."""
    flaw = _flaw(vector, value)
    overflown = jax.lax.bitwise_and(succeeded(result), _is(flaw, _OF_VALUE))
    result = choose(overflown, RESULTS.singular, result)
    return choose(_is(flaw, _OF_VECTOR), RESULTS.nonfinite_input, result)


_OF_VALUE, _OF_VECTOR = 1, 2


def _is(flaw: Int[Array, ""], which: int) -> Bool[Array, ""]:
    return jax.lax.eq(flaw, np.int32(which))


def _flaw(vector: PyTree[Array], value: PyTree[Array]) -> Int[Array, ""]:
    """Which of them is not finite, if any; the vector, if both. Leaves of equal shapes
    are looked at together, as every loop costs time to compile."""
    pairs = [jtu.tree_leaves(vector), jtu.tree_leaves(value)]
    if not pairs[0] or len({tuple(x.shape for x in leaves) for leaves in pairs}) > 1:
        of_value = jax.lax.select(all_finite(value), np.int32(0), np.int32(_OF_VALUE))
        return jax.lax.select(all_finite(vector), of_value, np.int32(_OF_VECTOR))

    def of_leaf(b: Array, x: Array) -> Int[Array, ""]:
        none, of_value, of_vector = (
            jax.lax.full(b.shape, k, jnp.int32) for k in (0, _OF_VALUE, _OF_VECTOR)
        )
        flaw = jax.lax.select(_finite(x), none, of_value)
        flaw = jax.lax.select(_finite(b), flaw, of_vector)
        return jax.lax.reduce_max(flaw, range(b.ndim)) if b.size else jnp.int32(0)

    return functools.reduce(jax.lax.max, map(of_leaf, *pairs))


def all_finite(tree: PyTree[Array]) -> Bool[Array, ""]:
    """Whether no array holds a NaN or an infinity."""
    leaves = [_finite(leaf) for leaf in jtu.tree_leaves(tree)]
    finite = [jax.lax.reduce_and(leaf, range(leaf.ndim)) for leaf in leaves]
    return functools.reduce(jax.lax.bitwise_and, finite) if finite else jnp.array(True)


def _finite(x: Any) -> Bool[Array, "..."]:
    parts = (jax.lax.real(x), jax.lax.imag(x)) if jnp.iscomplexobj(x) else (x,)
    finite = [jax.lax.is_finite(part) for part in parts]
    return functools.reduce(jax.lax.bitwise_and, finite)


def both(first: RESULTS, second: RESULTS) -> RESULTS:
    """The first of two that is not successful."""
    return choose(succeeded(first), second, first)


def first_failure(results: RESULTS) -> RESULTS:
    """The first that is not successful, of results along one axis."""
    codes = code(results)
    if jnp.ndim(codes) == 0:  # the same for all
        return results
    if codes.size == 0:
        return RESULTS.successful
    failed = results != RESULTS.successful
    return jtu.tree_map(lambda codes: codes[jnp.argmax(failed)], results)
