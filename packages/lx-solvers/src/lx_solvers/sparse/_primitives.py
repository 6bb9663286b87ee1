"""Factorising and solving on the host, as primitives of JAX.

A call to the host costs some 0.1 ms. A batch is one call: many vectors are columns of
one solve, many matrices are one list of them. Arrays reach the host without a copy on a
CPU; from other devices they are copied, and a warning says so once.

What is cached on the host has to be found by content alone, so the primitives are pure:
XLA may leave out, repeat or reorder them.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array
from lx_operators.internal import complex_to_real_dtype, types_on_mesh

from . import _host as host

_Shapes = Callable[..., list[tuple[tuple[int, ...], Any]]]


def _host_primitive(name: str, call: Callable[..., Any], shapes: _Shapes) -> Primitive:
    """A primitive whose arrays are computed by NumPy.

    Args:
        name: of the primitive.
        call: from static parameters by keyword, and arrays, to a tuple of arrays.
        shapes: from the same, with shapes for arrays, to those of the results.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True

    @functools.partial(jax.jit, static_argnames="params")
    def evaluated(*arrays: Array, params: tuple) -> list[Array]:
        return primitive.bind(*arrays, **dict(params))

    @primitive.def_impl
    def _(*arrays: Array, **params: Any) -> list[Array]:
        return evaluated(*arrays, params=tuple(params.items()))

    @primitive.def_abstract_eval
    def _(*avals: Any, **params: Any) -> list[Any]:
        return types_on_mesh(avals, [ShapedArray(*x) for x in shapes(*avals, **params)])

    def lower(ctx: Any, *operands: Any, **params: Any) -> Any:
        platforms = ctx.module_context.platforms
        if any(platform != "cpu" for platform in platforms):
            _say_that_it_leaves(str(platforms[0]))

        def compute(*arrays: Any) -> tuple[np.ndarray, ...]:
            out = call(*map(np.asarray, arrays), **params)
            return tuple(
                np.asarray(x, aval.dtype).reshape(aval.shape)
                for x, aval in zip(out, ctx.avals_out)
            )

        results, _, keep = mlir.emit_python_callback(
            ctx,
            compute,
            None,
            list(operands),
            ctx.avals_in,
            ctx.avals_out,
            has_side_effect=False,
        )
        return results

    mlir.register_lowering(primitive, lower)
    return primitive


@functools.cache
def _say_that_it_leaves(platform: str) -> None:
    warnings.warn(
        f"sparse direct solvers work on the host: matrices and vectors are copied from "
        f"the {platform} device and back. Iterative solvers stay on the device.",
        UserWarning,
        stacklevel=2,
    )


# Batches. A single matrix has `values` of one axis, a list of them of two; `rows` and
# `columns` have two where they differ as well. Vectors are rows of a matrix.


def _as_list(
    arrays: Sequence[Array], axes: Sequence[int | None], pattern: slice, values: int
) -> tuple[list[Array], Callable[[Array], Array]]:
    """Operands of a batch of matrices, or of a batch of lists of them, as one list.

    Args:
        arrays, axes: of the batching rule.
        pattern: where among them `rows` and `columns` are.
        values: where `values` are.

    Returns:
        The operands; and what turns a result's first axis back into the batch, and the
        list.
    """
    size = next(x.shape[i] for x, i in zip(arrays, axes) if i is not None)
    one = arrays[values].ndim - (axes[values] is not None) == 1
    inner = () if one else (_without(arrays[values].shape, axes[values])[0],)
    shared = all(x.ndim == 1 for x in arrays[pattern])

    def listed(x: Array, axis: int | None) -> Array:
        x = x[None] if axis is None else jnp.moveaxis(x, axis, 0)
        if x.ndim == 2 and inner:  # a pattern that the inner list shares
            x = x[:, None]
        rest = x.shape[1 + len(inner) :]
        return jnp.broadcast_to(x, (size, *inner, *rest)).reshape(-1, *rest)

    places = range(len(arrays))
    out = [
        x if shared and i in places[pattern] else listed(x, axis)
        for i, (x, axis) in enumerate(zip(arrays, axes))
    ]
    return out, lambda x: x.reshape(size, *inner, *x.shape[1:])


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]


def _batched_as_list(primitive: Primitive, pattern: slice, values: int) -> Any:
    def batch(arrays: Any, axes: Any, **params: Any) -> Any:
        arrays, back = _as_list(arrays, axes, pattern, values)
        out = primitive.bind(*arrays, **params)
        return [back(x) for x in out], [0 for _ in out]

    return batch


def _count(values: Any) -> tuple[int, ...]:
    return values.shape[:-1]


def _factor_shapes(rows: Any, columns: Any, values: Any, *, task: Any) -> Any:
    return [
        (_count(values) + (4,), jnp.uint32),
        (_count(values), jnp.int32),
        (_count(values), complex_to_real_dtype(values.dtype)),
        (_count(values) + (3,), jnp.int32),
        (_count(values) + (2,), jnp.int32),
    ]


