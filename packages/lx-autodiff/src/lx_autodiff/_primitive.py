"""The solve as a primitive of JAX: evaluation, abstract evaluation, batching.

One primitive serves every solver. Its operands are the arrays of (problem, vector);
all else is the static `Spec`. What differentiation does to it stands in
`_jvp.py` and `_transpose.py`, which register themselves here through `ad`.
"""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jaxtyping import Array, PyTree
from lx_operators.internal import as_when_lowered, types_on_mesh, vary, varying_axes
from lx_solvers import RESULTS
from lx_solvers.internal import judged, succeeded

from ._failure import Stage, raise_on_failure
from ._method import Problem
from ._partition import Static, split

linear_solve_p = Primitive("linear_solve")
linear_solve_p.multiple_results = True

OnFailure = Literal["report", "nan", "raise"]

# A derivative has no `result` to report in.
DERIVATIVE_FAILURE: dict[OnFailure, OnFailure] = {
    "report": "nan",
    "nan": "nan",
    "raise": "raise",
}


class Type(NamedTuple):
    """The shape and dtype of an array, without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype


class Batch(NamedTuple):
    """One `vmap`: its size, the axis of each operand (None: not batched), and its
    name, by which functions in operators may communicate."""

    size: int
    axes: tuple[int | None, ...]
    name: Hashable

    def map(self, fn: Callable, in_axes: Any, out_axes: Any = 0) -> Callable:
        return jax.vmap(fn, in_axes, out_axes, self.name, axis_size=self.size)


@dataclasses.dataclass(frozen=True)
class Spec:
    """Everything in a solve that is not an array."""

    static: Static  # of (problem, vector)
    on_failure: OnFailure
    stage: Stage
    solution: Any  # the tree of the solution, whose leaves come first in the outputs
    operands: tuple[Type, ...] = field(repr=False)  # without batch axes
    outputs: tuple[Type, ...] = field(repr=False)  # likewise
    tree: Any = field(repr=False)  # of the outputs
    batches: tuple[Batch, ...] = ()  # innermost first

    def batched(self, fn: Callable, axes: Callable[[Batch], Any]) -> Callable:
        """`fn` of unbatched arguments, under the `vmap`s of this solve. `axes` gives
        `in_axes` from a batch; outputs are batched along axis 0."""
        for batch in self.batches:
            fn = batch.map(fn, axes(batch))
        return fn


def solve(
    problem: Problem,
    vector: PyTree[Array],
    on_failure: OnFailure = "report",
    stage: Stage = "forward",
    like: Spec | None = None,
) -> tuple[PyTree[Array], RESULTS, dict[str, Any]]:
    """A†b through the primitive: the solution, how the solve ended, statistics.

    Args:
        problem: the operator and how it is solved.
        vector: b, of the operator's output structure and dtypes.
        on_failure: what becomes of the value of a failed solve: it is returned as it is
            (`"report"`), is NaN, or raises at run time.
        stage: which solve this is, for the text of the error.
        like: a solve that may be of the same problem: it need not be traced again to
            know the types of what comes out.
    """
    # Inside `shard_map`, a vector that all devices share meets what differs between
    # them: its cotangent is the sum.
    vector = vary(vector, varying_axes((problem, vector)))
    arrays, static = split((problem, vector))
    operands = _types(arrays)
    if like is not None and (like.static, like.operands) == (static, operands):
        outputs, tree = like.outputs, like.tree
    else:
        with as_when_lowered():
            out, tree = jtu.tree_flatten(_evaluate.eval_shape(static, (), *arrays))
        outputs = _types(out)
    solution = jtu.tree_structure(problem.operator.in_structure())
    spec = Spec(static, on_failure, stage, solution, operands, outputs, tree)
    return jtu.tree_unflatten(tree, linear_solve_p.bind(*arrays, spec=spec))


def _types(arrays: Sequence[Any]) -> tuple[Type, ...]:
    return tuple(Type(x.shape, x.dtype) for x in arrays)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(
    static: Static, batches: tuple[Batch, ...], *arrays: Array
) -> tuple[PyTree[Array], RESULTS, Any]:
    """The solve under its `vmap`s. Traced once for equal arguments, whatever becomes of
    a failure."""
    fn = functools.partial(_evaluate_one, static)
    for batch in batches:
        fn = batch.map(fn, batch.axes)
    return fn(*arrays)


def _evaluate_one(static: Static, *arrays: Array) -> tuple[PyTree[Array], RESULTS, Any]:
    """The solve itself, of unbatched arrays."""
    problem, vector = static.join(arrays)
    method = problem.forward
    outcome = method.solver.compute(method.state, vector, method.options)
    if not _is_outcome(outcome):
        raise TypeError(
            f"`{type(method.solver).__name__}.compute` must return a solution, an item "
            "of `RESULTS` and a dictionary of statistics."
        )
    value, result, stats = outcome
    result = judged(result, vector, value)
    return value, result, jtu.tree_map(jnp.asarray, stats)


def _is_outcome(x: Any) -> bool:
    triple = isinstance(x, tuple) and len(x) == 3
    return triple and isinstance(x[1], type(RESULTS.successful))


def _flat(spec: Spec, *arrays: Array) -> list[Array]:
    """The solve's outputs, and what is to become of its failure."""
    value, result, stats = _evaluate(spec.static, spec.batches, *arrays)
    empty = 0 in (batch.size for batch in spec.batches)
    if spec.on_failure != "report" and not empty:  # where nothing can have failed

        def axes(batch: Batch) -> Any:
            return (0, 0, list(batch.axes))

        heed = spec.batched(functools.partial(_heed, spec), axes)
        value = heed(value, result, list(arrays))
    if spec.stage != "forward" and "rank_deficient" in stats:
        # the derivative's formula was that of full rank
        mask = spec.batched(_nan_where, lambda batch: (0, 0))
        value = mask(stats["rank_deficient"], value)
    return jtu.tree_leaves((value, result, stats))


