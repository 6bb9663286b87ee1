"""Functions together with the arrays they close over, as pytrees.

A function is traced once, to a jaxpr. The arrays it closes over, tracers of surrounding
transformations included, become leaves, so that the function can cross `jit`, `grad`
and `vmap` and be differentiated with respect to them. The trace also gives the
structure of the output. Functions with equal jaxprs are equal, so that they share
compiled programs.
"""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jaxtyping import Array, PyTree

from ._jaxprs import canonical
from ._structures import Frozen, describe, freeze
from ._varying import examples, manual_axes, vary


class Closure(eqx.Module):
    """A traced function of pytrees of arrays. Everything else in its arguments is
    fixed."""

    consts: list[Array]
    jaxpr: Jaxpr = eqx.field(static=True)
    fixed: tuple[Any, ...] = eqx.field(static=True)  # per leaf; None where an array is
    out: Frozen = eqx.field(static=True)
    axes: frozenset[str] = eqx.field(static=True)  # of `shard_map`, around the trace

    def __call__(self, *args: PyTree[Any]) -> PyTree[Array]:
        leaves = jtu.tree_leaves(args)
        if not self._fits(leaves):
            raise ValueError(
                "a function was traced with other arguments than it is called with: "
                "besides arrays, its arguments cannot change. Build the operator anew, "
                "or make Python numbers in `args` arrays."
            )
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        arrays = vary(arrays, self.axes)
        flat = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, self.consts))(*arrays)
        # A constant output of a jaxpr keeps its own dtype, weakly typed.
        flat = [jnp.asarray(y, leaf.dtype) for y, leaf in zip(flat, self.out.leaves)]
        return jtu.tree_unflatten(self.out.treedef, flat)

    # A traced program is never changed, so that a copy may share it.
    def __deepcopy__(self, memo: dict) -> "Closure":
        consts = copy.deepcopy(self.consts, memo)
        return Closure(consts, self.jaxpr, self.fixed, self.out, self.axes)

    def __reduce__(self) -> Any:
        raise pickle.PicklingError(
            "the operator holds a traced function, which cannot be pickled. Store it "
            "as arrays first, by `materialise(operator)`; or build it from a function "
            "that is defined at the top of a module, with `closure_convert=False`."
        )

    def _fits(self, leaves: list[Any]) -> bool:
        fixed = tuple(None if _is_array(leaf) else leaf for leaf in leaves)
        return fixed == self.fixed


def close(fn: Callable, *args: PyTree[Any]) -> Closure:
    """`fn` traced at arguments of these shapes and dtypes (arrays, or structures)."""
    leaves, treedef = jtu.tree_flatten(args)
    fixed = tuple(None if _is_array(leaf) else leaf for leaf in leaves)

    def of_arrays(*arrays: Array) -> PyTree[Array]:
        given = iter(arrays)
        leaves = [next(given) if x is None else x for x in fixed]
        return fn(*jtu.tree_unflatten(treedef, leaves))

    axes = manual_axes()
    arrays = examples([leaf for leaf in leaves if _is_array(leaf)], axes)
    closed, out = jax.make_jaxpr(of_arrays, return_shape=True)(*arrays)
    jaxpr = canonical(closed.jaxpr)
    # JAX 0.7.2 has its own type for NumPy's arrays here, which is not an array
    arrays = jax.Array, np.ndarray
    consts: list[Any] = [
        c if isinstance(c, arrays) else np.asarray(c) for c in closed.consts
    ]
    return Closure(consts, jaxpr, fixed, outcome(out), axes)


def outcome(out: PyTree[Any]) -> Frozen:
    """The structure of what a function returns: floating or complex arrays."""
    for leaf in jtu.tree_leaves(out):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(
                "`fn` must return a pytree of floating or complex arrays, but returned "
                f"{repr(leaf) if dtype is None else describe(out)}; convert it with "
                "`jnp.asarray(..., dtype=...)`."
            )
    return freeze(out)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")
