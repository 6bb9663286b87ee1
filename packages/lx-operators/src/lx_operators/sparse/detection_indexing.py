"""Rules of gather, scatter and dynamic slices: exact where the indices are known, else
over all elements that an index may mean."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import GatherDimensionNumbers

from .detection_rules import Operation, Rule
from .detection_sets import Sets, along, concatenated, positions, union


def _gathered(
    shape: tuple[int, ...], indices: np.ndarray, numbers: Any, sizes: Any, mode: Any
) -> np.ndarray:
    """Which element of an array of this shape is taken to each place; -1: none."""
    place = positions(shape)
    if place.size > np.iinfo(np.int32).max:
        raise ValueError(f"an array of shape {shape} is too large for a pattern.")
    with jax.ensure_compile_time_eval():
        out = jax.lax.gather(
            jnp.asarray(place, jnp.int32),
            jnp.asarray(indices),
            numbers,
            sizes,
            mode=mode,
            fill_value=-1,
        )
    return np.asarray(out)


def _gather(op: Operation) -> list[Sets | None]:
    numbers, mode = op.params["dimension_numbers"], op.params["mode"]
    operand, indices = op.sets[0], op.value(1)
    shape = op.shapes[0]
    if operand is None:
        return [None]
    if indices is None:
        operand = along(operand, shape, numbers.start_index_map)
        indices = np.zeros(op.shapes[1], np.int32)
    taken = _gathered(shape, indices, numbers, op.params["slice_sizes"], mode)
    return [operand.take(taken)]


def _scatter(op: Operation) -> list[Sets | None]:
    numbers, mode = op.params["dimension_numbers"], op.params["mode"]
    (operand, _, updates), indices = op.sets, op.value(1)
    shape, _, moved = op.shapes
    # a scatter is the transpose of this gather
    inserted = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    window = iter(moved[axis] for axis in numbers.update_window_dims)
    sizes = [1 if k in inserted else next(window) for k in range(len(shape))]
    targets = _gathered(
        shape,
        np.zeros(op.shapes[1], np.int32) if indices is None else indices,
        GatherDimensionNumbers(
            offset_dims=numbers.update_window_dims,
            collapsed_slice_dims=numbers.inserted_window_dims,
            start_index_map=numbers.scatter_dims_to_operand_dims,
            operand_batching_dims=numbers.operand_batching_dims,
            start_indices_batching_dims=numbers.scatter_indices_batching_dims,
        ),
        sizes,
        mode,
    )
    out = []
    if operand is not None:
        overwritten = op.eqn.primitive.name == "scatter" and indices is not None
        gone = np.zeros(op.size, bool)
        gone[targets[targets >= 0]] = overwritten
        out.append(operand.without(gone))
    if updates is not None:
        placed = updates.reduced(targets, op.size)
        if indices is None:
            placed = along(placed, shape, numbers.scatter_dims_to_operand_dims)
        out.append(placed)
    return [union(out)]


def _starts(
    op: Operation, first: int, shape: tuple[int, ...], sizes: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    """Where a window begins, and the axes along which that is not known."""
    starts, unknown = [], []
    for axis, (size, wide) in enumerate(zip(sizes, shape)):
        value = 0 if size == wide else op.value(first + axis)
        if value is None:
            unknown.append(axis)
        starts.append(int(np.clip(0 if value is None else value, 0, wide - size)))
    return starts, unknown


def _dynamic_slice(op: Operation) -> list[Sets | None]:
    shape, sizes = op.shapes[0], op.params["slice_sizes"]
    starts, unknown = _starts(op, 1, shape, sizes)
    window = tuple(slice(a, a + size) for a, size in zip(starts, sizes))
    operand = along(op.given[0], shape, unknown)
    return [operand.take(positions(shape)[window])]


def _dynamic_update_slice(op: Operation) -> list[Sets | None]:
    operand, update = op.sets[:2]
    shape, sizes = op.shapes[:2]
    starts, unknown = _starts(op, 2, shape, sizes)
    window = tuple(slice(a, a + size) for a, size in zip(starts, sizes))
    place = positions(shape)
    if not unknown:
        start = place.size
        place[window] = start + positions(sizes)
        both = concatenated([operand, update], [start, int(np.prod(sizes, dtype=int))])
        return [both.take(place)]
    out = [] if operand is None else [operand]
    if update is not None:
        placed = update.reduced(place[window], place.size)
        out.append(along(placed, shape, unknown))
    return [union(out)]


INDEXING: dict[str, Rule] = {
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
} | dict.fromkeys(
    "scatter scatter-add scatter-sub scatter-mul scatter-min scatter-max "
    "scatter_add scatter_sub scatter_mul scatter_min scatter_max".split(),
    _scatter,
)
