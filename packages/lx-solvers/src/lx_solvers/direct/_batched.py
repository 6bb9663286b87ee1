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
from jaxtyping import Array, PyTree
from lx_operators.internal import as_when_lowered

from .._control_flow import scan
from .._sizes import is_known

_BYTES = 2**17  # of a piece of the batch, in one array: it stays in the cache

Function = Callable[..., PyTree[Array]]


def batched_primitive(
    name: str,
    one: Function,
    many: Function,
    *,
    columns: int = 0,
    fewest: int = 128,
    larger: int = 1,
) -> Primitive:
    """A primitive of arrays.

    Args:
        name: of the primitive.
        one: from arrays, and static parameters by keyword, to arrays in some structure,
            of which the primitive returns the leaves.
        many: the same, with the batch along the last axis of every array. It is for
            CPUs only.
        columns: how many of the last arrays are matrices whose columns are treated
            alike, and are the last axis of all results: a batch of these arrays alone
            is more columns.
        fewest: smaller batches are left to `one`, and no piece of a batch is smaller.
        larger: by how much pieces are larger than `_BYTES`.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True

    # compiled for their traces, which abstract evaluation and lowering share
    @functools.partial(jax.jit, static_argnames=("params", "stacked"))
    def evaluate(*arrays: Array, params: tuple, stacked: bool) -> PyTree[Array]:
        single = functools.partial(one, **dict(params))
        if not stacked:
            return single(*arrays)
        sizes = [size for x in arrays for size in x.shape]
        if not is_known(*sizes) or sizes[0] < fewest or 0 in sizes:
            return jax.vmap(single)(*arrays)
        whole = jax.jit(functools.partial(many, **dict(params)))

        def pieces(*arrays: Array) -> PyTree[Array]:
            return _in_pieces(whole, arrays, len(arrays) - 1, fewest, larger * _BYTES)

        return jax.lax.platform_dependent(*arrays, cpu=pieces, default=jax.vmap(single))

    def evaluated(*arrays: Array, stacked: bool, **params: Any) -> list[Array]:
        static = tuple(params.items())
        return jtu.tree_leaves(evaluate(*arrays, params=static, stacked=stacked))

    def batch(
        arrays: Sequence[Array],
        axes: Sequence[int | None],
        *,
        stacked: bool,
        **params: Any,
    ) -> tuple[list[Array], list[int]]:
        bind = functools.partial(primitive.bind, **params)
        shared = len(axes) - columns
        if columns and all(axis is None for axis in axes[:shared]):
            size = _size(arrays, axes)
            last = zip(arrays[shared:], axes[shared:])
            last = [_batched(x, i, size, -1) for x, i in last]
            each = last[0].shape[-2:]
            flat = (x.reshape(*x.shape[:-2], math.prod(each)) for x in last)
            out = bind(*arrays[:shared], *flat, stacked=stacked)
            out = [x.reshape(*x.shape[:-1], *each) for x in out]
            return out, [x.ndim - 1 for x in out]
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


def linear_in_last(
    primitive: Primitive,
    transpose: Callable[..., Array],
    moved: Callable[..., Array] | None = None,
) -> None:
    """Declares that the one result is linear in the last operand.

    Args:
        primitive: of `batched_primitive`.
        transpose: from the other operands, a cotangent and parameters to the cotangent
            of the last.
        moved: from the tangents of the other operands and the result to the tangent of
            the last operand that has the same effect; without it, the result has no
            derivative in the others.
    """

    def jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
        out = primitive.bind(*primals, **params)
        *factors, _ = primals
        *others, tangent = tangents
        if moved is not None and any(type(t) is not ad.Zero for t in others):
            others = map(ad.instantiate_zeros, others)
            effect = moved(*others, *out, **params)
            tangent = ad.add_tangents(tangent, effect)
        if type(tangent) is ad.Zero:
            return out, [jnp.zeros_like(x) for x in out]
        return out, primitive.bind(*factors, tangent, **params)

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
    size = _size(arrays, axes)
    return [_batched(x, i, size, 0) for x, i in zip(arrays, axes)]


def _size(arrays: Sequence[Array], axes: Sequence[int | None]) -> int:
    return next(x.shape[i] for x, i in zip(arrays, axes) if i is not None)


def _batched(x: Array, axis: int | None, size: int, to: int) -> Array:
    if axis is None:
        x, axis = jnp.broadcast_to(x, (size, *x.shape)), 0
    return jnp.moveaxis(x, axis, to)


def _in_pieces(
    many: Function,
    arrays: tuple[Array, ...],
    turn_first: int,
    fewest: int,
    size: int,
) -> PyTree[Array]:
    """`many` of pieces of arrays whose first axis is the batch.

    A piece takes its share of each of as many groups of neighbours as there are
    devices. So a batch that is spread over them stays where it is. The last piece
    overlaps the one before, so that nothing is padded.

    Args:
        many, arrays: as in `batched_primitive`.
        turn_first: how many of the arrays to turn as a whole, which costs nothing if
            they come from here; of the others each piece is turned by itself.
        fewest, size: members, and bytes, of a piece.
    """
    batch = arrays[0].shape[0]
    groups = math.gcd(batch, jax.device_count())
    members = batch // groups
    item = max(math.prod(x.shape[1:]) * x.dtype.itemsize for x in arrays)
    share = min(members, max(1, max(fewest, size // item) // groups))

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

    if share == members:
        return jtu.tree_map(turn_back, piece(0))
    starts = np.arange(0, members, share, dtype=np.int32)
    starts = jnp.asarray(np.minimum(starts, members - share))
    shapes = jax.eval_shape(piece, starts[0])
    out = jtu.tree_map(lambda x: jnp.zeros((*x.shape[:-1], members), x.dtype), shapes)
    out, _ = scan(step, out, starts, inputs=arrays)
    return jtu.tree_map(turn_back, out)