factor_p = _host_primitive("sparse_factor", host.factorise, _factor_shapes)
batching.primitive_batchers[factor_p] = _batched_as_list(factor_p, slice(0, 2), 2)

determinant_p = _host_primitive(
    "sparse_determinant",
    host.determinant,
    lambda digest, rows, columns, values, *, task: [
        (_count(values), values.dtype),
        (_count(values), complex_to_real_dtype(values.dtype)),
    ],
)
batching.primitive_batchers[determinant_p] = _batched_as_list(
    determinant_p, slice(1, 3), 3
)

inverse_p = _host_primitive(
    "sparse_inverse",
    host.inverse,
    lambda digest, rows, columns, values, *, task, diagonal: [
        (_count(values) + (task.n,) if diagonal else values.shape, values.dtype)
    ],
)
batching.primitive_batchers[inverse_p] = _batched_as_list(inverse_p, slice(1, 3), 3)


def _solve_shapes(
    digest: Any,
    rows: Any,
    columns: Any,
    values: Any,
    b: Any,
    *,
    task: Any,
    adjoint: Any,
) -> Any:
    return [
        (b.shape, b.dtype),
        (b.shape[:-1], jnp.int32),
        (b.shape[:-1], jnp.int32),
    ]


solve_p = _host_primitive("sparse_solve", host.solve, _solve_shapes)

root_p = _host_primitive(
    "sparse_root",
    host.root,
    lambda digest, rows, columns, values, z, *, task: [(z.shape, z.dtype)],
)


def _batched_vectors(primitive: Primitive) -> Any:
    def batch(arrays: Any, axes: Any, **params: Any) -> Any:
        *others, axis = axes
        if any(i is not None for i in others):
            return _batched_as_list(primitive, slice(1, 3), 3)(arrays, axes, **params)
        # more vectors of the same matrix, or matrices
        *matrix, b = arrays
        b = jnp.moveaxis(b, axis, -3)
        *inner, size, k, n = b.shape
        out = primitive.bind(*matrix, b.reshape(*inner, size * k, n), **params)
        place = len(inner)
        out = [x.reshape(*inner, size, k, *x.shape[place + 1 :]) for x in out]
        return out, [place for _ in out]

    return batch


def _without_padding(call: Callable[..., Any], rows: int) -> Callable[..., Any]:
    """The same, of a matrix whose entries of row -1 are none.

    Args:
        call: of the host.
        rows: which of its arguments `rows` is; `columns` and `values` follow.
    """

    def cleared(*arrays: np.ndarray, **params: Any) -> Any:
        there = arrays[rows] >= 0
        if there.ndim > 1:  # a batch of patterns, padded differently
            cut = [tuple(x[i] for x in arrays) for i in range(len(there))]
            each = [cleared(*one, **params) for one in cut]
            return tuple(np.stack(parts) for parts in zip(*each))
        matrix = [np.ascontiguousarray(x[..., there]) for x in arrays[rows : rows + 3]]
        return call(*arrays[:rows], *matrix, *arrays[rows + 3 :], **params)

    return cleared


local_factor_p = _host_primitive(
    "sparse_local_factor", _without_padding(host.factorise, 0), _factor_shapes
)
batching.primitive_batchers[local_factor_p] = _batched_as_list(
    local_factor_p, slice(0, 2), 2
)
local_solve_p = _host_primitive(
    "sparse_local_solve", _without_padding(host.solve, 1), _solve_shapes
)

batching.primitive_batchers[solve_p] = _batched_vectors(solve_p)
batching.primitive_batchers[local_solve_p] = _batched_vectors(local_solve_p)
batching.primitive_batchers[root_p] = _batched_vectors(root_p)


def _linear_in_b(primitive: Primitive) -> None:
    """Factors carry no derivative."""

    def jvp(primals: Any, tangents: Any, **params: Any) -> Any:
        out = primitive.bind(*primals, **params)
        *matrix, _ = primals
        counts = [ad.Zero(jax.typeof(x).to_tangent_aval()) for x in out[1:]]
        if type(tangents[-1]) is ad.Zero:
            return out, [ad.Zero(jax.typeof(out[0]).to_tangent_aval()), *counts]
        return out, [primitive.bind(*matrix, tangents[-1], **params)[0], *counts]

    def transpose(cotangents: Any, *operands: Any, task: Any, adjoint: bool) -> Any:
        *matrix, _ = operands
        ct = cotangents[0]
        if type(ct) is not ad.Zero:  # A⁻ᵀ c is the conjugate of A⁻ᴴ c̄
            back = primitive.bind(*matrix, ct.conj(), task=task, adjoint=not adjoint)
            ct = back[0].conj()
        return [*(None for _ in matrix), ct]

    ad.primitive_jvps[primitive] = jvp
    ad.primitive_transposes[primitive] = transpose


_linear_in_b(solve_p)
_linear_in_b(local_solve_p)
