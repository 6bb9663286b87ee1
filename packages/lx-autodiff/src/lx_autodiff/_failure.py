"""Errors of failed solves."""

from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree
from lx_operators import FunctionLinearOperator
from lx_operators.internal import known, manual_axes, self_adjoint_tags, summary
from lx_solvers import RESULTS, Solution
from lx_solvers.internal import NAMES, code

Stage = Literal["forward", "tangent", "transposed"]

_STAGES = {
    "forward": "A linear solve failed",
    "tangent": "A linear solve in a forward-mode derivative failed",
    "transposed": "A linear solve with the transpose, for a derivative, failed",
}

_WAY_OUT = "To have failures in `Solution.result` instead, pass `throw=False`."


def _texts(
    names: Sequence[str], operator: Any, solver: Any, stage: Stage, figures: str = ""
) -> list[str]:
    """For each way to fail: which solve failed, of what, how, and what to try."""
    about = (
        f"Operator: {summary(operator)}",
        f"Solver: {solver!r}",
        *([figures] if figures else []),
        _WAY_OUT,
    )
    further = _further(operator, solver)
    texts = []
    for name in names:
        lines = (
            f"{_STAGES[stage]}: {name}.",
            RESULTS[getattr(RESULTS, name)],
            *further.get(name, ()),
            *about,
        )
        texts.append("\n".join(lines))
    return texts


def _further(operator: Any, solver: Any) -> dict[str, list[str]]:
    """What else to try, in addition to the item's own text."""
    if not hasattr(getattr(solver, "inner_solver", solver), "rtol"):
        return {}
    loosen = "Or loosen `rtol` and `atol`, or pass a preconditioner in `options`."
    verify = []
    if _has_function(operator):
        verify.append(
            "The operator is a function: `verify(operator, key)` tells whether it is "
            "linear, and whether its tags hold."
        )
    elif known(operator) & self_adjoint_tags:
        verify.append("Or check whether its tags are true: `verify(operator, key)`.")
    further = dict.fromkeys(("breakdown", "stagnation"), verify)
    return {**further, "max_steps_reached": [loosen, *verify]}


def _has_function(operator: Any) -> bool:
    """Whether any part of an operator is a user's function, taken to be linear."""
    parts = jtu.tree_leaves(operator, is_leaf=_is_function)
    return any(map(_is_function, parts))


def _is_function(node: Any) -> bool:
    return isinstance(node, FunctionLinearOperator)


def raise_on_failure(
    value: PyTree[Array], result: RESULTS, operator: Any, solver: Any, stage: Stage
) -> PyTree[Array]:
    """`value`, whose computation raises at run time if the solve failed."""
    if not jtu.tree_leaves(value):  # no array to hang the error on
        return value
    texts = _texts(NAMES, operator, solver, stage)
    number = code(result)
    mesh = None if manual_axes() else _mesh(operator)
    if mesh is not None:
        # The callback of an error runs on one device, for which the others would wait
        # without end. So each has its own.
        def every(number: Array) -> Array:
            zero = jnp.zeros((), jnp.int32)
            return eqx.branched_error_if(zero, number != 0, number, texts)

        here: Any = jax.sharding.get_abstract_mesh()
        mesh, whole = mesh if here.empty else here, PartitionSpec()
        zero = jax.shard_map(
            every, mesh=mesh, in_specs=whole, out_specs=whole, check_vma=False
        )(number)
        return _after(zero, value)
    if not manual_axes():
        return eqx.branched_error_if(value, number != 0, number, texts)
    # Inside `shard_map` what an error's callback would return varies over no mesh axis,
    # while the value does: they are no branches of one `cond`. So the error hangs on a
    # number that does not vary, which the value is made to wait for.
    zero = jnp.zeros((), jnp.int32)
    zero = eqx.branched_error_if(zero, number != 0, number, texts)
    return _after(zero, value)


def _after(zero: Array, value: PyTree[Array]) -> PyTree[Array]:
    """`value`, computed when zero is."""
    return jtu.tree_map(lambda x: jnp.where(zero == 0, x, jnp.zeros_like(x)), value)


def _mesh(operator: Any) -> Mesh | None:
    """That of the sharded sparse matrices in an operator, if it has several devices."""
    parts = jtu.tree_leaves(operator, is_leaf=_is_sharded)
    meshes = [part.mesh for part in parts if _is_sharded(part)]
    return meshes[0] if meshes and meshes[0].size > 1 else None


def _is_sharded(node: Any) -> bool:
    # by its name, so that its class is not imported, which takes 10 ms
    return type(node).__name__ == "ShardedSparsityPattern"


def raise_now(solution: Solution, operator: Any, solver: Any) -> None:
    """Raise for a solve that is known to have failed, with the figures it reached."""
    numbers = np.asarray(code(solution.result))
    name = NAMES[numbers[numbers != 0].min()]
    figures = ", ".join(
        f"{key} = {_figure(x)}" for key, x in solution.stats.items() if jnp.ndim(x) == 0
    )
    figures = figures and f"Reached: {figures}"
    (text,) = _texts([name], operator, solver, "forward", figures)
    raise eqx.EquinoxRuntimeError(text)


def _figure(x: Any) -> str:
    x = np.asarray(x)
    return f"{x:.3g}" if x.dtype.kind == "f" else str(x)
