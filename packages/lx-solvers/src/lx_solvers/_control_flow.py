"""Loops and branches that also run inside `shard_map`.

Inside `shard_map` an array's type says over which mesh axes its values vary, and the
values that a loop carries must keep their types: initial zeros do not vary, but the
terms added to them do. So all carried values are declared to vary over every axis that
some input varies over.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.custom_batching import custom_vmap
from jaxtyping import Array
from lx_operators.internal import vary, varying_axes

_Carry = TypeVar("_Carry")
_Result = TypeVar("_Result")


def while_loop(
    running: Callable[[_Carry], Any],
    step: Callable[[_Carry], _Carry],
    start: _Carry,
    inputs: Any,
) -> _Carry:
    """`jax.lax.while_loop`; `inputs`: all arrays that `step` closes over."""
    axes = varying_axes((start, inputs))
    return jax.lax.while_loop(
        running, lambda carry: vary(step(carry), axes), vary(start, axes)
    )


def while_some(
    running: Callable[[_Carry], Any],
    step: Callable[[_Carry], _Carry],
    start: _Carry,
    inputs: Any,
) -> _Carry:
    """As `while_loop`, for a `step` that keeps by `kept` what is to last. Under `vmap`
    all members of a batch go on until the last has ended, and JAX need not choose
    between new and old for each array that the loop carries."""
    return while_loop(lambda carry: _anywhere(running(carry)), step, start, inputs)


def kept(running: Any, new: _Result, old: _Result) -> _Result:
    """The new; under `vmap` the old of a member of the batch that has ended."""
    return _own(running, new, old)


def cond(
    condition: Any,
    yes: Callable[[_Carry], _Result],
    no: Callable[[_Carry], _Result],
    operand: _Carry,
) -> _Result:
    """`jax.lax.cond` for two functions that close over nothing that varies over other
    axes than the operand, or over fewer: under `vmap` JAX makes all that a branch reads
    vary as the condition does. So a branch makes its constants itself.

    Under `vmap`, where `jax.lax.cond` runs both branches, `yes` runs only if some
    member of the batch asks for it. `no`, which others take, is to be cheap.
    """
    operand = vary(operand, varying_axes(operand))
    taken = cond_for_all(condition, yes, no, operand)
    return _own(condition, taken, vary(no(operand), varying_axes(operand)))


def cond_for_all(
    condition: Any,
    yes: Callable[[_Carry], _Result],
    no: Callable[[_Carry], _Result],
    operand: _Carry,
) -> _Result:
    """`cond`, but under `vmap` all members of the batch take the branch `yes` if the
    condition holds for any of them."""
    axes = varying_axes(operand)
    operand = vary(operand, axes)

    def varying(branch: Callable[[_Carry], _Result]) -> Callable[[_Carry], _Result]:
        return lambda x: vary(branch(x), axes)

    return jax.lax.cond(_anywhere(condition), varying(yes), varying(no), operand)


def unless_clear(
    clear: Callable[..., Array],
    decide: Callable[..., _Result],
    otherwise: Callable[..., _Result],
) -> Callable[..., _Result]:
    """The function `decide` of arrays. In a batch whose members are all `clear` it is
    `otherwise`. XLA computes no result of either that is not used."""
    function = custom_vmap(decide)

    def in_batch(*operands: Array) -> _Result:
        def needed(operands: tuple[Array, ...]) -> _Result:
            return decide(*operands)

        def not_needed(operands: tuple[Array, ...]) -> _Result:
            return otherwise(*operands)

        return cond_for_all(~clear(*operands), needed, not_needed, operands)

    @function.def_vmap
    def _(size: int, batched: Any, *operands: Array) -> tuple[_Result, Any]:
        axes = [0 if flag else None for flag in batched]
        out = jax.vmap(in_batch, axes, axis_size=size)(*operands)
        return out, jtu.tree_map(lambda _: True, out)

    return function


@custom_vmap
def _anywhere(condition: Array) -> Array:
    """The condition; under `vmap`, whether it holds for any member of the batch."""
    return condition


@_anywhere.def_vmap
def _(size: int, batched: Any, condition: Array) -> tuple[Array, bool]:
    return _anywhere(jnp.any(condition)), False


@custom_vmap
def _own(condition: Array, taken: _Result, otherwise: _Result) -> _Result:
    """The branch that was taken; under `vmap` only where the condition holds."""
    return taken


@_own.def_vmap
def _(size: int, batched: Any, *choice: Any) -> tuple[Any, Any]:
    def select(condition: Array, taken: Any, otherwise: Any) -> Any:
        pick = functools.partial(jnp.where, condition)
        return jtu.tree_map(pick, taken, otherwise)

    axes = jtu.tree_map(lambda flag: 0 if flag else None, tuple(batched))
    chosen = jax.vmap(select, axes, axis_size=size)(*choice)
    return chosen, jtu.tree_map(lambda _: True, chosen)


def scan(
    step: Callable[[_Carry, Any], tuple[_Carry, Any]],
    start: _Carry,
    xs: Any,
    *,
    inputs: Any = (),
    reverse: bool = False,
) -> tuple[_Carry, Any]:
    """`jax.lax.scan`, likewise."""
    axes = varying_axes((start, xs, inputs))

    def varying_step(carry: _Carry, x: Any) -> tuple[_Carry, Any]:
        carry, y = step(carry, x)
        return vary(carry, axes), y

    return jax.lax.scan(varying_step, vary(start, axes), xs, reverse=reverse)
