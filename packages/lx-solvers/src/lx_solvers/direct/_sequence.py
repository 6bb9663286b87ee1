"""Computations in sequence, where two at once may deadlock.

XLA runs what does not depend on each other at the same time, in a pool of as many
threads as there are cores. A LAPACK call of a batch, run by one of these threads,
splits the batch over the same pool and waits for the pieces. As many such calls at a
time as there are threads (two, on a machine of two cores) leave none for the pieces:
the program hangs (JAX 0.10; the calls' stacks end in `jax::ParallelBatchMap`). So the
calls of one solve are made a chain: what follows is computed from what came before.

A single call does not wait. Hence `after` is a primitive: it is nothing until `vmap`
makes a batch of it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Bool

after_p = Primitive("after")


def after(x: Array, first: Array) -> Array:
    """x; in a batch, known only once `first`, of integers or inexact, is."""
    return after_p.bind(x, first)


def _alone(x: Array, first: Array) -> Array:
    return x


def _batch(operands, axes):
    x, first = operands
    x_axis, first_axis = axes
    if x_axis is None or first_axis is None or first.size == 0:  # not two batches
        return x, x_axis
    x = jnp.moveaxis(x, x_axis, 0)
    first = jnp.moveaxis(first, first_axis, 0)
    never = _never(first.reshape(first.shape[0], -1)[:, 0])
    never = jax.lax.broadcast_in_dim(never, x.shape, (0,))
    return jax.lax.select(never, jax.lax.full_like(x, 0), x), 0


def _never(x: Array) -> Bool[Array, "..."]:
    """False, which XLA does not know."""
    if jnp.issubdtype(x.dtype, jnp.integer):  # the least is no code and no rank
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
