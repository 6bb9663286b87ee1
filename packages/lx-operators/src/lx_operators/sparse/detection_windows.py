"""Rules of convolutions and windowed reductions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .detection_rules import Operation, Rule
from .detection_sets import Sets, positions, union

Triples = tuple[np.ndarray, np.ndarray, np.ndarray]


def _axis(
    size: int, out: int, window: int, stride: int, low: int, base: int, dilation: int
) -> Triples:
    """Which output, tap of the window and input meet, along one axis."""
    o, t = np.meshgrid(np.arange(out), np.arange(window), indexing="ij")
    i = o * stride + t * dilation - low
    met = (i >= 0) & (i % base == 0) & (i // base < size)
    return o[met], t[met], i[met] // base


def _product(axes: Sequence[Triples], shapes: Sequence[Sequence[int]]) -> Triples:
    """The flat positions of all combinations; `shapes`: of outputs, taps, inputs."""
    flat = [np.zeros(1, np.int64)] * 3
    for k, triples in enumerate(axes):
        flat = [
            (before[:, None] * shape[k] + now[None, :]).reshape(-1)
            for before, now, shape in zip(flat, triples, shapes)
        ]
    return flat[0], flat[1], flat[2]


def _window_axes(op: Operation, shape: Sequence[int], out: Sequence[int]) -> Triples:
    params = op.params
    window = params["window_dimensions"]
    ones = (1,) * len(window)
    axes = [
        _axis(size, wide, w, stride, low, base, dilation)
        for size, wide, w, stride, (low, _), base, dilation in zip(
            shape,
            out,
            window,
            params["window_strides"],
            params["padding"],
            params.get("base_dilation", ones),
            params.get("window_dilation", ones),
        )
    ]
    return _product(axes, (out, window, shape))


def _reduce_window(op: Operation) -> list[Sets | None]:
    outputs, _, inputs = _window_axes(op, op.shapes[0], op.shape)
    size = int(np.prod(op.shapes[0], dtype=int))
    out = [
        one.combined(outputs, inputs, op.size) for one in op.given if one.size == size
    ]
    out += [one.take(np.zeros(op.size, int)) for one in op.given if one.size != size]
    return [union(out)] * len(op.eqn.outvars)


def _select_and_scatter_add(op: Operation) -> list[Sets | None]:
    """The source of a window goes to one element of it."""
    source, operand = op.sets
    windows, _, elements = _window_axes(op, op.shape, op.shapes[0])
    out = [] if source is None else [source.combined(elements, windows, op.size)]
    if operand is not None:  # which one may depend on all elements of the window
        seen = operand.combined(windows, elements, int(np.prod(op.shapes[0])))
        out.append(seen.combined(elements, windows, op.size))
    return [union(out)]


def _convolution(op: Operation) -> list[Sets | None]:
    params, numbers = op.params, op.params["dimension_numbers"]
    left, right, out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    lhs, rhs = op.shapes
    spatial = [
        _axis(lhs[a], op.shape[c], rhs[b], stride, low, base, dilation)
        for a, b, c, stride, (low, _), base, dilation in zip(
            left[2:],
            right[2:],
            out[2:],
            params["window_strides"],
            params["padding"],
            params["lhs_dilation"],
            params["rhs_dilation"],
        )
    ]
    shapes = [
        [op.shape[a] for a in out[2:]],
        [rhs[a] for a in right[2:]],
        [lhs[a] for a in left[2:]],
    ]
    outputs, taps, inputs = _product(spatial, shapes)
    features, batches = params["feature_group_count"], params["batch_group_count"]
    channels, local = rhs[right[0]], rhs[right[1]]
    # channels of one group see the same inputs
    groups = max(features, batches)
    weights = op.value(1) if op.sets[1] is None else None
    known = weights is not None and not weights.all()
    alike = 1 if known or op.sets[1] is not None else channels // groups
    first = np.arange(0, channels, alike)
    n, co, ci = np.meshgrid(
        np.arange(op.shape[out[0]]), first, np.arange(local), indexing="ij"
    )
    n, co, ci = n.reshape(-1, 1), co.reshape(-1, 1), ci.reshape(-1, 1)
    batch = n + (co // (channels // batches)) * (lhs[left[0]] // batches)
    feature = ci + (co // (channels // features)) * local
    few = [op.shape[out[0]], first.size, *shapes[0]]
    to = _flat(few, (n, co // alike), outputs, shapes[0])
    size = int(np.prod(few, dtype=int))
    of_weights = _transposed(
        rhs, right, _flat([channels, local, *shapes[1]], (co, ci), taps, shapes[1])
    )
    found = []
    if op.sets[0] is not None:
        shape = [lhs[left[0]], lhs[left[1]], *shapes[2]]
        of = _transposed(
            lhs,
            left,
            _flat(
                shape,
                (batch, feature),
                inputs,
                shapes[2],
            ),
        )
        kept = np.full(to.size, True)
        if weights is not None and known:
            kept = weights.reshape(-1)[of_weights] != 0
        found.append(op.sets[0].combined(to[kept], of[kept], size))
    if op.sets[1] is not None:
        found.append(op.sets[1].combined(to, of_weights, size))
    # from [batch, channels that differ, space] to the output as it is laid out
    whole = np.repeat(positions(few), alike, axis=1)
    return [union(found).take(np.transpose(whole, np.argsort(out)))]


def _flat(
    shape: Sequence[int], lead: Sequence[np.ndarray], space: np.ndarray, last: Any
) -> np.ndarray:
    """Flat positions in `shape`, for two leading indices and a flat one of the rest."""
    inner = int(np.prod(last, dtype=int))
    place = (lead[0] * shape[1] + lead[1]) * inner + space[None, :]
    return np.broadcast_to(place, (lead[0].size, space.size)).reshape(-1)


def _transposed(
    shape: Sequence[int], spec: Sequence[int], flat: np.ndarray
) -> np.ndarray:
    """From positions with the axes in the order of `spec` to those of `shape`."""
    return np.transpose(positions(shape), spec).reshape(-1)[flat]


WINDOWS: dict[str, Rule] = {
    "conv_general_dilated": _convolution,
    "select_and_scatter_add": _select_and_scatter_add,
} | dict.fromkeys(
    "reduce_window reduce_window_sum reduce_window_max reduce_window_min "
    "select_and_gather_add".split(),
    _reduce_window,
)
