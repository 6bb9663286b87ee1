"""The tangent of a solve: the rule of the primitive, by `solution_tangent`."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.interpreters import ad
from jaxtyping import Array, PyTree
from lx_solvers import RESULTS
from lx_solvers.internal import code

from ._derivative import solution_tangent
from ._method import Problem
from ._primitive import Batch, Spec, linear_solve_p


def _jvp(
    primals: Sequence[Array], tangents: Sequence[Any], *, spec: Spec
) -> tuple[list[Array], list[Any]]:
    out = linear_solve_p.bind(*primals, spec=spec)
    given = [type(tangent) is not ad.Zero for tangent in tangents]
    size = spec.solution.num_leaves
    stats = jtu.tree_unflatten(spec.tree, out)[2]
    deficient = [stats[key] for key in ("rank_deficient",) if key in stats]

    def rule(
        primals: Sequence[Array],
        solution: Sequence[Array],
        result: Array,
        deficient: Sequence[Array],
        moving: Sequence[Array],
    ) -> list[Array]:
        problem, vector = spec.static.join(primals)
        each = iter(moving)
        tangents = [next(each) if yes else None for yes in given]
        problem_tangent, vector_tangent = spec.static.join_tangents(tangents)
        _check_solver(problem_tangent)
        dx = solution_tangent(
            problem,
            vector,
            jtu.tree_unflatten(spec.solution, solution),
            problem_tangent.operator,
            _instantiated(vector_tangent, vector),
            problem_tangent.damp,
            spec,
        )
        if spec.on_failure != "raise":
            dx = _nan_unless(jax.lax.eq(result, code(RESULTS.successful)), dx)
        if deficient and jtu.tree_leaves(problem_tangent.operator):
            # the solver assumes full rank, and its formula was taken
            dx = _nan_unless(~deficient[0], dx)
        return jtu.tree_leaves(dx)

    def axes(batch: Batch) -> Any:
        moving = [axis for axis, yes in zip(batch.axes, given) if yes]
        return list(batch.axes), [0] * size, 0, [0] * len(deficient), moving

    moving = [tangent for tangent, yes in zip(tangents, given) if yes]
    dx = spec.batched(rule, axes)(
        list(primals), out[:size], out[size], deficient, moving
    )
    # How a solve went has no derivative.
    rest = (ad.Zero(jax.typeof(x).to_tangent_aval()) for x in out[size:])
    return out, [*dx, *rest]


def _nan_unless(condition: Array, dx: PyTree[Array]) -> PyTree[Array]:
    """dx, or NaN: as a product, whose transpose is NaN as well."""

    def times_one_or_nan(x: Array) -> Array:
        one, nan = (np.asarray(value, x.dtype) for value in (1.0, np.nan))
        return x * jax.lax.select(condition, one, nan)

    return jtu.tree_map(times_one_or_nan, dx)


def _instantiated(tangent: PyTree, primal: PyTree[Array]) -> PyTree[Array] | None:
    """A tangent with zeros where it is None; None where all of it is."""
    if not jtu.tree_leaves(tangent):
        return None
    return jtu.tree_map(
        lambda x, t: jnp.zeros_like(x) if t is None else t, primal, tangent
    )


def _check_solver(tangent: Problem) -> None:
    """Only `damp` may move, and has been taken out of the solver.

    Raises:
        ValueError: names the other fields that do.
    """
    methods = [tangent.forward, tangent.backward]
    solvers = [method.solver for method in methods if method is not None]
    moving = jtu.tree_flatten_with_path(solvers)[0]
    if moving:
        names = sorted({jtu.keystr(path[1:]).removeprefix(".") for path, _ in moving})
        raise ValueError(
            "a solve cannot be differentiated with respect to these fields of its "
            f"solver: {', '.join(f'`{name}`' for name in names)}. They depend on the "
            "differentiated variables; apply `jax.lax.stop_gradient` to them."
        )


ad.primitive_jvps[linear_solve_p] = _jvp
