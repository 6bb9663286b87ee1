"""Which elements of a function's output depend on which elements of its input."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.extend.core import Jaxpr, Literal
from jaxtyping import PyTree
from scipy.sparse import csr_array

from .._closure import outcome
from .._structures import inexact, size_of, structure_of
from .detection_control import CONTROL, constant
from .detection_indexing import INDEXING
from .detection_rules import RULES, Operation, dense
from .detection_sets import Sets, concatenated, identity
from .detection_values import Known, known_outputs
from .detection_windows import WINDOWS

_LOCAL = RULES | INDEXING | WINDOWS


class _Interpreter:
    """Runs a program on sets in place of numbers."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()  # the operations that no rule is for

    def __call__(
        self, jaxpr: Jaxpr, sets: list[Sets | None], known: list[Known | None]
    ) -> tuple[list[Sets | None], list[Known | None]]:
        names = (*jaxpr.constvars, *jaxpr.invars)
        found = {var: one for var, one in zip(names, sets) if one is not None}
        values = {var: one for var, one in zip(names, known) if one is not None}

        def value(var: Any) -> Known | None:
            if isinstance(var, Literal):
                return Known(np.asarray(var.val, var.aval.dtype))
            return values.get(var)

        def dependence(var: Any) -> Sets | None:
            return None if isinstance(var, Literal) else found.get(var)

        for eqn in jaxpr.eqns:
            op = (
                Operation(
                    eqn,
                    *map(
                        list,
                        zip(*((dependence(var), value(var)) for var in eqn.invars)),
                    ),
                )
                if eqn.invars
                else Operation(eqn, [], [])
            )
            outs, outs_known = self._equation(op)
            for var, one, known_one in zip(eqn.outvars, outs, outs_known):
                if one is not None and jnp.issubdtype(var.aval.dtype, jnp.inexact):
                    found[var] = one
                if known_one is not None:
                    values[var] = known_one
        return (
            [dependence(var) for var in jaxpr.outvars],
            [value(var) for var in jaxpr.outvars],
        )

    def _equation(self, op: Operation) -> tuple[list[Sets | None], list[Known | None]]:
        none = [None] * len(op.eqn.outvars)
        name = op.eqn.primitive.name
        if not op.given:
            known = known_outputs(op.eqn, op.known)
            if name in CONTROL and any(one is None for one in known):
                return self._inside(op) if _is_call(op) else (none, none)
            return none, known
        if name in CONTROL:
            return self._inside(op)
        rule = _LOCAL.get(name)
        if rule is None:
            return self._dense(op), none
        return rule(op), none

    def _inside(self, op: Operation) -> Any:
        try:
            return CONTROL[op.eqn.primitive.name](op, self)
        except NotImplementedError:
            return self._dense(op), [None] * len(op.eqn.outvars)

    def _dense(self, op: Operation) -> list[Sets | None]:
        self.unknown.add(op.eqn.primitive.name)
        return dense(op)


def _is_call(op: Operation) -> bool:
    return "branches" not in op.params and op.eqn.primitive.name in (
        "jit",
        "pjit",
        "closed_call",
        "core_call",
    )


def detect(
    fn: Callable[[PyTree, PyTree], PyTree], x: PyTree, args: PyTree
) -> csr_array:
    """The pattern of ∂fn/∂x as a boolean SciPy matrix."""
    at = jtu.tree_map(_inexact, structure_of(x))
    leaves, treedef = jtu.tree_flatten(args)
    moves = [_floats(leaf) for leaf in leaves]
    free = [structure_of(leaf) for leaf, moving in zip(leaves, moves) if moving]

    def tangent(x: PyTree, t: PyTree, floats: list[Any]) -> PyTree:
        given = iter(floats)
        every = [next(given) if yes else y for yes, y in zip(moves, leaves)]
        fixed = jtu.tree_unflatten(treedef, every)
        return jax.jvp(lambda x: fn(x, fixed), (x,), (t,))[1]

    traced, out = jax.make_jaxpr(tangent, return_shape=True)(at, at, free)
    outs = outcome(out).leaves
    ins = jtu.tree_leaves(at)
    width = size_of(at)
    sets: list[Sets | None] = [None] * len(traced.jaxpr.invars)
    start = 0
    for k, leaf in enumerate(ins, len(ins)):
        sets[k] = identity(leaf.size, width, start)
        start += leaf.size
    consts = [constant(value) for value in traced.consts]
    interpret = _Interpreter()
    found, _ = interpret(
        traced.jaxpr,
        [None] * len(consts) + sets,
        consts + [None] * len(sets),
    )
    if interpret.unknown:
        names = ", ".join(sorted(interpret.unknown))
        warnings.warn(
            f"the sparsity of these operations is not known: {names}. Each of their "
            "outputs is taken to depend on all of their inputs.",
            stacklevel=3,
        )
    sizes = [leaf.size for leaf in outs]
    if all(one is None for one in found):
        return csr_array((sum(sizes), width), dtype=bool)
    rows = concatenated(found, sizes).matrix()
    rows.sort_indices()
    return rows


def _inexact(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, inexact(leaf.dtype))


def _floats(leaf: Any) -> bool:
    """Whether an argument is an array of floating or complex numbers, of any value."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
