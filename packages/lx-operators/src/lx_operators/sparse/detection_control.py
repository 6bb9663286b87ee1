"""Rules of calls, branches and loops, on the programs inside.

A loop's body is looked at once (or a few times, until it is known which carried arrays
vary with x): its pattern P, from the arrays that go into a step to those that come out.
A `scan` has c₁ = w₁ ∪ P c₀, c₂ = w₂ ∪ P c₁, …, where w is what comes from outside; all
steps together take log₂(length) products. A `while_loop` may take any number of steps,
and its arrays depend on all that can be reached in the graph of P.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from .detection_rules import Operation, dense
from .detection_sets import Sets, concatenated, everything, identity, union
from .detection_values import Known, plain

Inside = tuple[list[Sets | None], list[Known | None]]
Interpret = Callable[[Jaxpr, list[Sets | None], list[Known | None]], Inside]

_STEPS = 512  # equations that are looked at in a loop whose steps are looked at singly
_ROOM = 4_000_000  # entries, over all steps together


def _closed(jaxpr: Any, inputs: Inside, interpret: Interpret) -> Inside:
    """What comes out of a program, with or without constants of its own."""
    sets, known = inputs
    if isinstance(jaxpr, ClosedJaxpr):
        consts = [constant(value) for value in jaxpr.consts]
        sets, known = [None] * len(consts) + sets, consts + known
        jaxpr = jaxpr.jaxpr
    return interpret(jaxpr, sets, known)


def constant(value: Any) -> Known | None:
    """A constant of a program. An array of JAX with floating or complex numbers is a
    parameter, which may get any value, zeros or not; NumPy's are what they are."""
    if not isinstance(value, jax.Array):
        return Known(np.asarray(value))
    number = jnp.issubdtype(value.dtype, jnp.inexact)
    if number or isinstance(value, jax.core.Tracer):
        return None
    return Known(plain(value))


def _call(op: Operation, interpret: Interpret) -> Inside:
    inner = next(
        op.params[key]
        for key in ("jaxpr", "call_jaxpr", "fun_jaxpr")
        if key in op.params
    )
    return _closed(inner, (op.sets, op.known), interpret)


def _cond(op: Operation, interpret: Interpret) -> Inside:
    branches, index = op.params["branches"], op.value(0)
    inputs = (op.sets[1:], op.known[1:])
    if index is not None:
        number = int(np.clip(index, 0, len(branches) - 1))
        return _closed(branches[number], inputs, interpret)
    outs = [_closed(branch, inputs, interpret)[0] for branch in branches]
    return [_united(ways) for ways in zip(*outs)], [None] * len(op.eqn.outvars)


def _united(sets: Sequence[Sets | None]) -> Sets | None:
    some = [one for one in sets if one is not None]
    return union(some) if some else None


def _linear_solve(op: Operation, interpret: Interpret) -> Inside:
    """`lax.custom_linear_solve`: what its function `solve` does to right-hand sides."""
    lengths, jaxprs = op.params["const_lengths"], op.params["jaxprs"]
    start = lengths.matvec + lengths.vecmat
    stop = start + lengths.solve
    first = stop + lengths.transpose_solve
    if any(one is not None for one in op.sets[:first]):
        return dense(op), [None] * len(op.eqn.outvars)
    picked = [*range(start, stop), *range(first, len(op.sets))]
    inputs = [op.sets[k] for k in picked], [op.known[k] for k in picked]
    return _closed(jaxprs.solve, inputs, interpret)


