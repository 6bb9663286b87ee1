"""Computations that run differently if `vmap` makes a large batch of them.

That a computation is batched can only be seen by a primitive's batching rule. Those
here are evaluated as `one`, a function of one member of the batch, by themselves and in
small batches, and by `many`, of all members at once, in large ones.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array
from lx_operators.internal import as_when_lowered

from .._control_flow import scan

_FEWEST = 128  # smaller batches are left to `one`
_BYTES = 2**17  # of a piece of the batch, in one array: it stays in the cache

Function = Callable[..., tuple[Array, ...]]


def batched_primitive(
    name: str, one: Function, many: Function, *, columns: bool = False
) -> Primitive:
    """A primitive of arrays.

    Args:
        name: of the primitive.
        one: from arrays, and static parameters by keyword, to a tuple of arrays.
        many: the same, with the batch along the last axis of every array. It is for
            CPUs only.
        columns: whether the last array is a matrix whose columns are treated alike, so
            that a batch of it alone is more columns.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True

    # compiled for their traces, which abstract evaluation and lowering share
    @functools.partial(jax.jit, static_argnames=("params", "stacked"))
    def evaluate(*arrays: Array, params: tuple, stacked: bool) -> tuple[Array, ...]:
        single = functools.partial(one, **dict(params))
        if not stacked:
            return single(*arrays)
        if arrays[0].shape[0] < _FEWEST:
            return jax.vmap(single)(*arrays)
        whole = jax.jit(functools.partial(many, **dict(params)))

        def pieces(*arrays: Array) -> tuple[Array, ...]:
            return _in_pieces(whole, arrays, turn_first=len(arrays) - 1)

        return jax.lax.platform_dependent(*arrays, cpu=pieces, default=jax.vmap(single))

    def evaluated(*arrays: Array, stacked: bool, **params: Any) -> list[Array]:
        return list(evaluate(*arrays, params=tuple(params.items()), stacked=stacked))

    def batch(
        arrays: Sequence[Array],
        axes: Sequence[int | None],
        *,
        stacked: bool,
        **params: Any,
    ) -> tuple[list[Array], list[int]]:
        bind = functools.partial(primitive.bind, **params)
        *others, last = axes
        if columns and last is not None and all(axis is None for axis in others):
            *factors, b = arrays
            b = jnp.moveaxis(b, last, -1)
            out = bind(*factors, b.reshape(*b.shape[:-2], -1), stacked=stacked)
            return [x.reshape(b.shape) for x in out], [b.ndim - 1 for _ in out]
        arrays = _all_batched(arrays, axes)
        if not stacked:
            out = bind(*arrays, stacked=True)
        else:
            shape = arrays[0].shape[:2]
            out = bind(*(x.reshape(-1, *x.shape[2:]) for x in arrays), stacked=True)
            out = [x.reshape(*shape, *x.shape[1:]) for x in out]
        return out, [0 for _ in out]

    def abstract(*avals: Any, **params: Any) -> list[Any]:
        with as_when_lowered():
            shapes = jax.make_jaxpr(functools.partial(evaluated, **params))(*avals)
        return shapes.out_avals

    primitive.def_impl(evaluated)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(evaluated, multiple_results=True))
    batching.primitive_batchers[primitive] = batch
    return primitive


def linear_in_last(primitive: Primitive, transpose: Callable[..., Array]) -> None:
    """Declares that the one result is linear in the last operand, and has no derivative
    in the others.

    Args:
        primitive: of `batched_primitive`.
        transpose: from the other operands, a cotangent and parameters to the cotangent
            of the last.
    """

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
        out = primitive.bind(*primals, **params)
        *factors, _ = primals
        if type(tangents[-1]) is ad.Zero:
            return out, [jnp.zeros_like(x) for x in out]
        return out, primitive.bind(*factors, tangents[-1], **params)

    def transposed(cotangents: Sequence[Any], *operands: Any, **params: Any) -> Any:
        *factors, _ = operands
        (cotangent,) = cotangents
        if type(cotangent) is not ad.Zero:
            cotangent = transpose(*factors, cotangent, **params)
        return [*(None for _ in factors), cotangent]

    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transposed


def _all_batched(arrays: Sequence[Array], axes: Sequence[int | None]) -> list[Array]:
    """Along their first axis."""
    size = next(x.shape[i] for x, i in zip(arrays, axes) if i is not None)
    return [
        jnp.broadcast_to(x, (size, *x.shape)) if i is None else jnp.moveaxis(x, i, 0)
        for x, i in zip(arrays, axes)
    ]


def _in_pieces(
    many: Function, arrays: tuple[Array, ...], turn_first: int
) -> tuple[Array, ...]:
    """`many` of pieces of arrays whose first axis is the batch.

    A piece takes its share of each of as many groups of neighbours as there are
    devices. So a batch that is spread over them stays where it is. The last piece
    overlaps the one before, so that nothing is padded.

    Args:
        many, arrays: as in `batched_primitive`.
        turn_first: how many of the arrays to turn as a whole, which costs nothing if
            they come from here; of the others each piece is turned by itself.
    """
    batch = arrays[0].shape[0]
    groups = math.gcd(batch, jax.device_count())
    members = batch // groups
    item = max(math.prod(x.shape[1:]) * x.dtype.itemsize for x in arrays)
    share = min(members, max(1, _BYTES // item // groups))

    def turn(x: Array) -> Array:
        return jnp.moveaxis(x, (0, 1), (-2, -1))

    arrays = tuple(x.reshape(groups, members, *x.shape[1:]) for x in arrays)
    whole = tuple(map(turn, arrays[:turn_first]))
    others = arrays[turn_first:]

    def piece(start: Any) -> Any:
        def part(x: Array, axis: int) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, start, share, axis)

        parts = [part(x, x.ndim - 1) for x in whole] + [
            turn(part(x, 1)) for x in others
        ]
        out = many(*(x.reshape(*x.shape[:-2], groups * share) for x in parts))
        return jtu.tree_map(lambda x: x.reshape(*x.shape[:-1], groups, share), out)

    def step(out: Any, start: Array) -> tuple[Any, None]:
        def put(x: Array, part: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(x, part, start, x.ndim - 1)

        return jtu.tree_map(put, out, piece(start)), None

    def turn_back(x: Array) -> Array:
        x = jnp.moveaxis(x, (-2, -1), (0, 1))
        return x.reshape(batch, *x.shape[2:])

    starts = np.arange(0, members, share, dtype=np.int32)
    starts = jnp.asarray(np.minimum(starts, members - share))
    shapes = jax.eval_shape(piece, starts[0])
    out = jtu.tree_map(lambda x: jnp.zeros((*x.shape[:-1], members), x.dtype), shapes)
    out, _ = scan(step, out, starts, inputs=arrays)
    return jtu.tree_map(turn_back, out)
