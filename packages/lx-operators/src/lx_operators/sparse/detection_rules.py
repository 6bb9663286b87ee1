"""The inputs on which each element of an operation's output depends.

A rule takes an `Operation` and returns the sets of each output. Rules are written for
the equations of a Jacobian-vector product, which are linear in the tangent; they also
hold where several inputs depend on it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .detection_sets import Sets, along, concatenated, everything, positions, union
from .detection_values import MOVES, Known

Shape = tuple[int, ...]


class Operation(NamedTuple):
    """An equation, and what is known of its inputs."""

    eqn: Any
    sets: list[Sets | None]  # None: depends on nothing
    known: list[Known | None]

    @property
    def params(self) -> dict[str, Any]:
        return self.eqn.params

    @property
    def shapes(self) -> list[Shape]:
        return [var.aval.shape for var in self.eqn.invars]

    @property
    def shape(self) -> Shape:
        return self.eqn.outvars[0].aval.shape

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=int))

    @property
    def given(self) -> list[Sets]:
        return [one for one in self.sets if one is not None]

    def value(self, number: int) -> np.ndarray | None:
        """An input's value, if it is known."""
        known = self.known[number]
        return None if known is None else known.numpy()


Rule = Callable[[Operation], list[Sets | None]]


def _spread(op: Operation) -> list[Sets | None]:
    """The operands, at each element of the output: axes of size 1 and scalars are
    broadcast."""
    return [
        one
        if one is None or shape == op.shape
        else one.take(np.broadcast_to(positions(shape), op.shape))
        for one, shape in zip(op.sets, op.shapes)
    ]


def elementwise(op: Operation) -> list[Sets | None]:
    return [union([one for one in _spread(op) if one is not None])]


def _mul(op: Operation) -> list[Sets | None]:
    """A product with a zero that is known depends on nothing there."""
    (out,) = elementwise(op)
    for factor in (0, 1):
        value = op.value(factor) if op.sets[factor] is None else None
        if value is not None and out is not None and not value.all():
            out = out.without(np.broadcast_to(value == 0, op.shape))
    return [out]


def _select(op: Operation) -> list[Sets | None]:
    which = op.value(0)
    if which is None:
        return elementwise(op)
    _, *cases = _spread(op)
    which = np.broadcast_to(which, op.shape).reshape(-1).astype(np.int64)
    every = concatenated(cases, [op.size] * len(cases))
    return [every.take(which * op.size + np.arange(op.size))]


def _each(op: Operation) -> list[Sets | None]:
    """Operations with as many outputs as inputs."""
    return list(op.sets)


def _move(op: Operation) -> list[Sets | None]:
    """The operation itself, run on the positions of its operands."""
    name = op.eqn.primitive.name
    number = {"broadcast_in_dim": 1}.get(name, len(op.sets))
    given, places, start = op.given, [], 0
    for shape, one in zip(op.shapes[:number], op.sets):
        place = positions(shape)
        places.append(np.full(shape, -1) if one is None else place + start)
        start += 0 if one is None else place.size
    every = (
        given[0] if len(given) == 1 else concatenated(given, [g.size for g in given])
    )
    moved = MOVES[name](op.eqn, *places)
    return [every.take(one) for one in (moved if isinstance(moved, list) else [moved])]


def _reduce(op: Operation) -> list[Sets | None]:
    axes = op.params["axes" if "axes" in op.params else "dimensions"]
    shape = op.shapes[0]
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    targets = np.broadcast_to(positions(kept), shape)
    out = [
        one.reduced(targets, op.size)
        if one.size == targets.size
        else one.take(np.zeros(op.size, np.int64))  # an initial value
        for one in op.given
    ]
    return [union(out)] * len(op.eqn.outvars)


def _cumulate(op: Operation) -> list[Sets | None]:
    """The union of all elements before, by doubling."""
    out, shape = op.given[0], op.shapes[0]
    axis, reverse = op.params["axis"], op.params["reverse"]
    length, step = shape[axis], 1
    place = positions(shape)
    at = np.arange(length).reshape([-1 if k == axis else 1 for k in range(len(shape))])
    stride = int(np.prod(shape[axis + 1 :], dtype=int))
    while step < length:
        inside = at < length - step if reverse else at >= step
        moved = place + (step if reverse else -step) * stride
        out = union([out, out.take(np.where(inside, moved, -1))])
        step *= 2
    return [out]


def _dot_general(op: Operation) -> list[Sets | None]:
    (left_sum, right_sum), (left_batch, right_batch) = op.params["dimension_numbers"]
    out = []
    left, right = op.shapes
    axes = [
        _letters(left, left_sum, left_batch, "l"),
        _letters(right, right_sum, right_batch, "r"),
    ]
    free = [[a for a in one if a[0] in "lr"] for one in axes]
    order = [f"b{k}" for k in range(len(left_batch))] + free[0] + free[1]
    sizes = dict(zip(axes[0], left)) | dict(zip(axes[1], right))
    for side in (0, 1):
        one = op.sets[side]
        if one is None:
            continue
        other = op.value(1 - side)
        if other is not None and not other.all():
            pairs = _weighted(axes[side], axes[1 - side], order, sizes, other)
            out.append(one.combined(*pairs, op.size))
        else:
            kept = [a for a in axes[side] if a[0] != "k"]
            targets = _place(kept, axes[side], sizes)
            total = int(np.prod([sizes[a] for a in kept], dtype=int))
            out.append(one.reduced(targets, total).take(_place(kept, order, sizes)))
    return [union(out)]


