"""Products with flat NumPy vectors, and how errors are measured."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

from .._operator import AbstractLinearOperator
from .._promotion import promoted_mv
from .._structures import (
    Structure,
    common_dtype,
    complex_to_real_dtype,
    is_real,
    promote_types,
    ravel,
    structures_of,
    unravel,
)


def epsilon(*structures: Structure) -> float:
    """The machine epsilon of the least precise dtype."""
    dtypes = {leaf.dtype for leaf in jtu.tree_leaves(structures)}
    return max((float(jnp.finfo(dtype).eps) for dtype in dtypes), default=0.0)


@eqx.filter_jit
def _flat(operator: AbstractLinearOperator, x: Array) -> Array:
    out = promoted_mv(operator, unravel(x, structures_of(operator)[0]))
    return ravel(out)


def times(operator: AbstractLinearOperator, x: np.ndarray) -> np.ndarray:
    """A x, compiled once for each operator."""
    dtype = common_dtype(structures_of(operator)[0])
    return wide(_flat(operator, jnp.asarray(x, dtype)))


def wide(x: Any) -> np.ndarray:
    """An array in NumPy's double precision, so that comparing adds no error of its
    own."""
    x = np.asarray(x)
    return x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)


def random_vector(structure: Structure, key: Array) -> np.ndarray:
    """A flat random vector; the elements of real leaves are real."""
    leaves = jtu.tree_leaves(structure)
    keys = jax.random.split(key, max(len(leaves), 1))
    parts = []
    for leaf, k in zip(leaves, keys):
        # in float32 at least, as there is no narrower complex number
        dtype = promote_types(complex_to_real_dtype(leaf.dtype), jnp.float32)
        real, imag = wide(jax.random.normal(k, (2, leaf.size), dtype))
        parts.append(real if is_real(leaf) else real + 1j * imag)
    return np.concatenate(parts) if parts else np.zeros(0)


def random_pairs(
    structures: tuple[Structure, ...], key: Array, probes: int
) -> Iterator:
    for k in jax.random.split(key, probes):
        keys = jax.random.split(k, len(structures))
        yield tuple(random_vector(s, key) for s, key in zip(structures, keys))


def norm(x: np.ndarray) -> float:
    return float(np.linalg.norm(x))


def relative(error: float, scale: float) -> float:
    """The error over the scale; zero over zero is zero."""
    if error == 0:
        return 0.0
    return float(error / scale) if scale else float("inf")


def worst(errors: Iterator[float]) -> float:
    """The largest error; NaN if one of them is NaN."""
    return float(np.max(np.fromiter(errors, float), initial=0.0))