def _heed(
    spec: Spec, value: PyTree[Array], result: RESULTS, arrays: Sequence[Array]
) -> PyTree[Array]:
    """`value`, which is NaN, or raises, if the solve failed."""
    if spec.on_failure == "raise":
        problem, _ = spec.static.join(arrays)
        solver = problem.forward.solver
        return raise_on_failure(value, result, problem.operator, solver, spec.stage)
    successful = succeeded(result)
    return jtu.tree_map(
        lambda x: jax.lax.select(successful, x, jax.lax.full_like(x, jnp.nan)), value
    )


def _nan_where(condition: Array, value: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(
        lambda x: jax.lax.select(
            jnp.broadcast_to(condition, x.shape), jax.lax.full_like(x, jnp.nan), x
        ),
        value,
    )


@linear_solve_p.def_impl
def _impl(*arrays: Array, spec: Spec) -> list[Array]:
    return _flat(spec, *arrays)


@linear_solve_p.def_abstract_eval
def _abstract_eval(*avals: Any, spec: Spec) -> list[Any]:
    batch_shape = tuple(batch.size for batch in reversed(spec.batches))
    out = [ShapedArray((*batch_shape, *x.shape), x.dtype) for x in spec.outputs]
    return types_on_mesh(avals, out)


def _lower(ctx, *operands, spec: Spec):
    fun = functools.partial(_flat, spec)
    return mlir.lower_fun(fun, multiple_results=True)(ctx, *operands)


mlir.register_lowering(linear_solve_p, _lower)


def _batch(
    axis: Any, arrays: Sequence[Array], axes: Sequence[int | None], *, spec: Spec
) -> tuple[list[Array], list[int | None]]:
    if axis.size == 1 and _is_plain(axis):  # as `jacrev` of a loss makes: no batch
        arrays = [
            x if operand_axis is None else jax.lax.squeeze(x, (operand_axis,))
            for x, operand_axis in zip(arrays, axes, strict=True)
        ]
        axes = [None] * len(arrays)
    if all(operand_axis is None for operand_axis in axes):
        out = linear_solve_p.bind(*arrays, spec=spec)
        return out, [None] * len(out)
    batch = Batch(axis.size, tuple(axes), axis.name)
    spec = dataclasses.replace(spec, batches=(*spec.batches, batch))
    out = linear_solve_p.bind(*arrays, spec=spec)
    return out, [0 for _ in out]


def _is_plain(axis: Any) -> bool:
    """Whether the axis of a `vmap` has no name, which functions in operators may use,
    and no mesh: JAX's name for no name is a bare object."""
    meshes = axis.spmd_name, getattr(axis, "explicit_mesh_axis", None)
    return meshes == (None, None) and type(axis.name) in (object, type(None))


batching.fancy_primitive_batchers[linear_solve_p] = _batch
