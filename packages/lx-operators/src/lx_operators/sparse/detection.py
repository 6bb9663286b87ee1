"""Detection of the elements of a function's input on which its outputs depend."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import PyTree
from scipy.sparse import csr_array

from .._checks import check_callable
from .._closure import outcome
from .._structures import inexact, structure_of
from ._primitives import PROGRAMS
from .detection_control import CALLS, CONTROL, constant, program
from .detection_indexing import INDEXING
from .detection_loops import LOOPS
from .detection_rules import RULES, Operation, dense
from .detection_sets import Matrix, Sets, concatenated, identity
from .detection_values import Known, known_outputs
from .detection_windows import WINDOWS
from .pattern import SparsityPattern

_LOCAL = RULES | INDEXING | WINDOWS
_INSIDE = CONTROL | LOOPS


class _Interpreter:
    """Runs a program on sets in place of numbers."""

    def __init__(self) -> None:
        self.unknown: set[str] = set()  # the operations without a rule

    def __call__(
        self, jaxpr: Jaxpr, sets: list[Sets | None], known: list[Known | None]
    ) -> tuple[list[Sets | None], list[Known | None]]:
        names = (*jaxpr.constvars, *jaxpr.invars)
        found = {var: one for var, one in zip(names, sets) if one is not None}
        values = {var: one for var, one in zip(names, known) if one is not None}

        def value(var: Any) -> Known | None:
            if isinstance(var, Literal):
                aval: Any = var.aval
                return Known(np.asarray(var.val, aval.dtype))
            return values.get(var)

        def dependence(var: Any) -> Sets | None:
            return None if isinstance(var, Literal) else found.get(var)

        equations: list[Any] = jaxpr.eqns
        for eqn in equations:
            op = Operation(
                eqn,
                [dependence(var) for var in eqn.invars],
                [value(var) for var in eqn.invars],
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
        none: list[Any] = [None] * len(op.eqn.outvars)
        name = op.eqn.primitive.name
        if not op.given:
            known = known_outputs(op.eqn, op.known)
            # an inner program may compute indices of its own
            if name in CALLS and None in known:
                return self._inside(op)
            return none, known
        if name in _INSIDE or name in PROGRAMS:
            return self._inside(op)
        rule = _LOCAL.get(name)
        if rule is None:
            return self._dense(op), none
        return rule(op), none

    def _inside(self, op: Operation) -> Any:
        try:
            return _INSIDE.get(op.eqn.primitive.name, program)(op, self)
        except NotImplementedError:
            return self._dense(op), [None] * len(op.eqn.outvars)

    def _dense(self, op: Operation) -> list[Sets | None]:
        self.unknown.add(op.eqn.primitive.name)
        return dense(op)


def jacobian_sparsity(
    fn: Callable[[PyTree, PyTree], PyTree], x: PyTree, args: PyTree = None
) -> SparsityPattern:
    """The elements of ∂fn/∂x that may be nonzero, at any x.

    The pattern is read from the program of the Jacobian-vector product, which is traced
    with an abstract x and never run: each operation acts on sets of inputs instead of
    numbers. Elementwise operations unite sets; operations that move elements move sets.
    Loops are followed to their end, both branches of a condition are united, and for a
    function with only a custom vjp the backward pass is used.

    If an index depends on x, all elements that it may select are included, as are all
    that a sort, a maximum or a condition may select. Constant indices are exact, and a
    product with a constant zero is not an entry.

    The pattern holds for all values of floating and complex arrays, in `args` or closed
    over. Constants are: integers and booleans, NumPy arrays that `fn` closes over, and
    what `fn` computes from these alone.

    Args:
        fn: a function `(x, args) ↦ y`, of pytrees of floating or complex arrays.
        x: a pytree of arrays, or of `jax.ShapeDtypeStruct`.
        args: passed to `fn`.

    Returns:
        A `SparsityPattern`; its rows and columns follow the order of the leaves, each
        leaf raveled.

    Raises:
        ValueError: the pattern would have 2³¹ entries or more, or `fn` returns
            something other than floating or complex arrays.

    Warns:
        UserWarning: names operations whose sparsity is unknown. All their outputs are
            assumed to depend on all their inputs.

    ```python
    lx.jacobian_sparsity(lambda x, args: x[1:] * x[:-1], jnp.ones(4))
    # SparsityPattern([3, 4], 6 entries)
    ```
    """
    check_callable(fn)
    at = jtu.tree_map(_inexact, structure_of(x))
    leaves, treedef = jtu.tree_flatten(args)
    free = [_floats(leaf) for leaf in leaves]
    floats = [structure_of(leaf) for leaf, yes in zip(leaves, free) if yes]

    def tangent(x: PyTree, t: PyTree, floats: list[Any]) -> PyTree:
        given = iter(floats)
        every = [next(given) if yes else leaf for leaf, yes in zip(leaves, free)]
        fixed = jtu.tree_unflatten(treedef, every)
        return jax.jvp(lambda x: fn(x, fixed), (x,), (t,))[1]

    program, out = jax.make_jaxpr(tangent, return_shape=True)(at, at, floats)
    rows = _run(program, jtu.tree_leaves(at), outcome(out).leaves).tocoo()
    return SparsityPattern(rows.row, rows.col, rows.shape)


def _run(program: ClosedJaxpr, ins: Sequence[Any], outs: Sequence[Any]) -> Matrix:
    """The boolean matrix of a program whose inputs are x, its tangent and others."""
    width = sum(leaf.size for leaf in ins)
    consts: list[Known | None] = [constant(value) for value in program.consts]
    sets: list[Sets | None] = [None] * (len(consts) + len(program.jaxpr.invars))
    start = 0
    for k, leaf in enumerate(ins, len(consts) + len(ins)):
        sets[k] = identity(leaf.size, width, start)
        start += leaf.size
    known = consts + [None] * len(program.jaxpr.invars)
    interpreter = _Interpreter()
    found, _ = interpreter(program.jaxpr, sets, known)
    if interpreter.unknown:
        names = ", ".join(sorted(interpreter.unknown))
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
