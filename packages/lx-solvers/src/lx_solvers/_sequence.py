"""Computations in sequence, where two at once may deadlock.

XLA runs independent operations at the same time, in a pool of as many threads as there
are cores. A LAPACK call of a batch, run by one of these threads, splits the batch over
the same pool and waits for the pieces. If as many such calls run as there are threads
(two, on a machine with two cores), no thread is left for the pieces, and the program
hangs (JAX 0.10; the calls' stacks end in `jax::ParallelBatchMap`). So the calls of one
solve form a chain: each is computed from results of the one before.

A single call does not wait. Hence `after` is a primitive: it does nothing until `vmap`
makes a batch of it.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Bool

after_p = Primitive("after")


def after(x: Array, first: Array) -> Array:
    """Returns x, but in a batch only after `first` has been computed, an array of any
    dtype of numbers."""
    return after_p.bind(x, first)


def follow(x: Any, first: Any) -> Any:
    """A pytree; in a batch, its inexact arrays are known only once all of `first` is.
    Its integers, which may have to be known while tracing, stay as they are."""
    known = [leaf for leaf in jtu.tree_leaves(first) if _is(leaf, jnp.number)]
    if not known:
        return x
    last, *others = sorted(known, key=lambda leaf: leaf.ndim)
    for leaf in others:
        last = after(last, leaf)
    return jtu.tree_map(
        lambda leaf: after(leaf, last) if _is(leaf, jnp.inexact) else leaf, x
    )


def in_sequence(
    fn: Callable[..., Any], items: Iterable[Any], *others: Iterable[Any]
) -> list[Any]:
    """`fn(item, *others)` for each; in a batch, no item is known before the outcome of
    the one before it."""
    out: list[Any] = []
    for item, *row in zip(items, *others, strict=True):
        out.append(fn(follow(item, out[-1]) if out else item, *row))
    return out


def qr(A: Array) -> tuple[Array, Array]:
    """Q and R, which in a batch is known only once Q is: both have a call of LAPACK
    of their own."""
    Q, R = jnp.linalg.qr(A)
    return Q, after(R, Q)


def _is(leaf: Any, kind: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, kind)


def _alone(x: Array, first: Array) -> Array:
    return x


def _batch(operands, axes):
    (x, first), (x_axis, first_axis) = operands, axes
    if first_axis is None:  # a single call so far
        return after(x, first), x_axis
    if first.size == 0:
        return x, x_axis
    first = jnp.moveaxis(first, first_axis, 0)
    never = _never(first.reshape(first.shape[0], -1)[:, 0])
    if x_axis is None:
        never = jnp.broadcast_to(jnp.any(never), x.shape)
    else:
        x = jnp.moveaxis(x, x_axis, 0)
        never = jax.lax.broadcast_in_dim(never, x.shape, (0,))
    out = jax.lax.select(never, jax.lax.full_like(x, 0), x)
    return out, None if x_axis is None else 0


def _never(x: Array) -> Bool[Array, "..."]:
    """False, in a form that XLA does not simplify."""
    if jnp.issubdtype(x.dtype, jnp.integer):  # no status or rank is the least one
        return jax.lax.eq(x, jax.lax.full_like(x, np.iinfo(x.dtype).min))
    x = jax.lax.real(x) if jnp.iscomplexobj(x) else x
    return jax.lax.bitwise_and(jax.lax.is_finite(x), jax.lax.ne(x, x))


def _jvp(primals, tangents):
    tangent, _ = tangents
    return after(*primals), tangent


def _transpose(cotangent, x, first):
    return [cotangent, None]


after_p.def_impl(_alone)
after_p.def_abstract_eval(_alone)
mlir.register_lowering(after_p, mlir.lower_fun(_alone, multiple_results=False))
batching.primitive_batchers[after_p] = _batch
ad.primitive_jvps[after_p] = _jvp
ad.primitive_transposes[after_p] = _transpose