def _only_backward(op: Operation, interpret: Interpret) -> Inside:
    """The derivative of a function with a custom vjp: its pattern, from the rows of
    what its backward pass does to a cotangent."""
    params, number = op.params, op.params["num_res"]
    zeros = params["in_zeros"]
    residuals = [var.aval for var in op.eqn.invars[:number]]
    outs = [var.aval for var in op.eqn.outvars]
    if params["symbolic_zeros"]:
        raise NotImplementedError
    traced = jax.make_jaxpr(lambda *xs: params["bwd"].call_wrapped(*xs))(
        *map(_struct, (*residuals, *outs))
    )
    width = sum(_sizes(outs))
    sets, start = [], 0
    for size in _sizes(outs):
        sets.append(identity(size, width, start))
        start += size
    back, _ = _closed(
        traced,
        ([None] * number + sets, op.known[:number] + [None] * len(outs)),
        interpret,
    )
    # of the inputs that vary, the outputs that each element is seen in
    back = [one for one, zero in zip(back, zeros) if not zero]
    sizes = _sizes([var.aval for var in op.eqn.invars[number:]])
    given = op.sets[number:]
    if all(one is None for one in back):
        return [None] * len(outs), [None] * len(outs)
    seen = concatenated(back, sizes).matrix().tocoo()
    every = concatenated(given, sizes).combined(seen.col, seen.row, width)
    return _parts(every, _sizes(outs)), [None] * len(outs)


