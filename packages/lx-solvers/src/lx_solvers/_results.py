"""Questions about how a solve went, in the fewest operations.

Every solve asks them, so they are written in JAX's primitives: what `jax.numpy` and
`RESULTS.where` do in addition takes longer to trace than everything else here.
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
    return named(jax.lax.select(condition, code(yes), code(no)))


def judged(result: RESULTS, vector: PyTree[Array], value: PyTree[Array]) -> RESULTS:
    """A solver's verdict, once its vector and its solution are known: no success
    without a finite solution of a finite vector."""
    number, flaw = code(result), _flaw(vector, value)
    overflown = jax.lax.bitwise_and(succeeded(result), jax.lax.eq(flaw, _OF_VALUE))
    number = jax.lax.select(overflown, code(RESULTS.singular), number)
    wrong = jax.lax.eq(flaw, _OF_VECTOR)
    return named(jax.lax.select(wrong, code(RESULTS.nonfinite_input), number))


_NONE, _OF_VALUE, _OF_VECTOR = np.arange(3, dtype=np.int32)


def _flaw(vector: PyTree[Array], value: PyTree[Array]) -> Int[Array, ""]:
    """Which of them is not finite, if any; the vector, if both. Leaves of equal shapes
    are looked at together, as every loop costs time to compile."""
    vectors, values = jtu.tree_leaves(vector), jtu.tree_leaves(value)
    if not vectors or [*map(jnp.shape, vectors)] != [*map(jnp.shape, values)]:
        of_value = jax.lax.select(all_finite(value), _NONE, _OF_VALUE)
        return jax.lax.select(all_finite(vector), of_value, _OF_VECTOR)
    worst: Any = jnp.asarray(_NONE)
    for b, x in zip(vectors, values):
        if b.size:
            full = functools.partial(jax.lax.full, b.shape)
            flaw = jax.lax.select(_finite(x), full(_NONE), full(_OF_VALUE))
            flaw = jax.lax.select(_finite(b), flaw, full(_OF_VECTOR))
            flaw = jax.lax.reduce_max(flaw, range(b.ndim))
            worst = flaw if len(vectors) == 1 else jax.lax.max(worst, flaw)
    return worst


def all_finite(tree: PyTree[Array]) -> Bool[Array, ""]:
    """Whether no array holds a NaN or an infinity."""
    leaves = [_finite(leaf) for leaf in jtu.tree_leaves(tree)]
    finite = [jax.lax.reduce_and(leaf, range(leaf.ndim)) for leaf in leaves]
    return functools.reduce(jax.lax.bitwise_and, finite) if finite else jnp.array(True)


def _finite(x: Any) -> Bool[Array, "..."]:
    if not jnp.iscomplexobj(x):
        return jax.lax.is_finite(x)
    real, imag = jax.lax.real(x), jax.lax.imag(x)
    return jax.lax.bitwise_and(jax.lax.is_finite(real), jax.lax.is_finite(imag))


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
