"""Scalars in the body of a loop: few kernels, little time to trace.

XLA makes a kernel of each scalar that is used more than once, and each takes some 5 ms
to compile; and each array that a loop carries costs time to compile too. So scalars are
computed together, and carried in arrays.
"""

import dataclasses
import functools
import itertools
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array

_State = TypeVar("_State")
_MOST = 8  # scalars in an array: of more, XLA makes a kernel each


def barrier(x: Array) -> Array:
    """A scalar that is computed once, before all that uses it, and not in each of
    these: JAX's `optimization_barrier`."""
    return jax.lax.optimization_barrier(x)


def where(condition: Any, x: Any, y: Any) -> Array:
    """`jnp.where` for two of which one has the shape and the dtype of the result, and
    the other may be a scalar: it takes less time to trace."""
    array, other = (x, y) if hasattr(x, "dtype") else (y, x)
    one = (
        hasattr(array, "dtype") and getattr(other, "dtype", array.dtype) == array.dtype
    )
    dtype = array.dtype if one else jnp.result_type(x, y)
    shape = jnp.broadcast_shapes(*map(jnp.shape, (x, y, condition)))
    if jnp.shape(condition) not in ((), shape):
        condition = jnp.broadcast_to(condition, shape)
    x, y = _filled(x, shape, dtype), _filled(y, shape, dtype)
    return jax.lax.select(jnp.asarray(condition, bool), x, y)


def _filled(x: Any, shape: Any, dtype: Any) -> Any:
    if not hasattr(x, "dtype"):
        return jax.lax.full(shape, x, dtype) if shape else np.asarray(x, dtype)
    x = x if x.dtype == dtype else x.astype(dtype)
    return x if x.shape == shape else jnp.broadcast_to(x, shape)


def times(a: Any, x: Array) -> Array:
    """a x of a real or complex scalar and a vector: JAX's strict promotion multiplies
    no complex number by a real one."""
    return jnp.asarray(a).astype(x.dtype) * x


def over(x: Array, y: Array) -> Array:
    """x / y, where 0 / 0 is 0."""
    return where(x == 0, 0, x / y)


def stacked(scalars: list[Array]) -> Array:
    """`jnp.stack`, of scalars of one dtype."""
    return jax.lax.concatenate([*map(_broadcast, scalars)], 0)


_broadcast = functools.partial(jax.lax.broadcast, sizes=(1,))


def scalar_at(x: Array, i: int) -> Array:
    """`x[i]`."""
    return jax.lax.squeeze(jax.lax.slice_in_dim(x, i, i + 1), (0,))


def packed(*scalars: Array) -> Array:
    """Scalars of one dtype as an array, computed once, in one kernel: XLA makes one of
    each scalar that is used more than once, and each takes some 5 ms to compile. Of
    more than eight, which it does not fuse into one, it makes one each."""
    return barrier(stacked(list(scalars)))


def unpacked(array: Array) -> tuple[Array, ...]:
    """The scalars of such an array."""
    return tuple(map(functools.partial(scalar_at, array), range(array.shape[0])))


def rotation(a: Array, b: Array, *others: Array) -> tuple[Array, ...]:
    """c, s and ρ of Givens' rotation that takes (a, b) to (ρ, 0), with ρ = 1 for
    (0, 0); and ρ times the others, in the same kernel."""
    ρ = jnp.sqrt(a * a + b * b)
    ρ = where(ρ == 0, 1, ρ)
    return unpacked(packed(a / ρ, b / ρ, ρ, *(ρ * other for other in others)))


def significant(
    condition: Any, size: Array, least: Array, *others: Array
) -> tuple[Array, ...]:
    """A norm and its reciprocal, both 0 if it is no more than `least`, where that is
    asked; and others, in the same kernel."""
    size = where(condition & (size <= least), 0, size)  # NaN stays
    return unpacked(packed(size, where(size > 0, 1 / size, 0), *others))


class Packed(NamedTuple):
    """A method's state as a loop carries it: vectors as they are, scalars in arrays."""

    vectors: list[Array]
    scalars: list[Array]


def pack(state: Any) -> Packed:
    """A state, a `NamedTuple` of named scalars and vectors (or of more of these)."""
    leaves = jtu.tree_leaves(state)
    vectors = [x for x in leaves if jnp.ndim(x)]
    scalars = [jnp.asarray(x) for x in leaves if not jnp.ndim(x)]
    groups = [scalars[i : i + _MOST] for i in range(0, len(scalars), _MOST)]
    arrays = []
    for group in groups:
        arrays.append(packed(*as_one_dtype(group)))
    return Packed(vectors, arrays)


def unpack(carried: Packed, like: _State) -> _State:
    """The state that `pack` was given.

    Args:
        like: a state of the same types.
    """
    vectors = iter(carried.vectors)
    scalars = itertools.chain.from_iterable(map(unpacked, carried.scalars))

    def taken(leaf: Any) -> Array:
        if jnp.ndim(leaf):
            return next(vectors)
        return _as(next(scalars), jnp.result_type(leaf))

    return jtu.tree_map(taken, like)


@jtu.register_dataclass
@dataclasses.dataclass(frozen=True)
class Together:
    """Named scalars in one array: computed in one kernel, and carried as they are.
    Read by name, where they are used."""

    array: Array
    names: tuple[str, ...] = dataclasses.field(metadata=dict(static=True))
    dtypes: tuple[Any, ...] = dataclasses.field(metadata=dict(static=True))

    def __getattr__(self, name: str) -> Any:
        if name not in self.names:
            raise AttributeError(name)
        i = self.names.index(name)
        return _as(scalar_at(self.array, i), self.dtypes[i])


def together(scalars: Any) -> Any:
    """A `NamedTuple` of at most eight scalars, computed in one kernel, once.

    Returns:
        A `Together`, of which the scalars are read by their names.
    """
    arrays = [jnp.asarray(x) for x in scalars]
    array = packed(*as_one_dtype(arrays))
    return Together(array, scalars._fields, tuple(x.dtype for x in arrays))


def _as(x: Array, dtype: Any) -> Array:
    if x.dtype == dtype:
        return x
    if jnp.issubdtype(dtype, np.bool_):
        return x.real > 0
    return (
        x.astype(dtype)
        if jnp.iscomplexobj(x) == _complex(dtype)
        else (x.real.astype(dtype))
    )


def _complex(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.complexfloating)


def as_one_dtype(scalars: list[Array]) -> list[Array]:
    """Scalars in the dtype that holds them all; booleans are held by any."""
    widest = np.dtype(bool)
    for x in scalars:
        if (_complex(x.dtype), x.dtype.itemsize) > (_complex(widest), widest.itemsize):
            widest = x.dtype
    return [x.astype(widest) for x in scalars]