def _struct(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def _sizes(avals: Sequence[Any]) -> list[int]:
    return [int(np.prod(aval.shape, dtype=int)) for aval in avals]


def _parts(sets: Sets, sizes: Sequence[int]) -> list[Sets | None]:
    """The arrays of which `sets` is the concatenation."""
    out, start = [], 0
    for size in sizes:
        out.append(sets.take(np.arange(start, start + size)))
        start += size
    return out


# Loops.


class _Body(NamedTuple):
    """A loop's body: which outputs depend on which inputs, within one step."""

    inputs: list[int]  # the numbers of the inputs that vary
    carried: list[int]  # and of the carried arrays among them, of all carried
    outs: list[int]  # the numbers of the other outputs that vary
    pattern: csr_array  # rows: carried, then other outputs; columns: inputs


def _body(
    jaxpr: ClosedJaxpr,
    varies: list[bool],
    known: list[Known | None],
    first: int,
    carry: int,
    interpret: Interpret,
) -> _Body:
    """The pattern of a body with inputs (constants, carried from number `first` on,
    others) and outputs (carried, others)."""
    sizes = _sizes([var.aval for var in jaxpr.jaxpr.invars])
    inner = jaxpr.jaxpr
    known = [
        value
        if not first <= k < first + carry or inner.outvars[k - first] is inner.invars[k]
        else None
        for k, value in enumerate(known)
    ]
    while True:
        inputs = [k for k, yes in enumerate(varies) if yes]
        width = sum(sizes[k] for k in inputs)
        sets: list[Sets | None] = [None] * len(sizes)
        start = 0
        for k in inputs:
            sets[k] = identity(sizes[k], width, start)
            start += sizes[k]
        outs, _ = _closed(jaxpr, (sets, known), interpret)
        more = [
            first + k
            for k, one in enumerate(outs[:carry])
            if one is not None and one.count() and not varies[first + k]
        ]
        if not more:
            break
        varies = [yes or k in more for k, yes in enumerate(varies)]
    carried = [k for k in range(carry) if varies[first + k]]
    others = [k for k in range(carry, len(outs)) if outs[k] is not None]
    out_sizes = _sizes([var.aval for var in inner.outvars])
    rows = [*carried, *others]
    if all(outs[k] is None for k in rows):
        total = sum(out_sizes[k] for k in rows)
        pattern = csr_array((total, width), dtype=bool)
    else:
        pattern = concatenated(
            [outs[k] for k in rows], [out_sizes[k] for k in rows]
        ).matrix()
    return _Body(inputs, carried, others, pattern)


def _scan(op: Operation, interpret: Interpret) -> Inside:
    params = op.params
    length, reverse, jaxpr = params["length"], params["reverse"], params["jaxpr"]
    first, carry = params["num_consts"], params["num_carry"]
    last = first + carry
    if length * len(jaxpr.jaxpr.eqns) <= _STEPS:
        return _unrolled(op, interpret)
    inner = jaxpr.jaxpr
    body = _body(
        jaxpr,
        [one is not None for one in op.sets],
        [*op.known[:last], *[None] * (len(op.sets) - last)],
        first,
        carry,
        interpret,
    )
    in_sizes = _sizes([var.aval for var in inner.invars])
    out_sizes = _sizes([var.aval for var in inner.outvars])
    m = sum(out_sizes[k] for k in body.carried)
    begin = (
        concatenated(
            [op.sets[first + k] for k in body.carried] or [None],
            [out_sizes[k] for k in body.carried] or [0],
        )
        if any(op.sets[first + k] is not None for k in body.carried)
        else None
    )
    outer = [k for k in body.inputs if not first <= k < last]
    # where each column of the pattern lies at step j: base + j · stride
    arrays, sizes, place = [], [], {}
    start = 0
    for k in outer:
        total = in_sizes[k] * (length if k >= last else 1)
        place[k] = start
        arrays.append(op.sets[k])
        sizes.append(total)
        start += total
    base, stride, of_carry = [], [], []
    at = 0
    for k in body.inputs:
        size = in_sizes[k]
        local = np.arange(size)
        if first <= k < last:
            base.append(start + at + local)
            stride.append(np.full(size, m))
            at += size
        else:
            step = size if k >= last else 0
            low = (length - 1) * step if reverse else 0
            base.append(place[k] + low + local)
            stride.append(np.full(size, -step if reverse else step))
        of_carry.append(np.full(size, first <= k < last))
    base, stride, of_carry = map(np.concatenate, (base, stride, of_carry))
    entries = body.pattern.tocoo()
    r, c = entries.row, entries.col
    inside = of_carry[c] & (r < m)
    steps = np.arange(length)[:, None]

    def gathered(mask: np.ndarray, to: np.ndarray, sets: Sets, size: int) -> Sets:
        of = base[c[mask]] + steps * stride[c[mask]]
        return sets.combined(to.reshape(-1), of.reshape(-1), size)

    # what comes into the carried arrays from outside, at each step
    power = csr_array(
        (np.ones(inside.sum(), bool), (r[inside], base[c[inside]] - start)), (m, m)
    )
    exact = (length + 1) * max(m, power.nnz) <= _ROOM
    states = (length + 1) * m if exact else m
    outside = (r < m) & ~of_carry[c]
    carried = [] if begin is None else [_padded(begin, states)]
    if outside.any():
        sets = concatenated(arrays, sizes)
        to = (steps + 1) * (m if exact else 0) + r[outside]
        carried.append(gathered(outside, to, sets, states))
    stack = union(carried) if carried else None
    if stack is not None and power.nnz:
        if exact:
            stack = _recurrence(power, stack, length)
        else:
            stack = _reached(power, stack)
    if not exact:
        stride = np.where(of_carry, 0, stride)
    out: list[Sets | None] = [None] * len(out_sizes)
    if stack is not None:
        end = stack.take(np.arange(states - m, states))
        if length == 0 and begin is not None:
            end = begin
        parts = _parts(end, [out_sizes[k] for k in body.carried])
        for k, part in zip(body.carried, parts):
            out[k] = part
    if body.outs and (arrays or stack is not None):
        sets = concatenated([*arrays, stack], [*sizes, states])
        at = m
        for k in body.outs:
            mine = (r >= at) & (r < at + out_sizes[k])
            order = length - 1 - steps if reverse else steps
            to = order * out_sizes[k] + r[mine] - at
            out[k] = gathered(mine, to, sets, length * out_sizes[k])
            at += out_sizes[k]
    return out, [None] * len(out)


def _padded(sets: Sets, size: int) -> Sets:
    """Followed by elements that depend on nothing."""
    index = np.arange(size)
    return sets.take(np.where(index < sets.size, index, -1))


def _recurrence(power: csr_array, stack: Sets, length: int) -> Sets:
    """c[j] = w[j] ∪ P c[j − 1] for all j, by doubling: after k rounds the union of
    Pᵈ w[j − d] over d < 2ᵏ."""
    m, step = power.shape[0], 1
    original = power
    while step <= length and power.nnz:
        if (length + 1) * power.nnz > 16 * _ROOM:
            ends = everything([_reached(original, _all_steps(stack, m))], m)
            return ends.take(np.tile(np.arange(m), length + 1))
        entries = power.tocoo()
        j = np.arange(step, length + 1)[:, None] * m
        to, of = j + entries.row, j - step * m + entries.col
        moved = stack.combined(to.reshape(-1), of.reshape(-1), stack.size)
        stack = union([stack, moved])
        power = (power @ power).astype(bool)
        step *= 2
    return stack


def _all_steps(stack: Sets, m: int) -> Sets:
    return stack.reduced(np.arange(stack.size) % m, m)


def _reached(power: csr_array, start: Sets) -> Sets:
    """Each element, after any number of steps: the union over all that lead to it.

    Elements that lead to each other end with one set: strongly connected components,
    and then doubling on the acyclic graph between them.
    """
    count, labels = connected_components(power, directed=True, connection="strong")
    out = start.reduced(labels, count)
    entries = power.tocoo()
    to, of = labels[entries.row], labels[entries.col]
    apart = to != of
    ones = np.ones(int(apart.sum()) + count, bool)
    own = np.arange(count)
    to, of = np.r_[to[apart], own], np.r_[of[apart], own]
    step = csr_array((ones, (to, of)), (count, count))
    while True:
        twice = (step @ step).astype(bool)
        if twice.nnz > 16 * _ROOM:
            return everything([start], start.size)
        if twice.nnz == step.nnz:
            break
        step = twice
    entries = step.tocoo()
    return out.combined(entries.row, entries.col, count).take(labels)


def _unrolled(op: Operation, interpret: Interpret) -> Inside:
    """A short scan, step by step: a counter that is carried has a known value."""
    params = op.params
    length, jaxpr = params["length"], params["jaxpr"]
    first, carry = params["num_consts"], params["num_carry"]
    last = first + carry
    sets, known = op.sets[:last], op.known[:last]
    sizes = _sizes([var.aval for var in jaxpr.jaxpr.invars[last:]])
    order = range(length - 1, -1, -1) if params["reverse"] else range(length)
    ys = {}
    for j in order:
        xs = [
            None if one is None else one.take(np.arange(j * size, (j + 1) * size))
            for one, size in zip(op.sets[last:], sizes)
        ]
        values = [
            None if one is None else Known(one.value[j]) for one in op.known[last:]
        ]
        outs, outs_known = _closed(jaxpr, (sets + xs, known + values), interpret)
        sets = sets[:first] + outs[:carry]
        known = known[:first] + outs_known[:carry]
        ys[j] = outs[carry:]
    out, out_known = sets[first:], known[first:]
    for k, var in enumerate(jaxpr.jaxpr.outvars[carry:]):
        (size,) = _sizes([var.aval])
        steps = [ys[j][k] for j in range(length)]
        some = any(one is not None for one in steps)
        out.append(concatenated(steps, [size] * length) if some else None)
        out_known.append(None)
    return out, out_known


def _while(op: Operation, interpret: Interpret) -> Inside:
    params = op.params
    skipped, first = params["cond_nconsts"], params["body_nconsts"]
    jaxpr = params["body_jaxpr"]
    sets, known = op.sets[skipped:], op.known[skipped:]
    carry = len(sets) - first
    body = _body(
        jaxpr, [one is not None for one in sets], known, first, carry, interpret
    )
    sizes = _sizes([var.aval for var in jaxpr.jaxpr.invars])
    m = sum(sizes[first + k] for k in body.carried)
    out: list[Sets | None] = [None] * carry
    if not body.carried:
        return out, [None] * carry
    # all that goes into the loop, constants first, and one more column for each
    start = concatenated(
        [sets[k] for k in body.inputs], [sizes[k] for k in body.inputs]
    )
    entries = body.pattern.tocoo()
    low = start.size - m
    graph = csr_array(
        (np.ones(entries.nnz, bool), (entries.row + low, entries.col)),
        (start.size, start.size),
    )
    end = _reached(graph, start).take(np.arange(low, start.size))
    for k, part in zip(
        body.carried, _parts(end, [sizes[first + k] for k in body.carried])
    ):
        out[k] = part
    return out, [None] * carry


CALLS = frozenset(
    "jit pjit closed_call core_call remat remat2 checkpoint custom_jvp_call "
    "custom_vjp_call custom_vjp_call_jaxpr".split()
)

CONTROL: dict[str, Callable[[Operation, Interpret], Inside]] = {
    "cond": _cond,
    "scan": _scan,
    "while": _while,
    "custom_linear_solve": _linear_solve,
    "custom_lin": _only_backward,
} | dict.fromkeys(CALLS, _call)
