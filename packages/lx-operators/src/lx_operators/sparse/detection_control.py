"""Rules of calls and branches, on the programs inside."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from ._primitives import PROGRAMS
from .detection_rules import Operation, dense
from .detection_sets import Sets, concatenated, identity, positions, union
from .detection_values import Known, plain
from .product import index_of

Inside = tuple[list[Sets | None], list[Known | None]]
Interpret = Callable[[Jaxpr, list[Sets | None], list[Known | None]], Inside]
Rule = Callable[[Operation, Interpret], Inside]


def closed(jaxpr: Any, inputs: Inside, interpret: Interpret) -> Inside:
    """The outputs of a program, with or without constants of its own."""
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
    return closed(inner, (op.sets, op.known), interpret)


def _cond(op: Operation, interpret: Interpret) -> Inside:
    branches, index = op.params["branches"], op.value(0)
    inputs = (op.sets[1:], op.known[1:])
    if index is not None:
        number = int(np.clip(index, 0, len(branches) - 1))
        return closed(branches[number], inputs, interpret)
    outs = [closed(branch, inputs, interpret)[0] for branch in branches]
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
    return closed(jaxprs.solve, inputs, interpret)


def _only_backward(op: Operation, interpret: Interpret) -> Inside:
    """The derivative of a function with a custom vjp: its pattern, from the rows of
    what its backward pass does to a cotangent."""
    params, number = op.params, op.params["num_res"]
    zeros = params["in_zeros"]
    residuals = [var.aval for var in op.eqn.invars[:number]]
    outs = [var.aval for var in op.eqn.outvars]
    if params["symbolic_zeros"]:
        raise NotImplementedError
    there: list[bool] = []  # a cotangent that is zero may have no array

    def backward(*xs: Any) -> Any:
        cotangents = list(params["bwd"].call_wrapped(*xs))
        there[:] = [bool(jax.tree_util.tree_leaves(ct)) for ct in cotangents]
        return cotangents

    traced = jax.make_jaxpr(backward)(*map(_struct, (*residuals, *outs)))
    width = sum(sizes_of(outs))
    sets, start = [], 0
    for size in sizes_of(outs):
        sets.append(identity(size, width, start))
        start += size
    back, _ = closed(
        traced,
        ([None] * number + sets, op.known[:number] + [None] * len(outs)),
        interpret,
    )
    # of the inputs that vary, the outputs that each element is seen in
    found = iter(back)
    every_input = [next(found) if yes else None for yes in there]
    back = [one for one, zero in zip(every_input, zeros, strict=True) if not zero]
    sizes = sizes_of([var.aval for var in op.eqn.invars[number:]])
    given = op.sets[number:]
    if all(one is None for one in back):
        return [None] * len(outs), [None] * len(outs)
    seen = concatenated(back, sizes).matrix().tocoo()
    every = concatenated(given, sizes).combined(seen.col, seen.row, width)
    return parts_of(every, sizes_of(outs)), [None] * len(outs)


def _struct(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def sizes_of(avals: Sequence[Any]) -> list[int]:
    return [int(np.prod(aval.shape, dtype=int)) for aval in avals]


def parts_of(sets: Sets, sizes: Sequence[int]) -> list[Sets | None]:
    """The arrays of which `sets` is the concatenation."""
    out, start = [], 0
    for size in sizes:
        out.append(sets.take(np.arange(start, start + size)))
        start += size
    return out


def program(op: Operation, interpret: Interpret) -> Inside:
    """A primitive of our own: the function that it was made of."""
    fn = functools.partial(PROGRAMS[op.eqn.primitive.name], **op.params)
    traced = jax.make_jaxpr(fn)(*(_struct(var.aval) for var in op.eqn.invars))
    return closed(traced, (op.sets, op.known), interpret)


def _product(op: Operation, interpret: Interpret) -> Inside:
    """A product with a sparse matrix: each row of it reads the columns of its entries,
    and nothing where its layout pads it."""
    of_values, of_x = op.sets[:2]
    known: Any = index_of(op.params["tree"], op.known[2:])
    _, pattern = known
    if of_x is None or pattern.rows is None or pattern.columns is None:
        return program(op, interpret)
    axis = 1 if len(op.shapes[0]) > _AXES[op.eqn.primitive.name] else 0
    rows, columns = pattern.rows.numpy(), pattern.columns.numpy()
    to = np.take(positions(op.shape), rows, axis).reshape(-1)
    of = np.take(positions(op.shapes[1]), columns, axis).reshape(-1)
    found = of_x.combined(to, of, op.size)
    if of_values is not None:
        rest = op._replace(sets=[of_values] + [None] * (len(op.sets) - 1))
        (others,), _ = program(rest, interpret)
        found = _united([found, others])
    return [found], [None]


# The axes of a sparse matrix's values.
_AXES = {"sparse_product": 1, "sparse_laid_out_product": 2}

CALLS = frozenset(
    "jit pjit closed_call core_call remat remat2 checkpoint custom_jvp_call "
    "custom_vjp_call custom_vjp_call_jaxpr".split()
)

CONTROL: dict[str, Rule] = (
    {
        "cond": _cond,
        "custom_linear_solve": _linear_solve,
        "custom_lin": _only_backward,
    }
    | dict.fromkeys(_AXES, _product)
    | dict.fromkeys(CALLS, _call)
)
