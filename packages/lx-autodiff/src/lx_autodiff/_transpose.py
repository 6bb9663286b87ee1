"""The transposed solve: b ↦ A†b is linear, and its transpose is c ↦ (Aᵀ)†c."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu
from jax.interpreters import ad
from jaxtyping import Array

from ._method import transposed, without_first_guess
from ._primitive import DERIVATIVE_FAILURE, Spec, linear_solve_p, solve


def _transpose(
    cotangents: Sequence[Any], *operands: Any, spec: Spec
) -> list[Array | None]:
    linear = [ad.is_undefined_primal(operand) for operand in operands]
    _check_linear(linear, spec)
    known = [operand for operand, yes in zip(operands, linear) if not yes]
    cotangents = [
        ad.instantiate_zeros(ct) for ct in cotangents[: spec.solution.num_leaves]
    ]

    def rule(known: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        each = iter(known)
        arrays = [None if yes else next(each) for yes in linear]
        problem, _ = spec.static.join(arrays)
        problem = without_first_guess(transposed(problem))
        vector = jtu.tree_unflatten(spec.solution, cotangents)
        on_failure = DERIVATIVE_FAILURE[spec.on_failure]
        out, _, _ = solve(problem, vector, on_failure, "transposed")
        # The vector's arrays are the last ones.
        out = jtu.tree_leaves(out)
        return [x for x, yes in zip(out, linear[len(linear) - len(out) :]) if yes]

    for batch in spec.batches:
        rule = _batched(rule, batch, linear, len(cotangents))
    out = iter(rule(known, cotangents))
    return [next(out) if yes else None for yes in linear]


def _check_linear(linear: list[bool], spec: Spec) -> None:
    problem, _ = spec.static.join_tangents(linear)
    if any(jtu.tree_leaves(problem)):
        raise ValueError(
            "a solve is linear in `vector` alone: it cannot be transposed with respect "
            "to its operator. Apply `jax.vjp` instead of `jax.linear_transpose`."
        )


def _batched(rule, batch, linear: list[bool], size: int):
    """`rule` under one `vmap`. The cotangent of an operand that was not batched is the
    sum over the batch."""
    known_axes = [axis for axis, yes in zip(batch.axes, linear) if not yes]
    linear_axes = [axis for axis, yes in zip(batch.axes, linear) if yes]
    mapped = batch.map(
        rule,
        in_axes=(known_axes, [0] * size),
        out_axes=[0 if axis is None else axis for axis in linear_axes],
    )

    def summed(known: Sequence[Array], cotangents: Sequence[Array]) -> list[Array]:
        out = mapped(known, cotangents)
        return [
            jnp.sum(x, axis=0) if axis is None else x
            for x, axis in zip(out, linear_axes)
        ]

    return summed


ad.primitive_transposes[linear_solve_p] = _transpose
