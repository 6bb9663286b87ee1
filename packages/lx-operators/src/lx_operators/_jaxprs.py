"""Makes equal jaxprs one object.

JAX compares jaxprs by identity. A function that is traced again at every call would be
a new static value each time, and everything that has it in a static field would be
compiled again. So a new jaxpr is looked up among those that are alive, and the old one
is used if they differ only in the names of variables. Jaxprs that cannot be compared
count as different.
"""

import weakref
from collections.abc import Hashable, Iterable
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var

_seen: dict[Hashable, weakref.WeakSet[Jaxpr]] = {}
_ROOM = 1024  # outlines, before those without a living jaxpr are dropped


def canonical(jaxpr: Jaxpr) -> Jaxpr:
    """An equal jaxpr that was seen before, or this one."""
    if len(_seen) > _ROOM:
        for outline in [key for key, jaxprs in _seen.items() if not jaxprs]:
            del _seen[outline]
    alike = _seen.setdefault(_outline(jaxpr), weakref.WeakSet())
    for other in list(alike):
        if _same_jaxpr(jaxpr, other):
            return other
    alike.add(jaxpr)
    return jaxpr


def _outline(jaxpr: Jaxpr) -> Hashable:
    """A quick summary to compare first: the inputs and the operations."""
    avals = tuple(str(var.aval) for var in (*jaxpr.constvars, *jaxpr.invars))
    return avals, tuple(eqn.primitive.name for eqn in jaxpr.eqns)


def _same_jaxpr(a: Jaxpr, b: Jaxpr) -> bool:
    names: dict[Var, Var] = {}

    def bind(xs: Iterable[Var], ys: Iterable[Var]) -> bool:
        pairs = list(zip(xs, ys))
        names.update(pairs)
        return all(x.aval == y.aval for x, y in pairs)

    def read(x: Any, y: Any) -> bool:
        if isinstance(x, Literal) and isinstance(y, Literal):
            return x.aval == y.aval and _same_number(x.val, y.val)
        return not isinstance(x, Literal) and names.get(x) is y

    if _sizes(a) != _sizes(b) or a.effects != b.effects:
        return False
    if not (bind(a.constvars, b.constvars) and bind(a.invars, b.invars)):
        return False
    for one, two in zip(a.eqns, b.eqns):
        same = (
            one.primitive is two.primitive
            and _sizes(one) == _sizes(two)
            and one.effects == two.effects
            and one.ctx == two.ctx
            and all(map(read, one.invars, two.invars))
            and _same(one.params, two.params)
            and bind(one.outvars, two.outvars)
        )
        if not same:
            return False
    return all(map(read, a.outvars, b.outvars))


def _sizes(x: Any) -> tuple[int, ...]:
    parts = (
        getattr(x, name, ()) for name in ("constvars", "invars", "outvars", "eqns")
    )
    return tuple(map(len, parts))


def _same_number(x: Any, y: Any) -> bool:
    """Equal to the last bit: 0.0 is not -0.0."""
    x, y = np.asarray(x), np.asarray(y)
    return (x.dtype, x.shape) == (y.dtype, y.shape) and x.tobytes() == y.tobytes()


def _same(x: Any, y: Any) -> bool:
    """Whether two parameters of an operation are equal."""
    if x is y:
        return True
    if type(x) is not type(y):
        return False
    match x:
        case ClosedJaxpr():
            consts = len(x.consts) == len(y.consts)
            consts = consts and all(c is d for c, d in zip(x.consts, y.consts))
            return consts and _same_jaxpr(x.jaxpr, y.jaxpr)
        case Jaxpr():
            return _same_jaxpr(x, y)
        case dict():
            return x.keys() == y.keys() and all(_same(x[key], y[key]) for key in x)
        case list() | tuple():
            return len(x) == len(y) and all(map(_same, x, y))
        case float() | complex():
            return repr(x) == repr(y)
        case np.ndarray() | jax.Array():
            return False
    try:
        return bool(x == y)
    except (TypeError, ValueError):
        return False
