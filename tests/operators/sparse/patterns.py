"""Dense patterns to compare with."""

import jax
import jax.numpy as jnp
import numpy as np
from lx_operators import SparsityPattern, jacobian_sparsity

N = 8


def dense(fn, args=None, size=N, points=3):
    """Where the dense Jacobian is not zero at any of several points."""
    jacobian = jax.jit(jax.jacfwd(lambda x: jnp.ravel(fn(x, args))))
    keys = jax.random.split(jax.random.key(1), points)
    xs = [jax.random.normal(key, (size,)) for key in keys]
    return sum(np.asarray(jacobian(x)) != 0 for x in xs) > 0


def pattern_of(fn, args=None, size=N):
    return mask_of(jacobian_sparsity(fn, jnp.zeros(size), args))


def mask_of(pattern: SparsityPattern):
    mask = np.zeros(pattern.shape, bool)
    mask[pattern.rows, pattern.columns] = True
    return mask


def grid(x):
    return x.reshape(2, 4)
