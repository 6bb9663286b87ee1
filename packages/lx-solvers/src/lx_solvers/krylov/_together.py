"""Block methods: right-hand sides of one `vmap`, solved together.

A block method computes solutions that nothing checks. The method for one right-hand
side then starts from each, which costs one product where it passes, and further steps
where it does not; so results and tolerances are that method's, column by column.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jax.custom_batching import custom_vmap
from jaxtyping import Array, PyTree

from .._solver import AbstractLinearSolver, Options
from ._driver import Outcome


def solve_together(
    solver: Any,
    alone: Callable[[Any], AbstractLinearSolver],
    block: Callable[..., tuple[PyTree[Array], Array]],
    state: Any,
    vector: PyTree[Array],
    options: Options,
) -> Outcome:
    """`compute` of a block method: by `alone`, unless a `vmap` over vectors alone makes
    it a batch.

    Args:
        solver: the block method.
        alone: from it to the method for one right-hand side.
        block: from the solver, the state, vectors (with an axis in front) and options
            to solutions, and the number of steps.
        state, vector, options: as for `AbstractLinearSolver.compute`.
    """
    arrays, static = eqx.partition((solver, state, options), eqx.is_array)
    arrays, treedef = jtu.tree_flatten(arrays)

    def joined(arrays: list[Array]) -> tuple[Any, Any, Options]:
        return eqx.combine(jtu.tree_unflatten(treedef, arrays), static)

    def one(arrays: list[Array], vector: PyTree[Array]) -> Outcome:
        solver, state, options = joined(arrays)
        x, result, stats = alone(solver).compute(state, vector, options)
        stats = {**stats, "block_steps": jnp.int32(0)}
        return x, result, jtu.tree_map(jnp.asarray, stats)

    def together(arrays: list[Array], vectors: PyTree[Array]) -> Outcome:
        solver, state, options = joined(arrays)
        guess, steps = block(solver, state, vectors, options)

        @jax.vmap
        def each(vector: PyTree[Array], y0: PyTree[Array]) -> Outcome:
            options_ = {**options, "y0": y0}
            x, result, stats = alone(solver).compute(state, vector, options_)
            count = stats["num_steps"] + steps
            stats = {**stats, "num_steps": count, "block_steps": steps}
            return x, result, jtu.tree_map(jnp.asarray, stats)

        return each(vectors, guess)

    solve = custom_vmap(one)

    @solve.def_vmap
    def _(size: int, batched: Any, arrays: list[Array], vectors: PyTree[Array]):
        def axes(flags: Any) -> Any:
            return jtu.tree_map(lambda flag: 0 if flag else None, flags)

        if any(batched[0]) or not all(jtu.tree_leaves(batched[1])):
            many = jax.vmap(one, (axes(batched[0]), axes(batched[1])), 0, size)
            end = many(arrays, vectors)
        else:
            end = together(arrays, vectors)
        return end, jtu.tree_map(lambda _: True, end)

    return solve(arrays, vector)
