"""Rules of loops.

A loop's body is looked at once (or a few times, until it is known which carried arrays
vary with x): its pattern P, from the arrays that go into a step to those that come out.
A `scan` has c₁ = w₁ ∪ P c₀, c₂ = w₂ ∪ P c₁, …, where w is what comes from outside; all
steps together take log₂(length) products. A `while_loop` may take any number of steps,
and its arrays depend on all that can be reached in the graph of P.
"""

from typing import NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr
from scipy.sparse import csr_array

from .detection_control import Inside, Interpret, Rule, closed, parts_of, sizes_of
from .detection_rules import Operation
from .detection_sets import Matrix, Sets, concatenated, everything, identity, union
from .detection_values import Known

_STEPS = 512  # equations that are looked at in a loop whose steps are looked at singly
_ROOM = 4_000_000  # entries of a step's pattern, times the number of steps
_REACH = 2**26  # entries of the pattern of many steps


class _Body(NamedTuple):
    """A loop's body: which outputs depend on which inputs, within one step."""

    inputs: list[int]  # the numbers of the inputs that vary
    carried: list[int]  # and of the carried arrays among them, of all carried
    outs: list[int]  # the numbers of the other outputs that vary
    pattern: Matrix  # rows: carried, then other outputs; columns: inputs


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
    sizes = sizes_of([var.aval for var in jaxpr.jaxpr.invars])
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
        outs, _ = closed(jaxpr, (sets, known), interpret)
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
    out_sizes = sizes_of([var.aval for var in inner.outvars])
    rows = [*carried, *others]
    if all(outs[k] is None for k in rows):
        total = sum(out_sizes[k] for k in rows)
        pattern: Matrix = csr_array((total, width), dtype=bool)
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
    in_sizes = sizes_of([var.aval for var in inner.invars])
    out_sizes = sizes_of([var.aval for var in inner.outvars])
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
    power: Matrix = csr_array(
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
        parts = parts_of(end, [out_sizes[k] for k in body.carried])
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


def _recurrence(power: Matrix, stack: Sets, length: int) -> Sets:
    """c[j] = w[j] ∪ P c[j − 1] for all j, by doubling: after k rounds the union of
    Pᵈ w[j − d] over d < 2ᵏ."""
    m, step = power.shape[0], 1
    original = power
    while step <= length and power.nnz:
        if (length + 1) * power.nnz > _REACH:
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


def _reached(power: Matrix, start: Sets) -> Sets:
    """Each element, after any number of steps: the union over all that lead to it.

    Elements that lead to each other end with one set: strongly connected components,
    and then doubling on the acyclic graph between them.
    """
    # takes as long to import as all else here, and most functions have no such loop
    from scipy.sparse.csgraph import connected_components

    count, labels = connected_components(power, directed=True, connection="strong")
    out = start.reduced(labels, count)
    entries = power.tocoo()
    to, of = labels[entries.row], labels[entries.col]
    apart = to != of
    ones = np.ones(int(apart.sum()) + count, bool)
    own = np.arange(count)
    to, of = np.r_[to[apart], own], np.r_[of[apart], own]
    step: Matrix = csr_array((ones, (to, of)), (count, count))
    step.sum_duplicates()  # which older versions of SciPy leave
    while True:
        twice = (step @ step).astype(bool)
        if twice.nnz > _REACH:
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
    sizes = sizes_of([var.aval for var in jaxpr.jaxpr.invars[last:]])
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
        outs, outs_known = closed(jaxpr, (sets + xs, known + values), interpret)
        sets = sets[:first] + outs[:carry]
        known = known[:first] + outs_known[:carry]
        ys[j] = outs[carry:]
    out, out_known = sets[first:], known[first:]
    for k, var in enumerate(jaxpr.jaxpr.outvars[carry:]):
        (size,) = sizes_of([var.aval])
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
    sizes = sizes_of([var.aval for var in jaxpr.jaxpr.invars])
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
        body.carried, parts_of(end, [sizes[first + k] for k in body.carried])
    ):
        out[k] = part
    return out, [None] * carry


LOOPS: dict[str, Rule] = {"scan": _scan, "while": _while}
