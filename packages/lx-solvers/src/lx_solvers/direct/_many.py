"""One solver, many vectors, inside a larger solve."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Inexact, PyTree

from .._solution import RESULTS
from .._solver import AbstractLinearSolver


def many(
    solver: AbstractLinearSolver, state: Any, vectors: Inexact[Array, "*m k"]
) -> tuple[Inexact[Array, "*n k"], RESULTS]:
    """Solutions along the last axis, and how the first that failed did so."""

    def one(vector: Array) -> tuple[PyTree[Array], RESULTS]:
        x, result, _ = solver.compute(state, vector, {})
        return x, result

    x, results = jax.vmap(one, in_axes=-1, out_axes=(-1, 0))(vectors)
    return x, first_failure(results)


def first_failure(results: RESULTS) -> RESULTS:
    """Of results along one axis."""
    (codes,) = jtu.tree_leaves(results)
    if jnp.ndim(codes) == 0:  # the same for all
        return results
    if codes.size == 0:
        return RESULTS.successful
    failed = results != RESULTS.successful
    return jtu.tree_map(lambda code: code[jnp.argmax(failed)], results)


def both(first: RESULTS, second: RESULTS) -> RESULTS:
    """The first that is not successful."""
    return RESULTS.where(first == RESULTS.successful, second, first)