def _letters(shape: Shape, summed: Any, batch: Any, free: str) -> list[str]:
    """A name for each axis of an operand."""
    names = [f"{free}{k}" for k in range(len(shape))]
    for k, axis in enumerate(summed):
        names[axis] = f"k{k}"
    for k, axis in enumerate(batch):
        names[axis] = f"b{k}"
    return names


def _place(of: list[str], over: list[str], sizes: dict[str, int]) -> np.ndarray:
    """The flat position in an array with axes `of`, at each element of one with axes
    `over` (in any order)."""
    place = np.zeros([sizes[axis] for axis in over], np.int64)
    stride = 1
    for axis in reversed(of):
        if axis in over:
            at = [-1 if other == axis else 1 for other in over]
            place += stride * np.arange(sizes[axis]).reshape(at)
        stride *= sizes[axis]
    return place


def _weighted(
    axes: list[str],
    weight_axes: list[str],
    order: list[str],
    sizes: dict[str, int],
    weights: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """For each weight that is not zero: which output takes which element."""
    free = [axis for axis in axes if axis not in weight_axes]
    over = [*weight_axes, *free]
    nonzero = np.flatnonzero(weights)
    to = _place(order, over, sizes).reshape(weights.size, -1)[nonzero]
    of = _place(axes, over, sizes).reshape(weights.size, -1)[nonzero]
    return to.reshape(-1), of.reshape(-1)


def _lines(axes: Callable[[Operation], list[int]]) -> Rule:
    """Dense along some axes of the first output, and apart along the others."""

    def rule(op: Operation) -> list[Sets | None]:
        if len(op.given) > 1 or op.given[0].size != op.size:
            return dense(op)
        shape = next(s for s, one in zip(op.shapes, op.sets) if one is not None)
        if shape != op.shape:
            return dense(op)
        return [along(op.given[0], shape, axes(op))]

    return rule


def _fft(op: Operation) -> list[Sets | None]:
    lengths = op.params["fft_lengths"]
    (given,), (shape,) = op.given, op.shapes
    axes = range(len(shape) - len(lengths), len(shape))
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    lines = np.broadcast_to(positions(kept), shape)
    total = int(np.prod(kept, dtype=int))
    return [
        given.reduced(lines, total).take(np.broadcast_to(positions(kept), op.shape))
    ]


def _solve_axis(op: Operation) -> list[int]:
    return [len(op.shape) - (2 if op.params["left_side"] else 1)]


def _batched(op: Operation) -> list[Sets | None]:
    """Factorisations: dense in each matrix, apart in each batch."""
    if len(op.given) > 1:
        return dense(op)
    number = next(k for k, one in enumerate(op.sets) if one is not None)
    shape = op.shapes[number]
    batch = shape[:-2]
    targets = np.broadcast_to(positions((*batch, 1, 1)), shape)
    ones = op.given[0].reduced(targets, int(np.prod(batch, dtype=int)))
    out = []
    for var in op.eqn.outvars:
        wide = var.aval.shape
        if wide[: len(batch)] != batch:
            return dense(op)
        at = positions((*batch, *[1] * (len(wide) - len(batch))))
        out.append(ones.take(np.broadcast_to(at, wide)))
    return out


def dense(op: Operation) -> list[Sets | None]:
    """Each element depends on all elements of all inputs."""
    return [
        everything(op.given, int(np.prod(var.aval.shape, dtype=int)))
        for var in op.eqn.outvars
    ]


_ELEMENTWISE = """
    abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e
    cbrt ceil clamp complex conj convert_element_type copy copy_p cos cosh digamma div
    erf erf_inv erfc exp exp2 expm1 floor igamma igamma_grad_a igammac imag integer_pow
    layout_constraint lgamma log log1p logistic max mesh_cast min name neg nextafter not
    or pcast polygamma pow psum_invariant pvary random_gamma_grad real reduce_precision
    regularized_incomplete_beta rem reshard round rsqrt sharding_constraint sign sin
    sinh sqrt square stop_gradient sub tan tanh xor zeta
"""

RULES: dict[str, Rule] = (
    dict.fromkeys(_ELEMENTWISE.split(), elementwise)
    | dict.fromkeys(MOVES, _move)
    | {
        "mul": _mul,
        "select_n": _select,
        "optimization_barrier": _each,
        "device_put": _each,
        "dot_general": _dot_general,
        "fft": _fft,
        "sort": _lines(lambda op: [op.params["dimension"]]),
        "triangular_solve": _lines(_solve_axis),
        "tridiagonal_solve": _lines(lambda op: [len(op.shape) - 2]),
    }
    | dict.fromkeys(
        "reduce reduce_sum reduce_max reduce_min reduce_prod".split(), _reduce
    )
    | dict.fromkeys("cumsum cumprod cummax cummin cumlogsumexp".split(), _cumulate)
    | dict.fromkeys(
        "cholesky cholesky_update eig eigh geqrf householder_product lu qr schur svd "
        "symmetric_product".split(),
        _batched,
    )
)
